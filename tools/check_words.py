"""Check that code, help and documentation use one term for one thing. `make check` runs it.

    python tools/check_words.py [ROOT]

Each term below has replaced an old one. Prints every place with an old one, and exits with 1 if there is any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = ("harness", "benchmarks", "tests")
TEXT = ("harness", "docs", "README.md")
ALL = (*CODE, "docs", "README.md", "experiments")
SUFFIXES = {".py", ".md", ".yaml", ".ipynb"}
OWN_FILES = {"tools/check_words.py", "tests/test_words.py"}


@dataclass(frozen=True)
class Word:
    """An old term.

    Attributes:
        pattern: regular expression, case-sensitive.
        instead: what to write.
        where: files and folders that are searched.
        pending: files that still have it; the list only gets shorter.
    """

    pattern: str
    instead: str
    where: tuple[str, ...] = ALL
    pending: tuple[str, ...] = ()


WORDS = (
    # Plain English.
    Word(
        r"\b[Tt]old\b",
        "passes, receives, is called with",
        TEXT,
    ),
    Word(
        r"\b[Ww]ish(es|ed)?\b",
        "request, option, TuneRequest",
        TEXT,
    ),
    Word(
        r"\b(gone|goes|go) on with\b",
        "continue, resume",
        ALL,
    ),
    Word(
        r"\b[Aa]new\b",
        "again",
        TEXT,
    ),
    Word(r"\bamiss\b", "wrong", TEXT),
    Word(
        r"\bleaf\b|\bleaves(?=[\[.)]| =|:)|\b(in|of) leaves\b",
        "field, fields",
        TEXT,
    ),
    Word(
        r"\b(one|user)'s own\b",
        "custom",
        TEXT,
    ),
    Word(
        r"^ *notice: ",
        "message",
        ("harness",),
    ),
    # Options.
    Word(r"--together\b|--fuse\b", "--batch-runs"),
    Word(r"--timeout\b", "--max-time"),
    # Modules, classes and functions.
    Word(
        r"(?<![Oo]f )\bcourse\b",
        "session, RunSession",
        CODE,
    ),
    Word(r"\bstanding\b|\bStanding\b", "progress, StudyProgress", CODE),
    # In a search, a population is that of population-based training.
    Word(r"\bPopulation\b", "BatchedTraining", ("harness/gan", "benchmarks", "experiments")),
    Word(r"\bApartError\b", "NotBatchableError"),
    Word(r"\bStepDraws\b|\bmade\(", "StepNoise, build_step_noise", CODE),
    Word(r"\bkeep_masks\b|\bresolved_device\b|\bown_test_split\b", "dropout_masks, resolve_device, random_test_split"),
    Word(r"\bharness\.gan\.walks\b", "harness.gan.latent_interpolation"),
    Word(
        r"\bharness\.data\.(base|sources|published|stacked)\b",
        "harness.data.source, registry, torchvision_sets, stacked_mnist",
    ),
    Word(r"\bimages\.take\(|\bimages\.like\b", "images.index_select, images.empty_like", CODE),
    Word(r"\bpictures\.(writing|terminal|pairs|sheet|captioned)\(", "report_write_errors, render_terminal ..."),
    Word(r"\banimations\.(magnified|pace|evenly)\(", "magnify, frame_durations, evenly_spaced"),
    Word(
        r"\btrust\.(give|use|mark|locate|policy)\(", "trust.allow, set_policy, mark_untrusted, find_module, get_policy"
    ),
    Word(
        r"\bimport (\w+ )?as (experiments|searches|recall|course|replicating|comparing|evaluating|requests|storages)\b",
        "import the functions, or the module under its own name",
        ("harness",),
    ),
)


def find_old_words(root: Path) -> Iterator[tuple[str, int, str, Word]]:
    """Yield path, line number, line and word for every old word in the files below `root`."""
    for path in files(root):
        name = path.relative_to(root).as_posix()
        words = [
            word
            for word in WORDS
            if any(name == place or name.startswith(f"{place}/") for place in word.where) and name not in word.pending
        ]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for word in words:
                if re.search(word.pattern, line):
                    yield name, number, line.strip(), word


def files(root: Path) -> Iterator[Path]:
    """Yield the text files that are searched."""
    for place in ALL:
        path = root / place
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            if file.suffix in SUFFIXES and file.is_file() and file.relative_to(root).as_posix() not in OWN_FILES:
                yield file


def main() -> int:
    """Print every old word; returns the exit status."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    count = 0
    for name, number, line, word in find_old_words(root):
        print(f"{name}:{number}: write {word.instead} instead of {word.pattern}: {line[:100]}")
        count += 1
    print(f"{count} old words" if count else "no old words")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())

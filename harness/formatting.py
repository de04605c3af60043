"""Text for people: durations, numbers, and command lines to paste into a shell.

Command lines are quoted and complete for the store at hand. A store or storage that is not the usual one of this
directory is named by its option. An address with a password is never printed in full: where the environment variable
names it already, the option is left out; else `***` stands for the password.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, redact
from harness.files import database_of, sqlite_uri

STORE, STORAGE = "MLFLOW_TRACKING_URI", "HARNESS_STORAGE"  # environment variables


def harness_command(
    command: str, *words: str, store: str | None = None, storage: str | None = None, **options: object
) -> str:
    """`harness COMMAND WORDS... --OPTION VALUE...` for the MLflow store and the Optuna storage with these addresses.

    store, storage: None where the command needs none, or the usual one. options: None is left out, True is a flag, a
    list is an option for each.
    """
    named: dict[str, object] = {name.replace("_", "-"): value for name, value in options.items()}
    if store is not None and _absolute(store) != usual_store():
        named["tracking-uri"] = redact(store)
    if storage is not None and storage != os.environ.get(STORAGE):
        named["storage"] = redact(storage)
    parts = [*program("harness"), command, *(word for word in words if not word.startswith("-"))]
    for name, value in named.items():
        if value is not None and value is not False:
            parts += _option(name, value)
    dashed = [word for word in words if word.startswith("-")]
    return shlex.join([*parts, "--", *dashed] if dashed else parts)


def mlflow_command(*words: str, store: str) -> str:
    """`MLFLOW_TRACKING_URI=... mlflow WORDS...`: MLflow's own commands take the store from the environment."""
    return _for_store(shlex.join([*program("mlflow"), *words]), store)


def python_command(code: str, *, store: str) -> str:
    """`MLFLOW_TRACKING_URI=... python -c CODE`, with this Python."""
    return _for_store(shlex.join([sys.executable, "-c", code]), store)


def program(name: str) -> list[str]:
    """How `harness` or `mlflow` is called from here: by name where it is on the PATH, else from our environment."""
    beside = Path(sys.executable).with_name(name)
    if shutil.which(name):
        return [name]
    return [shown_path(beside)] if beside.exists() else [sys.executable, "-m", name]


def shown_path(path: Path) -> str:
    """A path as it is shortest from the working directory."""
    if not path.is_relative_to(Path.cwd()):
        return str(path)
    short = path.relative_to(Path.cwd())
    return str(short) if len(short.parts) > 1 else f"./{short}"


def usual_store() -> str:
    """The MLflow store that a command without --tracking-uri uses in this directory."""
    return _absolute(os.environ.get(STORE) or "sqlite:///mlruns/mlflow.db")


def refuse_hidden(uri: str, option: str, variable: str) -> None:
    """Raise HarnessError for an address that was pasted from a printed line, with `***` in place of its password."""
    if "://***@" in uri or "=***" in uri:
        raise HarnessError(
            f"{option} {uri}: *** hides a user and a password, expected the full address; set {variable} to it, and "
            f"leave {option} out"
        )


def _option(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list | tuple):
        return [part for one in value for part in _option(name, one)]
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _for_store(line: str, store: str) -> str:
    if os.environ.get(STORE) and _absolute(store) == usual_store():
        return line
    return f"{STORE}={shlex.quote(redact(store))} {line}"


def _absolute(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    if uri.startswith("sqlite:///"):
        return sqlite_uri(database_of(uri))
    return uri


def duration(seconds: float) -> str:
    """`3 h 05 min`, `2 min 07 s`, `9 s`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def brief_number(value: float) -> str:
    """Three decimals, or a power of ten where the number is too large for them to matter."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3g}"


def join_words(words: Sequence[str], conjunction: str) -> str:
    """`kid`, `kid or frechet`, `kid, frechet or density`."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def value_texts(values: Mapping[str, object]) -> list[str]:
    """`optimizer.lr 0.00123`, `generator.latent 64`."""
    return [f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()]


def shown_values(values: Mapping[str, object]) -> str:
    """`optimizer.lr 0.00123  generator.latent 64`."""
    return "  ".join(value_texts(values))

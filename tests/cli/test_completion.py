"""Completion in bash, zsh and fish, asked for as the shells do."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli.completion import DATA_SETS
from harness.data.registry import DATASETS
from harness.experiment.scores import searchable

from ..commands import client

BUNDLED = {"default", "notebook", "notebook-fixed", "dcgan", "wgan-gp"}


@pytest.fixture
def program(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A console script `harness` on the PATH, and a working directory with runs."""
    folder = workplace.parent / "bin"
    folder.mkdir()
    script = folder / "harness"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m harness "$@"\n')
    script.chmod(0o755)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    return script


@pytest.fixture
def ids(program: Path) -> dict[str, str]:
    """Runs by name, oldest first; the last two have the same name, so their ids are `twin` and `twin 2`."""
    store = client()
    experiment = store.create_experiment("gan")
    found: dict[str, str] = {}
    kinds = (("first", "run"), ("two words", "run"), ("search", "study"), ("search-0", "trial"), ("gone", "run"))
    for number, (name, kind) in enumerate((*kinds, ("twin", "run"), ("twin", "run"))):
        tags = {"harness.id": str(number), "harness.kind": kind}
        if kind == "study":
            tags["harness.study"] = name
        if kind == "trial":
            tags["mlflow.parentRunId"] = found["search"]
        run = store.create_run(experiment, start_time=1_000 * (number + 1), run_name=name, tags=tags)
        store.set_terminated(run.info.run_id)
        found[f"{name} 2" if name in found else name] = run.info.run_id
    store.delete_run(found["gone"])
    return found


def ask(*words: str, shell: str = "bash", **environment: str) -> str:
    """What the shell is answered when the cursor is at the end of the last word."""
    position = str(len(words)) if shell != "fish" else words[-1]
    told = {"_HARNESS_COMPLETE": f"{shell}_complete", "COMP_CWORD": position}
    text = " ".join(("harness", *words))
    done = subprocess.run(
        ["harness"],
        env={**os.environ, **told, "COMP_WORDS": text, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


def suggested(*words: str, **environment: str) -> list[str]:
    lines = ask(*words, **environment).splitlines()
    return [line.partition(",")[2] for line in lines if line.startswith("plain,")]


def test_commands_and_options(program: Path) -> None:
    assert suggested("")[:5] == ["run", "sample", "tune", "compare", "ui"]
    assert suggested("st") == ["studies", "storage"]
    assert suggested("run", "--se") == ["--set", "--seed", "--seeds"]


def test_experiments_and_their_files(program: Path, workplace: Path) -> None:
    folder = workplace / "experiments"
    folder.mkdir()
    (folder / "wide.yaml").write_text("name: wide\n")
    (folder / "notes.txt").write_text("")
    names = set(suggested("run", ""))
    assert {"wide", "tiny.yaml", *BUNDLED} <= names
    assert set(suggested("tune", "no")) == {"notebook", "notebook-fixed"}
    assert suggested("check", "default", "wi") == ["wide"]
    assert suggested("run", "exp") == ["experiments/"]
    assert suggested("run", "experiments/") == ["experiments/wide.yaml"]
    assert suggested("compare", "--experiment", "wi") == ["wide"]


def test_runs_by_name_and_by_id(ids: dict[str, str]) -> None:
    twins = [ids["twin 2"][:8], ids["twin"][:8]]
    expected = ["latest", *twins, "search", r"two\ words", "first"]
    assert suggested("sample", "") == expected, "names that mean several runs are completed to ids, nested runs wait"
    assert suggested("compare", "first", "") == expected
    assert suggested("run", "--resume", "fi") == ["first"]
    assert suggested("history", "sear") == ["search-0", "search"]
    assert suggested("sample", ids["first"][:5]) == [ids["first"][:8]]
    assert suggested("sample", ids["first"][:10]) == [ids["first"]]
    assert suggested("sample", ids["gone"][:10]) == []
    assert suggested("ui", "gon") == []


def test_studies_and_projects(ids: dict[str, str]) -> None:
    assert suggested("tune", "--study", "") == ["search"]
    assert suggested("compare", "--study", "x") == []
    assert suggested("runs", "--project", "") == ["gan"]


@pytest.mark.parametrize("store", ["http://127.0.0.1:9", "sqlite:///missing.db", "sqlite:///tiny.yaml", "nonsense"])
def test_a_store_that_cannot_be_read_suggests_nothing(program: Path, store: str) -> None:
    assert suggested("sample", "f", MLFLOW_TRACKING_URI=store) == []
    assert suggested("tune", "--study", "", MLFLOW_TRACKING_URI=store) == []
    assert not Path("missing.db").exists()


def test_the_store_of_the_command_line_is_read(ids: dict[str, str], workplace: Path) -> None:
    (workplace / "mlruns").rename(workplace / "moved")
    assert suggested("sample", "fi") == []
    assert suggested("sample", "--tracking-uri", "sqlite:///moved/mlflow.db", "fi") == ["first"]
    assert suggested("sample", "fi", MLFLOW_TRACKING_URI="sqlite:///moved/mlflow.db") == ["first"]


def test_dotted_paths(program: Path) -> None:
    from harness import experiment as experiments

    leaves = experiments.load("default").flatten()
    assert suggested("run", "--set", "") == [f"{leaf}=" for leaf in leaves]
    assert suggested("run", "--set", "generator.wid") == ["generator.width="]
    assert suggested("run", "notebook", "--set", "generator.wid") == ["generator.widths="], "of that experiment"
    assert "generator.widths=" in suggested("run", "--set", "generator.kind=mlp", "--set", "generator.")
    assert suggested("tune", "--set", "sea") == ["search.", "search_budget."]
    assert suggested("tune", "--set", "search.optimizer.l") == ["search.optimizer.lr="]
    assert "optimizer.lr=" in suggested("run", "missing.yaml", "--set", "opt"), "all paths where it cannot be read"


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("train.precision=", ["auto", "fp32", "bf16"]),
        ("train.precision=b", ["bf16"]),
        ("conditional=", ["true", "false"]),
        ("generator.kind=", ["mlp", "conv", "residual"]),
        ("data.unreadable=", ["refuse", "skip", "null"]),
        ("data.channels=", ["1", "3", "null"]),
        ("data.name=k", ["kmnist"]),
        ("optimizer.lr=", []),
        ("no.such=", []),
    ],
)
def test_values_of_a_choice(program: Path, typed: str, values: list[str]) -> None:
    path, _, value = typed.partition("=")
    assert suggested("run", "--set", f"'{typed}") == [f"{path}={value}" for value in values], "one word in quotes"
    as_bash = (path, "=", value) if value else (path, "=")
    assert suggested("run", "--set", *as_bash) == values, "as bash splits it"
    assert ask("run", "--set", typed, shell="zsh").splitlines()[1::3] == [f"{path}={value}" for value in values]
    answer = ask("run", f"--set={typed}", shell="fish").splitlines()
    assert [line.partition(",")[2].partition("\t")[0] for line in answer if line] == [
        f"--set={path}={value}" for value in values
    ]


def test_words_of_options(program: Path) -> None:
    assert suggested("run", "--device", "c") == ["cpu", "cuda"]
    assert tuple(suggested("tune", "--metric", "")) == searchable()
    assert suggested("tune", "--pruner", "") == ["halving", "none"]
    assert tuple(DATASETS) == DATA_SETS


def test_neither_torch_nor_mlflow_is_imported(ids: dict[str, str]) -> None:
    code = """
import sys
from harness.cli import main
try:
    main()
finally:
    heavy = {"torch", "mlflow", "optuna", "numpy", "pandas", "sqlalchemy"} & sys.modules.keys()
    print("heavy", sorted(heavy), file=sys.stderr)
"""
    for words in (("sample", ""), ("tune", "--study", ""), ("run", "--set", "train.")):
        environment = {
            "_HARNESS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("harness", *words)),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith("plain,")
        assert done.stderr == "heavy []\n"


# The scripts ----------------------------------------------------------------------------------------------------------


def in_bash(*words: str) -> list[str]:
    """COMPREPLY after the completion function was called with these COMP_WORDS, the cursor at the last one's end."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
eval "$(_HARNESS_COMPLETE=bash_source harness)"
COMP_WORDS=(harness {quoted}); COMP_CWORD={len(words)}
_harness_completion harness
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_in_bash(ids: dict[str, str]) -> None:
    assert in_bash("run", "note") == ["notebook-fixed", "notebook"]
    assert in_bash("run", "--set", "train.precision", "=", "b") == ["bf16"]
    assert in_bash("run", "--set", "=", "train.prec") == ["train.precision="]
    assert in_bash("sample", "two") == [r"two\ words"]
    assert in_bash("sample", "x") == [""]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_in_a_terminal_with_bash(ids: dict[str, str]) -> None:
    """Real keys, real readline: no space follows `train.precision=`, and the value is completed behind it."""
    import pty

    process, terminal = pty.fork()
    if process == 0:
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "ready> ", "TERM": "dumb"})
    try:
        shown = ""

        def until(text: str) -> None:
            nonlocal shown
            deadline = time.monotonic() + 60
            while text not in shown:
                left = deadline - time.monotonic()
                assert left > 0, shown
                assert select.select([terminal], [], [], left)[0], shown
                shown += os.read(terminal, 4096).decode(errors="replace")
            shown = ""

        until("ready> ")
        os.write(terminal, b'eval "$(_HARNESS_COMPLETE=bash_source harness)"; echo lo""aded\n')
        until("loaded")
        os.write(terminal, b"echo harness; : ; harness run --set train.prec\t")
        until("train.precision=")
        os.write(terminal, b"bf\t")
        until("bf16 ")
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this machine")
def test_in_fish(ids: dict[str, str]) -> None:
    for typed, expected in (("run --set train.precision=b", "train.precision=bf16"), ("sample fir", "first")):
        script = f"_HARNESS_COMPLETE=fish_source harness | source; complete --do-complete 'harness {typed}'"
        done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [expected]


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_script_is_one_that_its_shell_reads(program: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    source = subprocess.run(
        ["harness"], env={**os.environ, "_HARNESS_COMPLETE": f"{shell}_source"}, capture_output=True, check=True
    )
    subprocess.run([shell, "-n"], input=source.stdout, check=True)

"""Every command's help ends with examples that work, and the list of commands is one to read."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import urllib.request
from pathlib import Path

import pytest

from harness import cli
from harness.cli.help import EXAMPLES, GROUPS, START
from harness.servers.ports import free_port
from harness.tuning.grpc_storage import open_proxy
from harness.tuning.storage import silence_optuna

from ..commands import spawn, wait_for
from ..tuning.common import SMALL

COMMANDS = sorted(cli.cli.commands)
LINES = [line for examples in EXAMPLES.values() for _, line in examples]
SERVERS = {"ui", "serve", "storage"}

# Stand-ins for the bundled experiments of these names: ./experiments is looked at first.
TINY = SMALL.replace("epochs: 4", "epochs: 2").replace("samples_every: 4", "samples_every: 1")
DEFAULT = TINY.replace("name: small", "name: default\nconditional: true").replace("prune_from: 2", "prune_from: 1")
NOTEBOOK = TINY.split("search:")[0].replace("name: small", "name: notebook")
CONDITIONAL = NOTEBOOK.replace("name: notebook", "name: conditional\nconditional: true")


def call(*arguments: str) -> int:
    """A command in this process: importing torch and MLflow takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["harness", *arguments])
        patch.setattr("harness.tuning.plots.write", lambda *_: [])  # they take seconds
        patch.setattr("harness.gan.auto.is_faster", lambda other, current: False)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, database: Path, _data_cache: Path) -> Path:
    """A working directory after `harness tune` and two `harness run`, the least that there is to compare."""
    folder = tmp_path_factory.mktemp("examples") / "work"
    (folder / "mlruns").mkdir(parents=True)
    (folder / "mlruns" / "mlflow.db").write_bytes(database.read_bytes())
    (folder / "experiments").mkdir()
    for name, text in (("default", DEFAULT), ("notebook", NOTEBOOK), ("conditional", CONDITIONAL)):
        (folder / "experiments" / f"{name}.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert call("tune", "--trials", "3", "--no-system-metrics") == 0
        assert call("run", "--no-system-metrics") == 0
        assert call("run", "--no-system-metrics", "--seed", "1") == 0
    return folder


@pytest.fixture
def workplace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BROWSER", "true")
    return folder


# The texts ------------------------------------------------------------------------------------------------------------


def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    capsys.readouterr()
    assert call(*words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_ends_with_examples(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = EXAMPLES.get(command, ())
    assert 2 <= len(examples) <= 4, f"harness/cli/help.py has {len(examples)} examples of {command}"
    text = shown(capsys, monkeypatch, 80, command, "--help")
    expected = [row for about, line in examples for row in (f"  # {about}", f"  {line}")]
    assert text.rstrip("\n").split("\nExamples:\n")[1].split("\n") == expected
    assert all(f"harness {command}" in line for _, line in examples)
    assert max(len(row) for row in text.splitlines() if row[2:] not in LINES) <= 80


def test_there_are_no_examples_of_unknown_commands() -> None:
    assert sorted(EXAMPLES) == COMMANDS
    assert sorted(name for names in GROUPS.values() for name in names) == COMMANDS


@pytest.mark.parametrize("line", LINES)
def test_no_shell_expands_an_example(line: str) -> None:
    bare = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", line)
    assert not re.search(r"[*?\[\]{}~$`;#!()]", bare)


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("words", [(), ("--help",)])
def test_the_first_commands_come_first(
    words: tuple[str, ...], columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(capsys, monkeypatch, columns, *words)
    rows = text.splitlines()
    assert max(map(len, rows)) <= columns
    assert [row for row in rows if row.endswith(":")] == [f"{subject}:" for subject in (*GROUPS, "Options")]
    listed = [row.split()[0] for row in rows if re.match(r"  [a-z]+ +[A-Z].*\.$", row)]
    assert listed == [name for names in GROUPS.values() for name in names]
    assert tuple(listed[:5]) == GROUPS[START]
    assert "..." not in text.partition("\n")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_plain_english(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = " ".join(shown(capsys, monkeypatch, 200, command, "--help").split()).lower()
    for old in (" told", "wish", "go on ", "goes on ", "anew", " amiss", "ship ", "what a run "):
        assert old not in text.replace("check what a run needs", ""), old


# The examples ---------------------------------------------------------------------------------------------------------


def served(*arguments: str) -> None:
    """Start a server, ask it, and end it with Ctrl-C."""
    words = [*arguments, "--port", str(free_port(0))]  # the last one counts
    process = spawn(*words)
    try:
        text = wait_for(process, "://127.0.0.1:")
        match = re.search(r"(http|grpc)://127\.0\.0\.1:\d+", text)
        assert match, text
        if match[1] == "grpc":
            silence_optuna()
            assert open_proxy(match[0]).get_all_studies() is not None
        else:
            assert urllib.request.urlopen(f"{match[0]}/health", timeout=30).status == 200
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()


def pasted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a line as a shell would."""
    for part in line.split(" && "):
        command, _, target = part.partition(" > ")
        words = shlex.split(command)
        assert words[0] == "harness"
        if words[1] in SERVERS:
            served(*words[1:])
            continue
        capsys.readouterr()
        code = call(*words[1:])
        said = capsys.readouterr()
        assert code == 0, said.out + said.err
        if target:
            Path(target).write_text(said.out)
        files = [word for word in [*words, target] if re.fullmatch(r"\w+\.(png|npz|gif|webp|html|json)", word)]
        for file in files:
            assert Path(file).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("line", LINES)
def test_an_example_works_when_it_is_pasted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    pasted(line, capsys)

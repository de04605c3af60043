"""Every command that a command prints works when it is pasted into the shell that printed it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.cli import cli as mlflow_cli

from harness import formatting
from harness.errors import HarnessError
from harness.servers import ui

from ..commands import Harness, Said, give_time_for_one_epoch
from ..tuning.common import SMALL

QUIET = ("--no-system-metrics",)
Paste = Callable[[str], Said]


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (1, ("epoch",), "1 epoch"),
        (0, ("run",), "0 runs"),
        (60_000, ("image",), "60,000 images"),
        (1, ("trial is left", "trials are left"), "1 trial is left"),
        (2, ("trial is left", "trials are left"), "2 trials are left"),
    ],
)
def test_a_count_has_the_plural_of_its_noun(number: int, words: tuple[str, ...], text: str) -> None:
    assert formatting.format_count(number, *words) == text


def programs() -> dict[str, str]:
    """How the two programs are called from the working directory."""
    return {name: shlex.join(formatting.program(name)) for name in ("harness", "mlflow")}


def printed(said: Said) -> dict[str, str]:
    """The commands that were printed: by their label, or by their first word where they stand in an error."""
    found = {}
    start = re.compile(rf"(?:MLFLOW_TRACKING_URI=\S.*? )?(?:{'|'.join(map(re.escape, programs().values()))}) ")
    for line in said.out.splitlines():
        if start.match(line[11:]):
            found[line[2:11].strip()] = line[11:]
    for line in re.findall(r"`([^`]+)`", said.out + said.err):
        if start.match(line):
            words = shlex.split(line)
            found[next(word for word in words if word in ("runs", "experiments", "tune", "sync"))] = line
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that `harness ui` would have opened."""
    pages: list[str] = []
    monkeypatch.setattr(ui, "serve", lambda store, page, **options: pages.append(f"{store.uri} {page.title}"))
    return pages


@pytest.fixture
def paste(harness: Harness, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Paste:
    """Runs a line as a shell would, in this process: importing torch and MLflow takes seconds."""

    def run(line: str) -> Said:
        with monkeypatch.context() as patch:
            words = shlex.split(line)
            while re.match(r"\w+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                patch.setenv(name, value)
            for name, program in programs().items():
                known = shlex.split(program)
                if words[: len(known)] == known:
                    words = [name, *words[len(known) :]]
            if words[0] == "harness":
                return harness(*words[1:])
            assert words[0] == "mlflow", line
            code = mlflow_cli.main(words[1:], standalone_mode=False) or 0
            said = capsys.readouterr()
            return Said(code, said.out, said.err)

    return run


@pytest.fixture(params=["usual", "elsewhere", "environment"])
def there(
    request: pytest.FixtureRequest, workplace: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, ...]:
    """The options that name the store: none, one with a space in its path, or none because of the environment."""
    if request.param == "usual":
        return ()
    folder = workplace.parent / "else where"
    folder.mkdir()
    uri = f"sqlite:///{shutil.copy(database, folder / 'its.db')}"
    if request.param == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        return ()
    return ("--tracking-uri", uri)


@pytest.mark.parametrize("there", ["elsewhere", "environment"], indirect=True)
def test_the_lines_of_runs(
    harness: Harness, paste: Paste, opened: list[str], there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = harness("run", "tiny.yaml", "--epochs", "1", "--name", "-one", *QUIET, *there)
    lines = printed(finished)
    assert set(lines) == {"sample", "look"}, finished.out
    assert paste(lines["sample"]).code == 0
    assert Path("one-samples.png").is_file()
    assert paste(lines["look"]).code == 0
    assert [page.split(" run ")[1] for page in opened] == ["-one"]

    with monkeypatch.context() as patch:
        give_time_for_one_epoch(patch)
        stopped = harness("run", "tiny.yaml", "--name", "short", "--max-time", "1h", *QUIET, *there)
        assert stopped.code == 3, stopped.err
        assert "STOPPED  short  1 of 3 epochs\n" in stopped.out
        seeds = ("run", "tiny.yaml", "--seeds", "2", "--batch-runs", "1", "--max-time", "1h", *QUIET, *there)
        replicates = harness(*seeds) if there else None
    lines = printed(stopped)
    assert set(lines) == {"sample", "look", "continue"}, stopped.out
    resumed = paste(lines["continue"])
    assert "FINISHED  short  3 of 3 epochs, 2 of them now\n" in resumed.out, resumed.err
    if replicates is not None:
        assert replicates.code == 3, replicates.err
        assert "2 seeds" in paste(printed(replicates)["continue"]).out

    unknown = harness("sample", "shrot", "--out", "x.png", *there)
    assert "the nearest names are short; `" in unknown.err
    assert "short" in paste(printed(unknown)["runs"]).out


def test_the_lines_that_bring_deleted_things_back(
    harness: Harness, paste: Paste, there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert harness("run", "tiny.yaml", "--epochs", "1", "--name", "gone", *QUIET, *there).code == 0
    usual = f"sqlite:///{Path('mlruns/mlflow.db').absolute()}"
    client = MlflowClient(there[1] if there else os.environ.get("MLFLOW_TRACKING_URI", usual))
    experiment = client.get_experiment_by_name("gan")
    (run,) = client.search_runs([experiment.experiment_id])
    client.delete_run(run.info.run_id)
    refused = harness("sample", "gone", "--out", "x.png", *there)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert paste(printed(refused)["runs"]).code == 0
    assert harness("sample", "gone", "--out", "x.png", *there).code == 0

    client.delete_experiment(experiment.experiment_id)
    for command in (("sample", "gone", "--out", "y.png"), ("run", "tiny.yaml", *QUIET)):
        refused = harness(*command, *there)
        assert refused.code == 2
        assert "experiments restore" in refused.err, refused.err
    assert paste(printed(refused)["experiments"]).code == 0
    assert harness("sample", "gone", "--out", "y.png", *there).code == 0


@pytest.fixture
def small(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.tuning.plots.write", lambda *_: [])  # they take seconds
    # Ranges that all values lie at an edge of.
    (workplace / "small.yaml").write_text(SMALL.replace("low: 1e-4, high: 1e-2", "low: 9.99e-4, high: 1e-3"))


def tune_and_paste(
    harness: Harness, paste: Paste, opened: list[str], there: tuple[str, ...], storage: tuple[str, ...] = ()
) -> None:
    study = "-it's a study"
    tune = ("tune", "small.yaml", f"--study={study}", "--batch-runs", "1", "--pruner", "none", *QUIET, *there, *storage)
    with pytest.MonkeyPatch.context() as patch:
        give_time_for_one_epoch(patch)
        patch.setattr(
            "harness.tuning.worker.Worker._stop_reason", lambda *_, started=True: "max-time" if started else None
        )
        stopped = harness(*tune, "--trials", "2", "--max-time", "1h")
    assert stopped.code == 3, stopped.err
    assert "why      stopped as requested by the time limit: 2 trials are left" in stopped.out
    finished = paste(printed(stopped)["continue"])
    assert "FINISHED  study -it's a study  2 of 2 trials" in finished.out, finished.err

    assert "\n  wider    --set 'search.optimizer.lr={low: " in finished.out
    again = harness(*tune)
    lines = printed(again)
    assert {"train it", "wider", "look"} <= set(lines), again.out
    assert paste(lines["train it"]).code == 0
    assert "-it's a study" in paste(lines["look"]).err + " ".join(opened)
    wider = paste(lines["wider"])
    assert "FINISHED  study -it's a study-wider  2 of 2 trials" in wider.out, wider.err

    differs = harness(*tune, "--sampler", "random")
    assert differs.code == 2
    assert "2 of 2 trials" in paste(printed(differs)["tune"]).out
    resumed = harness("run", "--resume", study, *there)
    assert (resumed.code, "is a study: resume it with" in resumed.err) == (2, True), resumed.err
    assert "2 of 2 trials" in paste(printed(resumed)["tune"]).out


@pytest.mark.parametrize("there", ["elsewhere"], indirect=True)
def test_the_lines_of_studies(
    harness: Harness, paste: Paste, opened: list[str], there: tuple[str, ...], small: None
) -> None:
    tune_and_paste(harness, paste, opened, there)


@pytest.mark.slow
@pytest.mark.parametrize("there", ["elsewhere"], indirect=True)
def test_the_lines_of_a_study_in_a_database(
    harness: Harness,
    paste: Paste,
    opened: list[str],
    there: tuple[str, ...],
    small: None,
    empty_postgresql: str,
) -> None:
    tune_and_paste(harness, paste, opened, there, ("--storage", empty_postgresql))


# How lines are built -------------------------------------------------------------------------------------------------


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatting, "program", lambda name: [name])


@pytest.mark.usefixtures("by_name", "workplace")
@pytest.mark.parametrize(
    ("words", "options", "line"),
    [
        (("sample", "ab12"), {"count": 100, "out": "digits.png"}, "harness sample ab12 --count 100 --out digits.png"),
        (("tune",), {"study": "-x", "trials": None}, "harness tune --study=-x"),
        (("serve", "models:/it's mine@a"), {}, """harness serve 'models:/it'"'"'s mine@a'"""),
        (("write", "ab12", "-5"), {"paper": True, "raw": False}, "harness write ab12 --paper -- -5"),
        (("tune", "x"), {"set": ["a=1", "b={c: 2}"]}, "harness tune x --set a=1 --set 'b={c: 2}'"),
        (("sync",), {"store": "http://host:5000/"}, "harness sync --tracking-uri http://host:5000/"),
        (("sync",), {"store": "sqlite:///mlruns/mlflow.db"}, "harness sync"),
        (("tune",), {"storage": "postgresql://mia@host/db"}, "harness tune --storage postgresql://mia@host/db"),
        (("tune",), {"storage": "postgresql://mia:x@host/db"}, "harness tune --storage 'postgresql://***@host/db'"),
    ],
)
def test_a_line_is_quoted_and_complete(words: tuple[str, ...], options: dict[str, object], line: str) -> None:
    assert formatting.harness_command(*words, **options) == line  # type: ignore[arg-type]


@pytest.mark.usefixtures("by_name", "workplace")
def test_a_password_is_not_printed_where_a_variable_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store, storage = "postgresql://mia:secret@host/runs", "postgresql://mia:secret@host/studies"
    assert "secret" not in formatting.harness_command("tune", store=store, storage=storage)
    assert (
        formatting.mlflow_command("runs", store=store) == "MLFLOW_TRACKING_URI='postgresql://***@host/runs' mlflow runs"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("HARNESS_STORAGE", storage)
    assert formatting.harness_command("tune", store=store, storage=storage) == "harness tune"
    assert formatting.mlflow_command("runs", store=store) == "mlflow runs"


@pytest.mark.parametrize(
    "arguments", [("runs", "--tracking-uri"), ("studies", "--storage"), ("tune", "tiny.yaml", "--storage")]
)
def test_a_line_with_a_hidden_password_says_what_to_set(harness: Harness, arguments: tuple[str, ...]) -> None:
    refused = harness(*arguments, "postgresql://***@host/db")
    variable = "MLFLOW_TRACKING_URI" if arguments[-1] == "--tracking-uri" else "HARNESS_STORAGE"
    assert refused.code == 2
    assert f"*** hides a user and a password, expected the full address; set {variable} to it" in refused.err


def test_an_error_keeps_the_blanks_of_a_command() -> None:
    assert str(HarnessError("run\n  `harness tune --study 'a  b'`")) == "run `harness tune --study 'a  b'`"

"""The screen does not decide how a command ends: closed pipes, full disks, closed terminals, poor encodings."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from harness import console
from harness.console import SafeStream, readable

from .commands import Harness, Terminal, client, only_run, run_named
from .tuning.common import SMALL

MAIN = "from harness.cli import main; main()"


def closed_pipe() -> TextIO:
    """The end of a pipe that is written to, when its reader has gone (`| head -1`)."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def full_disk() -> TextIO:
    return open("/dev/full", "w")  # noqa: PTH123


@pytest.fixture(params=[closed_pipe, full_disk], ids=["closed pipe", "full disk"])
def unwritable(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    """What standard output is in a test: it must be set there, since capsys sets it at the test's start."""
    stream = request.param()
    yield stream
    stream.close()  # raises where something is left in its buffers


def reports(stream: TextIO) -> int:
    """A full disk is reported once, a reader that had seen enough is not."""
    return int(stream.name == "/dev/full")


# Commands ------------------------------------------------------------------------------------------------------------


def test_a_run_trains_to_its_end_when_standard_output_cannot_be_written(
    harness: Harness, unwritable: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unwritable)
    said = harness("run", "tiny.yaml", "--no-system-metrics")
    assert said.code == 0, said.err
    assert said.err.count("cannot write standard output: No space left on device") == reports(unwritable)
    run = only_run()
    assert run.info.status == "FINISHED"
    assert [point.step for point in client().get_metric_history(run.info.run_id, "loss/generator")] == [1, 2, 3]


def test_a_study_has_all_its_trials_when_standard_output_cannot_be_written(
    harness: Harness, unwritable: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unwritable)
    Path("small.yaml").write_text(SMALL)
    said = harness(
        "tune", "small.yaml", "--trials", "2", "--pruner", "none", "--batch-runs", "1", "--no-system-metrics"
    )
    assert said.code == 0, said.err
    assert said.err.count("cannot write standard output: No space left on device") == reports(unwritable)
    study = run_named("small")
    assert study.info.status == "FINISHED"
    assert study.data.tags["harness.trials.complete"] == "2"


def test_a_run_trains_to_its_end_when_neither_stream_can_be_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_disk() as disk, closed_pipe() as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", disk)
        patch.setattr(sys, "stderr", pipe)
        code = harness("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics").code
    assert code == 0
    assert only_run().info.status == "FINISHED"


@pytest.mark.parametrize(
    ("redirection", "code", "error"),
    [
        ("| head -1", 0, ""),
        ("> /dev/full", 1, "harness: cannot write standard output: No space left on device; continuing without it\n"),
        (">&-", 0, ""),
    ],
)
def test_a_command_that_only_prints_fails_when_its_output_is_lost(redirection: str, code: int, error: str) -> None:
    script = f"set -o pipefail; {sys.executable} -c '{MAIN}' schema {redirection}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, error)


def test_a_broken_connection_is_not_taken_for_a_closed_pipe(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.results import summary

    def broken(run: object) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert harness("run", "tiny.yaml", "--epochs", "1", "--no-system-metrics").code == 0
    monkeypatch.setattr(summary, "summarize_run", broken)
    said = harness("runs")
    assert said.code == 1
    assert "Broken pipe" in said.err


# Streams -------------------------------------------------------------------------------------------------------------


def test_a_stream_discards_everything_after_its_first_error() -> None:
    reports: list[str] = []
    with full_disk() as disk:
        stream = SafeStream(disk, reports.append)
        for _ in range(3):
            print("a line", file=stream, flush=True)
        assert isinstance(stream.error, OSError)
        assert stream.error.errno == errno.ENOSPC
    assert len(reports) == 1


def test_a_full_pipe_that_does_not_block_costs_a_line_and_no_more() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w") as pipe:
        stream = SafeStream(pipe)
        for _ in range(20):
            print("x" * 10_000, file=stream, flush=True)
        assert stream.error is None
        while True:
            if len(os.read(reader, 1_000_000)) == 0 or not _has_more(reader):
                break
        print("the last", file=stream, flush=True)
        assert b"the last\n" in os.read(reader, 1_000_000)
    os.close(reader)


def _has_more(reader: int) -> bool:
    import select

    return bool(select.select([reader], [], [], 0)[0])


def test_a_stream_that_is_closed_from_the_start_is_not_replaced_by_the_next_file(tmp_path: Path) -> None:
    code = (
        "from harness import console; console.install(); file = open('data', 'w'); print('text'); print(file.fileno())"
    )
    script = f"{sys.executable} -c \"{code}; open('number', 'w').write(str(file.fileno()))\" >&- 2>&-"
    assert subprocess.run(["bash", "-c", script], cwd=tmp_path).returncode == 0
    assert (tmp_path / "data").read_text() == ""
    assert int((tmp_path / "number").read_text()) > 2


@pytest.mark.parametrize(
    ("encoding", "text", "expected"),
    [
        ("utf-8", "0.1 ±0.2 · …", "0.1 ±0.2 · …"),
        ("ascii", "0.1 ±0.2 · …", "0.1 +/-0.2 - ..."),
        ("latin-1", "0.1 ±0.2 · …", "0.1 ±0.2 · ..."),
        ("ascii", "─━│┼", "--|+"),
        ("ascii", "naïve 日本", "naive ??"),
        ("ascii", "caf\udcc3\udca9", "caf\udcc3\udca9"),
        ("utf-8", "caf\udcff", "caf\udcff"),
    ],
)
def test_what_an_encoding_lacks_is_replaced_by_something_similar(encoding: str, text: str, expected: str) -> None:
    assert readable(text, encoding) == expected
    written = io.BytesIO()
    below = io.TextIOWrapper(written, encoding=encoding)
    stream = SafeStream(below)
    stream.write(text)
    stream.flush()
    assert written.getvalue() == expected.encode(encoding, "surrogateescape")


# Commands whose output is ASCII --------------------------------------------------------------------------------------


class AsciiScreen:
    """Standard output that takes ASCII alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(self._written, encoding="ascii", write_through=True))

    def lines(self) -> list[str]:
        return self._written.getvalue().decode("ascii").splitlines()


@pytest.mark.parametrize("arguments", [("compare", "slow", "quick"), ("evaluate", "slow", "--samples", "20")])
def test_tables_are_readable_in_ascii(
    gallery: Harness, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    screen = AsciiScreen(monkeypatch)
    said = gallery(*arguments)
    assert said.code == 0, said.err
    table = screen.lines()
    (rule,) = [line for line in table if line.startswith(" ---")]
    assert set(rule) == {" ", "-"}
    assert "slow" in "".join(table)
    assert "+/-" in "".join(table)
    assert "?" not in "".join(table)


def test_a_preview_is_shaded_in_ascii(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = AsciiScreen(monkeypatch)
    said = harness("run", "tiny.yaml", "--epochs", "1", "--preview", "--no-system-metrics")
    assert said.code == 0, said.err
    shown = screen.lines()
    start = shown.index("samples after epoch 1") + 1
    picture = shown[start : start + 20]
    assert all(set(line) <= set(" .:-=+*#%@") for line in picture)
    assert len(set("".join(picture))) > 2


def test_a_traceback_is_readable_in_ascii(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "run", "n±", "--debug"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=tmp_path,
        capture_output=True,
    )
    assert done.returncode == 1
    assert "there is no experiment 'n+/-'" in done.stderr.decode("ascii")


# A terminal that is closed -------------------------------------------------------------------------------------------

# What `run` does around its training, without the seconds that torch takes.
TALKER = """
import signal, sys, time
from pathlib import Path
from harness import console
from harness.interrupts import handle_signals, on_hangup, terminate

log = console.Log(Path("logs/a.log"), "the title", failed=terminate)
console.install()
with console.continue_in(log), on_hangup(console.leave_terminal), handle_signals() as stop:
    count = after = 0
    while after < 3 and not stop.signal:
        count += 1
        after += log.path.exists()
        print(f"line {count}")
        print(f"notice {count}", file=sys.stderr, flush=True)
        time.sleep(0.01)
print(f"stopped by {stop.signal}")
Path("end").write_text(str(stop.signal))
"""


def talk_and_hang_up(command: str) -> int:
    Path("talker.py").write_text(TALKER)
    terminal = Terminal("bash", "-c", command.format(python=f"exec {sys.executable} talker.py"))
    terminal.wait_for("notice 2")
    terminal.close()
    return terminal.exit_code()


def test_output_continues_in_a_log_when_the_terminal_is_closed(workplace: Path) -> None:
    assert talk_and_hang_up("{python}") == 0
    title, *lines = Path("logs/a.log").read_text().splitlines()
    assert title == "the title"
    assert lines[-1] == "stopped by None"
    assert sum(line.startswith("line ") for line in lines) >= 3
    assert sum(line.startswith("notice ") for line in lines) >= 3


def test_a_process_that_ignores_the_hangup_continues_in_the_log_too(workplace: Path) -> None:
    """After `disown` or `trap '' HUP` only the terminal's input and output fail."""
    assert talk_and_hang_up("trap '' HUP; {python}") == 0
    assert Path("logs/a.log").read_text().splitlines()[-1] == "stopped by None"


def test_without_a_log_a_closed_terminal_stops_as_sigterm_does(workplace: Path) -> None:
    Path("logs").write_text("in the way")
    assert talk_and_hang_up("{python}") == 0
    assert Path("end").read_text() == "SIGTERM"


def test_a_pipe_that_dies_with_the_terminal_leaves_its_output_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`harness run | tee FILE`: tee is told of the closed terminal, and ends."""
    monkeypatch.setattr(console, "_streams", [])
    monkeypatch.setattr(console, "_hung_up", False)
    with closed_pipe() as pipe:
        stream = SafeStream(pipe)
        console._streams.append(stream)
        log = console.Log(tmp_path / "logs" / "a.log", "the title", failed=lambda: None)
        with console.continue_in(log):
            assert console.leave_terminal()
            assert not log.path.exists(), "the pipe may still have a reader"
            print("a line", file=stream, flush=True)
            print("another", file=stream, flush=True)
    assert log.path.read_text() == "the title\na line\nanother\n"


def test_a_run_goes_on_to_its_end_when_the_terminal_is_closed(workplace: Path) -> None:
    seldom = [f"track.{what}_every=40" for what in ("samples", "checkpoint")]
    arguments = ["run", "tiny.yaml", "--epochs", "40", "--subset", "600", "--no-system-metrics"]
    terminal = Terminal(sys.executable, "-c", MAIN, *arguments, *(word for leaf in seldom for word in ("--set", leaf)))
    terminal.wait_for("loss D")
    terminal.close()
    assert terminal.exit_code() == 0
    run = only_run()
    assert run.info.status == "FINISHED"
    assert len(client().get_metric_history(run.info.run_id, "loss/generator")) == 40
    (log,) = Path("mlruns/logs").glob("run-*.log")
    title, *lines = log.read_text().splitlines()
    assert title.startswith("harness run tiny.yaml --epochs 40")
    assert any(line.startswith("epoch 40/40  loss D ") for line in lines)
    assert any(line.startswith("FINISHED  tiny-") for line in lines)
    assert "\x1b" not in log.read_text(), "control codes are for terminals"


def test_a_run_without_a_log_is_saved_and_stopped_when_the_terminal_is_closed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.gan import Report, Training

    train_steps = Training.train_steps

    def hung_up(self: Training, count: int) -> Report | None:
        for _ in range(2):  # the kernel and the shell both send it
            os.kill(os.getpid(), signal.SIGHUP)
        return train_steps(self, count)

    def unwritable(log: console.Log) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Training, "train_steps", hung_up)
    monkeypatch.setattr(console, "_move_to", unwritable)
    monkeypatch.setattr(console, "_hung_up", False)
    assert harness("run", "tiny.yaml", "--no-system-metrics").code == 143
    assert only_run().info.status == "KILLED"
    assert only_run().data.tags["harness.epoch"] == "1"

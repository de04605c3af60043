"""Tables and live lines at the widths of real terminals: nothing is cut, and the names stay whole the longest."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from rich.cells import cell_len

from harness.api.live_line import Part, fit
from harness.cli.tables import print_row, print_table, wrapped

from ..commands import Harness, Terminal, run_named
from ..test_console import MAIN

RUNS = (
    ["name", "run", "status", "epoch", "loss D", "loss G", "KID", "Frechet", "started", "run time"],
    ["default-final", "1234abcd", "FINISHED", "7/7", "1.386", "0.693", "0.006", "0.207", "2026-11-26 00:24", "2 min"],
    ["b", "5678abcd", "RUNNING", "?/7", "", "", "", "", "2026-11-26 00:25", ""],
)
STUDIES = (
    ["study", "complete", "pruned", "failed", "values"],
    ["default", "12", "8", "0", "trial 7: optimizer.lr 0.00123  generator.latent 64  discriminator.dropout 0.3"],
)


def lines_of(capsys: pytest.CaptureFixture[str], table: Sequence[Sequence[str]], folds: int | None = None) -> list[str]:
    header, *rows = table
    print_table(header, rows, folds=folds)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
@pytest.mark.parametrize(("table", "folds"), [(RUNS, None), (STUDIES, 4)], ids=["runs", "studies"])
def test_a_table_fits_the_width_and_is_whole(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    table: Sequence[list[str]],
    folds: int | None,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = lines_of(capsys, table, folds)
    assert max(map(cell_len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    for cell in (*table[0][1:], *(cell for row in table[1:] for cell in row)):
        for word in cell.split():
            assert word in text
    assert "…" not in text


def test_what_does_not_fit_follows_in_a_table_with_the_same_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line.split() for line in lines_of(capsys, RUNS) if line.strip()]
    assert [line[0] for line in lines if not line[0].startswith("─")] == ["name", "default-final", "b"] * 2
    assert lines[0] == ["name", "run", "status", "epoch", "loss", "D", "loss", "G", "KID", "Frechet"]


def test_in_a_very_narrow_terminal_a_row_is_a_paragraph(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = lines_of(capsys, RUNS)
    assert lines[:2] == ["default-final", "  run 1234abcd  status FINISHED"]
    assert lines[-3:] == ["b", "  run 5678abcd  status RUNNING", "  epoch ?/7  started 2026-11-26 00:25"]


def test_a_name_is_folded_only_where_it_leaves_no_room_for_a_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "n" * 50
    table = (["name", "status"], [name, "FINISHED"])
    monkeypatch.setenv("COLUMNS", "62")
    assert name in "".join(lines_of(capsys, table))
    monkeypatch.setenv("COLUMNS", "40")
    lines = lines_of(capsys, table)
    assert name not in "".join(lines)
    assert "".join(lines).count("n") == 1 + 50, "the title and the name, whole"
    assert "FINISHED" in "".join(lines)


def test_in_a_pipe_nothing_is_cut_or_moved(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = (["name", "values"], ["a", "word " * 100 + "end"])
    (line,) = [line for line in lines_of(capsys, table, 1) if "word" in line]
    assert line.split() == ["a", *["word"] * 100, "end"]
    assert wrapped("word " * 100) == "word " * 100


def test_rows_are_wrapped_at_words_unless_somebody_copies_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_row("test", "KID 0.0061 ± 0.0019  Frechet 0.21  (judge mnist-first)")
    print_row("continue", "harness run --resume 1234abcd --tracking-uri sqlite:////somewhere/mlflow.db")
    wrapped_one, rest, whole = capsys.readouterr().out.splitlines()
    assert (wrapped_one, rest) == ("  test     KID 0.0061 ± 0.0019  Frechet", "           0.21  (judge mnist-first)")
    assert whole.endswith("mlflow.db")


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (60, ["epoch 3/30", "loss D 1.386 G 0.693", "12,345 images/s", "9 s left"]),
        (50, ["epoch 3/30", "loss D 1.386 G 0.693", "9 s left"]),
        (40, ["epoch 3/30", "loss D 1.386 G 0.693"]),
        (5, ["epoch 3/30"]),
    ],
)
def test_a_live_line_leaves_out_what_matters_least(width: int, expected: list[str]) -> None:
    parts = [
        Part("epoch 3/30"),
        Part("loss D 1.386 G 0.693", 1),
        Part("12,345 images/s", 4),
        Part("9 s left", 2),
    ]
    assert fit(parts, "  ", width) == expected


def test_a_live_line_takes_the_short_text_before_it_leaves_a_part_out() -> None:
    parts = [Part("3/20 ended"), Part("best 0.01 (trial 2: lr 0.1)", 1, short="best 0.01 (trial 2)")]
    assert fit(parts, " · ", 40) == ["3/20 ended", "best 0.01 (trial 2: lr 0.1)"]
    assert fit(parts, " · ", 35) == ["3/20 ended", "best 0.01 (trial 2)"]


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_commands_obey_columns(gallery: Harness, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments in (("runs", "--all"), ("studies",), ("compare", "slow", "quick"), ("doctor",)):
        said = gallery(*arguments)
        assert said.code == 0, said.err
        lines = [line for line in said.out.splitlines() if not line.startswith("look ") and "/" not in line]
        assert max(map(cell_len, lines)) <= columns, arguments
        assert "…" not in said.out
    runs = gallery("runs", "--all").out
    for name in ("slow", "quick", "seeds", "small-0"):
        assert name in runs.split()
        assert run_named(name).info.run_id[:8] in runs
    assert runs.count("FINISHED") + runs.count("KILLED") >= 9
    assert {"complete", "waiting", "started"} <= set(gallery("studies").out.split())


def test_evaluate_names_its_rows_in_80_columns(gallery: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = gallery("evaluate", "slow", "--samples", "20")
    assert said.code == 0, said.err
    assert max(map(cell_len, said.out.splitlines())) <= 80
    assert said.out.count("real against real") == 2
    assert said.out.count("\n slow ") == 2


def test_columns_is_obeyed_in_a_terminal() -> None:
    """The window is 100 wide, the variable says 50."""
    terminal = Terminal(sys.executable, "-c", MAIN, "experiments", columns=100, environment={"COLUMNS": "50"})
    lines = terminal.read_to_end().splitlines()
    assert terminal.exit_code() == 0
    assert 40 < max(map(cell_len, lines)) <= 50

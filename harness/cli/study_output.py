"""The output of `harness tune` and `harness studies`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness import formatting
from harness.cli.common import elapsed_seconds, link_rows, print_rows
from harness.cli.tables import print_table, wrapped
from harness.formatting import duration, format_count, format_values
from harness.interrupts import stop_message

if TYPE_CHECKING:
    from harness.api import Confirmation, Study
    from harness.tracking import Store
    from harness.tuning.tune import Result

Rows = list[tuple[str, str]]
MAX_FRONT = 12  # trials of the Pareto front that are printed


def print_study(study: Study, experiment: str | None, options: Mapping[str, Any]) -> str | None:
    """Print how a search ended.

    Args:
        study: The study.
        experiment: The experiment as it was typed, for the printed commands.
        options: The options as they were typed, likewise.

    Returns:
        What stopped the search; None if all trials have ended.
    """
    store, result = study.store, study.result
    assert result is not None
    click.echo(f"\n{'STOPPED' if result.stopped else 'FINISHED'}  study {result.name}  {_counts(result)}")
    rows = [_time_row(result)]
    if result.stopped:
        left = result.progress.total - result.progress.ended
        rows.append(("why", stop_message(result.stopped, format_count(left, "trial is left", "trials are left"))))
    rows += _best_rows(result)
    if result.edges:
        rows += [("edge", edge.message) for edge in result.edges]
        rows.append(("wider", _wider_search(store, result, experiment, options)))
    rows += _front_rows(result)
    rows.append(("run", f"{result.run_id}  (MLflow experiment {result.settings.experiment.project})"))
    if result.best_file:
        best = formatting.short_path(result.best_file)
        rows.append(("train it", formatting.harness_command("run", best, store=store.uri)))
    if result.stopped:
        resume = formatting.harness_command(
            "tune",
            study=result.name,
            trials=result.progress.requested,
            store=store.uri,
            storage=options["storage"],
            trust=bool(result.settings.base.custom_classes),
        )
        rows.append(("continue", resume))
    print_rows(rows + link_rows(store, result.run_id, result.unshipped))
    return result.stopped


def _counts(result: Result) -> str:
    now = result.progress
    counts = f"{now.complete} complete, {now.pruned} pruned, {now.failed} failed"
    if now.ended > now.requested:
        requested = format_count(now.requested, "was requested", "were requested")
        text = f"{now.ended} trials ({requested}; {counts})"
    else:
        text = f"{now.ended} of {format_count(now.requested, 'trial')} ({counts})"
    return f"{text}, {now.ended - result.before} of them now" if result.before else text


def _time_row(result: Result) -> tuple[str, str]:
    seconds = result.trial_seconds
    each = "" if seconds is None else f"; {duration(seconds)} for a complete trial (median)"
    return "time", f"{duration(elapsed_seconds())} in all{each}"


def _best_rows(result: Result) -> Rows:
    metric, best, baseline = result.settings.metric, result.progress.best, result.progress.baseline
    if best is None:
        constraints = result.settings.constraints
        return [("best", f"no complete trial is within {' and '.join(constraints)}")] if constraints else []
    seeds = "" if best.seeds < 2 else f", {result.settings.aggregate} of {best.seeds} seeds"
    rows = [
        ("best", f"trial {best.number}: validation {metric} {best.score:.4f}{seeds}"),
        ("", format_values(best.values)),
    ]
    if result.settings.method == "pbt":
        rows.append(("", "these are its first values; best.yaml has the schedule that it was trained with"))
    if baseline is not None and best.number == baseline.number:
        rows.append(("baseline", "the baseline values are the best"))
    elif baseline is not None:
        rows.append(("baseline", f"{metric} {baseline.score:.4f}  {format_values(baseline.values)}"))
    if result.verdict is not None:
        rows.append(("verdict", result.verdict))
    return rows


def _front_rows(result: Result) -> Rows:
    """The trials of the Pareto front, the first ones, and where their experiments are."""
    texts = [
        f"trial {trial.number}: " + ", ".join(f"{name} {value:.4g}" for name, value in trial.measured.items())
        for trial in result.front[:MAX_FRONT]
    ]
    if len(result.front) > MAX_FRONT:
        texts.append(f"and {len(result.front) - MAX_FRONT} more")
    if result.front_folder:
        texts.append(f"experiments in {formatting.short_path(result.front_folder)}")
    return [("front" if not index else "", text) for index, text in enumerate(texts)]


def _wider_search(store: Store, result: Result, experiment: str | None, options: Mapping[str, Any]) -> str:
    """Return the command of a new study with wider ranges; without the experiment's name, only its new options."""
    wider = [edge.wider_range for edge in result.edges]
    if experiment is None and options["study"] is not None and not options["set"]:
        return " ".join(f"--set {shlex.quote(value)}" for value in wider) + "  (in a new study)"
    new: dict[str, Any] = {
        "study": f"{result.name}-wider",
        "trials": result.progress.total,
        "set": [*options["set"], *wider],
    }
    return formatting.harness_command(
        "tune", experiment or "default", store=store.uri, storage=options["storage"], **new
    )


def print_confirmation(confirmation: Confirmation) -> None:
    """Print the table of a confirmation and its verdict."""
    header, *rows = confirmation.as_cells()
    click.echo("")
    print_table(header, rows)
    click.echo(wrapped(confirmation.verdict))


_STUDY_COLUMNS = (
    *("study", "complete", "pruned", "failed", "running", "waiting"),
    *("metric", "best", "values", "run", "started"),
)


def print_studies(studies: Sequence[Mapping[str, Any]], storage: str | None) -> None:
    """Print a table of studies, or that there are none."""
    if not studies:
        from harness.tuning.storage import no_studies

        click.echo(no_studies(storage, Path("mlruns").absolute()))
        return
    rows = [
        [
            study["study"],
            *(str(study[count]) for count in ("complete", "pruned", "failed", "running", "waiting")),
            study["metric"],
            "" if study["best"] is None else f"{study['best']:.4f}",
            "" if study["best"] is None else f"trial {study['best_trial']}: {format_values(study['best_values'])}",
            (study["run_id"] or "")[:8],
            (study["started"] or "").replace("T", " ")[:16],
        ]
        for study in studies
    ]
    print_table(_STUDY_COLUMNS, rows, folds=_STUDY_COLUMNS.index("values"))

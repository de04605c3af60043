"""`evaluate`: runs, or anyone's images, scored again under one protocol, with the reference above them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from harness import data
from harness.errors import HarnessError
from harness.experiment import Data, Experiment, Quality, Train, from_mapping
from harness.experiment.scores import SCORES, primary_of
from harness.experiment.sections import VALIDATION_IMAGES
from harness.experiment.tags import Kind, Tag
from harness.media import pictures
from harness.quality import ScoreSet
from harness.quality.scoring import Scoring, Split
from harness.results import changes, load, summary
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run


@dataclass(frozen=True)
class Row:
    """One line of the table.

    spread: standard deviation of each score over `seeds` runs, where there are several, or over simulated references.
    """

    name: str
    scores: ScoreSet
    judge: str
    split: Split
    samples: int
    run_id: str | None = None
    epoch: int | None = None
    spread: ScoreSet | None = None
    seeds: int = 1


def evaluate(
    store: Store,
    runs: Sequence[Run],
    *,
    judge: str | None = None,
    split: Split = "test",
    samples: int | None = None,
    allow_changes: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Score the best generator of each run, and write the scores back to it; the references come first.

    Runs that cannot be compared (other images, or another number of samples) follow references of their own.

    Replicates are followed into their runs, and get the means and standard deviations of these.

    Args:
        store: The store.
        runs: The runs.
        judge: Another judge than the experiment's, whose scores are written beside those of the first
            (`test/second/kid`).
        split: The images to compare with.
        samples: Instead of each experiment's `quality.samples`; such scores are not written back.
        allow_changes: Write scores back also where images, judge or code have changed since, and tag the run.
        message: Called with one line for what takes long or has changed.

    Raises:
        HarnessError: A run has no checkpoint, or there are no images of the split.
    """
    protocols: dict[Experiment, _Protocol] = {}
    for run in runs:
        rows = []
        changed: dict[str, Mapping[str, str]] = {}
        for child in _scored_runs(store, run):
            described, generator, epoch, like = load.generator(store, child, "end", message=message)
            own = described.quality.judge or "first"
            key = _what_counts(described, samples)
            with load.use_stored_code(store, child, described):
                if key not in protocols:
                    protocols[key] = _Protocol(key, judge, split, message)
                tags = _changes(store, child, described, protocols[key], judge in {None, own})
            if tags:
                changed[child.info.run_id] = changed[run.info.run_id] = tags
                message(_changes_message(child, tags, allow_changes))
            _refuse_other_classes(child, described, like, protocols[key])
            message(f"scoring {child.info.run_name}, epoch {epoch} ...")
            scores = protocols[key].scoring.score(described, generator, split)
            row = protocols[key].row(str(child.info.run_name), scores)
            rows.append(replace(row, run_id=child.info.run_id, epoch=epoch))
        if len(rows) > 1:
            rows.append(_mean(run, rows))
        protocols[key].rows += rows
        if samples is None:
            prefix = split if judge in {None, own} else f"{split}/{str(judge).rpartition(':')[2]}"
            for row in rows:
                tags = changed.get(row.run_id or "", {})
                if allow_changes or not tags:
                    _write_back(store, row, prefix, described.train.epochs, tags)
    return [row for protocol in protocols.values() for row in (*protocol.references, *protocol.rows)]


def _changes_message(run: Run, tags: Mapping[str, str], allow_changes: bool) -> str:
    what = tags[Tag.CHANGED].rpartition("evaluated: ")[2]
    written = "written back (--allow-changes)" if allow_changes else "shown, not written back"
    return (
        f"run {run.info.run_name} is scored with what is here now, which is not what it was trained on and with "
        f"({what}): its scores are {written}"
    )


def _changes(
    store: Store, run: Run, described: Experiment, protocol: _Protocol, load_custom_judge: bool
) -> Mapping[str, str]:
    """What is not as it was when the run was trained: the tags that say so, or none."""
    now = changes.image_tags(protocol.scoring.splits)
    fields = ["generator.kind"]
    if load_custom_judge:  # another one is asked for, and named
        now[Tag.JUDGE] = protocol.scoring.identity
        fields.append("quality.judge")
    return load.recorded(store, run, described).changed_tags(described, now, "evaluated", fields)


def _refuse_other_classes(run: Run, described: Experiment, like: data.Images, protocol: _Protocol) -> None:
    there = protocol.scoring.splits.train.classes
    if described.conditional and like.classes != there:
        raise HarnessError(
            f"run {run.info.run_name} ({run.info.run_id[:8]}) is asked for one of {like.classes} classes, but "
            f"{protocol.scoring.splits.train.name} has {there} now: restore the images to score it"
        )


def _what_counts(experiment: Experiment, samples: int | None) -> Experiment:
    """What two runs must share for their scores to be comparable: images, judge and counts, and nothing else."""
    # Scores do not depend on where they are made, and this machine need not be the one that trained.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train = Train(batch_size=2, device=device)
    shared = Experiment(name="scores", data=experiment.data, quality=experiment.quality, train=train)
    return shared if samples is None else shared.with_values({"quality.samples": samples})


class _Protocol:
    """Runs, or images, that are scored in the same way, below the references of that way."""

    def __init__(self, described: Experiment, judge: str | None, split: Split, message: Callable[[str], None]) -> None:
        splits = data.load(**described.data.model_dump(), message=message)
        self.scoring = Scoring(described, splits, judge=judge, message=message)
        self.split = split
        self.scorer = self.scoring.test if split == "test" else self.scoring.validation
        self.references = [self.row(name, *found) for name, found in self.scorer.references().items()]
        self.rows: list[Row] = []

    def row(self, name: str, scores: ScoreSet, spread: ScoreSet | None = None) -> Row:
        return Row(name, scores, self.scoring.identity, self.split, self.scorer.samples, spread=spread)


def evaluate_images(
    file: Path,
    *,
    name: str = "mnist",
    judge: str = "first",
    samples: int | None = None,
    message: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """Score the images of an NPZ file as those of a data set are, on its test split; its references come first.

    Args:
        file: The NPZ file.
        name: The data set.
        judge: The judge.
        samples: Instead of the data set's number of samples.
        message: Called with one line for what takes long.

    Raises:
        HarnessError: The file does not have `images`, uint8 [N, H, W] or [N, C, H, W], or too few.
    """
    pixels = pictures.load_npz(file)
    samples = samples or from_mapping({"name": "images", "data": {"name": name}}, "--data").quality.samples
    if len(pixels) < samples:
        raise HarnessError(
            f"{file} holds {len(pixels):,} images, but {samples:,} are compared: give more, or --samples {len(pixels)} "
            "(comparable only to figures with as many)"
        )
    held_out = _held_out(name, message) if primary_of(name).against_real else 0
    wanted = Experiment(
        name="images",
        data=Data(name=name, validation=held_out),
        quality=Quality(judge=judge, samples=samples),
    )
    protocol = _Protocol(_what_counts(wanted, None), judge, "test", message)
    return [*protocol.references, protocol.row(file.name, protocol.scorer.score(pixels))]


def _held_out(name: str, message: Callable[[str], None]) -> int:
    """As many training images as runs hold out, so that what is compared with is the same; a tenth of a small set."""
    there = len(data.load_split(name, "train", message=message))
    return VALIDATION_IMAGES if there > 2 * VALIDATION_IMAGES else there // 10


def _scored_runs(store: Store, run: Run) -> list[Run]:
    if run.data.tags.get(Tag.KIND) != Kind.REPLICATES:
        return [summary.resolve_run(store, run)]
    children = store.children(run.info.run_id)
    if not children:
        raise HarnessError(f"{run.info.run_name} has no runs below it yet")
    return sorted(children, key=lambda child: int(child.data.params.get("train.seed", 0)))


def _mean(parent: Run, rows: Sequence[Row]) -> Row:
    means, deviations = mean_and_deviation([row.scores.metrics("") for row in rows])
    return replace(
        rows[0],
        name=f"{parent.info.run_name}, mean",
        run_id=parent.info.run_id,
        epoch=None,
        scores=_scores(rows[0], means),
        spread=_scores(rows[0], deviations),
        seeds=len(rows),
    )


def mean_and_deviation(rows: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return mean and sample standard deviation (n - 1; 0 for one row) of every number that all rows have."""
    shared = [name for name in rows[0] if all(name in row for row in rows)]
    means = {name: statistics.fmean(row[name] for row in rows) for name in shared}
    if len(rows) == 1:
        return means, dict.fromkeys(shared, 0.0)
    return means, {name: statistics.stdev(row[name] for row in rows) for name in shared}


def _scores(like: Row, values: Mapping[str, float]) -> ScoreSet:
    return replace(like.scores, values={key: values.get(f"/{key}") for key in like.scores.values})


def _write_back(store: Store, row: Row, prefix: str, epochs: int, tags: Mapping[str, str]) -> None:
    assert row.run_id is not None
    metrics = row.scores.metrics(prefix)
    if row.spread is not None:
        metrics |= {f"{name}_std": value for name, value in row.spread.metrics(prefix).items()}
    mark = {Tag.CHANGED: tags[Tag.CHANGED]} if tags else {}
    tag = Tag.JUDGE if prefix.count("/") == 0 else f"{Tag.JUDGE_}{prefix.rpartition('/')[2]}"
    store.add(row.run_id, epochs if row.epoch is None else row.epoch, metrics, {**mark, tag: row.judge})


def as_json(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Rows as plain data."""
    return [{field.name: _plain(getattr(row, field.name)) for field in fields(Row)} for row in rows]


def _plain(value: object) -> object:
    return dict(value.values) if isinstance(value, ScoreSet) else value


def as_cells(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Rows as text for a table: a header, then a line each; ± is KID's standard error, or a deviation (Row.spread)."""
    scores = [score for score in SCORES.values() if any(score.key in row.scores.values for row in rows)]
    yield ["run", "epoch", *(score.label for score in scores)]
    for row in rows:
        cells = []
        for score in scores:
            value = row.scores.values.get(score.key)
            spread = row.spread.values.get(score.key) if row.spread else row.scores.values.get(f"{score.key}_se")
            text = "" if value is None else score.format(value)
            cells.append(text if spread is None or not text else f"{text} ±{score.format(spread)}")
        yield [row.name, "" if row.epoch is None else str(row.epoch), *cells]

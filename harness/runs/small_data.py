"""Adjust the defaults of an experiment to a small data set.

The defaults suit MNIST. For a data set with fewer images, `adjust` changes the fields of ADJUSTED that the user did not
set, and describes the changes. It never changes a value that the user has set; if such a value cannot work, it raises
an error of one line.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import data
from harness.data import Counts
from harness.errors import HarnessError
from harness.experiment import (
    SEARCH_KEYS,
    Data,
    Experiment,
    Quality,
    Track,
    Train,
    parse_overrides,
    read,
    with_overrides,
)
from harness.experiment import load as load_experiment
from harness.formatting import format_count

MIN_IMAGES = 12  # in a data set that can be trained on
MIN_TEST, MIN_VALIDATION, MIN_TRAINING = 10, 10, 20  # images of each split for scores and a reference row
ADJUSTED = (
    *("conditional", "data.test", "data.validation", "data.subset", "quality.judge", "quality.samples"),
    *("quality.samples_while_training", "track.score_every", "train.batch_size"),
)
_ADVISED = ("data.test", "data.validation", "quality.samples", "quality.samples_while_training")
_ADVISED_ALWAYS = ("data.validation", "train.batch_size", "quality.samples", "quality.samples_while_training")


@dataclass(frozen=True)
class Adjustments:
    """Changed defaults.

    Attributes:
        values: The new values by dotted path.
        images: Number of training images, if they were counted.
        description: The new values in one line; None if nothing has changed.
    """

    values: Mapping[str, Any]
    images: int | None = None
    description: str | None = None


def load(name: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Adjustments]:
    """Load an experiment, with its defaults adjusted to its data set."""
    found = adjust(name, overrides)
    return load_experiment(name, overrides, found.values), found


def adjust(name: str | Path, overrides: Sequence[str] = (), *, searched: bool = False) -> Adjustments:
    """Adjust the defaults of an experiment to the number of its images.

    Values of the command line are never changed. Neither are those of the file, unless the command line names another
    data set.

    Args:
        name: Name or file of the experiment.
        overrides: Values of the command line, as `path=value`.
        searched: The experiment is for `tune`, which scores every trial on validation images.

    Raises:
        HarnessError: A value that the user has set cannot work with so few images.
    """
    file = {key: part for key, part in read(name)[0].items() if key not in SEARCH_KEYS}
    typed = parse_overrides(overrides)
    typed = {path: value for path, value in typed.items() if path.partition(".")[0] not in SEARCH_KEYS}
    raw = with_overrides(file, typed)
    try:
        section = Data.model_validate(raw.get("data") or {})
    except ValidationError:
        return Adjustments({})  # loading the experiment reports what is wrong
    source = data.create_source(**section.source_options())
    counts = source.counts()
    fields = _fields(raw)
    if counts is None or any(not isinstance(fields[path], types) for path, types in _TYPES.items()):
        return Adjustments({})
    other_data = typed.keys() & {"data.name", "data.path"}
    chosen = set(typed) if other_data else {*typed, *(path for path, _ in _flat(file))}
    judge = fields["quality.judge"]
    has_judge = judge is not None and (":" in judge or (counts.labelled and source.classes > 1))
    title = source.title or section.name
    adjustment = _Adjustment(title, counts, fields, chosen, has_judge=has_judge, searched=searched)
    values = adjustment.values()
    changed = {path: value for path, value in values.items() if value != fields[path]}
    description = None
    if changed:
        listed = ", ".join(f"{path} {_format(value)}" for path, value in changed.items())
        images = format_count(counts.train + counts.test, "image")
        description = f"{title} has {images}; defaults adjusted: {listed} (docs/data.md)"
    return Adjustments(changed, adjustment.train - values["data.validation"], description)


def _fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that an adjustment depends on, by dotted path; defaults where the experiment has none."""
    discriminator = raw.get("discriminator") if isinstance(raw.get("discriminator"), dict) else {}
    found: dict[str, Any] = {"conditional": False, "discriminator.pack": (discriminator or {}).get("pack", 1)}
    for name, defaults in {"data": Data(), "quality": Quality(), "track": Track(), "train": Train()}.items():
        found |= {f"{name}.{field}": value for field, value in defaults.flatten().items()}
    return found | dict(_flat(raw))


def _flat(raw: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (f"{name}.{field}" if field else name, value)
        for name, part in raw.items()
        for field, value in (part.items() if isinstance(part, dict) else [("", part)])
    ]


_OPTIONAL = (int, type(None))
_TYPES: Mapping[str, Any] = {
    "conditional": bool,
    "discriminator.pack": int,
    "data.test": _OPTIONAL,
    "data.validation": int,
    "data.subset": _OPTIONAL,
    "quality.judge": (str, type(None)),
    "quality.samples": int,
    "quality.samples_while_training": int,
    "track.score_every": _OPTIONAL,
    "train.batch_size": int,
    "train.discriminator_steps": int,
}


class _Adjustment:
    """Computes the fields of ADJUSTED for a small data set, one after the other: each depends on those before it."""

    def __init__(
        self,
        title: str,
        counts: Counts,
        fields: Mapping[str, Any],
        chosen: Collection[str],
        *,
        has_judge: bool,
        searched: bool,
    ) -> None:
        """Prepare the computation. has_judge: a judge can score these images, if there are enough of them."""
        self._title, self._counts, self._fields, self._chosen = title, counts, fields, chosen
        self._has_judge, self._searched = has_judge, searched
        self._now = {path: fields[path] for path in ADJUSTED}
        self.errors: list[str] = []
        self.train = counts.train

    def values(self) -> dict[str, Any]:
        """Return the adjusted fields. Raises HarnessError if values that the user has set cannot work."""
        total = self._counts.train + self._counts.test
        found = self.compute()
        if self.errors:
            raise HarnessError(
                f"{self._title} has {format_count(total, 'image')}: {'; '.join(self.errors)}; {self._advice()}"
            )
        return found

    def compute(self) -> dict[str, Any]:
        """Return the adjusted fields, and collect what cannot work in `errors`."""
        total = self._counts.train + self._counts.test
        if total < MIN_IMAGES or self._counts.train < 2:
            raise HarnessError(
                f"{self._title} has {format_count(total, 'image')}, too few to train on; expected {MIN_IMAGES} or more"
            )
        if not self._counts.labelled:
            self._change("conditional", False)
        self._splits(total)
        self._scores()
        self._batch()
        return self._now

    def _change(self, path: str, value: Any, error: str | None = None) -> None:
        """Set a field that the user has not set; else collect the error."""
        if self._now[path] == value:
            return
        if path not in self._chosen:
            self._now[path] = value
        elif error and not any(known.startswith(f"{path} ") for known in self.errors):
            self.errors.append(f"{path} is {_format(self._now[path])}, but {error}")

    def _splits(self, total: int) -> None:
        enough = self._has_judge and total >= MIN_TEST + MIN_VALIDATION + MIN_TRAINING
        if self._counts.random_test and enough and self._counts.test < MIN_TEST:
            self._change("data.test", MIN_TEST)
        self.test = self._counts.test
        if self._counts.random_test and self._now["data.test"] is not None:
            self.test = self._now["data.test"]  # `data.source` has checked that there are enough images
            self.train = total - self.test
        held_out = max(MIN_VALIDATION if enough else 1, self.train // 10)
        none_for_search = self._searched and self._now["data.validation"] == 0
        if self._now["data.validation"] > self.train // 2 or none_for_search:
            self._change("data.validation", held_out)
        if self._now["data.validation"] >= self.train:
            self.errors.append(
                f"data.validation is {self._now['data.validation']:,}, but there are {self.train:,} training images"
            )

    def _scores(self) -> None:
        held_out, now = self._now["data.validation"], self._now
        if self._has_judge:
            error = f"scores need {MIN_TEST} test images and {MIN_VALIDATION} validation images"
            too_few = self.test < MIN_TEST or (
                held_out < MIN_VALIDATION and (self._searched or now["track.score_every"] is not None)
            )
            if too_few and self._searched:
                self.errors.append(f"{error}, and a search compares scores")
            elif too_few and self.test >= MIN_TEST and "track.score_every" not in self._chosen:
                now["track.score_every"] = None  # scored once, at the end
            elif too_few:
                self._change("track.score_every", None, error)
                self._change("quality.judge", None, error)
        for path in ("quality.samples", "quality.samples_while_training"):
            if now[path] < MIN_TEST and path in self._chosen:
                self.errors.append(f"{path} is {now[path]}, but scores need {MIN_TEST} images or more")
        limit = min(self.test, held_out) if self._searched else self.test
        if self._has_judge and now["quality.judge"] and now["quality.samples"] > limit:
            split = "the smaller of the test and the validation split" if self._searched else "the test split"
            self._change("quality.samples", max(MIN_TEST, limit), f"{split} has {format_count(limit, 'image')}")
        if now["quality.samples_while_training"] > held_out:
            if held_out >= MIN_VALIDATION:
                needed = bool(self._has_judge and now["track.score_every"])
                error = f"the validation split has {format_count(held_out, 'image')}"
                self._change("quality.samples_while_training", held_out, error if needed else None)
            else:
                self._change(
                    "track.score_every", None, f"the validation split has only {format_count(held_out, 'image')}"
                )

    def _batch(self) -> None:
        left = self.train - self._now["data.validation"]
        if (self._now["data.subset"] or 0) > left:
            self._change("data.subset", None, f"{format_count(left, 'training image')} are left")
        images = min(self._now["data.subset"] or left, left)
        several, pack = self._fields["train.discriminator_steps"], max(1, self._fields["discriminator.pack"])
        if self._now["train.batch_size"] * several > images:
            batch = images // (4 * several) // pack * pack  # about four updates of G per epoch
            batch = max(batch, -(-2 // pack) * pack)
            steps = f" and an update of G takes {several} batches" if several > 1 else ""
            self._change("train.batch_size", batch, f"there are {format_count(images, 'training image')}{steps}")
            if self._now["train.batch_size"] * several > images > 0 and not self.errors:
                self.errors.append(
                    f"train.discriminator_steps is {several}, but there are {images:,} training images: use fewer steps"
                )

    def _advice(self) -> str:
        """Return all values that work together, in words."""
        fields = {**self._fields, **{path: value for path, value in _fields({}).items() if path in _ADVISED}}
        free = _Adjustment(self._title, self._counts, fields, (), has_judge=self._has_judge, searched=self._searched)
        values = free.compute()
        if free.errors:
            least = (
                f"{MIN_TEST + MIN_VALIDATION + MIN_TRAINING} images or more"
                if self._has_judge and self._searched
                else "more images"
            )
            return f"expected {least}"
        listed = _ADVISED_ALWAYS if self._has_judge and values["quality.judge"] else _ADVISED_ALWAYS[:2]
        paths = [
            path
            for path in ADJUSTED
            if path in listed or (path not in _ADVISED_ALWAYS and values[path] != self._fields[path])
        ]
        return "these work together: " + " ".join(f"{path}={_format(values[path])}" for path in paths)


def _format(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

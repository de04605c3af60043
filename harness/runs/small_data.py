"""Experiments on small data sets: what nobody chose is fitted to how many images there are.

The defaults are those of MNIST. Where there are fewer images, `fit` changes the leaves of FITTED that nobody chose, and
says so. What was chosen is never changed, and refused in one line where it cannot work.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import data
from harness import experiment as experiments
from harness.data import Counts
from harness.errors import HarnessError
from harness.experiment import Data, Experiment, Quality, Track, Train

FEWEST = 12  # images in all that are trained on
TEST, VALIDATION, TRAINING = 10, 10, 20  # images from which on there are scores, and a reference above them
FITTED = (
    *("conditional", "data.test", "data.validation", "data.subset", "quality.judge", "quality.samples"),
    *("quality.samples_while_training", "track.score_every", "train.batch_size"),
)
_ADVISED = ("data.test", "data.validation", "quality.samples", "quality.samples_while_training")
_SHOWN = ("data.validation", "train.batch_size", "quality.samples", "quality.samples_while_training")


@dataclass(frozen=True)
class Fit:
    """What nobody chose and has to be changed, by leaf.

    images: how many are left to train on, where they were counted. line: both in words; None where all fits.
    """

    values: Mapping[str, Any]
    images: int | None = None
    line: str | None = None


def load(name: str | Path, overrides: Sequence[str] = ()) -> tuple[Experiment, Fit]:
    """`experiment.load`, fitted to the images of a small data set."""
    found = fit(name, overrides)
    return experiments.load(name, overrides, found.values), found


def fit(name: str | Path, overrides: Sequence[str] = (), *, searched: bool = False) -> Fit:
    """Fit the experiment of that name or file to the images that there are.

    What the command line says was chosen. What the file says was chosen too, unless the command line names another data
    set. searched: for `tune`, which scores all its trials on validation images.
    Raises HarnessError, one line, where what was chosen does not go with so few images.
    """
    file = {key: part for key, part in experiments.read(name)[0].items() if key not in experiments.SEARCH_KEYS}
    typed = experiments.parse_overrides(overrides)
    typed = {path: value for path, value in typed.items() if path.partition(".")[0] not in experiments.SEARCH_KEYS}
    raw = experiments.with_overrides(file, typed)
    try:
        section = Data.model_validate(raw.get("data") or {})
    except ValidationError:
        return Fit({})  # whoever loads the experiment says what is wrong
    source = data.create_source(**section.source_options())
    counts = source.counts()
    leaves = _leaves(raw)
    if counts is None or any(not isinstance(leaves[path], kinds) for path, kinds in _KINDS.items()):
        return Fit({})
    another = typed.keys() & {"data.name", "data.path"}
    chosen = set(typed) if another else {*typed, *(path for path, _ in _flat(file))}
    judge = leaves["quality.judge"]
    judged = judge is not None and (":" in judge or (counts.labelled and source.classes > 1))
    title = source.title or section.name
    fitting = _Fitting(title, counts, leaves, chosen, judged=judged, searched=searched)
    values = fitting.values()
    changed = {path: value for path, value in values.items() if value != leaves[path]}
    line = None
    if changed:
        shown = ", ".join(f"{path} {_shown(value)}" for path, value in changed.items())
        line = f"{title} has {counts.train + counts.test:,} images; fitted to so few: {shown} (docs/data.md)"
    return Fit(changed, fitting.train - values["data.validation"], line)


def _leaves(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves that a fit looks at, with their defaults."""
    discriminator = raw.get("discriminator") if isinstance(raw.get("discriminator"), dict) else {}
    found: dict[str, Any] = {"conditional": False, "discriminator.pack": (discriminator or {}).get("pack", 1)}
    for name, defaults in {"data": Data(), "quality": Quality(), "track": Track(), "train": Train()}.items():
        found |= {f"{name}.{leaf}": value for leaf, value in defaults.flatten().items()}
    return found | dict(_flat(raw))


def _flat(raw: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        (f"{name}.{leaf}" if leaf else name, value)
        for name, part in raw.items()
        for leaf, value in (part.items() if isinstance(part, dict) else [("", part)])
    ]


_OPTIONAL = (int, type(None))
_KINDS: Mapping[str, Any] = {
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


class _Fitting:
    """The leaves of FITTED for a small data set, one after the other; each depends on those before it."""

    def __init__(
        self,
        title: str,
        counts: Counts,
        leaves: Mapping[str, Any],
        chosen: Collection[str],
        *,
        judged: bool,
        searched: bool,
    ) -> None:
        """judged: there is a judge for these images, if there are enough of them."""
        self._title, self._counts, self._all, self._chosen = title, counts, leaves, chosen
        self._judged, self._searched = judged, searched
        self._now = {path: leaves[path] for path in FITTED}
        self.faults: list[str] = []
        self.train = counts.train

    def values(self) -> dict[str, Any]:
        """The leaves of FITTED as they work. Raises HarnessError where that cannot be."""
        total = self._counts.train + self._counts.test
        found = self.fitted()
        if self.faults:
            raise HarnessError(f"{self._title} has {total:,} images: {'; '.join(self.faults)}; {self._advice()}")
        return found

    def fitted(self) -> dict[str, Any]:
        """The same, with what is wrong in `faults`."""
        total = self._counts.train + self._counts.test
        if total < FEWEST or self._counts.train < 2:
            raise HarnessError(
                f"{self._title} holds {total} images, which are too few to train on; give {FEWEST} or more"
            )
        if not self._counts.labelled:
            self._change("conditional", False)
        self._splits(total)
        self._scores()
        self._batch()
        return self._now

    def _change(self, path: str, value: Any, fault: str | None = None) -> None:
        """Set a leaf that nobody chose; else note what is wrong with it."""
        if self._now[path] == value:
            return
        if path not in self._chosen:
            self._now[path] = value
        elif fault and not any(known.startswith(f"{path} ") for known in self.faults):
            self.faults.append(f"{path} is {_shown(self._now[path])}, but {fault}")

    def _splits(self, total: int) -> None:
        enough = self._judged and total >= TEST + VALIDATION + TRAINING
        if self._counts.random_test and enough and self._counts.test < TEST:
            self._change("data.test", TEST)
        self.test = self._counts.test
        if self._counts.random_test and self._now["data.test"] is not None:
            self.test = self._now["data.test"]  # `data.source` has refused more than there are
            self.train = total - self.test
        held_out = max(VALIDATION if enough else 1, self.train // 10)
        unheld = self._searched and self._now["data.validation"] == 0
        if self._now["data.validation"] > self.train // 2 or unheld:
            self._change("data.validation", held_out)
        if self._now["data.validation"] >= self.train:
            self.faults.append(
                f"data.validation is {self._now['data.validation']:,}, but there are {self.train:,} to train on"
            )

    def _scores(self) -> None:
        held_out, now = self._now["data.validation"], self._now
        if self._judged:
            fault = f"scores take {TEST} test images and {VALIDATION} validation images"
            few = self.test < TEST or (
                held_out < VALIDATION and (self._searched or now["track.score_every"] is not None)
            )
            if few and self._searched:
                self.faults.append(f"{fault}, and a search goes by scores")
            elif few and self.test >= TEST and "track.score_every" not in self._chosen:
                now["track.score_every"] = None  # scored once, at the end
            elif few:
                self._change("track.score_every", None, fault)
                self._change("quality.judge", None, fault)
        for path in ("quality.samples", "quality.samples_while_training"):
            if now[path] < TEST and path in self._chosen:
                self.faults.append(f"{path} is {now[path]}, but scores take {TEST} images or more")
        limit = min(self.test, held_out) if self._searched else self.test
        if self._judged and now["quality.judge"] and now["quality.samples"] > limit:
            what = "on the smaller of the test and the validation split" if self._searched else "to test on"
            self._change("quality.samples", max(TEST, limit), f"{limit:,} are {what}")
        if now["quality.samples_while_training"] > held_out:
            if held_out >= VALIDATION:
                needed = bool(self._judged and now["track.score_every"])
                fault = f"{held_out:,} are held out"
                self._change("quality.samples_while_training", held_out, fault if needed else None)
            else:
                self._change("track.score_every", None, f"only {held_out} are held out")

    def _batch(self) -> None:
        left = self.train - self._now["data.validation"]
        if (self._now["data.subset"] or 0) > left:
            self._change("data.subset", None, f"{left:,} are left to train on")
        images = min(self._now["data.subset"] or left, left)
        several, pack = self._all["train.discriminator_steps"], max(1, self._all["discriminator.pack"])
        if self._now["train.batch_size"] * several > images:
            batch = images // (4 * several) // pack * pack  # some four updates of G an epoch
            batch = max(batch, -(-2 // pack) * pack)
            taken = f", and {several} batches make an update of G" if several > 1 else ""
            self._change("train.batch_size", batch, f"{images:,} images are trained on{taken}")
            if self._now["train.batch_size"] * several > images > 0 and not self.faults:
                self.faults.append(
                    f"train.discriminator_steps is {several}, but {images:,} are trained on: take fewer steps"
                )

    def _advice(self) -> str:
        """All values that work together where nobody chooses."""
        leaves = {**self._all, **{path: value for path, value in _leaves({}).items() if path in _ADVISED}}
        free = _Fitting(self._title, self._counts, leaves, (), judged=self._judged, searched=self._searched)
        values = free.fitted()
        if free.faults:
            least = (
                f"{TEST + VALIDATION + TRAINING} images or more" if self._judged and self._searched else "more images"
            )
            return f"give {least}"
        shown = _SHOWN if self._judged and values["quality.judge"] else _SHOWN[:2]
        paths = [path for path in FITTED if path in shown or (path not in _SHOWN and values[path] != self._all[path])]
        return "these work together: " + " ".join(f"{path}={_shown(values[path])}" for path in paths)


def _shown(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)

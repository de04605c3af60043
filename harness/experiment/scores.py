"""The table of scores: each number that says how good generated images are, declared once. Needs no torch.

Everything that names, formats, sorts or charts a score reads its row here: `evaluate`, `runs`, `compare`, the choices
of `tune --metric`, help texts, the views of MLflow's UI and the tables of docs/metrics.md.

To add a score:

1. Add its row to `SCORES`.
2. Write its function in `harness/quality/scores.py` and register it in `FUNCTIONS` there (a score of Stacked MNIST: in
   `harness/quality/modes.py`).
3. Test the function. `tests/experiment/test_scores.py` prints the row for docs/metrics.md.

A score is logged as `PLACE/KEY`, for example `test/kid`; `PLACES` lists the places. Its standard error, where its
function returns one, is logged as `PLACE/KEY_se`, its standard deviation over seeds as `PLACE/KEY_std`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from harness.experiment.tags import Tag
from harness.formatting import join_words

Direction = Literal["minimize", "maximize"]

# Where scores are logged, in order of preference: at the end of a run, at the end of a trial, while training.
PLACES = ("test", "validation", "quality")

# Data sets whose modes are counted, and the data set whose classes each of their channels shows.
CHANNELS: Mapping[str, str] = {"stacked-mnist": "mnist"}


@dataclass(frozen=True)
class Score:
    """A row of the table.

    Attributes:
        key: Name in metrics, parameters and JSON.
        label: Name in tables, captions and charts.
        digits: Number of decimals in tables.
        better: Which values are better. `near 1` has no direction, so that a study cannot search by the score.
        primary: Key of the primary score of the runs that have this score. A primary score names itself.
        meaning: What it is, in one line, with its source.
        perfect: The value that a perfect generator gets.
        reading: What the value tells about the images.
        secondary: Whether `runs`, `compare` and MLflow's views show it next to the primary score.
        scale: Scale of the axis of its charts.
        searchable: Whether `tune --metric` accepts it.
        needs_classes: Whether the judge must return logits, and not features alone.
    """

    key: str
    label: str
    digits: int
    better: Literal["lower", "higher", "near 1"]
    primary: str
    meaning: str
    perfect: str
    reading: str
    secondary: bool = False
    scale: Literal["linear", "log"] = "linear"
    searchable: bool = True
    needs_classes: bool = False

    def __post_init__(self) -> None:
        if self.searchable and self.better == "near 1":
            raise ValueError(f"score {self.key}: better is 'near 1', which cannot be searched; set searchable=False")

    @property
    def direction(self) -> Direction:
        """Direction of a search by this score."""
        return "maximize" if self.better == "higher" else "minimize"

    def format(self, value: float) -> str:
        """The value with the decimals of this score."""
        return f"{value:.{self.digits}f}"


_ROWS = (
    Score(
        "kid",
        "KID",
        digits=4,
        better="lower",
        primary="kid",
        meaning="kernel distance: unbiased squared MMD, cubic polynomial kernel (Binkowski et al. 2018)",
        perfect="0, noise may take it below",
        reading="`kid_se` is its standard error",
        scale="log",
    ),
    Score(
        "frechet",
        "Frechet",
        digits=2,
        better="lower",
        primary="kid",
        meaning="Frechet distance of two fitted Gaussians (Heusel et al. 2017)",
        perfect="the reference, never 0",
        reading="mean and spread of the features",
        secondary=True,
        scale="log",
    ),
    Score(
        "density",
        "density",
        digits=3,
        better="higher",
        primary="kid",
        meaning="generated images within the 5-neighbour balls of the real ones (Naeem et al. 2020)",
        perfect="about 1, may exceed it",
        reading="fidelity; blurry, over-typical images can pass 1",
    ),
    Score(
        "coverage",
        "coverage",
        digits=3,
        better="higher",
        primary="kid",
        meaning="share of those balls that hold a generated image",
        perfect="the reference, at most 1",
        reading="variety: what is missing",
    ),
    Score(
        "class_kl",
        "class KL",
        digits=4,
        better="lower",
        primary="kid",
        meaning="KL(generated || real) of the judged classes, nats",
        perfect="the reference",
        reading="classes missing or too frequent; one class of ten gives 2.3",
        scale="log",
        needs_classes=True,
    ),
    Score(
        "memorisation",
        "memoris.",
        digits=3,
        better="near 1",
        primary="kid",
        meaning="mean distance to the nearest training image, over that to the nearest of as many held-out ones",
        perfect="1",
        reading="copies of training images give 0",
        searchable=False,
    ),
    Score(
        "mode_kl",
        "mode KL",
        digits=4,
        better="lower",
        primary="mode_kl",
        meaning="KL of the histogram of triples from uniform, nats",
        perfect="the reference, never 0",
        reading="one mode alone gives ln 1000 = 6.91",
        scale="log",
        needs_classes=True,
    ),
    Score(
        "modes",
        "modes",
        digits=0,
        better="higher",
        primary="mode_kl",
        meaning="modes, of 1,000, that at least one sample was judged to be",
        perfect="1,000 at 26,000 samples",
        reading="what is missing",
        secondary=True,
        needs_classes=True,
    ),
)
# The table, by key; its order is the order of columns, charts and choices.
SCORES: dict[str, Score] = {score.key: score for score in _ROWS}


@dataclass(frozen=True)
class PrimaryScore:
    """Which score of a run ranks it, lowest first: the best epoch, the best trial and the best run are chosen by it.

    Attributes:
        key: Key of that score in `SCORES`.
        against_real: Whether images are compared with real ones. These must be held out, and have neighbours.
        datasets: Data sets whose runs are ranked by it; empty for all that no other primary score names.
    """

    key: str
    against_real: bool
    datasets: tuple[str, ...] = ()

    @property
    def score(self) -> Score:
        """Its row of the table."""
        return SCORES[self.key]

    @property
    def label(self) -> str:
        """Its name in tables, captions and charts."""
        return self.score.label

    @property
    def tag(self) -> str:
        """The tag of a run that holds its best primary score while training."""
        return f"{Tag.BEST_}{self.key}"

    @property
    def scores(self) -> tuple[Score, ...]:
        """All scores of runs that are ranked by this one, in the order of the table."""
        return tuple(score for score in SCORES.values() if score.primary == self.key)

    @property
    def secondary(self) -> tuple[Score, ...]:
        """The scores that are shown next to it."""
        return tuple(score for score in self.scores if score.secondary)

    @property
    def shown(self) -> tuple[Score, ...]:
        """The primary score and the secondary ones."""
        return (self.score, *self.secondary)

    @property
    def searchable(self) -> tuple[str, ...]:
        """Keys of the scores that `tune --metric` accepts for these runs."""
        return tuple(score.key for score in self.scores if score.searchable)

    @property
    def better(self) -> str:
        """Which values are better, in words: `lower is better`, `lower is better for mode KL, higher for modes`."""
        groups: dict[str, list[str]] = {}
        for score in self.shown:
            groups.setdefault(score.better, []).append(score.label)
        (better, labels), *others = groups.items()
        if not others:
            return f"{better} is better"
        texts = [f"{other} for {join_words(names, 'and')}" for other, names in others]
        return ", ".join([f"{better} is better for {join_words(labels, 'and')}", *texts])

    def format(self, metrics: Mapping[str, float], place: str, *, error: bool = True) -> str:
        """`KID 0.0163 ± 0.0023  Frechet 0.53`, without secondary scores that the run does not have.

        Args:
            metrics: Metrics of a run, among them the primary score of that place.
            place: One of `PLACES`.
            error: Whether to add the standard error of the primary score, where there is one.
        """
        known = {score: metrics.get(f"{place}/{score.key}") for score in self.shown}
        texts = [f"{score.label} {score.format(value)}" for score, value in known.items() if value is not None]
        spread = metrics.get(f"{place}/{self.key}_se") if error else None
        if spread is not None:
            texts[0] += f" ± {self.score.format(spread)}"
        return "  ".join(texts)


KID = PrimaryScore("kid", against_real=True)
MODE_KL = PrimaryScore("mode_kl", against_real=False, datasets=tuple(CHANNELS))
PRIMARY_SCORES = (KID, MODE_KL)


def primary_of(dataset: str | None) -> PrimaryScore:
    """The primary score of the runs that are trained on a data set. dataset: its name in the registry."""
    return next((primary for primary in PRIMARY_SCORES if dataset in primary.datasets), KID)


def primary_of_params(params: Mapping[str, str]) -> PrimaryScore:
    """The primary score of a run with these params."""
    return primary_of(params.get("data.name"))


def primaries_in(metrics: Iterable[str]) -> list[PrimaryScore]:
    """The primary scores that are among these metrics (`test/kid`); KID where none is."""
    found = {name.rpartition("/")[2] for name in metrics}
    return [primary for primary in PRIMARY_SCORES if primary.key in found] or [KID]


def searchable() -> tuple[str, ...]:
    """Keys of all scores that a study can search by, in the order of the table."""
    return tuple(score.key for score in SCORES.values() if score.searchable)


def described_choices() -> str:
    """The searchable scores in words: `kid, frechet or density; mode_kl or modes for stacked-mnist`."""
    return "; ".join(
        join_words(primary.searchable, "or")
        + (f" for {join_words(primary.datasets, 'and')}" if primary.datasets else "")
        for primary in PRIMARY_SCORES
    )


def markdown_table(primary: PrimaryScore) -> str:
    """The scores of runs with this primary score, as a table for docs/metrics.md."""
    rows = [("score", "what it is", "better", "perfect", "reads as")]
    for score in primary.scores:
        role = "**primary score**: best checkpoint, best trial; " if score == primary.score else ""
        rows.append((f"`{score.key}`", score.meaning, score.better, score.perfect, role + score.reading))
    head, *body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])

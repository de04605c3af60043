"""Scoring runs again, or images from a file: the command `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.api.context import api_context
from harness.api.options import check_range
from harness.api.stores import open_store
from harness.console import to_stderr
from harness.errors import HarnessError
from harness.experiment.trust import allow

if TYPE_CHECKING:
    from harness.results.evaluate import Row


def evaluate(
    runs: Sequence[str] = (),
    *,
    images: str | Path | None = None,
    data: str | None = None,
    judge: str | None = None,
    split: Literal["test", "validation"] = "test",
    samples: int | None = None,
    allow_changes: bool = False,
    tracking_uri: str | None = None,
    trust: bool = False,
    message: Callable[[str], None] = to_stderr,
) -> list[Row]:
    """Score the best generator of each run again and write the scores to the runs, or score images from a file.

    Args:
        runs: Runs, as `harness.load_run` takes them.
        images: FILE.npz with the array `images`, uint8, to score instead of runs.
        data: Data set that `images` are compared with. None: mnist.
        judge: Scoring classifier: first, second, or package.module:Class. None: the experiment's; of `images`, first.
        split: Split of the real images.
        samples: Number of images that are compared. None: the experiment's `quality.samples`. Scores with another
            number are not written to the runs.
        allow_changes: Write the scores also if images, judge or network source differ from those of the run.
        tracking_uri: See `harness.run`.
        trust: See `harness.run`.
        message: Receives what the user should know, one line a call.

    Returns:
        The rows of a table. Real images that are scored like generated ones come first: the best possible scores.

    Raises:
        HarnessError: The arguments contradict each other, or a run or the file cannot be scored.
    """
    check_range("samples", samples, 10)
    if bool(runs) == bool(images):
        raise HarnessError("give one or more RUNs, or --images FILE.npz")
    if data and not images:
        raise HarnessError(f"--data {data}: use it with --images; a RUN is scored against the images it trained on")
    if images and split == "validation":
        raise HarnessError("--images are scored against the test split; leave out --split validation")
    with api_context(trust=trust):
        allow([judge])
        from harness.results.evaluate import evaluate as evaluate_runs
        from harness.results.evaluate import evaluate_images

        if images:
            return evaluate_images(
                Path(images), name=data or "mnist", judge=judge or "first", samples=samples, message=message
            )
        store = open_store(tracking_uri)
        return evaluate_runs(
            store,
            [store.find(text) for text in runs],
            judge=judge,
            split=split,
            samples=samples,
            allow_changes=allow_changes,
            message=message,
        )

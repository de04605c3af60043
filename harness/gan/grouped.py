"""Several batches that are trained side by side: all of their members are at the same epoch between two epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.gan.batched import BatchedTraining
from harness.gan.report import Report
from harness.gan.training import Training


class GroupedTraining:
    """Trains members in batches of at most `size`, one batch after the other in every epoch."""

    def __init__(self, trainings: Sequence[Training], size: int) -> None:
        """Stack the weights of each batch. Raises HarnessError if the members of one cannot be batched."""
        starts = range(0, len(trainings), size)
        self._batches = [BatchedTraining(trainings[start : start + size]) for start in starts]

    @property
    def members(self) -> list[Training]:
        """The members that are trained further."""
        return [member for batch in self._batches for member in batch.members]

    def __iter__(self) -> Iterator[list[tuple[Training, Report]]]:
        """Train epoch by epoch, and yield the reports of all members. Members leave after their last epoch."""
        while True:
            self.keep_only([member for member in self.members if member.epoch < member.experiment.train.epochs])
            if not self.members:
                return
            yield [pair for batch in self._batches if batch.members for pair in batch.train_epoch()]

    def keep_only(self, members: Sequence[Training]) -> None:
        """Continue with these members only, from the next epoch on."""
        for batch in self._batches:
            batch.keep_only([member for member in batch.members if member in members])

    def stack_weights(self) -> None:
        """Stack the present weights of the members. Call it after the weights of a member were loaded."""
        for batch in self._batches:
            batch.stack_weights()

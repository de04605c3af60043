"""Load the experiment of a study and its search with few imports, so that the first line is printed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.options import experiment_source
from harness.api.progress import print_line, replaces_messages
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.experiment import Experiment
    from harness.experiment.search import Search
    from harness.tuning.progress import StudyDisplay

LOADING = "loading PyTorch, MLflow and Optuna ..."


@dataclass(frozen=True)
class LoadedSearch:
    """The experiment and the search of a study.

    Attributes:
        experiment: The experiment, with the values of the command line.
        search: Its ranges and the budget of a trial.
        images: Number of training images, if they were counted.
        prune_from: First epoch at which trials can be pruned, if the command line sets it.
        kind: Key of trials that take about the same time; see `harness.tuning.trial_times`.
    """

    experiment: Experiment
    search: Search
    images: int | None
    prune_from: int | None
    kind: str

    def check_images(self, source: str | Path, overrides: Sequence[str]) -> None:
        """Raise HarnessError if there are too few images, or if the device is missing. Imports PyTorch."""
        from harness.gan.auto import resolve_device
        from harness.runs import small_data

        small_data.adjust(source, overrides, searched=True)
        resolve_device(self.experiment.train.device)


def load_search(
    experiment: str | Path | Experiment | None,
    overrides: Sequence[str],
    prune_from: int | None,
    workers: int,
    batch_runs: int | None,
    display: StudyDisplay,
) -> LoadedSearch:
    """Load an experiment and its search, and show a line that describes a trial.

    MNIST has enough images for every experiment. So its images are not counted, PyTorch is not imported, and the line
    is printed at once.
    """
    from harness.experiment import search_space
    from harness.tuning import trial_times

    with experiment_source(experiment or "default") as source:
        if _is_mnist(source, overrides):
            loaded, search = search_space.load(source, overrides)
            images, description = None, None
        else:
            if replaces_messages(display):  # otherwise the line that describes a trial comes first
                display.message(LOADING)
            from harness.runs import small_data

            adjusted = small_data.adjust(source, overrides, searched=True)
            loaded, search = search_space.load(source, overrides, adjusted.values, adjusted.images)
            images, description = adjusted.images, adjusted.description
    kind = trial_times.kind_of(
        loaded, search, workers=workers, batch_runs="auto" if batch_runs is None else str(batch_runs)
    )
    print_line(display, _describe_trial(search, loaded, images, trial_times.load(kind)))
    if description:
        print_line(display, description)
    if search.fixed:
        values = ", ".join(f"{path} is {value}" for path, value in search.fixed.items())
        print_line(display, f"not searched: {values} in every trial (command line)")
    return LoadedSearch(loaded, search, images, _prune_from(prune_from, search), kind)


def _is_mnist(source: str | Path, overrides: Sequence[str]) -> bool:
    from harness.experiment import parse_overrides, read

    section = read(source)[0].get("data")
    typed = parse_overrides(overrides)
    name = section.get("name", "mnist") if isinstance(section, dict) else "mnist"
    return bool(typed.get("data.name", name) == "mnist")


def _describe_trial(search: Search, experiment: Experiment, images: int | None, seconds: float | None) -> str:
    from harness.formatting import duration

    took = "" if seconds is None else f"; one took {duration(seconds)} in an earlier study"
    return f"a trial: {search.describe_trial(experiment, images)}{took}"


def _prune_from(given: int | None, search: Search) -> int | None:
    """Return the epoch that the command line sets, as an option or as a field. The study reads that of the file."""
    if "search_prune_from" not in search.from_command_line:
        return given
    if given not in (None, search.prune_from):
        raise HarnessError(f"search_prune_from is given twice, as {search.prune_from} and as {given}: give it once")
    return search.prune_from

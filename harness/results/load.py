"""Load what a run has stored: its experiment, checkpoints, generator, and the source code of custom classes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from harness import data
from harness.data import Images
from harness.errors import HarnessError, UnreachableError
from harness.experiment import Experiment, from_store, trust
from harness.experiment.custom import SourceCode, use_source_code
from harness.experiment.tags import Tag
from harness.gan import checkpoints
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import build_generator, readable_load_errors
from harness.results import changes
from harness.results.changes import RecordedInputs
from harness.results.summary import resolve_run, temporary_folder
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run


def checkpoint(store: Store, run: Run, which: str = "last") -> Checkpoint:
    """Load a checkpoint of a run: from the spool if the run was trained on this host, else from its artifacts.

    Args:
        store: The store.
        run: The run.
        which: `last`, `best` or `diverged`.

    Raises:
        HarnessError: The run has no such checkpoint, or it is damaged.
        UnreachableError: The store does not answer.
    """
    tags = run.data.tags
    origin = f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
    local = store.spool / tags.get(Tag.ID, "-") / "checkpoints" / f"{which}.pt"
    if tags.get(Tag.HOST) == socket.gethostname() and local.is_file():
        return checkpoints.load(local, origin)
    with temporary_folder() as folder:
        try:
            path = store.download(run.info.run_id, f"checkpoints/{which}.pt", folder)
        except UnreachableError:
            raise
        except HarnessError as error:
            raise HarnessError(f"run {run.info.run_name} ({run.info.run_id[:8]}) has no {which} checkpoint") from error
        return checkpoints.load(path, origin)


def experiment(store: Store, run: Run) -> Experiment:
    """Load the resolved experiment that was stored with a run. Downloads one artifact."""
    with temporary_folder() as folder:
        path = store.download(run.info.run_id, "experiment.yaml", folder)
        return from_store(
            path.read_text(encoding="utf-8"), f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
        )


def recorded(store: Store, run: Run, experiment: Experiment, *, allow_changes: bool = False) -> RecordedInputs:
    """Return the images, judge and code that the tags of the run name. allow_changes: see `RecordedInputs`."""
    what = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    return RecordedInputs(
        what, dict(run.data.tags), cache(lambda: stored_sources(store, run, experiment)), allow_changes
    )


def stored_sources(store: Store, run: Run, experiment: Experiment) -> dict[str, SourceCode]:
    """Load the source code of custom classes that is stored with the run, by the field that names each class."""
    found: dict[str, SourceCode] = {}
    if not experiment.custom_classes:
        return found
    with temporary_folder() as folder:
        try:
            folder = store.download(run.info.run_id, "networks", folder)
        except UnreachableError:
            raise
        except HarnessError:
            return found
        for field, name in experiment.custom_classes.items():
            tag = run.data.tags.get(changes.code_tag(field), "").rpartition(" ")[0]
            module = name.partition(":")[0].replace(".", "/")
            # Older versions stored each file by its name alone.
            for place in (tag, f"{module}.py", f"{module}/__init__.py", f"{Path(module).name}.py"):
                if place and ".." not in Path(place).parts and (folder / place).is_file():
                    found[field] = SourceCode(place, (folder / place).read_text(encoding="utf-8", errors="replace"))
                    break
    return found


@contextmanager
def use_stored_code(store: Store, run: Run, experiment: Experiment) -> Iterator[None]:
    """With `--stored-code`, import custom classes from the source code stored with the run, inside the block.

    This function runs none of that code. `trust.check` decides before an import does.

    Raises:
        HarnessError: The source code of a class is not stored with the run.
    """
    if not trust.get_policy().stored_code or not experiment.custom_classes:
        yield
        return
    sources = stored_sources(store, run, experiment)
    for field, name in experiment.custom_classes.items():
        if field not in sources:
            raise HarnessError(
                f"run {run.info.run_name} ({run.info.run_id[:8]}) has no stored source of {field} {name}: "
                "leave --stored-code out to use the local module"
            )
    with use_source_code({experiment.custom_classes[field]: source for field, source in sources.items()}):
        yield


class LoadedGenerator(NamedTuple):
    """A generator on the CPU, in evaluation mode.

    Attributes:
        experiment: The experiment of the run.
        generator: The network.
        epoch: The epoch of its weights.
        empty_images: `Images.empty_like` of the training images.
    """

    experiment: Experiment
    generator: nn.Module
    epoch: int
    empty_images: Images


def generator(
    store: Store,
    run: Run,
    weights: str = "best",
    *,
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> LoadedGenerator:
    """Load the generator of a run; for a study or a run with `seeds`, that of the best run below it.

    The data set is needed only for checkpoints of older versions, which did not store `empty_images`.

    Args:
        store: The store.
        run: The run.
        weights: `best`: those of the best scored epoch, or of the last one if nothing was scored. `last`: those of the
            last epoch. `end`: those that the run is scored with, which are `best`, or the last ones if it diverged.
        raw: Use the trained weights instead of their moving average.
        message: Receives one line if the source code of a custom generator has changed.

    Raises:
        HarnessError: There is no such checkpoint, or its weights do not fit the network.
    """
    run = resolve_run(store, run)
    if weights == "end" and Tag.DIVERGED in run.data.tags:
        found = checkpoint(store, run, "diverged")
    else:
        found = checkpoint(store, run, "last")
        if weights != "last" and found.score is not None:
            found = checkpoint(store, run, "best")
    described = found.experiment
    images = found.empty_images
    if images is None:
        images = data.load_split(split="test", **described.data.source_options()).empty_like()
    averaged = None if raw else found.training["average"]
    with use_stored_code(store, run, described):
        line = recorded(store, run, described).code_line(described, ("generator.kind",))
        try:
            loaded = network(described, images, averaged or found.training["generator"])
        except HarnessError as error:
            raise HarnessError(f"{line}: {error}" if line else str(error)) from error
    if line:
        message(f"{line}; sampled with the local source")
    return LoadedGenerator(described, loaded, found.epoch, images)


def network(described: Experiment, images: Images, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a generator with given weights, on the CPU, in evaluation mode.

    Args:
        described: The experiment.
        images: Images with the shape and classes of those that it generates.
        weights: A state dict.

    Raises:
        HarnessError: The weights do not fit the network.
    """
    built = build_generator(described, images)
    with readable_load_errors("the weights of the generator"):
        built.load_state_dict(weights)
    return built.eval()

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
from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError, UnreachableError
from harness.experiment import Experiment, trust
from harness.experiment.custom import SourceCode, use_source_code
from harness.experiment.tags import Tag
from harness.gan import checkpoints
from harness.gan.checkpoints import Checkpoint
from harness.gan.networks import build_generator, readable_load_errors
from harness.results import changes
from harness.results.changes import Recorded
from harness.results.summary import resolve_run, scratch
from harness.tracking import Store

if TYPE_CHECKING:
    from harness.tracking import Run


def checkpoint(store: Store, run: Run, which: str = "last") -> Checkpoint:
    """Load a checkpoint of a run: from the spool where the run was trained on this host, else from its artifacts.

    Args:
        store: The store.
        run: The run.
        which: `last`, `best` or `diverged`.

    Raises:
        HarnessError: There is none, or it is damaged.
        UnreachableError: The store does not answer.
    """
    tags = run.data.tags
    origin = f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
    local = store.spool / tags.get(Tag.ID, "-") / "checkpoints" / f"{which}.pt"
    if tags.get(Tag.HOST) == socket.gethostname() and local.is_file():
        return checkpoints.load(local, origin)
    with scratch() as folder:
        try:
            path = store.download(run.info.run_id, f"checkpoints/{which}.pt", folder)
        except UnreachableError:
            raise
        except HarnessError as error:
            raise HarnessError(f"run {run.info.run_name} ({run.info.run_id[:8]}) has no {which} checkpoint") from error
        return checkpoints.load(path, origin)


def experiment(store: Store, run: Run) -> Experiment:
    """Load the resolved experiment that was stored with a run. Downloads one artifact."""
    with scratch() as folder:
        path = store.download(run.info.run_id, "experiment.yaml", folder)
        return experiments.from_store(
            path.read_text(encoding="utf-8"), f"the experiment of run {run.info.run_name} ({run.info.run_id[:8]})"
        )


def recorded(store: Store, run: Run, experiment: Experiment, *, allowed: bool = False) -> Recorded:
    """Return what the run was trained on and with, as its tags say. allowed: see `Recorded`."""
    what = f"run {run.info.run_name} ({run.info.run_id[:8]})"
    return Recorded(what, dict(run.data.tags), cache(lambda: kept_sources(store, run, experiment)), allowed)


def kept_sources(store: Store, run: Run, experiment: Experiment) -> dict[str, SourceCode]:
    """Load the source code that the run has stored of its custom classes, by the field that names each class."""
    found: dict[str, SourceCode] = {}
    if not experiment.custom_classes:
        return found
    with scratch() as folder:
        try:
            kept = store.download(run.info.run_id, "networks", folder)
        except UnreachableError:
            raise
        except HarnessError:
            return found
        for leaf, name in experiment.custom_classes.items():
            tag = run.data.tags.get(changes.key(leaf), "").rpartition(" ")[0]
            module = name.partition(":")[0].replace(".", "/")
            # Older versions kept each file by its name alone.
            for place in (tag, f"{module}.py", f"{module}/__init__.py", f"{Path(module).name}.py"):
                if place and ".." not in Path(place).parts and (kept / place).is_file():
                    found[leaf] = SourceCode(place, (kept / place).read_text(encoding="utf-8", errors="replace"))
                    break
    return found


@contextmanager
def code_of(store: Store, run: Run, experiment: Experiment) -> Iterator[None]:
    """With `--stored-code`, import custom classes from the source code stored with the run while the block lasts.

    Nothing is run here; `trust.check` is asked before any of it is.

    Raises:
        HarnessError: The run has stored no source code of a class.
    """
    if not trust.get_policy().stored_code or not experiment.custom_classes:
        yield
        return
    kept = kept_sources(store, run, experiment)
    for leaf, name in experiment.custom_classes.items():
        if leaf not in kept:
            raise HarnessError(
                f"run {run.info.run_name} ({run.info.run_id[:8]}) has kept no source of {leaf} {name}: "
                "leave --stored-code out, and the module found here is used"
            )
    with use_source_code({experiment.custom_classes[leaf]: source for leaf, source in kept.items()}):
        yield


class LoadedGenerator(NamedTuple):
    """A generator on the CPU, in evaluation mode.

    Attributes:
        experiment: The run's experiment.
        generator: The network.
        epoch: The epoch of its weights.
        like: `Images.like` of the images that it was trained on.
    """

    experiment: Experiment
    generator: nn.Module
    epoch: int
    like: Images


def generator(
    store: Store,
    run: Run,
    weights: str = "best",
    *,
    raw: bool = False,
    message: Callable[[str], None] = lambda _: None,
) -> LoadedGenerator:
    """Load a run's generator; that of the best run below a study or replicates.

    The data set is needed only for checkpoints of versions that did not store `like`.

    Args:
        store: The store.
        run: The run.
        weights: `best`: of the best scored epoch, or the last where nothing was scored. `last`: of the last epoch.
            `end`: what the run is scored as, which is `best`, or the last weights of a run that diverged.
        raw: Take the trained weights also where the experiment keeps their average.
        message: Called with one line when the source code of a custom generator has changed since.

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
    like = found.empty_images
    if like is None:
        like = data.load_split(split="test", **described.data.source_options()).empty_like()
    averaged = None if raw else found.training["average"]
    with code_of(store, run, described):
        line = recorded(store, run, described).code_line(described, ("generator.kind",))
        try:
            loaded = network(described, like, averaged or found.training["generator"])
        except HarnessError as error:
            raise HarnessError(f"{line}: {error}" if line else str(error)) from error
    if line:
        message(f"{line}; sampled with the source found here")
    return LoadedGenerator(described, loaded, found.epoch, like)


def network(described: Experiment, images: Images, weights: Mapping[str, Tensor]) -> nn.Module:
    """Build a generator with given weights, on the CPU, in evaluation mode.

    Args:
        described: The experiment.
        images: What it generates images like; for their shape and classes.
        weights: A state dict.

    Raises:
        HarnessError: The weights do not fit the network.
    """
    built = build_generator(described, images)
    with readable_load_errors("the weights of the generator"):
        built.load_state_dict(weights)
    return built.eval()

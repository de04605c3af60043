"""Load the judge of an experiment: a bundled one, one trained on the data set, or a custom network."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from filelock import FileLock

from harness.data import Images, cache_folder
from harness.errors import HarnessError
from harness.quality.custom_judge import load_custom_judge
from harness.quality.judge import Judge, read_judge, save_judge
from harness.quality.networks import NETWORKS


def load_judge(
    which: str,
    images: Images,
    device: str | torch.device = "cpu",
    message: Callable[[str], None] = lambda _: None,
    progress: Callable[[float], None] | None = None,
    weights: Path | None = None,
) -> Judge:
    """Load a judge. For a data set without a bundled judge, one is trained once and stored in the cache folder.

    Args:
        which: `first`, `second`, or `package.module:Class`, a custom feature network.
        images: The training split, without the validation images. The part of its name before the slash selects the
            bundled judge, and its fingerprint the trained one.
        device: Where the judge runs.
        message: Receives one line before a judge is trained, and one after it.
        progress: Called with the share of the training done, in (0, 1].
        weights: Weights of a custom network. None: those of its constructor.

    Raises:
        HarnessError: The judge is unknown, its weights are damaged, or there are no labels to train one.
    """
    if ":" in which:
        return load_custom_judge(which, weights, device)
    if which not in NETWORKS:
        raise HarnessError(f"quality.judge is {which!r}; expected {', '.join(NETWORKS)}, or package.module:Class")
    name, bundled = _name(which, images), _bundled(which, images)
    if bundled.is_file():
        facts = resources.files("harness.quality") / "weights" / f"{name}.json"
        return read_judge(which, name, bundled, facts, device, "install gan-harness again")

    path = cache_folder() / "judges" / f"{images.fingerprint}-{which}.safetensors"
    try:
        if not path.exists():  # a shared cache folder may be read-only once it is filled
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # if several processes start at the same time, one trains
                if not path.exists():
                    _train_once(which, images, device, path, name, message, progress)
    except OSError as error:
        raise HarnessError(
            f"cannot store a judge in {path.parent} ({error.strerror or error}); set HARNESS_DATA to a folder you own"
        ) from error
    return read_judge(which, name, path, path.with_suffix(".json"), device, "delete it; it is then trained again")


def has_judge(which: str, images: Images) -> bool:
    """Return whether there is such a judge for these images: custom, bundled, or trained on their labels."""
    return ":" in which or _bundled(which, images).is_file() or (images.labels is not None and images.classes > 1)


def _bundled(which: str, images: Images) -> Traversable:
    return resources.files("harness.quality") / "weights" / f"{_name(which, images)}.safetensors"


def _name(which: str, images: Images) -> str:
    return f"{images.name.split('/')[0]}-{which}"


def _train_once(
    which: str,
    images: Images,
    device: str | torch.device,
    path: Path,
    name: str,
    message: Callable[[str], None],
    progress: Callable[[float], None] | None,
) -> None:
    from harness.quality.train_judge import accuracy, train_judge  # not at the top: the module also runs as `python -m`

    message(f"training the judge {name} on {len(images):,} images (once; it is stored in {path.parent})")
    network = train_judge(which, images, device=device, progress=progress)
    right = accuracy(network, images)
    message(f"the judge {name} classifies {right:.1%} of its training images correctly")
    facts = {"shape": list(images.pixels.shape[1:]), "classes": images.classes, "training_accuracy": right}
    save_judge(network, path, facts)

"""Which judge scores an experiment: a shipped one, one trained on the data set, or a network of the user's."""

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
    """The judge `first`, `second`, or `package.module:Class` (a custom feature network, with its `weights`).

    images: the training split, without the validation images. The shipped judges go by its name's part before the
    slash. For another data set a judge is trained on it once (`message` says so, `progress` gets the share done) and
    kept in the cache folder under the images' fingerprint. Raises HarnessError for an unknown judge, for weights with a
    wrong hash, and where there are no labels to train on.
    """
    if ":" in which:
        return load_custom_judge(which, weights, device)
    if which not in NETWORKS:
        raise HarnessError(f"quality.judge is {which!r}; expected {', '.join(NETWORKS)}, or package.module:Class")
    name, shipped = _name(which, images), _shipped(which, images)
    if shipped.is_file():
        facts = resources.files("harness.quality") / "weights" / f"{name}.json"
        return read_judge(which, name, shipped, facts, device, "install gan-harness again")

    path = cache_folder() / "judges" / f"{images.fingerprint}-{which}.safetensors"
    try:
        if not path.exists():  # a shared cache folder may be read-only once it is filled
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # of several processes that start together, one trains
                if not path.exists():
                    _train_once(which, images, device, path, name, message, progress)
    except OSError as error:
        raise HarnessError(
            f"cannot store a judge in {path.parent} ({error.strerror or error}); set HARNESS_DATA to a folder you own"
        ) from error
    return read_judge(which, name, path, path.with_suffix(".json"), device, "delete it; it is then trained again")


def has_judge(which: str, images: Images) -> bool:
    """Whether this judge exists for such images: a custom or a shipped one, or one trained on their labels."""
    return ":" in which or _shipped(which, images).is_file() or (images.labels is not None and images.classes > 1)


def _shipped(which: str, images: Images) -> Traversable:
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
    from harness.quality.train_judge import accuracy, train_judge  # here, because it is also run as `python -m`

    message(f"training the judge {name} on {len(images):,} images (once; it is kept in {path.parent})")
    network = train_judge(which, images, device=device, progress=progress)
    right = accuracy(network, images)
    message(f"the judge {name} is right on {right:.1%} of the images that it was trained on")
    facts = {"shape": list(images.pixels.shape[1:]), "classes": images.classes, "training_accuracy": right}
    save_judge(network, path, facts)

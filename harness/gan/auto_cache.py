"""What timings on this machine have found, kept in the cache folder so that the next start times nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.data import Images, cache_folder
from harness.data.base import writing
from harness.experiment import Experiment
from harness.gan.hardware import device_name

MOST = 200  # answers to keep
_SECTIONS = ("generator.", "discriminator.", "objective.", "augment.")
_LEAVES = ("conditional", "train.device", "train.batch_size", "train.discriminator_steps")

Facts = Mapping[str, Any]


def facts(question: str, experiment: Experiment, images: Images, **more: object) -> Facts | None:
    """What an answer depends on: machine, versions, networks, batch and image size. `more` is added to these.

    None where no answer is to be kept: the code of the user's own networks may change.
    """
    if ":" in experiment.generator.kind or ":" in experiment.discriminator.kind:
        return None
    leaves = {path: value for path, value in experiment.flatten().items() if path in _LEAVES}
    leaves |= {path: value for path, value in experiment.flatten().items() if path.startswith(_SECTIONS)}
    return {
        "question": question,
        "hardware": device_name(experiment.train.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "image": list(images.shape),
        "classes": images.classes,
        "average": bool(experiment.train.ema_half_life),
        **leaves,
        **more,
    }


def load_answer(facts: Facts | None, possible: Sequence[str]) -> str | None:
    """The answer that was kept for these facts. None where there is none that is possible.

    An answer that was found while the machine was busy holds until it no longer is.
    """
    for entry in _entries() if facts is not None else ():
        if entry["facts"] == facts and entry["answer"] in possible:
            return None if entry.get("busy") and not busy() else str(entry["answer"])
    return None


def save_answer(facts: Facts | None, answer: str) -> None:
    """Keep an answer for later. Does nothing where the cache folder cannot be written to."""
    if facts is None:
        return
    entries = [entry for entry in _entries() if entry["facts"] != facts]
    entries.append({"answer": answer, "busy": busy(), "facts": facts})
    with contextlib.suppress(OSError), writing(file()) as target:
        target.write((json.dumps(entries[-MOST:], indent=1) + "\n").encode())


def busy() -> bool:
    """Whether other work competes for the processor's cores, so that a timing may mislead."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def file() -> Path:
    """Where answers are kept, for people to read and to delete."""
    return cache_folder() / "auto.json"


def _entries() -> list[dict[str, Any]]:
    """What is kept. A damaged file counts as none, and so does a damaged entry."""
    try:
        entries = json.loads(file().read_bytes())
    except (OSError, ValueError):
        return []
    known = entries if isinstance(entries, list) else []
    return [entry for entry in known if isinstance(entry, dict) and {"facts", "answer"} <= entry.keys()]

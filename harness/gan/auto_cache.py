"""Cache the answers of timings on this machine, so that the next start times nothing."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.data import Images, cache_folder
from harness.data.source import write_cache_file
from harness.experiment import Experiment
from harness.gan.hardware import device_name

MAX_ANSWERS = 200  # stored at most
_SECTIONS = ("generator.", "discriminator.", "objective.", "augment.")
_FIELDS = ("conditional", "train.device", "train.batch_size", "train.discriminator_steps")

Facts = Mapping[str, Any]


def facts(question: str, experiment: Experiment, images: Images, **more: object) -> Facts | None:
    """Return what an answer depends on: machine, versions, networks, batch size and image size.

    Args:
        question: The name of the timing.
        experiment: with its device resolved.
        images: the training images.
        **more: is added to the facts.

    Returns:
        None if the answer must not be stored: the code of custom networks may change.
    """
    if ":" in experiment.generator.kind or ":" in experiment.discriminator.kind:
        return None
    fields = {path: value for path, value in experiment.flatten().items() if path in _FIELDS}
    fields |= {path: value for path, value in experiment.flatten().items() if path.startswith(_SECTIONS)}
    return {
        "question": question,
        "hardware": device_name(experiment.train.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "image": list(images.shape),
        "classes": images.classes,
        "average": bool(experiment.train.ema_half_life),
        **fields,
        **more,
    }


def load_answer(facts: Facts | None, possible: Sequence[str]) -> str | None:
    """Return the stored answer for these facts; None if there is none among the `possible` ones.

    An answer that was found on a busy machine is used only while the machine is busy.
    """
    for entry in _entries() if facts is not None else ():
        if entry["facts"] == facts and entry["answer"] in possible:
            return None if entry.get("busy") and not is_busy() else str(entry["answer"])
    return None


def save_answer(facts: Facts | None, answer: str) -> None:
    """Store an answer. Does nothing if `facts` is None or the cache folder is not writable."""
    if facts is None:
        return
    entries = [entry for entry in _entries() if entry["facts"] != facts]
    entries.append({"answer": answer, "busy": is_busy(), "facts": facts})
    with contextlib.suppress(OSError), write_cache_file(cache_file()) as target:
        target.write((json.dumps(entries[-MAX_ANSWERS:], indent=1) + "\n").encode())


def is_busy() -> bool:
    """Return whether other processes compete for the CPU cores, so that a timing may mislead."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def cache_file() -> Path:
    """Return the path of the JSON file of all answers, which users may read and delete."""
    return cache_folder() / "auto.json"


def _entries() -> list[dict[str, Any]]:
    """The stored entries. A damaged file, or a damaged entry, counts as none."""
    try:
        entries = json.loads(cache_file().read_bytes())
    except (OSError, ValueError):
        return []
    listed = entries if isinstance(entries, list) else []
    return [entry for entry in listed if isinstance(entry, dict) and {"facts", "answer"} <= entry.keys()]

"""A feature network of the user's own as judge: `quality.judge: package.module:Class`, and its weights."""

from __future__ import annotations

import hashlib
import inspect
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from harness.errors import HarnessError
from harness.experiment.custom import import_class
from harness.files import sha256_of
from harness.quality.judge import Judge


def load_custom_judge(which: str, weights: Path | None, device: str | torch.device = "cpu") -> Judge:
    """The judge `package.module:Class`, found on Python's path or from the current folder.

    The class is a torch module that is made without arguments, takes uint8 [N, C, H, W] and returns features [N, d], or
    a pair of these and logits [N, classes]; without logits there is no class KL. It runs on the CPU or device as it is:
    its precision is its own affair. weights: a state dict as .safetensors or as torch.save wrote it (read without
    running pickled code). Raises HarnessError naming what is missing or does not fit.
    """
    kind = import_class(which, "quality.judge")
    try:
        with torch.random.fork_rng(devices=[]):  # the same network every time, and the caller's draws are left alone
            torch.default_generator.manual_seed(0)
            network = kind()
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"quality.judge {which}: making it without arguments failed: {error}") from error
    if weights is None:
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
        sha256 = hashlib.sha256(save(state)).hexdigest()
    else:
        sha256 = _load(network, weights)
    try:
        code = sha256_of(Path(inspect.getfile(kind)))
    except (OSError, TypeError):  # a class typed into a notebook has no file
        code = ""
    return Judge(network, name=which, sha256=sha256, device=device, code=code)


def _load(network: nn.Module, weights: Path) -> str:
    """Put the weights in place; returns the file's SHA-256."""
    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        return sha256_of(weights)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, TypeError, EOFError) as error:
        raise HarnessError(f"the judge's weights {weights} cannot be used: {error}") from error

"""Custom judges: a feature network `quality.judge: package.module:Class`, and its weights."""

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
    """Load the judge `package.module:Class` from Python's path or the working directory.

    The class is a torch module without constructor arguments. It maps uint8 [N, C, H, W] to features [N, d], or to a
    pair of these and logits [N, classes]; without logits there is no class KL. It runs in the precision of its weights.

    Args:
        which: `package.module:Class`.
        weights: A state dict, as .safetensors or from torch.save, which is read without running pickled code.
        device: The device of the network.

    Raises:
        HarnessError: The class or the weights cannot be used.
    """
    kind = import_class(which, "quality.judge")
    try:
        with torch.random.fork_rng(devices=[]):  # the same weights every time; the global random state is unchanged
            torch.default_generator.manual_seed(0)
            network = kind()
    except Exception as error:  # the user's code may raise anything
        raise HarnessError(f"quality.judge {which}: building it without arguments failed: {error}") from error
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
    """Load the weights and return the file's SHA-256."""
    try:
        if weights.suffix == ".safetensors":
            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
        return sha256_of(weights)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, TypeError, EOFError) as error:
        raise HarnessError(f"the judge's weights {weights} cannot be used: {error}") from error

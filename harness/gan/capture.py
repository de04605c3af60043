"""A step of training recorded as a CUDA graph: one launch instead of some hundred, none of which waits for the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, as torch's notes on CUDA graphs ask for


class Recordable(Protocol):
    """What a recorded function works on."""

    def tensors(self) -> list[Tensor]:
        """Everything that the function changes. It must stay where it is from the first call on."""
        ...

    def generators(self) -> Sequence[torch.Generator]:
        """Everything that it draws from."""
        ...


def can_capture(device: torch.device) -> bool:
    return device.type == "cuda"


class Captured:
    """A function of no arguments: called, it does what the function does, out of a recording made at the first call.

    The function must never wait for the device, and change only what its owner's `tensors` names. Warming up leaves no
    trace: what it changed is put back, tensors and random generators, so that the recorded function and the plain one
    train to the same weights.
    """

    def __init__(self, function: Callable[[], None], owner: Recordable) -> None:
        self._function = function
        self._owner = owner
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        known = self._owner.tensors()
        before = [tensor.clone() for tensor in known]
        states = [generator.get_state() for generator in self._owner.generators()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._function()
        torch.cuda.current_stream().wait_stream(side)
        with torch.no_grad():
            for tensor, value in zip(known, before, strict=True):
                tensor.copy_(value)
            # Whatever the warm-up has brought forth, an optimiser's moments, starts from zero.
            ids = {id(tensor) for tensor in known}
            for tensor in self._owner.tensors():
                if id(tensor) not in ids:
                    tensor.zero_()
        for generator, state in zip(self._owner.generators(), states, strict=True):
            generator.set_state(state)
        graph = torch.cuda.CUDAGraph()
        for generator in self._owner.generators():
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self._function()
        return graph

"""A step of training recorded as a CUDA graph: one launch instead of some hundred, none of which waits for the host."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, as torch's notes on CUDA graphs ask for

Step = Callable[[], None]


class Recordable(Protocol):
    """What a recorded function works on."""

    def tensors(self) -> list[Tensor]:
        """Everything that the function changes. From its first call on it stays where it is."""
        ...

    def generators(self) -> Sequence[torch.Generator]:
        """Everything that it draws from."""
        ...


def can_capture(device: torch.device) -> bool:
    return device.type == "cuda"


def record_cuda_graph(function: Step, generators: Sequence[torch.Generator]) -> Step:
    """Record the function as a CUDA graph; returns its replay. Random generators go on from where they then stand, so
    they can be seeded anew between replays."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class CudaGraphStep:
    """A function of no arguments: called, it does what the function does, out of a recording made at the first call.

    The function must never wait for the device, and change only what its owner's `tensors` names. Warming up leaves no
    trace: what it changed is put back, tensors and random generators, so that the recorded function and the plain one
    train to the same weights.
    """

    def __init__(
        self,
        function: Step,
        owner: Recordable,
        record: Callable[[Step, Sequence[torch.Generator]], Step] = record_cuda_graph,
    ) -> None:
        self._function, self._owner, self._record = function, owner, record
        self._replay: Step | None = None

    def __call__(self) -> None:
        if self._replay is None:
            self._warm_up()
            self._replay = self._record(self._function, self._owner.generators())
        self._replay()

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):  # each from the same state: an epoch may have fewer steps than that
            known = self._owner.tensors()
            before = [tensor.detach().clone() for tensor in known]
            states = [generator.get_state() for generator in self._owner.generators()]
            with _side_stream(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*capturable=True")  # of a step that is not recorded yet
                self._function()
            there = {id(tensor) for tensor in known}
            with torch.no_grad():
                for tensor, value in zip(known, before, strict=True):
                    tensor.copy_(value)
                for tensor in self._owner.tensors():
                    if id(tensor) not in there:  # what the call has brought forth, an optimiser's moments
                        tensor.zero_()
            for generator, state in zip(self._owner.generators(), states, strict=True):
                generator.set_state(state)


@contextlib.contextmanager
def _side_stream() -> Iterator[None]:
    """Where CUDA graphs want to be warmed up."""
    if not torch.cuda.is_available():
        yield
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)

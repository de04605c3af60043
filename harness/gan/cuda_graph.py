"""Record a training step as a CUDA graph: one launch instead of hundreds, and the host waits for none of them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, as PyTorch's notes on CUDA graphs require

Step = Callable[[], None]


class Recordable(Protocol):
    """The owner of the tensors and random generators of a recorded function."""

    def tensors(self) -> list[Tensor]:
        """Return every tensor that the function changes. From its first call on, none of them moves in memory."""
        ...

    def generators(self) -> Sequence[torch.Generator]:
        """Return every random generator that the function uses."""
        ...


def can_capture(device: torch.device) -> bool:
    """Return whether the device supports CUDA graphs."""
    return device.type == "cuda"


def record_cuda_graph(function: Step, generators: Sequence[torch.Generator]) -> Step:
    """Record the function as a CUDA graph and return its replay.

    Random generators continue from their state at each replay, so they can be seeded again in between.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        function()
    return graph.replay


class CudaGraphStep:
    """A callable that does what the function does, by replaying a CUDA graph that the first call records.

    The function must never wait for the device, and must change only what its owner's `tensors` returns. Warming up
    leaves no trace: tensors and random generators are restored, so the recorded function and the plain one train to the
    same weights.
    """

    def __init__(
        self,
        function: Step,
        owner: Recordable,
        record: Callable[[Step, Sequence[torch.Generator]], Step] = record_cuda_graph,
    ) -> None:
        """Prepare the recording; nothing is called yet.

        Args:
            function: the step, without arguments.
            owner: lists the tensors and generators that the step changes.
            record: records the step and returns its replay; tests replace it.
        """
        self._function, self._owner, self._record = function, owner, record
        self._replay: Step | None = None

    def __call__(self) -> None:
        """Run the step; the first call warms up and records it."""
        if self._replay is None:
            self._warm_up()
            self._replay = self._record(self._function, self._owner.generators())
        self._replay()

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):  # all from the same state: an epoch may have fewer steps
            tensors = self._owner.tensors()
            before = [tensor.detach().clone() for tensor in tensors]
            states = [generator.get_state() for generator in self._owner.generators()]
            with _side_stream(), warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*capturable=True")  # the step is not recorded yet
                self._function()
            existing = {id(tensor) for tensor in tensors}
            with torch.no_grad():
                for tensor, value in zip(tensors, before, strict=True):
                    tensor.copy_(value)
                for tensor in self._owner.tensors():
                    if id(tensor) not in existing:  # created by the call: the moments of an optimizer
                        tensor.zero_()
            for generator, state in zip(self._owner.generators(), states, strict=True):
                generator.set_state(state)


@contextlib.contextmanager
def _side_stream() -> Iterator[None]:
    """The stream that PyTorch requires for warming up a CUDA graph."""
    if not torch.cuda.is_available():
        yield
        return
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        yield
    torch.cuda.current_stream().wait_stream(side)

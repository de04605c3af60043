"""What the benchmarks share: sides that take turns, the memory they need, tables and reports."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from circumstances import circumstances

MEBIBYTE = 2**20

T = TypeVar("T")


def on_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def wait(device: str) -> None:
    """Until the device has done what it was asked to."""
    if on_cuda(device):
        torch.cuda.synchronize()


def alternate(
    sides: Mapping[str, Callable[[], T]], turns: int, warm_up: int = 2, show: Callable[[T], str] = str
) -> dict[str, list[T]]:
    """What every side returned at each of its turns, A B C A B C ...; those of the warm-up are left out.

    Each result is printed to standard error when it is there, as `show` puts it.
    """
    found: dict[str, list[T]] = {side: [] for side in sides}
    for turn in range(warm_up + turns):
        for side, run in sides.items():
            result = run()
            number = f"turn {turn - warm_up + 1} of {turns}" if turn >= warm_up else "warm-up"
            print(f"{number}: {side}: {show(result)}", file=sys.stderr, flush=True)
            if turn >= warm_up:
                found[side].append(result)
    return found


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, least and most."""
    return statistics.median(values), min(values), max(values)


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """In Markdown, the first column to the left and the others to the right."""
    lines = list(rows)
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    table = GrowingTable(header, widths)
    for line in lines:
        table.add(line)


class GrowingTable:
    """The same, for rows that are printed as they are measured. widths: of its columns, where titles are narrower."""

    def __init__(self, header: Sequence[str], widths: Sequence[int] = ()) -> None:
        given = [*widths, *[0] * (len(header) - len(widths))]
        self._widths = [max(len(title), width) for title, width in zip(header, given, strict=True)]
        self.add(header)
        self.add(["-" * self._widths[0], *("-" * (width - 1) + ":" for width in self._widths[1:])])

    def add(self, row: Sequence[str]) -> None:
        first, *others = zip(row, self._widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        print(f"| {' | '.join(cells)} |", flush=True)


def lines_of(command: Sequence[str], folder: str | Path) -> list[str]:
    """What a command prints in a folder. Each line but the last, its result, goes to standard error as it comes."""
    lines: list[str] = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if lines:
                print(lines[-1], end="", file=sys.stderr, flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return lines


def report(results: Mapping[str, object], device: str, file: Path | None) -> None:
    """Print the results and their circumstances as JSON; keep them in the file, where one is named."""
    text = json.dumps({**results, **circumstances(device)}, indent=2)
    print(text)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")


def most_memory(device: str) -> float:
    """MiB: on a GPU the most that tensors took there since the count was last reset, else of the whole process."""
    if on_cuda(device):
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    import resource  # not there on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (MEBIBYTE if sys.platform == "darwin" else 1024)


class PeakMemory:
    """MiB that work inside the block takes at most beyond what was taken before.

    On a GPU by tensors, which are counted; else by this process, looked at every 5 ms.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def __enter__(self) -> PeakMemory:
        if on_cuda(self._device):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        self._process = psutil.Process()
        self._start = self._most = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if on_cuda(self._device):
            self._most = torch.cuda.max_memory_allocated()
        else:
            self._done.set()
            self._thread.join()
        self.mebibytes = (self._most - self._start) / MEBIBYTE

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._most = max(self._most, self._process.memory_info().rss)

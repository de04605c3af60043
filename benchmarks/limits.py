"""What a training step cannot be faster than on this machine, and how far that is a matter of arithmetic or of memory.

    python benchmarks/limits.py [--device cpu] [--members 1]

The limit is what the matrix products of one step take when each of their shapes is timed alone: median of several
repetitions, operands warm, on a GPU recorded as a CUDA graph so that no launch is counted. A convolution counts as the
product that it is after its patches are laid out (im2col), the laying out as nothing. Two batches that meet the same
weights may go through them in one product or in two; the faster counts. On a GPU the limit is at least the time that
the optimiser's bytes take at the speed of a large copy: Adam reads weight, gradient and both moments and writes all
but the gradient, 7 x 4 bytes a weight.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import torch
from plans import BATCH
from timing import GrowingTable, on_cuda, wait

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
REPETITIONS = 3
COPIED = 2**28  # bytes


class Product(NamedTuple):
    """[rows, inner] times [inner, columns]."""

    rows: int
    inner: int
    columns: int


Layers = list[Product]  # a network's forward products, input side first


def mlp_layers(batch: int) -> tuple[Layers, Layers]:
    """Of the notebook's generator and discriminator."""
    generator = [Product(batch, *sizes) for sizes in pairwise((100, 256, 512, 1024, 784))]
    discriminator = [Product(batch, *sizes) for sizes in pairwise((784, 1024, 512, 256, 1))]
    return generator, discriminator


def conv_layers(batch: int, width: int = 16, latent: int = 64) -> tuple[Layers, Layers]:
    """Of the convolutional pair of experiments/conditional.yaml without labels: 28x28 grey images, kernels 4x4."""
    features = 4 * width * 49
    enlarge, draw = Product(batch * 49, 4 * width, 2 * width * 16), Product(batch * 196, 2 * width, 16)
    look, halve = Product(batch * 196, 16, 2 * width), Product(batch * 49, 2 * width * 16, 4 * width)
    return [Product(batch, latent, features), enlarge, draw], [look, halve, Product(batch, features, 1)]


def step_products(generator: Layers, discriminator: Layers, *, joined: bool) -> Counter[Product]:
    """The products of one step, D's update and then G's, with how often each is needed.

    joined: two batches through the same weights, real and generated ones in D's update and the noise of both updates
    in G, make one product of twice the rows.
    """
    needed: Counter[Product] = Counter()
    both, times = (2, 1) if joined else (1, 2)
    for index, (rows, inner, columns) in enumerate(generator):
        needed[Product(both * rows, inner, columns)] += times  # forward, for each network's update
        needed[Product(columns, rows, inner)] += 1  # gradient of the weights
        if index:
            needed[Product(rows, columns, inner)] += 1  # gradient of the inputs, but for the noise
    for index, (rows, inner, columns) in enumerate(discriminator):
        needed[Product(both * rows, inner, columns)] += times  # forward, in its own update
        needed[Product(rows, inner, columns)] += 1  # and in G's
        needed[Product(columns, both * rows, inner)] += times  # gradient of the weights, in its own alone
        needed[Product(rows, columns, inner)] += 1  # gradient of the inputs, in G's
        if index:
            needed[Product(both * rows, columns, inner)] += times  # and in its own, but for the images
    return needed


class Limit:
    """The limit of one step of the notebook's networks (mlp) or the convolutional pair (conv), for so many members."""

    def __init__(self, kind: str, precision: str, device: str, members: int = 1) -> None:
        layers = {"mlp": mlp_layers, "conv": conv_layers}[kind](BATCH[kind])
        self._kind, self._dtype, self._device, self._members = kind, DTYPES[precision], device, members
        self._cuts = [step_products(*layers, joined=joined) for joined in (False, True)]
        weights = sum(inner * columns for network in layers for _, inner, columns in network)  # biases left out
        self.adam_bytes = 7 * 4 * weights * members

    def products(self) -> float:
        """Seconds that the products of one step take, measured now."""
        with _multiplying_as(self._kind, self._device):
            seconds = {
                product: product_seconds(product, self._dtype, self._device, self._members)
                for product in self._cuts[0] | self._cuts[1]
            }
        return min(sum(times * seconds[product] for product, times in cut.items()) for cut in self._cuts)

    def bytes(self) -> float:
        """Seconds that the optimiser's bytes take at the speed of a large copy, measured now; 0 on a CPU.

        There the weights may lie in a cache that no copy tells of.
        """
        return self.adam_bytes / copy_speed(self._device) if on_cuda(self._device) else 0.0

    def seconds(self) -> float:
        """Seconds that one step cannot fall below."""
        return max(self.products(), self.bytes())


def copy_speed(device: str) -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.zeros(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)

    def run() -> None:
        for _ in range(10):
            target.copy_(source)

    return 10 * 2 * COPIED / timed(run, device)


def product_seconds(product: Product, dtype: torch.dtype, device: str, members: int = 1) -> float:
    """Of one product of so many members at once."""
    rows, inner, columns = product
    left = torch.randn(members, rows, inner, device=device).to(dtype)
    right = torch.randn(members, inner, columns, device=device).to(dtype)
    out = torch.empty(members, rows, columns, dtype=dtype, device=device)
    work = members * rows * inner * columns
    repeats = min(200, max(20, int(1e10 / work))) if on_cuda(device) else max(2, int(2e8 / work))

    def run() -> None:
        for _ in range(repeats):
            if members == 1:
                torch.mm(left[0], right[0], out=out[0])
            else:
                torch.bmm(left, right, out=out)

    return timed(run, device) / repeats


def timed(run: Callable[[], None], device: str) -> float:
    """Seconds, after one call that is not counted; on a GPU those of a recording, in which no launch waits."""
    run()
    if on_cuda(device):
        wait(device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        run = graph.replay
        run()
    taken = []
    for _ in range(REPETITIONS):
        wait(device)
        began = time.perf_counter()
        run()
        wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


@contextmanager
def _multiplying_as(kind: str, device: str) -> Iterator[None]:
    """On a GPU, PyTorch's convolutions may round to TF32 where its products may not: then these may too."""
    before = torch.get_float32_matmul_precision()
    if kind == "conv" and on_cuda(device) and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--members", type=int, default=1, help="of a population (default: 1)")
    arguments = parser.parse_args()
    table = GrowingTable(["limit of one step", "products, µs", "bytes, µs", "images/s"])
    for kind in BATCH:
        for precision in DTYPES:
            limit = Limit(kind, precision, arguments.device, arguments.members)
            limit.products()  # warm-up
            products, moved = limit.products(), limit.bytes()
            rate = arguments.members * BATCH[kind] / max(products, moved)
            table.add([f"{kind}, {precision}", f"{1e6 * products:,.1f}", f"{1e6 * moved:,.1f}", f"{rate:,.0f}"])


if __name__ == "__main__":
    main()

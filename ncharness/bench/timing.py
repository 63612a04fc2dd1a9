"""Timing of the benchmarks: generated data, the lower bound on time, and interleaved measurements."""

import gc
import importlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any, ContextManager, NamedTuple  # noqa: UP035  # one name for both managers of `threads`

import torch
from torch import Tensor

from ncharness.bench.contenders import Shape
from ncharness.kernels import ops

SEPARATION = 6.0
"""Distance of two class means in noise standard deviations along it: few labels are trivial, few are hopeless."""
SIDE = 2048
"""Side of the square GEMM that gives the machine's rate."""
_SAMPLE_SECONDS = 0.02  # calls shorter than this are repeated and timed together
_SETTLE_SECONDS = 0.01  # threads of one library spin after their work, which would slow the next call
_BUDGET_SECONDS, _BUDGET_ROUNDS = 20.0, 3  # a call that has used up both skips the remaining rounds


# --- data -------------------------------------------------------------------------------------------------------------


def sample(
    shape: Shape, *, dtype: torch.dtype = torch.float32, labels: str = "uniform", offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Generate Gaussian classes, the same for the same arguments: features (n, d) and labels (n,) int64.

    `labels` are `uniform` (as balanced as can be), `zipf` (class c in proportion to 1 / (c + 1)) or `one` (class 0).
    """
    generator = torch.Generator().manual_seed(0)
    y = _labels(shape, labels, generator)
    centres = torch.randn(shape.C, shape.d, generator=generator) * (SEPARATION / math.sqrt(2 * shape.d))
    x = torch.empty(shape.n, shape.d).normal_(generator=generator)
    step = max(1, (1 << 22) // shape.d)
    for rows, own in zip(torch.split(x, step), torch.split(y, step), strict=True):
        rows += centres[own] + offset
    return x.to(dtype), y


def _labels(shape: Shape, labels: str, generator: torch.Generator) -> Tensor:
    if labels == "one":
        return torch.zeros(shape.n, dtype=torch.int64)
    if labels == "zipf":
        weights = 1.0 / torch.arange(1, shape.C + 1, dtype=torch.float64)
        return torch.multinomial(weights, shape.n, replacement=True, generator=generator)
    return (torch.arange(shape.n) % shape.C)[torch.randperm(shape.n, generator=generator)]


# --- the floor --------------------------------------------------------------------------------------------------------


class Floor(NamedTuple):
    """Roofline estimate of the least time: one read for the statistics, then a read or a GEMM for the labels."""

    read: float  # seconds of one vectorised read of the matrix on all threads
    flops: float  # 2 n d C
    rate: float  # flop/s of a large square GEMM in the same dtype

    @property
    def product(self) -> float:
        """Seconds that the scores of every row against every mean take at that rate."""
        return self.flops / self.rate

    @property
    def seconds(self) -> float:
        """Seconds of two reads of the matrix; if the GEMM takes longer than a read, it replaces the second read."""
        return self.read + max(self.read, self.product)


class FloorProbe:
    """Calls to time for the floor of a matrix (n, d) with C class means, and floors from their times."""

    def __init__(self, x: Tensor, n_classes: int) -> None:
        self._x, self._flops = x, 2.0 * x.shape[0] * x.shape[1] * n_classes
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32  # 16-bit features are scored in float32
        self._square = torch.ones(SIDE, SIDE, dtype=dtype)

    def read(self) -> int:
        """Read the matrix once."""
        return ops.read(self._x)

    def product(self) -> Tensor:
        """Multiply two square matrices."""
        return self._square @ self._square

    def floors(self, reads: Sequence[float], products: Sequence[float]) -> list[Floor]:
        """Return the floor of every round from the times of its read and its GEMM."""
        return [
            Floor(seconds, self._flops, 2.0 * SIDE**3 / product)
            for seconds, product in zip(reads, products, strict=False)
        ]


def floor_caption(x: Tensor, floors: Sequence[Floor]) -> str:
    """Describe the floor of a matrix in words, by its medians over the rounds."""
    read, seconds, rate = (
        statistics.median(values)
        for values in zip(*((floor.read, floor.seconds, floor.rate) for floor in floors), strict=True)
    )
    product = floors[0].flops / rate
    speed = x.numel() * x.element_size() / read / 1e9
    second = "a read" if product <= read else "the product"
    return (
        f"floor {1e3 * seconds:.3g} ms: a read ({1e3 * read:.3g} ms, {speed:.3g} GB/s) and {second} "
        f"(the product at {rate / 1e9:.3g} GFLOP/s: {1e3 * product:.3g} ms)"
    )


# --- time -------------------------------------------------------------------------------------------------------------


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, on_step: Callable[[str], None] = lambda _: None
) -> dict[str, list[float]]:
    """Time all calls in turn in every round, after a warm-up, and return the seconds per call of each round.

    Interleaving spreads slow changes of the machine evenly over the calls. In a round each call is made once untimed,
    because idle processors are slower for a while. Short calls are repeated and timed together. A call that has used up
    its time budget skips the rounds after the third.
    """
    repeats = {}
    for name, call in calls.items():
        on_step(f"{name}, warm-up")
        repeats[name] = _repeats(call)
    times: dict[str, list[float]] = {name: [] for name in calls}
    with _no_garbage_collection():
        for i in range(rounds):
            for name, call in calls.items():
                if i >= _BUDGET_ROUNDS and sum(times[name]) > _BUDGET_SECONDS:
                    continue
                on_step(f"{name}, round {i + 1} of {rounds}")
                time.sleep(_SETTLE_SECONDS)
                call()
                times[name].append(_seconds(call, repeats[name]))
    return times


def interleaved_with_floor(
    x: Tensor,
    n_classes: int,
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, list[float]], list[Floor]]:
    """Time the calls as `interleaved` does, together with the read and the GEMM of the floor of x and n_classes."""
    probe = FloorProbe(x, n_classes)
    times = interleaved({"read": probe.read, "product": probe.product, **calls}, rounds=rounds, on_step=on_step)
    return times, probe.floors(times["read"], times["product"])


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object]) -> int:
    seconds = _seconds(call, 1)
    if seconds < _SAMPLE_SECONDS:  # the first call may have loaded libraries and allocated memory
        seconds = _seconds(call, 3)
    return max(1, math.ceil(_SAMPLE_SECONDS / seconds))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def median_ratio(times: Sequence[float], floors: Sequence[float]) -> float:
    """Return the median over rounds of the ratio of a time to the floor of the same round."""
    return statistics.median(mine / floor for mine, floor in zip(times, floors, strict=False))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch and, where threadpoolctl is installed, of numpy and scikit-learn."""
    before = torch.get_num_threads()
    limit: ContextManager[Any] = nullcontext()
    if find_spec("threadpoolctl") is not None:
        limit = importlib.import_module("threadpoolctl").threadpool_limits(limits=count)
    try:
        with limit:
            torch.set_num_threads(count)
            yield
    finally:
        torch.set_num_threads(before)

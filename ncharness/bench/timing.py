"""How the benchmarks measure: made data, the floor, interleaved times, peak memory, and error against float64."""

import ctypes
import gc
import importlib
import math
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ContextManager, NamedTuple, TypeVar  # noqa: UP035  # one name for both managers of `threads`

import torch
from torch import Tensor

from ncharness.bench.contenders import Answer, Shape
from ncharness.kernels import ops

SEPARATION = 6.0
"""Distance of two class means in noise standard deviations along it: few labels are trivial, few are hopeless."""
SIDE = 2048
"""Of the square product that gives the machine's rate."""
CLEAR = 1e-5
"""A row counts as mislabelled only where its two nearest distances differ by more than this share."""
_SAMPLE_SECONDS = 0.02  # a time is that of as many calls as take this long
_SETTLE_SECONDS = 0.01  # the threads of one library spin for a while after their work: the next call is not to pay
_BUDGET_SECONDS, _BUDGET_ROUNDS = 20.0, 3  # who has used up both sits out the rounds that are left

T = TypeVar("T")


# --- data -------------------------------------------------------------------------------------------------------------


def sample(
    shape: Shape, *, dtype: torch.dtype = torch.float32, labels: str = "uniform", offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Gaussian classes, the same for the same arguments: features (n, d) and labels (n,) int64.

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


# --- time -------------------------------------------------------------------------------------------------------------


class Floor(NamedTuple):
    """What no measurement can beat by much: one read for the statistics, then a read or a product for the labels."""

    read: float  # seconds of one vectorised read of the matrix on all threads
    flops: float  # 2 n d C
    rate: float  # flop/s of a large square product in the same dtype

    @property
    def product(self) -> float:
        """Seconds that the scores of every row against every mean take at that rate."""
        return self.flops / self.rate

    @property
    def seconds(self) -> float:
        """Two reads of the matrix; where the product takes longer than a read, it replaces the second one."""
        return self.read + max(self.read, self.product)


class FloorProbe:
    """The calls that the floor of a matrix (n, d) against C class means is timed by, and floors from their times."""

    def __init__(self, x: Tensor, n_classes: int) -> None:
        self._x, self._flops = x, 2.0 * x.shape[0] * x.shape[1] * n_classes
        wide = x.dtype == torch.float64
        self._square = torch.ones(SIDE, SIDE, dtype=torch.float64 if wide else torch.float32)  # halves score in float32

    def read(self) -> int:
        return ops.read(self._x)

    def product(self) -> Tensor:
        return self._square @ self._square

    def floors(self, reads: Sequence[float], products: Sequence[float]) -> list[Floor]:
        """Round by round."""
        return [
            Floor(seconds, self._flops, 2.0 * SIDE**3 / product)
            for seconds, product in zip(reads, products, strict=False)
        ]


def interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, on_step: Callable[[str], None] = lambda _: None
) -> dict[str, list[float]]:
    """Seconds per call in each round: every call is warmed up, then all take turns, so that they share what drifts.

    Each is called once before it is timed in a round, so that it finds the machine as it left it: idle processors are
    slower for a while. Short calls are timed in bulk. One that has used up its budget of time sits out the rounds after
    the third.
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


def _seconds(call: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def _repeats(call: Callable[[], object]) -> int:
    seconds = _seconds(call, 1)
    if seconds < _SAMPLE_SECONDS:  # the first call may have loaded and allocated what later ones find
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
    """The median over rounds of a time against the floor of the same round."""
    return statistics.median(mine / floor for mine, floor in zip(times, floors, strict=False))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """As many threads for torch and, through threadpoolctl where it is installed, for numpy and scikit-learn."""
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


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_above(call: Callable[[], object]) -> int | None:
    """Bytes by which the resident set of this process at its peak exceeds what it was before the call, result included.

    Linux counts in batches of pages per processor, so a few hundred kB may be missing or too much; None elsewhere,
    where nobody says. Memory that an allocator kept from earlier calls would not count: `in_fresh_process` is the
    place to ask.
    """
    process = Path("/proc/self")
    if not (process / "clear_refs").exists():
        return None
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)  # gives back what making the data left in the allocator
    try:
        (process / "clear_refs").write_text("5")  # the peak is now the present
    except OSError:  # a kernel or a sandbox without it
        return None
    before = _status(process, "VmRSS")
    call()
    return max(0, _status(process, "VmHWM") - before)


def _status(process: Path, field: str) -> int:
    for line in (process / "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{process / 'status'}: expected a line {field}, got none")


def extra_bytes(run: Callable[..., object], shape: Shape, *, n_threads: int) -> int | None:
    """Peak memory of `run(x, y, C)` above its float32 inputs, in a fresh process that has made a tiny call before."""
    return in_fresh_process(_extra_bytes, run, shape, n_threads)


def _extra_bytes(run: Callable[..., object], shape: Shape, n_threads: int) -> int | None:
    with threads(n_threads):
        run(*sample(Shape(64, 8, 4)), 4)  # libraries load and threads start before, not during
        x, y = sample(shape)
        return peak_above(lambda: run(x, y, shape.C))


def in_fresh_process(function: Callable[..., T], *arguments: object) -> T:
    """What a function of a module returns in a process of its own. ChildProcessError where that process died."""
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(writer, function, arguments), daemon=True)
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is for the parent, which ends the child
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    writer.close()
    try:
        result: T = reader.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"a process that measured memory ended with exit code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join()
        reader.close()
    return result


def _answer(writer: Connection, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    writer.send(function(*arguments))


# --- error ------------------------------------------------------------------------------------------------------------


class Truth(NamedTuple):
    """The measurement in float64, on the very values that the contenders get."""

    means: Tensor  # (C, d)
    variance: Tensor  # (C,)
    cdnv: float
    nearest: Tensor  # (n,)
    clear: Tensor  # (n,) whether the two nearest distances differ by more than CLEAR


def truth(x: Tensor, y: Tensor, n_classes: int) -> Truth:
    """By plain torch in float64; every class must occur. Memory O(n (d + C)): for small matrices."""
    x = x.double()
    shift = x.mean(0)
    x = x - shift
    count = torch.bincount(y, minlength=n_classes)
    means = x.new_zeros(n_classes, x.shape[1]).index_add_(0, y, x) / count[:, None]
    variance = x.new_zeros(n_classes).index_add_(0, y, (x - means[y]).square().sum(1)) / count
    i, j = torch.triu_indices(n_classes, n_classes, offset=1)
    between = torch.cdist(means, means).square()[i, j]
    two = torch.cdist(x, means).topk(2, dim=1, largest=False)
    return Truth(
        means=means + shift,
        variance=variance,
        cdnv=float(((variance[i] + variance[j]) / (2 * between)).mean()),
        nearest=two.indices[:, 0],
        clear=two.values[:, 1] - two.values[:, 0] > CLEAR * two.values[:, 0],
    )


class Errors(NamedTuple):
    """Share of clear rows with a wrong NCC label, and relative error of the CDNV (inf where it is no number)."""

    wrong: float
    cdnv: float


def errors(answer: Answer, true: Truth) -> Errors:
    wrong = (answer.nearest != true.nearest)[true.clear].double().mean()
    relative = abs(answer.cdnv - true.cdnv) / true.cdnv
    return Errors(float(wrong), relative if math.isfinite(relative) else math.inf)


def error_shape(shape: Shape) -> Shape:
    """The rows that errors are taken on, at the same d and C: at most 2,048, or four a class."""
    return shape._replace(n=min(shape.n, max(4 * shape.C, min(2048, (1 << 23) // shape.d))))

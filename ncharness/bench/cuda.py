"""The kernels on a CUDA device: against the card's own reads and products, and against torch idioms.

Times are between events on the stream, on inputs that take turns so that none is found in the second-level cache.
"""

import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ncharness.bench import timing
from ncharness.bench.batched import together
from ncharness.bench.contenders import Answer, Shape, torch_index_add, torch_moments, torch_one_hot, torch_shift_chunks
from ncharness.bench.sections import two_sweeps
from ncharness.bench.tables import OFFSET, Row, Settings, Table, Target, with_times
from ncharness.bench.timing import Floor
from ncharness.kernels import ops
from ncharness.metrics.layers import measure_layers
from ncharness.training import networks

SECOND_LEVEL_CACHE = 128 << 20
"""More than any card has: inputs that take turns exceed it together."""
PARTS = 3
"""Products that a split product takes; with up to 32 classes there is one, in float32."""
SIDE = 8192
"""Of the square product that gives the rate."""
LAYERS_SHARE = 1.10

Way = Callable[[Tensor, Tensor, int], Any]


class Goal(NamedTuple):
    """What is asked of ours: at most so many floors, or microseconds; so many times as fast as any torch idiom."""

    dtype: torch.dtype
    floors: float
    torch: float | None
    microseconds: float | None = None


GOALS: tuple[tuple[Shape, Goal], ...] = (
    (Shape(1_000_000, 2048, 10), Goal(torch.float32, 1.25, 5)),
    (Shape(1_000_000, 2048, 100), Goal(torch.float32, 1.5, 5)),
    (Shape(1_000_000, 2048, 1000), Goal(torch.float32, 1.5, 2)),
    (Shape(1_000_000, 2048, 10), Goal(torch.bfloat16, 1.3, None)),
    (Shape(1024, 25_600, 10), Goal(torch.float32, 1.5, None, microseconds=60)),
)


class Clock:
    """Seconds per call on a device; on the CPU, where only tests measure, by the processor's clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self, calls: Sequence[Callable[[], object]]) -> float:
        """Of one call, all of them made one after the other."""
        if self.device.type != "cuda":
            begun = time.perf_counter()
            for call in calls:
                call()
            return (time.perf_counter() - begun) / len(calls)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        torch.cuda.synchronize(self.device)
        start.record()
        for call in calls:
            call()
        end.record()
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3 / len(calls)


def run(settings: Settings, device: torch.device) -> Iterator[Table]:
    """A table for each goal, then one for a whole network, and those of networks trained together."""
    for asked, goal in GOALS:
        yield kernels(settings, settings.sized(asked), goal, device)
    yield layers(settings, device)
    yield from together(settings, device)


def ours(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, ...]:
    """Both passes and the CDNV, without waiting for the device."""
    found: tuple[Tensor, ...] = torch.ops.ncharness.measure(x, y, n_classes, False)
    return *found, torch.ops.ncharness.cdnv(*found[:3])


def our_answer(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    count, mean, scatter, nearest, _, _, cdnv = ours(x, y, n_classes)
    return Answer(mean, scatter / count, float(cdnv), nearest)


IDIOMS: dict[str, Callable[[Tensor, Tensor, int], Answer]] = {
    "torch one-hot": torch_one_hot,
    "torch index_add": torch_index_add,
    "torch moments": torch_moments,
    "torch shift + chunks": torch_shift_chunks,
}


def sample(shape: Shape, dtype: torch.dtype, device: torch.device, *, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """As `bench.sample`, made on the device, where a matrix of 8 GB takes no time."""
    generator = torch.Generator(device).manual_seed(0)
    y = torch.randint(shape.C, (shape.n,), generator=generator, device=device)
    y[: shape.C] = torch.arange(shape.C, device=device)  # no class is empty
    centres = torch.randn(shape.C, shape.d, generator=generator, device=device)
    centres *= timing.SEPARATION / (2 * shape.d) ** 0.5
    x = torch.empty(shape.n, shape.d, dtype=dtype, device=device)
    step = max(1, (1 << 26) // shape.d)
    for rows, own in zip(torch.split(x, step), torch.split(y, step), strict=True):
        rows.copy_(torch.randn(rows.shape, generator=generator, device=device) + centres[own] + offset)
    return x, y


def kernels(settings: Settings, shape: Shape, goal: Goal, device: torch.device) -> Table:
    """Ours, ours as a CUDA graph, and the idioms, taking turns with the floor."""
    x, y = sample(shape, goal.dtype, device)
    copies = 1 + max(0, -(-SECOND_LEVEL_CACHE // (x.numel() * x.element_size())) - 1)
    inputs = [x] + [x.clone() for _ in range(copies - 1)]
    rate = torch.float32 if shape.C <= 32 else torch.bfloat16
    square = torch.ones(SIDE if device.type == "cuda" else 64, SIDE if device.type == "cuda" else 64, device=device)
    square = square.to(rate)
    ways: dict[str, list[Callable[[], object]]] = {
        "read": [partial(_read, matrix) for matrix in inputs],
        "product": [lambda: square @ square],
        "ours": [partial(ours, matrix, y, shape.C) for matrix in inputs],
    }
    notes: dict[str, str] = {}
    if device.type == "cuda":
        ways["ours, a CUDA graph"] = [_graph(matrix, y, shape.C) for matrix in inputs]
    idioms = IDIOMS if goal.dtype == torch.float32 else {}  # others compute in the type of the features, and badly
    for name, idiom in idioms.items():
        try:
            idiom(x, y, shape.C)
            ways[name] = [partial(idiom, matrix, y, shape.C) for matrix in inputs]
        except torch.OutOfMemoryError:
            notes[name] = "not timed: out of memory"
            torch.cuda.empty_cache()
    clock = Clock(device)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, calls in ways.items():
        settings.on_step(f"{shape}: {name}, warm-up")
        clock.seconds(calls)
    for i in range(settings.rounds):
        for name, calls in ways.items():
            settings.on_step(f"{shape}: {name}, round {i + 1} of {settings.rounds}")
            times[name].append(clock.seconds(calls))
    parts = PARTS if shape.C > 32 else 1
    floors = [
        Floor(read, 2.0 * shape.n * shape.d * shape.C * parts, 2.0 * float(len(square)) ** 3 / product)
        for read, product in zip(times["read"], times["product"], strict=True)
    ]
    small, rows = timing.error_shape(shape), []
    for name in (*ways, *notes):
        if name in ("read", "product"):
            continue
        row = Row(name=name, notes=(notes[name],)) if name in notes else Row(name=name)
        if name in times:
            row = with_times(row, times[name], floors, times["ours"])
        if name in IDIOMS or name == "ours":
            answer = IDIOMS.get(name, our_answer)
            errors = []
            for offset in (0.0, OFFSET) if goal.dtype == torch.float32 else (0.0,):  # others have no room for it
                a, b = sample(small, goal.dtype, device, offset=offset)
                errors.append(timing.errors(answer(a, b, small.C), timing.truth(a, b, small.C)))
            row = replace(row, errors=errors[0], offset_errors=errors[1] if len(errors) > 1 else None)
            if name in times:
                row = replace(row, extra_bytes=_extra_bytes(partial(answer, x, y, shape.C), device))
        rows.append(row)
    title = f"{shape}, {str(goal.dtype).removeprefix('torch.')}"
    targets = () if settings.quick else _targets(title, goal, rows)
    return Table("kernels", title, _caption(x, floors, parts), tuple(rows), targets)


def _read(x: Tensor) -> Tensor:
    """One read of the matrix: torch's sum of its bits as float32."""
    flat = x.reshape(-1)
    return flat.view(torch.float32).sum() if flat.numel() % 2 == 0 else flat.sum()


def _graph(x: Tensor, y: Tensor, n_classes: int) -> Callable[[], object]:
    ours(x, y, n_classes)
    torch.cuda.synchronize(x.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours(x, y, n_classes)
    return graph.replay


def _extra_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _targets(title: str, goal: Goal, rows: Sequence[Row]) -> tuple[Target, ...]:
    mine = rows[0]
    ratios = [row.over_floor for row in rows if row.name.startswith("ours") and row.over_floor is not None]
    targets = [Target(f"{title}: ours / floor", mine.over_floor, goal.floors)]
    if goal.microseconds is not None:
        best = min((row.seconds for row in rows if row.name.startswith("ours") and row.seconds), default=None)
        met = None if best is None else min(best * 1e6 / goal.microseconds, min(ratios) / goal.floors)
        bounds = f"{goal.microseconds:g} us, ours / floor / {goal.floors}"
        targets = [Target(f"{title}: the better of ours / {bounds}", met, 1.0)]
    if goal.torch is not None:
        others = [row.over_ours for row in rows if row.name in IDIOMS and row.over_ours is not None]
        best_idiom = min(others) if others else None
        targets.append(Target(f"{title}: the best torch idiom / ours", best_idiom, goal.torch, at_least=True))
    return tuple(targets)


def _caption(x: Tensor, floors: Sequence[Floor], parts: int) -> str:
    read = statistics.median(floor.read for floor in floors)
    floor, rate = (statistics.median(of) for of in ([f.seconds for f in floors], [f.rate for f in floors]))
    second = f"{parts} bfloat16 products" if parts > 1 else "float32 product"
    return (
        f"floor {1e3 * floor:.3f} ms: a read at {x.numel() * x.element_size() / read / 1e9:.0f} GB/s, and a second "
        f"one or the {second} at {rate / 1e12:.1f} Tflop/s, whichever takes longer"
    )


def layers(settings: Settings, device: torch.device) -> Table:
    """`measure_layers` on CONV-8-400 against two plain forward sweeps."""
    depth, width, n, batch = (8, 400, 10_000, 500) if device.type == "cuda" and not settings.quick else (2, 8, 200, 50)
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(n, 3, 32, 32, generator=generator, device=device)
    labels = torch.arange(n, device=device) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = networks.build("conv", depth=depth, width=width, in_shape=images.shape[1:], n_classes=10)
    model = model.eval().to(device)
    batches = list(zip(torch.split(images, batch), torch.split(labels, batch), strict=True))
    points, clock = networks.capture_points("conv", depth=depth), Clock(device)
    calls: dict[str, Callable[[], object]] = {
        "two plain sweeps": partial(two_sweeps, model, batches),
        "measure_layers": partial(measure_layers, model, batches, layers=points, n_classes=10),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(settings.rounds + 1):  # the first warms up
        for name, call in calls.items():
            settings.on_step(f"layers: {name}, round {i} of {settings.rounds}")
            times[name].append(clock.seconds([call]))
    base = times["two plain sweeps"][1:]
    rows = tuple(
        Row(name=name, seconds=statistics.median(of[1:]), over_floor=timing.median_ratio(of[1:], base))
        for name, of in times.items()
    )
    name = f"CONV-{depth}-{width}"
    target = Target(f"{name}: measure_layers / two plain sweeps", rows[1].over_floor, LAYERS_SHARE)
    title = f"{name}, {len(points)} layers, {n:,} samples in batches of {batch}: random inputs of CIFAR's shape"
    caption = "floor: two plain forward sweeps over the same batches"
    return Table("layers", title, caption, rows, () if settings.quick else (target,))


def card(device: torch.device) -> dict[str, str]:
    """Name, driver and capability of the device, and torch's CUDA version."""
    if device.type != "cuda":
        return {"card": str(device), "driver": "none"}
    major, minor = torch.cuda.get_device_capability(device)
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    return {
        "card": torch.cuda.get_device_name(device),
        "driver": driver,
        "capability": f"{major}.{minor}",
        "cuda": str(torch.version.cuda),
        "kernels": ": ".join(ops.backend(device)),
    }

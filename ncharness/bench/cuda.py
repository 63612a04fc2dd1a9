"""Benchmark of the kernels on a CUDA device, against its own reads and GEMMs and against torch idioms.

Times are taken between events on the stream. The inputs are copies used in turn, so that none is found in the L2 cache.
"""

import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ncharness.bench import timing
from ncharness.bench.batched import together
from ncharness.bench.contenders import Answer, Shape, torch_index_add, torch_moments, torch_one_hot, torch_shift_chunks
from ncharness.bench.device_timing import Calls, bytes_on_device, times_on_device
from ncharness.bench.errors import Errors, error_shape, errors_of, truth
from ncharness.bench.sections import two_sweeps
from ncharness.bench.tables import OFFSET, Settings, Table, TableRow, Target, rows_against, with_times
from ncharness.bench.timing import Floor
from ncharness.kernels import ops
from ncharness.metrics.layers import measure_layers
from ncharness.training import networks

L2_CACHE = 128 << 20
"""Bytes that no device's L2 cache exceeds: the copies of the input together exceed it."""
SPLIT_GEMMS = 3
"""GEMMs in bfloat16 that replace one in float32; with up to 32 classes there is one, in float32."""
SIDE = 8192
"""Side of the square GEMM that gives the rate."""
LAYERS_SHARE = 1.10


class DeviceGoal(NamedTuple):
    """Targets of our kernels: at most so many floors, or microseconds; so many times as fast as any torch idiom."""

    dtype: torch.dtype
    floors: float
    torch: float | None
    microseconds: float | None = None


DEVICE_GOALS: tuple[tuple[Shape, DeviceGoal], ...] = (
    (Shape(1_000_000, 2048, 10), DeviceGoal(torch.float32, 1.25, 5)),
    (Shape(1_000_000, 2048, 100), DeviceGoal(torch.float32, 1.5, 5)),
    (Shape(1_000_000, 2048, 1000), DeviceGoal(torch.float32, 1.5, 2)),
    (Shape(1_000_000, 2048, 10), DeviceGoal(torch.bfloat16, 1.3, None)),
    (Shape(1024, 25_600, 10), DeviceGoal(torch.float32, 1.5, None, microseconds=60)),
)


def run(settings: Settings, device: torch.device) -> Iterator[Table]:
    """Yield a table for each goal, one for a whole network, and those of networks trained together."""
    for asked, goal in DEVICE_GOALS:
        yield kernel_table(settings, settings.sized(asked), goal, device)
    yield layer_table(settings, device)
    yield from together(settings, device)


def ours_on_device(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, ...]:
    """Enqueue both passes and the CDNV, without waiting for the device."""
    found: tuple[Tensor, ...] = torch.ops.ncharness.measure(x, y, n_classes, False)
    return *found, torch.ops.ncharness.cdnv(*found[:3])


def our_answer(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    """Return the results of `ours_on_device` as a contender's answer."""
    count, mean, scatter, nearest, _, _, cdnv = ours_on_device(x, y, n_classes)
    return Answer(mean, scatter / count, float(cdnv), nearest)


IDIOMS: dict[str, Callable[[Tensor, Tensor, int], Answer]] = {
    "torch one-hot": torch_one_hot,
    "torch index_add": torch_index_add,
    "torch moments": torch_moments,
    "torch shift + chunks": torch_shift_chunks,
}


def sample_on_device(
    shape: Shape, dtype: torch.dtype, device: torch.device, *, offset: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Generate Gaussian classes like `timing.sample`, but on the device, where a matrix of 8 GB takes no time."""
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


# --- the table of a goal ----------------------------------------------------------------------------------------------


def kernel_table(settings: Settings, shape: Shape, goal: DeviceGoal, device: torch.device) -> Table:
    """Time our kernels, the same as a CUDA graph, and the idioms, interleaved with the floor."""
    x, y = sample_on_device(shape, goal.dtype, device)
    inputs = _copies(x)
    square = _square_of_rate(shape, device)
    floor_calls: Calls = {
        "read": [partial(_read, matrix) for matrix in inputs],
        "product": [lambda: square @ square],
    }
    calls, notes = _calls(inputs, y, shape, goal)
    times = times_on_device(settings, f"{shape}", {**floor_calls, **calls}, device)
    parts = SPLIT_GEMMS if shape.C > 32 else 1
    floors = [
        Floor(read, 2.0 * shape.n * shape.d * shape.C * parts, 2.0 * float(len(square)) ** 3 / product)
        for read, product in zip(times["read"], times["product"], strict=True)
    ]
    rows = []
    for name in (*calls, *notes):
        row = TableRow(name=name, notes=(notes[name],) if name in notes else ())
        if name in times:
            row = with_times(row, times[name], floors, times["ours"])
        if name in IDIOMS or name == "ours":
            errors = _errors(IDIOMS.get(name, our_answer), shape, goal.dtype, device)
            row = replace(row, errors=errors[0], offset_errors=errors[1] if len(errors) > 1 else None)
            if name in times:
                call = partial(IDIOMS.get(name, our_answer), x, y, shape.C)
                row = replace(row, extra_bytes=bytes_on_device(call, device))
        rows.append(row)
    title = f"{shape}, {str(goal.dtype).removeprefix('torch.')}"
    targets = () if settings.quick else _targets(title, goal, rows)
    return Table("kernels", title, _caption(x, floors, parts), tuple(rows), targets)


def _copies(x: Tensor) -> list[Tensor]:
    """Return x and as many copies of it as it takes to exceed the L2 cache together."""
    copies = 1 + max(0, -(-L2_CACHE // (x.numel() * x.element_size())) - 1)
    return [x] + [x.clone() for _ in range(copies - 1)]


def _square_of_rate(shape: Shape, device: torch.device) -> Tensor:
    """Return the square matrix whose GEMM with itself gives the rate, in the dtype of the scores' own GEMM."""
    side = SIDE if device.type == "cuda" else 64
    return torch.ones(side, side, device=device).to(torch.float32 if shape.C <= 32 else torch.bfloat16)


def _calls(inputs: Sequence[Tensor], y: Tensor, shape: Shape, goal: DeviceGoal) -> tuple[Calls, dict[str, str]]:
    """Return the calls of every implementation, and the reasons for those that are not timed."""
    calls: dict[str, list[Callable[[], object]]] = {
        "ours": [partial(ours_on_device, matrix, y, shape.C) for matrix in inputs]
    }
    notes: dict[str, str] = {}
    if y.device.type == "cuda":
        calls["ours, a CUDA graph"] = [_graph(matrix, y, shape.C) for matrix in inputs]
    idioms = IDIOMS if goal.dtype == torch.float32 else {}  # in 16 bits idioms compute in the dtype of the features
    for name, idiom in idioms.items():
        try:
            idiom(inputs[0], y, shape.C)
            calls[name] = [partial(idiom, matrix, y, shape.C) for matrix in inputs]
        except torch.OutOfMemoryError:
            notes[name] = "not timed: out of memory"
            torch.cuda.empty_cache()
    return calls, notes


def _errors(
    answer: Callable[[Tensor, Tensor, int], Answer], shape: Shape, dtype: torch.dtype, device: torch.device
) -> list[Errors]:
    """Return the errors on fewer rows, and for float32 also those under a common offset."""
    small = error_shape(shape)
    found = []
    for offset in (0.0, OFFSET) if dtype == torch.float32 else (0.0,):  # 16 bits cannot hold it
        x, y = sample_on_device(small, dtype, device, offset=offset)
        found.append(errors_of(answer(x, y, small.C), truth(x, y, small.C)))
    return found


def _read(x: Tensor) -> Tensor:
    """Read the matrix once: torch's sum of its bits as float32."""
    flat = x.reshape(-1)
    return flat.view(torch.float32).sum() if flat.numel() % 2 == 0 else flat.sum()


def _graph(x: Tensor, y: Tensor, n_classes: int) -> Callable[[], object]:
    ours_on_device(x, y, n_classes)
    torch.cuda.synchronize(x.device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours_on_device(x, y, n_classes)
    return graph.replay


def _targets(title: str, goal: DeviceGoal, rows: Sequence[TableRow]) -> tuple[Target, ...]:
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


# --- the table of a network -------------------------------------------------------------------------------------------


def layer_table(settings: Settings, device: torch.device) -> Table:
    """Measure `measure_layers` on CONV-8-400 against two plain forward sweeps."""
    depth, width, n, batch = (8, 400, 10_000, 500) if device.type == "cuda" and not settings.quick else (2, 8, 200, 50)
    generator = torch.Generator(device).manual_seed(0)
    images = torch.randn(n, 3, 32, 32, generator=generator, device=device)
    labels = torch.arange(n, device=device) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = networks.build("conv", depth=depth, width=width, in_shape=images.shape[1:], n_classes=10)
    model = model.eval().to(device)
    batches = list(zip(torch.split(images, batch), torch.split(labels, batch), strict=True))
    points = networks.capture_points("conv", depth=depth)
    calls: Calls = {
        "two plain sweeps": [partial(two_sweeps, model, batches)],
        "measure_layers": [partial(measure_layers, model, batches, layers=points, n_classes=10)],
    }
    rows = rows_against(times_on_device(settings, "layers", calls, device), "two plain sweeps")
    name = f"CONV-{depth}-{width}"
    target = Target(f"{name}: measure_layers / two plain sweeps", rows[1].over_floor, LAYERS_SHARE)
    title = f"{name}, {len(points)} layers, {n:,} samples in batches of {batch}: random inputs of CIFAR's shape"
    caption = "floor: two plain forward sweeps over the same batches"
    return Table("layers", title, caption, rows, () if settings.quick else (target,))


def card(device: torch.device) -> dict[str, str]:
    """Return name, driver and compute capability of the device, and torch's CUDA version."""
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

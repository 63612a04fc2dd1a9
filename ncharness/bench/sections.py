"""What is benchmarked: sections of tables, and the targets that a table is held against."""

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ncharness.bench import timing
from ncharness.bench.batched import together
from ncharness.bench.contenders import CONTENDERS, Contender, Shape, ours
from ncharness.bench.tables import GOALS, OFFSET, Row, Settings, Table, Target, with_times
from ncharness.bench.timing import Floor, FloorProbe
from ncharness.kernels import ops
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.layers import measure_layers
from ncharness.metrics.measure import measure
from ncharness.training import networks
from ncharness.training.datasets import load

HALF_SHARE, GRAM_SHARE, DOUBLE_FLOORS = 0.65, 1.35, 1.3
LAYER_SWEEPS, STREAM_READS = 1.15, 1.5


IDIOM = "torch index_add"
"""The torch idiom that the targets were set against; the table shows faster ones, which are less exact or more work."""


def parse_shape(text: str) -> Shape:
    """`200kx512x10` as a shape of n = 200,000 rows, d = 512 features and C = 10 classes; ValueError for others."""
    units = {"k": 1000, "M": 1_000_000}
    parts = [(part[:-1], units[part[-1]]) if part[-1:] in units else (part, 1) for part in text.split("x")]
    if len(parts) != 3 or not all(digits.isascii() and digits.isdigit() for digits, _ in parts):
        raise ValueError(f"--shape: expected rows x features x classes such as 200kx512x10, got {text!r}")
    n, d, n_classes = (int(digits) * unit for digits, unit in parts)
    if d < 1 or n_classes < 2 or n < 2 * n_classes:
        raise ValueError(f"--shape: expected a feature, two classes and two rows a class at least, got {text!r}")
    return Shape(n, d, n_classes)


def parse_ways(text: str) -> tuple[Contender, ...]:
    """`torch cdist,faiss` as ours and those; ValueError for a name that is none."""
    asked = {part.strip() for part in text.split(",")}
    if unknown := sorted(asked - {way.name for way in CONTENDERS}):
        raise ValueError(f"--ways: expected some of {', '.join(way.name for way in CONTENDERS)}, got {unknown[0]!r}")
    return tuple(way for way in CONTENDERS if way.name in asked | {"ours"})


def run(sections: Sequence[str], settings: Settings) -> Iterator[Table]:
    """The tables of the sections, each as soon as it is done."""
    with timing.threads(settings.n_threads):
        for section in sections:
            yield from SECTIONS[section](settings)


# --- kernels ----------------------------------------------------------------------------------------------------------


def kernels(settings: Settings) -> Iterator[Table]:
    """Every way of doing it at every shape."""
    for asked in settings.shapes:
        shape = settings.sized(asked)
        step = _prefixed(settings, f"kernels {shape}")
        rows = {way.name: refused(way, way.refusal(shape)) for way in settings.ways}
        tried = [way for way in settings.ways if not way.refusal(shape)]
        for way in tried:
            step(f"{way.name}, error and memory")
            rows[way.name] = accuracy_and_memory(way, shape, n_threads=settings.n_threads)
        x, y = timing.sample(shape)
        times, floors = _timed(x, shape.C, {way.name: partial(way.run, x, y, shape.C) for way in tried}, settings, step)
        for way in tried:
            rows[way.name] = with_times(rows[way.name], times[way.name], floors, times["ours"])
        done = tuple(rows.values())
        targets = () if settings.quick else kernel_targets(shape, done, settings.n_threads)
        yield Table("kernels", f"{shape}, float32", floor_caption(x, floors), done, targets)


def refused(way: Contender, reason: str) -> Row:
    return Row(name=way.name, notes=(reason,))


def accuracy_and_memory(way: Contender, shape: Shape, *, n_threads: int) -> Row:
    """The columns of a way that are no times. Errors are taken on fewer rows, see `bench.error_shape`."""
    small, found = timing.error_shape(shape), []
    for offset in (0.0, OFFSET):
        x, y = timing.sample(small, offset=offset)
        found.append(timing.errors(way.run(x, y, small.C), timing.truth(x, y, small.C)))
    row = Row(name=way.name, errors=found[0], offset_errors=found[1])
    try:
        return replace(row, extra_bytes=timing.extra_bytes(way.run, shape, n_threads=n_threads))
    except ChildProcessError as error:  # such as by the kernel, which was short of memory
        return replace(row, notes=(str(error),))


def memory_bound(shape: Shape, n_threads: int) -> int:
    """What extra memory is held against: four tables of C d doubles a thread and of C^2, the labels, and 8 MiB."""
    return 8 * shape.n + 32 * (n_threads * shape.C * shape.d + shape.C**2) + (8 << 20)


def kernel_targets(shape: Shape, rows: Sequence[Row], n_threads: int) -> tuple[Target, ...]:
    by_name = {row.name: row for row in rows}
    mine = by_name["ours"]
    goal = GOALS.get(shape)
    targets = []
    if goal is not None:
        if goal.floors is not None:
            targets.append(Target(f"{shape}: time / floor", mine.over_floor, goal.floors))
        targets.append(
            Target(
                f"{shape}: {IDIOM} / ours",
                by_name[IDIOM].over_ours if IDIOM in by_name else None,
                goal.torch,
                at_least=True,
            )
        )
        packages = [by_name[way.name].over_ours for way in CONTENDERS if way.kind == "package" and way.name in by_name]
        best = min((ratio for ratio in packages if ratio is not None), default=None)
        if goal.package is not None:
            targets.append(Target(f"{shape}: fastest package / ours", best, goal.package, at_least=True))
    bound = memory_bound(shape, n_threads)
    extra = None if mine.extra_bytes is None else mine.extra_bytes / bound
    targets.append(Target(f"{shape}: extra memory / (8n + 32(TCd + CC) + 8 MiB)", extra, 1.0))
    return tuple(targets)


# --- our own options --------------------------------------------------------------------------------------------------


def dtypes(settings: Settings) -> Iterator[Table]:
    """The same matrix in four dtypes, each against its own floor."""
    names = ("float32", "float64", "float16", "bfloat16")
    for asked in (Shape(200_000, 512, 10), Shape(200_000, 512, 100)):
        shape = settings.sized(asked)
        x, y = timing.sample(shape)
        calls: dict[str, Callable[[], object]] = {}
        probes = {}
        for name in names:
            matrix = x.to(getattr(torch, name))
            probes[name] = FloorProbe(matrix, shape.C)
            calls |= {f"{name} read": probes[name].read, f"{name} product": probes[name].product}
            calls[name] = partial(ours, matrix, y, shape.C)
        times = timing.interleaved(calls, rounds=settings.rounds, on_step=_prefixed(settings, f"dtypes {shape}"))
        rows = []
        for name in names:
            floors = probes[name].floors(times[f"{name} read"], times[f"{name} product"])
            rows.append(with_times(Row(name=name), times[name], floors, times["float32"]))
        targets = [Target(f"{shape}: float64 / its floor", rows[1].over_floor, DOUBLE_FLOORS)]
        if shape.C == 10:
            targets += [Target(f"{shape}: {row.name} / float32", row.over_ours, HALF_SHARE) for row in rows[2:]]
        caption = "floor of each row: reads of the matrix in its dtype, product in float64 or float32"
        yield Table("dtypes", str(shape), caption, tuple(rows), () if settings.quick else tuple(targets))


def gram(settings: Settings) -> Iterator[Table]:
    """What the Gram, hence NC1 and the directional CDNV, costs on top."""
    for asked in (Shape(200_000, 512, 10), Shape(200_000, 512, 100)):
        shape = settings.sized(asked)
        x, y = timing.sample(shape)
        calls = {
            "measure": partial(measure, x, y, shape.C),
            "measure(gram=True)": partial(measure, x, y, shape.C, gram=True),
        }
        times, floors = _timed(x, shape.C, calls, settings, _prefixed(settings, f"gram {shape}"))
        rows = tuple(with_times(Row(name=name), times[name], floors, times["measure"]) for name in calls)
        targets = (Target(f"{shape}: gram=True / without", rows[1].over_ours, GRAM_SHARE),)
        yield Table("gram", str(shape), floor_caption(x, floors), rows, () if settings.quick else targets)


def scaling(settings: Settings) -> Iterator[Table]:
    """From 2 classes to 100,000, with three kinds of labels. Without the CDNV, which is quadratic in C."""
    for labels in ("uniform", "zipf", "one"):
        rows = []
        for n_classes in (2, 10, 100, 1000, 10_000, *(() if settings.quick else (100_000,))):
            shape = settings.sized(Shape(100_000, 64, n_classes))
            step = _prefixed(settings, f"scaling {labels} {shape}")
            x, y = timing.sample(shape, labels=labels)
            times, floors = _timed(x, n_classes, {"ours": partial(measure, x, y, n_classes)}, settings, step)
            row = with_times(Row(name=str(shape)), times["ours"], floors)
            if labels == "uniform":
                step("memory")
                extra = timing.extra_bytes(measure, shape, n_threads=settings.n_threads)
                row = replace(row, extra_bytes=extra)
            rows.append(row)
        words = {"uniform": "balanced labels", "zipf": "labels by Zipf's law", "one": "all rows in class 0"}
        caption = "measure without the CDNV, which takes all pairs of classes; each row against the floor of its C"
        yield Table("scaling", words[labels], caption, tuple(rows))


# --- layers and streams -----------------------------------------------------------------------------------------------


def layers(settings: Settings) -> Iterator[Table]:
    """`measure_layers` against two plain forward sweeps of the same network over the same batches."""
    n = settings.fewer(10_000)
    root = settings.data_root or os.environ.get("NCHARNESS_DATA")
    generator = torch.Generator().manual_seed(0)
    if root:
        data = load("fashion_mnist", n_train=n, root=root)
        images, labels, source = data.train_x, data.train_y, "Fashion-MNIST"
    else:
        images, labels = torch.randn(n, 1, 32, 32, generator=generator), torch.arange(n) % 10
        source = "random inputs of Fashion-MNIST's shape"
    yield _layers("mlp", 12, 512, images, labels, source, settings)
    images, labels = torch.randn(n, 3, 32, 32, generator=generator), torch.arange(n) % 10
    yield _layers("conv", 5, 50, images, labels, "random inputs of CIFAR's shape", settings)


def _layers(
    arch: str, depth: int, width: int, images: Tensor, labels: Tensor, source: str, settings: Settings
) -> Table:
    name = f"{arch.upper()}-{depth}-{width}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = networks.build(arch, depth=depth, width=width, in_shape=images.shape[1:], n_classes=10).eval()
    batches = list(zip(torch.split(images, 500), torch.split(labels, 500), strict=True))
    points = networks.capture_points(arch, depth=depth)
    calls: dict[str, Callable[[], object]] = {
        "two plain sweeps": partial(two_sweeps, model, batches),
        "measure_layers": partial(measure_layers, model, batches, layers=points, n_classes=10),
    }
    times = timing.interleaved(calls, rounds=settings.rounds, on_step=_prefixed(settings, f"layers {name}"))
    rows = _against(times, "two plain sweeps")
    targets = (Target(f"{name}: measure_layers / two plain sweeps", rows[1].over_floor, LAYER_SWEEPS),)
    title = f"{name}, {len(points)} layers, {len(images):,} samples in batches of 500: {source}"
    return Table(
        "layers",
        title,
        "floor: two plain forward sweeps over the same batches",
        rows,
        () if settings.quick else targets,
    )


def two_sweeps(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for _ in range(2):
            for inputs, _labels in batches:
                model(inputs)


def stream(settings: Settings) -> Iterator[Table]:
    """`ClassStats.update` on batches of 128 against one read of the matrix that the batches are views of."""
    for asked in (Shape(100_000, 512, 10), Shape(25_000, 2048, 10), Shape(2_000, 25_600, 10)):
        shape = settings.sized(asked)
        x, y = timing.sample(shape)
        batches = list(zip(torch.split(x, 128), torch.split(y, 128), strict=True))
        calls: dict[str, Callable[[], object]] = {
            "one read": partial(ops.read, x),
            "one read, batch by batch": partial(_read_all, batches),
            "ClassStats.update": partial(_update_all, shape, batches),
        }
        times = timing.interleaved(calls, rounds=settings.rounds, on_step=_prefixed(settings, f"stream {shape}"))
        caption = "floor: one vectorised read of the whole matrix"
        rows = _against(times, "one read")
        targets = (Target(f"{shape} in batches of 128: update / one read", rows[2].over_floor, STREAM_READS),)
        yield Table("stream", f"{shape} in batches of 128", caption, rows, () if settings.quick else targets)


def _read_all(batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    for rows, _ in batches:
        ops.read(rows)


def _update_all(shape: Shape, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    stats = ClassStats.empty(shape.C, shape.d)
    for rows, labels in batches:
        stats.update(rows, labels)


# --- shared -----------------------------------------------------------------------------------------------------------


def _prefixed(settings: Settings, prefix: str) -> Callable[[str], None]:
    return lambda text: settings.on_step(f"{prefix}: {text}")


def _timed(
    x: Tensor,
    n_classes: int,
    calls: Mapping[str, Callable[[], object]],
    settings: Settings,
    step: Callable[[str], None],
) -> tuple[dict[str, list[float]], list[Floor]]:
    probe = FloorProbe(x, n_classes)
    both = {"read": probe.read, "product": probe.product, **calls}
    times = timing.interleaved(both, rounds=settings.rounds, on_step=step)
    return times, probe.floors(times["read"], times["product"])


def _against(times: Mapping[str, Sequence[float]], floor: str) -> tuple[Row, ...]:
    return tuple(
        Row(name=name, seconds=statistics.median(mine), over_floor=timing.median_ratio(mine, times[floor]))
        for name, mine in times.items()
    )


def floor_caption(x: Tensor, floors: Sequence[Floor]) -> str:
    """The floor in words: its medians over the rounds."""
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


SECTIONS: dict[str, Callable[[Settings], Iterator[Table]]] = {
    "kernels": kernels,
    "dtypes": dtypes,
    "gram": gram,
    "scaling": scaling,
    "layers": layers,
    "stream": stream,
    "together": together,
}

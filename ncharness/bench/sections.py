"""Sections of the benchmark: their tables, the targets of these, and the options that choose among them."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ncharness.bench import memory, timing
from ncharness.bench.batched import together
from ncharness.bench.comparison import compare_contenders
from ncharness.bench.contenders import CONTENDERS, Contender, Shape, ours
from ncharness.bench.tables import Settings, Table, TableRow, Target, rows_against, with_times
from ncharness.bench.timing import FloorProbe
from ncharness.kernels import ops
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.layers import measure_layers
from ncharness.metrics.measure import measure
from ncharness.training import networks
from ncharness.training.datasets import load

HALF_SHARE, GRAM_SHARE, DOUBLE_FLOORS = 0.65, 1.35, 1.3
LAYER_SWEEPS, STREAM_READS = 1.15, 1.5


def parse_shape(text: str) -> Shape:
    """Parse `200kx512x10` into a shape of n = 200,000 rows, d = 512 features and C = 10 classes.

    Raises ValueError for a text of another form.
    """
    units = {"k": 1000, "M": 1_000_000}
    parts = [(part[:-1], units[part[-1]]) if part[-1:] in units else (part, 1) for part in text.split("x")]
    if len(parts) != 3 or not all(digits.isascii() and digits.isdigit() for digits, _ in parts):
        raise ValueError(f"--shape: expected rows x features x classes such as 200kx512x10, got {text!r}")
    n, d, n_classes = (int(digits) * unit for digits, unit in parts)
    if d < 1 or n_classes < 2 or n < 2 * n_classes:
        raise ValueError(f"--shape: expected a feature, two classes and two rows a class at least, got {text!r}")
    return Shape(n, d, n_classes)


def parse_ways(text: str) -> tuple[Contender, ...]:
    """Parse `torch cdist,faiss` into these contenders and ours. Raises ValueError for an unknown name."""
    asked = {part.strip() for part in text.split(",")}
    if unknown := sorted(asked - {way.name for way in CONTENDERS}):
        raise ValueError(f"--ways: expected some of {', '.join(way.name for way in CONTENDERS)}, got {unknown[0]!r}")
    return tuple(way for way in CONTENDERS if way.name in asked | {"ours"})


def run(sections: Sequence[str], settings: Settings) -> Iterator[Table]:
    """Yield the tables of the sections, each as soon as it is done."""
    with timing.threads(settings.n_threads):
        for section in sections:
            yield from SECTIONS[section](settings)


# --- our own options --------------------------------------------------------------------------------------------------


def dtypes(settings: Settings) -> Iterator[Table]:
    """Measure the same matrix in four dtypes, each against its own floor."""
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
        on_step = settings.on_step_of(f"dtypes {shape}")
        times = timing.interleaved(calls, rounds=settings.rounds, on_step=on_step)
        rows = []
        for name in names:
            floors = probes[name].floors(times[f"{name} read"], times[f"{name} product"])
            rows.append(with_times(TableRow(name=name), times[name], floors, times["float32"]))
        targets = [Target(f"{shape}: float64 / its floor", rows[1].over_floor, DOUBLE_FLOORS)]
        if shape.C == 10:
            targets += [Target(f"{shape}: {row.name} / float32", row.over_ours, HALF_SHARE) for row in rows[2:]]
        caption = "floor of each row: reads of the matrix in its dtype, product in float64 or float32"
        yield Table("dtypes", str(shape), caption, tuple(rows), () if settings.quick else tuple(targets))


def gram(settings: Settings) -> Iterator[Table]:
    """Measure the additional cost of the Gram matrix, which NC1 and the directional CDNV need."""
    for asked in (Shape(200_000, 512, 10), Shape(200_000, 512, 100)):
        shape = settings.sized(asked)
        x, y = timing.sample(shape)
        calls = {
            "measure": partial(measure, x, y, shape.C),
            "measure(gram=True)": partial(measure, x, y, shape.C, gram=True),
        }
        on_step = settings.on_step_of(f"gram {shape}")
        times, floors = timing.interleaved_with_floor(x, shape.C, calls, rounds=settings.rounds, on_step=on_step)
        rows = tuple(with_times(TableRow(name=name), times[name], floors, times["measure"]) for name in calls)
        targets = (Target(f"{shape}: gram=True / without", rows[1].over_ours, GRAM_SHARE),)
        yield Table("gram", str(shape), timing.floor_caption(x, floors), rows, () if settings.quick else targets)


def scaling(settings: Settings) -> Iterator[Table]:
    """Measure 2 to 100,000 classes with three kinds of labels, without the CDNV, which is quadratic in C."""
    for labels in ("uniform", "zipf", "one"):
        rows = []
        for n_classes in (2, 10, 100, 1000, 10_000, *(() if settings.quick else (100_000,))):
            shape = settings.sized(Shape(100_000, 64, n_classes))
            on_step = settings.on_step_of(f"scaling {labels} {shape}")
            x, y = timing.sample(shape, labels=labels)
            calls = {"ours": partial(measure, x, y, n_classes)}
            times, floors = timing.interleaved_with_floor(x, n_classes, calls, rounds=settings.rounds, on_step=on_step)
            row = with_times(TableRow(name=str(shape)), times["ours"], floors)
            if labels == "uniform":
                on_step("memory")
                row = replace(row, extra_bytes=memory.extra_bytes(measure, shape, n_threads=settings.n_threads))
            rows.append(row)
        words = {"uniform": "balanced labels", "zipf": "labels by Zipf's law", "one": "all rows in class 0"}
        caption = "measure without the CDNV, which takes all pairs of classes; each row against the floor of its C"
        yield Table("scaling", words[labels], caption, tuple(rows))


# --- layers and streams -----------------------------------------------------------------------------------------------


def layers(settings: Settings) -> Iterator[Table]:
    """Measure `measure_layers` against two plain forward sweeps of the same network over the same batches."""
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
    times = timing.interleaved(calls, rounds=settings.rounds, on_step=settings.on_step_of(f"layers {name}"))
    rows = rows_against(times, "two plain sweeps")
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
    """Run the model forward over the batches twice."""
    with torch.no_grad():
        for _ in range(2):
            for inputs, _labels in batches:
                model(inputs)


def stream(settings: Settings) -> Iterator[Table]:
    """Measure `ClassStats.update` on batches of 128 against one read of the matrix that the batches are views of."""
    for asked in (Shape(100_000, 512, 10), Shape(25_000, 2048, 10), Shape(2_000, 25_600, 10)):
        shape = settings.sized(asked)
        x, y = timing.sample(shape)
        batches = list(zip(torch.split(x, 128), torch.split(y, 128), strict=True))
        calls: dict[str, Callable[[], object]] = {
            "one read": partial(ops.read, x),
            "one read, batch by batch": partial(_read_all, batches),
            "ClassStats.update": partial(_update_all, shape, batches),
        }
        times = timing.interleaved(calls, rounds=settings.rounds, on_step=settings.on_step_of(f"stream {shape}"))
        caption = "floor: one vectorised read of the whole matrix"
        rows = rows_against(times, "one read")
        targets = (Target(f"{shape} in batches of 128: update / one read", rows[2].over_floor, STREAM_READS),)
        yield Table("stream", f"{shape} in batches of 128", caption, rows, () if settings.quick else targets)


def _read_all(batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    for rows, _ in batches:
        ops.read(rows)


def _update_all(shape: Shape, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
    stats = ClassStats.empty(shape.C, shape.d)
    for rows, labels in batches:
        stats.update(rows, labels)


SECTIONS: dict[str, Callable[[Settings], Iterator[Table]]] = {
    "kernels": compare_contenders,
    "dtypes": dtypes,
    "gram": gram,
    "scaling": scaling,
    "layers": layers,
    "stream": stream,
    "together": together,
}

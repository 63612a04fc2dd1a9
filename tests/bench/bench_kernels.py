"""Benchmark of every implementation at every shape: `pytest tests/bench/bench_kernels.py`, a few minutes.

An eighth of the rows of `ncharness bench`. pytest-benchmark groups by shape; after its tables come those of `ncharness
bench` with the ratio to the floor, extra memory and errors, which `--benchmark-json` keeps as extra_info.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from ncharness.bench import render, timing
from ncharness.bench.comparison import accuracy_and_memory, refused
from ncharness.bench.contenders import CONTENDERS, Contender, Shape
from ncharness.bench.tables import GOALS, Settings, Table, TableRow, with_times

SHAPES = [Settings(quick=True).sized(shape) for shape in GOALS]
PRODUCTS = 5  # times that the machine's rate is taken a shape


@dataclass
class Matrix:
    """Data of a shape, its floor, and the results of the tests on it."""

    shape: Shape
    x: torch.Tensor
    y: torch.Tensor
    probe: timing.FloorProbe
    product: float
    rows: list[TableRow] = field(default_factory=list)
    floors: list[timing.Floor] = field(default_factory=list)
    our_times: list[float] = field(default_factory=list)


@pytest.fixture(scope="session")
def tables(request: pytest.FixtureRequest) -> list[Table]:
    """Tables that the tests fill; they are printed at the end."""
    found: list[Table] = []

    class Summary:
        def pytest_terminal_summary(self, terminalreporter: Any) -> None:
            terminalreporter.section("the same as `ncharness bench` prints it")
            for table in found:
                terminalreporter.write(render.text(table) + "\n")
            times = "Times are medians over rounds, one way after another, a read of the matrix before every call."
            terminalreporter.write(render.legend(times))

    request.config.pluginmanager.register(Summary())
    return found


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def matrix(request: pytest.FixtureRequest, tables: list[Table]) -> Iterator[Matrix]:
    shape = request.param
    x, y = timing.sample(shape)
    probe = timing.FloorProbe(x, shape.C)
    product = min(timing.interleaved({"product": probe.product}, rounds=PRODUCTS)["product"])
    found = Matrix(shape, x, y, probe, product)
    yield found
    caption = timing.floor_caption(x, found.floors) if found.floors else ""
    tables.append(Table("kernels", f"{shape}, float32", caption, tuple(found.rows)))


@pytest.mark.benchmark(disable_gc=True)
@pytest.mark.parametrize("way", CONTENDERS, ids=lambda way: way.name)
def test_measure(benchmark: Any, matrix: Matrix, way: Contender) -> None:
    shape, x, y = matrix.shape, matrix.x, matrix.y
    if reason := way.refusal(shape):
        matrix.rows.append(refused(way, reason))
        pytest.skip(reason)
    benchmark.group = str(shape)
    row = accuracy_and_memory(way, shape, n_threads=torch.get_num_threads())
    reads: list[float] = []

    def read_first() -> None:  # before every round: the floor and the call see the same machine
        start = time.perf_counter()
        matrix.probe.read()
        reads.append(time.perf_counter() - start)

    rounds = 3 if shape.n > 1000 else 30
    benchmark.pedantic(way.run, args=(x, y, shape.C), setup=read_first, rounds=rounds, warmup_rounds=1)
    if benchmark.stats is None:  # --benchmark-disable
        return
    times = benchmark.stats.stats.data
    floors = matrix.probe.floors(reads[-len(times) :], [matrix.product] * len(times))
    matrix.floors += floors
    if way.kind == "ours":
        matrix.our_times += times
    row = with_times(row, times, floors, matrix.our_times)
    matrix.rows.append(row)
    benchmark.extra_info |= render.plain(row)
    assert row.errors is not None
    assert row.errors.wrong == 0
    assert row.errors.cdnv < 1e-4

"""The section `kernels`: refusals, notes, targets."""

import re
from dataclasses import replace

import pytest

from ncharness.bench import comparison, memory, render, sections, timing
from ncharness.bench.contenders import CONTENDERS, Shape
from ncharness.bench.tables import Settings, TableRow

TINY = Shape(240, 16, 6)
OURS = CONTENDERS[0]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, because no times are judged here."""
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)


def test_a_refused_way_stands_in_the_table_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(OURS, name="absent", package="no_such_package")
    monkeypatch.setattr(memory, "extra_bytes", lambda *_, **__: 1_500_000)
    settings = Settings(rounds=1, n_threads=1, shapes=(TINY,), ways=(OURS, absent))
    (table,) = sections.run(["kernels"], settings)
    printed = render.text(table)
    assert re.search(r"^absent \[1\]( +—){8}$", printed, flags=re.MULTILINE)
    assert "[1] no_such_package is not installed" in printed
    assert re.search(r"^ours .* 1\.00 +1\.5 ", printed, flags=re.MULTILINE)


def test_a_child_that_dies_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object, **__: object) -> None:
        raise ChildProcessError("ended with exit code -9")

    monkeypatch.setattr(memory, "extra_bytes", die)
    row = comparison.accuracy_and_memory(OURS, TINY, n_threads=1)
    assert row.extra_bytes is None
    assert row.notes == ("ended with exit code -9",)


def test_targets_take_the_named_idiom_the_fastest_package_and_the_bound_of_memory() -> None:
    shape = Shape(200_000, 512, 10)
    ratios = {"torch cdist": 3.0, "torch index_add": 8.0, "numpy by class": 1.0, "faiss": 15.5, "kowalski": 40.0}
    others = [TableRow(name=way.name, over_ours=ratios.get(way.name)) for way in CONTENDERS[1:]]
    mine = TableRow(name="ours", over_floor=1.1, over_ours=1.0, extra_bytes=comparison.memory_bound(shape, 2) // 2)
    floors, idiom, package, memory = comparison.kernel_targets(shape, [mine, *others], 2)
    assert (floors.value, floors.bound, floors.met) == (1.1, 1.2, True)
    assert (idiom.value, idiom.bound, idiom.met) == (8.0, 9, False)
    assert (package.value, package.bound, package.met) == (15.5, 15, True)
    assert memory.value == pytest.approx(0.5)
    assert memory.met
    (memory,) = comparison.kernel_targets(TINY, [replace(mine, extra_bytes=None), *others], 2)
    assert memory.met is None

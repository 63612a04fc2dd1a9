"""Sections of the benchmark, and the options that choose shapes and contenders."""

import gc

import pytest
import torch

from ncharness.bench import comparison, memory, render, sections, tables, timing
from ncharness.bench.contenders import Shape
from ncharness.bench.sections import SECTIONS, parse_shape
from ncharness.bench.tables import Settings, TableRow


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, because no times are judged here."""
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)


@pytest.mark.parametrize(
    ("text", "shape"), [("200kx512x10", Shape(200_000, 512, 10)), ("1Mx64x2", Shape(1_000_000, 64, 2))]
)
def test_a_shape_is_read_and_written(text: str, shape: Shape) -> None:
    assert parse_shape(text) == shape
    assert str(Shape(200_000, 512, 10)) == "n=200k d=512 C=10"
    assert str(Shape(2500, 25_600, 1000)) == "n=2.5k d=25600 C=1k"
    assert str(Shape(128, 1234, 1001)) == "n=128 d=1234 C=1001"


def test_ways_are_those_asked_for_and_ours() -> None:
    assert [way.name for way in sections.parse_ways("faiss, torch cdist")] == ["ours", "torch cdist", "faiss"]
    with pytest.raises(ValueError, match=r"--ways: expected some of ours, .*, got 'jax'"):
        sections.parse_ways("faiss,jax")
    mine = TableRow(name="ours", over_floor=1.1, over_ours=1.0, extra_bytes=1)
    targets = comparison.kernel_targets(Shape(200_000, 512, 10), [mine], 2)
    assert [target.met for target in targets] == [True, None, None, True]


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != "kernels"])
def test_a_section_gives_tables_with_times_and_ratios(
    section: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Settings, "sized", lambda _, shape: Shape(2 * min(shape.C, 100), 8, min(shape.C, 100)))
    monkeypatch.setattr(tables, "QUICK", 1000)
    monkeypatch.setattr(timing, "SIDE", 8)
    monkeypatch.setattr(timing, "_SAMPLE_SECONDS", 1e-6)
    monkeypatch.setattr(gc, "collect", lambda: 0)  # of all that the tests hold, for every table
    monkeypatch.setattr(memory, "extra_bytes", lambda *_, **__: None)
    monkeypatch.delenv("NCHARNESS_DATA", raising=False)
    made = list(sections.run([section], Settings(rounds=1, n_threads=torch.get_num_threads(), quick=True)))
    assert made
    for table in made:
        assert table.section == section
        assert all(row.seconds and row.over_floor for row in table.rows)
        assert not table.targets
        assert render.text(table)
    assert capsys.readouterr().out == ""

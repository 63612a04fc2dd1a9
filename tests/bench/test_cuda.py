"""Benchmark of the CUDA kernels, run on the CPU at tiny shapes: its tables, and the arguments that it refuses."""

import json
import math

import pytest
import torch

from ncharness.bench import cuda, render
from ncharness.bench.contenders import Shape
from ncharness.bench.cuda import DEVICE_GOALS, DeviceGoal
from ncharness.bench.device_timing import Clock
from ncharness.bench.tables import Settings, TableRow
from ncharness.cli.main import main
from ncharness.kernels import ops

CPU = torch.device("cpu")


CASES = [(torch.float32, 6), (torch.bfloat16, 6), (torch.float32, 40)]


@pytest.mark.parametrize(("dtype", "n_classes"), CASES, ids=str)
def test_a_table_has_ours_and_every_idiom_with_times_and_errors(monkeypatch, dtype, n_classes):
    monkeypatch.setattr(cuda, "L2_CACHE", 100_000)
    asked = 5 if dtype == torch.float32 else None
    table = cuda.kernel_table(Settings(rounds=2), Shape(400, 33, n_classes), DeviceGoal(dtype, 1.5, asked, 60), CPU)
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["ours", *(cuda.IDIOMS if asked else [])]
    assert all(row.seconds > 0 and row.over_floor > 0 and row.over_ours > 0 for row in rows.values())
    assert rows["ours"].over_ours == 1
    assert rows["ours"].errors.wrong == 0
    assert rows["ours"].offset_errors is None if asked is None else rows["ours"].offset_errors.wrong == 0
    assert rows["ours"].errors.cdnv < 1e-6
    quantities = " and ".join(target.quantity for target in table.targets)
    assert "60 us" in quantities
    assert ("idiom" in quantities) == bool(asked)
    assert ("3 bfloat16 products" in table.caption) == (n_classes > 32)
    assert str(dtype).removeprefix("torch.") in render.text(table)


def test_targets_are_the_goals():
    rows = [
        TableRow(name="ours", seconds=1e-4, over_floor=1.4, over_ours=1.0),
        TableRow(name="ours, a CUDA graph", seconds=5e-5, over_floor=1.2, over_ours=0.5),
        TableRow(name="torch one-hot", seconds=1e-3, over_floor=14.0, over_ours=10.0),
        TableRow(name="torch index_add", seconds=6e-4, over_floor=8.0, over_ours=6.0),
        TableRow(name="torch moments", notes=("not timed: out of memory",)),
    ]
    (floor,) = cuda._targets("a", DeviceGoal(torch.float32, 1.25, None), rows)
    better, idiom = cuda._targets("a", DeviceGoal(torch.float32, 1.25, 5, 60), rows)
    assert (floor.value, floor.bound, floor.met) == (1.4, 1.25, False)
    assert better.value == pytest.approx(min(50 / 60, 1.2 / 1.25))
    assert better.met
    assert (idiom.value, idiom.bound, idiom.at_least, idiom.met) == (6.0, 5, True, True)


def test_inputs_take_turns_until_no_cache_holds_them(monkeypatch):
    seen = []
    monkeypatch.setattr(cuda, "_read", lambda x: seen.append(x.data_ptr()))
    monkeypatch.setattr(cuda, "L2_CACHE", 10 * 4 * 400 * 8)
    cuda.kernel_table(Settings(rounds=1), Shape(400, 8, 4), DeviceGoal(torch.float32, 1.5, None), CPU)
    assert len(set(seen)) == 10


def test_the_clock_gives_seconds_of_one_call():
    def call():
        torch.zeros(1)

    assert 0 < Clock(CPU).seconds([call] * 5) < 1


def test_made_data_has_every_class_and_the_offset():
    x, y = cuda.sample_on_device(Shape(300, 5, 200), torch.float64, CPU, offset=1e4)
    assert len(y.unique()) == 200
    assert abs(float(x.mean()) - 1e4) < 1
    assert x.dtype == torch.float64


def test_a_network_is_measured_against_two_sweeps():
    table = cuda.layer_table(Settings(rounds=1), CPU)
    assert [row.name for row in table.rows] == ["two plain sweeps", "measure_layers"]
    assert table.rows[0].over_floor == 1
    assert math.isfinite(table.targets[0].value)


def test_the_goals_are_the_shapes_that_were_asked_for():
    assert {(str(shape), goal.dtype) for shape, goal in DEVICE_GOALS} == {
        ("n=1M d=2048 C=10", torch.float32),
        ("n=1M d=2048 C=100", torch.float32),
        ("n=1M d=2048 C=1k", torch.float32),
        ("n=1M d=2048 C=10", torch.bfloat16),
        ("n=1024 d=25600 C=10", torch.float32),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "nonsense"], "--device: expected cpu or cuda, got 'nonsense'"),
        (["--device", "meta"], "--device: expected cpu or cuda, and got 'meta'"),
        (["--device", "cuda", "gram"], "--device: sections cannot be chosen on a device"),
        (["--device", "cuda", "--shape", "1kx2x3"], "--device: shape cannot be chosen on a device"),
    ],
)
def test_what_cannot_be_done_on_a_device_is_refused(capsys, arguments, message):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_the_numbers_are_written_beside_the_card(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(ops, "backend", lambda *_: ops.Backend("cuda", "as if"))
    monkeypatch.setattr(cuda, "card", lambda _: {"card": "Some GPU 5", "driver": "1.2"})

    def run(settings, device):
        assert device.type == "cuda"
        yield cuda.layer_table(settings, CPU)

    monkeypatch.setattr(cuda, "run", run)
    assert main(["bench", "--device", "cuda", "--quick", "--rounds", "1"]) == 0
    assert "Some GPU 5, driver 1.2" in capsys.readouterr().out
    written = json.loads((tmp_path / "benchmarks" / "some-gpu-5.json").read_text())
    assert written["command"] == "ncharness bench --device cuda --quick --rounds 1"
    assert written["tables"][0]["section"] == "layers"

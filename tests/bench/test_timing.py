"""Generated data, the floor, interleaved times and threads."""

import gc

import pytest
import torch

from ncharness.bench import timing
from ncharness.bench.contenders import Shape, ours
from ncharness.bench.timing import Floor
from ncharness.kernels import ops

TINY = Shape(240, 16, 6)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, because no times are judged here."""
    monkeypatch.setattr(timing, "_SETTLE_SECONDS", 0.0)


def test_the_labels_of_the_data_are_neither_trivial_nor_hopeless() -> None:
    x, y = timing.sample(Shape(4000, 64, 10))
    assert 0.9 < float(ours(x, y, 10).nearest.eq(y).double().mean()) < 1
    again, _ = timing.sample(Shape(4000, 64, 10))
    assert torch.equal(x, again)


def test_the_labels_of_a_sample_are_of_the_kind_asked_for() -> None:
    counts = {
        kind: torch.bincount(timing.sample(Shape(1000, 2, 10), labels=kind)[1], minlength=10)
        for kind in ("uniform", "zipf", "one")
    }
    assert counts["uniform"].tolist() == [100] * 10
    assert counts["zipf"][0] > 3 * counts["zipf"][9] > 0
    assert counts["one"].tolist() == [1000] + [0] * 9


def test_the_floor_is_two_reads_or_a_read_and_the_product() -> None:
    assert Floor(read=0.5, flops=1e9, rate=1e10).seconds == 1.0
    arithmetic = Floor(read=0.5, flops=2e10, rate=1e10)
    assert arithmetic.product == 2.0
    assert arithmetic.seconds == 2.5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_probe_counts_the_product_of_rows_and_means_in_the_dtype_it_is_scored_in(dtype: torch.dtype) -> None:
    x, _ = timing.sample(TINY, dtype=dtype)
    probe = timing.FloorProbe(x, TINY.C)
    first, second = probe.floors([0.5, 0.25], [2.0, 1.0])
    assert first.read == 0.5
    assert first.flops == 2 * 240 * 16 * 6
    assert second.rate == 2 * timing.SIDE**3
    assert probe.read() == ops.read(x)
    assert probe.product().dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_calls_take_turns_and_slow_ones_sit_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order, steps = [0.0], [], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def taking(name: str, seconds: float) -> None:
        order.append(name)
        clock[0] += seconds

    calls = {"fast": lambda: taking("fast", 1.0), "slow": lambda: taking("slow", 10.0)}
    times = timing.interleaved(calls, rounds=5, on_step=steps.append)
    assert times == {"fast": [1.0] * 5, "slow": [10.0] * 3}
    turns = ["fast", "fast", "slow", "slow"]  # each called before it is timed
    assert order == ["fast", "slow"] + turns * 3 + ["fast", "fast"] * 2  # the first pair is the warm-up
    assert steps[:3] == ["fast, warm-up", "slow, warm-up", "fast, round 1 of 5"]


def test_short_calls_are_timed_in_bulk_without_garbage_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, collecting = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def call() -> None:
        clock[0] += 2.0**-10
        collecting.append(gc.isenabled())

    assert timing.interleaved({"call": call}, rounds=1) == {"call": [2.0**-10]}
    assert collecting == [True] * 4 + [False] * 22  # one, and the 21 that take the 20 ms of a sample
    assert gc.isenabled()


def test_ratios_are_taken_within_a_round() -> None:
    assert timing.median_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0, 99.0]) == 3.0


def test_threads_are_set_and_put_back() -> None:
    before = torch.get_num_threads()
    with timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before

"""Peak memory of a call in a process of its own."""

import sys
from pathlib import Path

import pytest
import torch

from ncharness.bench import memory
from ncharness.bench.contenders import Shape

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


@linux
def test_the_probe_sees_what_is_allocated_and_not_much_more() -> None:
    size, slack = 64 << 20, 1 << 20  # of the counters, see `peak_above`
    peak = memory.peak_above(lambda: torch.ones(size // 4))
    assert peak is not None
    assert size - slack < peak < size + 2 * slack
    nothing = memory.peak_above(lambda: None)
    assert nothing is not None
    assert nothing < slack


@linux
def test_a_way_is_measured_in_a_process_of_its_own() -> None:
    shape = Shape(40_000, 100, 4)  # 16 MB
    extra = memory.extra_bytes(residuals, shape, n_threads=1)
    assert extra is not None
    assert 15_000_000 < extra < 18_000_000


def residuals(x: torch.Tensor, _y: torch.Tensor, _n_classes: int) -> torch.Tensor:
    return x - 1


def test_a_process_that_ends_early_is_named() -> None:
    with pytest.raises(ChildProcessError, match="exit code 3"):
        memory.in_fresh_process(sys.exit, 3)

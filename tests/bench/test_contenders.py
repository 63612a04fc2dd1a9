"""Contenders: their agreement with float64, and the shapes at which they are not run."""

from dataclasses import replace

import pytest
import torch

from ncharness.bench import tables, timing
from ncharness.bench.contenders import CONTENDERS, Contender, Shape
from ncharness.bench.errors import errors_of, truth
from ncharness.bench.tables import GOALS

TINY = Shape(240, 16, 6)
MANY_CLASSES = Shape(130, 40, 30)  # more classes than the 25 up to which torch.cdist takes exact differences
OURS = CONTENDERS[0]


@pytest.mark.parametrize("shape", [TINY, MANY_CLASSES], ids=str)
@pytest.mark.parametrize("way", CONTENDERS, ids=lambda way: way.name)
def test_every_way_agrees_with_float64(way: Contender, shape: Shape) -> None:
    if reason := way.refusal(shape):
        pytest.skip(reason)
    x, y = timing.sample(shape)
    true, answer = truth(x, y, shape.C), way.run(x, y, shape.C)
    assert errors_of(answer, true).wrong == 0
    assert answer.cdnv == pytest.approx(true.cdnv, rel=1e-5)
    torch.testing.assert_close(answer.means.double(), true.means, rtol=1e-5, atol=1e-5)
    if answer.variance is None:
        assert "class variances stay inside" in way.note
    else:
        torch.testing.assert_close(answer.variance.double(), true.variance, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["ours", "torch shift + chunks"])
def test_the_shifted_ways_hold_at_an_offset_and_the_expanded_ones_do_not(name: str) -> None:
    x, y = timing.sample(TINY, offset=tables.OFFSET)
    true = truth(x, y, TINY.C)
    ways = {way.name: way for way in CONTENDERS}
    assert errors_of(ways[name].run(x, y, TINY.C), true).wrong == 0
    assert errors_of(ways["torch index_add"].run(x, y, TINY.C), true).wrong > 0.1


def test_too_much_memory_or_time_is_refused_with_the_estimate() -> None:
    ways = {way.name: way for way in CONTENDERS}
    assert all(not way.refusal(TINY) for way in CONTENDERS if not way.package)
    one_hot = ways["torch one-hot"].refusal(Shape(1_000_000, 64, 1000))
    assert one_hot == "not tried: about 11.7 GiB of temporaries, limit 4 GiB"
    assert ways["ours"].refusal(Shape(10**6, 10**4, 100)) == "not tried: about 200 s a call, limit 60 s"
    assert replace(OURS, package="no_such_package").refusal(TINY) == "no_such_package is not installed"


def test_every_way_is_tried_at_every_shape_that_has_a_goal() -> None:
    assert not [(way.name, shape) for way in CONTENDERS for shape in GOALS if "not tried" in way.refusal(shape)]

"""Effective depth is a first crossing at `<= eps`; its continuous companion rounds up to it."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ncharness.metrics.effective_depth import (
    EPS_SWEEP,
    depth_profile,
    effective_depth,
    interpolated_depth,
    is_monotone,
    log_linearity,
)

nan = math.nan


@pytest.mark.parametrize(
    ("errors", "eps", "depth", "interpolated"),
    [
        ([0.4, 0.2, 0.0], 0.1, 3, 2.5),
        ([0.4, 0.2, 0.0], 0.2, 2, 2.0),  # at most eps, not below it
        ([0.5, 0.25, 0.0], 0.3125, 2, 1.75),
        ([0.0, 0.5], 0.1, 1, 1.0),
        ([0.1], 0.1, 1, 1.0),
        ([0.4, 0.2], 0.1, None, None),
        ([1.0], 0.1, None, None),
        ([0.5, 0.0, 0.75, 0.0], 0.25, 2, 1.5),  # the first crossing; what comes after does not matter
        ([0.25, 0.5, 0.0], 0.125, 3, 2.75),
        ([0.5, 0.0], 0.0, 2, 2.0),
        ([nan, 0.0], 0.1, 2, 2.0),
        ([0.5, nan, 0.0], 0.1, 3, 3.0),
        ([0.75, nan, 0.5, 0.0], 0.25, 4, 3.5),
        ([nan, nan], 0.1, None, None),
    ],
)
def test_depths_by_hand(errors, eps, depth, interpolated):
    assert effective_depth(errors, eps=eps) == depth
    assert interpolated_depth(errors, eps=eps) == interpolated


def test_the_smallest_step_past_eps_is_a_layer_further():
    for eps in EPS_SWEEP:
        assert effective_depth([eps, 0.0], eps=eps) == 1
        assert effective_depth([math.nextafter(eps, 1), 0.0], eps=eps) == 2


# CONV-L-400 on CIFAR10 (paper.md, 3.2): train NCC accuracy by layer, and the depths read off each row.
PUBLISHED = {
    3: ([0.36, 0.415, 0.84], (None, None, None, None)),
    5: ([0.367, 0.465, 0.575, 0.706, 0.998], (5, 5, 5, 5)),
    8: ([0.365, 0.455, 0.56, 0.72, 0.93, 0.972, 0.952, 0.998], (5, 6, 8, 8)),
    12: ([0.365, 0.46, 0.58, 0.76, 0.93, 0.974, 0.984, 0.993], (5, 6, 7, 8)),
    16: ([0.364, 0.46, 0.57, 0.75, 0.925, 0.971, 0.992, 0.994], (5, 6, 7, 7)),
    20: ([0.363, 0.45, 0.58, 0.77, 0.92, 0.972, 0.991, 0.994], (5, 6, 7, 7)),
}


@pytest.mark.parametrize("L", PUBLISHED)
def test_published_curves_have_the_published_depths(L):
    accuracies, depths = PUBLISHED[L]
    errors = [1 - accuracy for accuracy in accuracies] + [0.005] * (L - len(accuracies))
    assert depth_profile(errors) == dict(zip((0.01, 0.02, 0.05, 0.10), reversed(depths), strict=True))
    assert is_monotone(errors) == (L != 8)


def test_a_profile_has_the_depth_at_each_threshold_asked_for():
    assert depth_profile([0.4, 0.08, 0.01], eps=(0.0, 0.05, 0.5)) == {0.0: None, 0.05: 3, 0.5: 1}
    assert depth_profile([0.4], eps=()) == {}


@pytest.mark.parametrize(
    ("errors", "monotone"),
    [([0.3], True), ([0.3, 0.3, 0.1], True), ([0.3, 0.1, 0.2], False), ([0.3, nan, 0.1], False)],
)
def test_monotone_means_no_layer_above_the_one_before(errors, monotone):
    assert is_monotone(errors) is monotone


@pytest.mark.parametrize("function", [effective_depth, interpolated_depth])
@pytest.mark.parametrize(
    ("errors", "eps", "message"),
    [
        ([], 0.1, "ncc_errors: expected one NCC error per layer, got none"),
        ([0.5, 1.5], 0.1, r"ncc_errors: expected fractions in \[0, 1\], got 1.5 at layer 2"),
        ([-0.1, 0.5], 0.1, r"ncc_errors: expected fractions in \[0, 1\], got -0.1 at layer 1"),
        ([math.inf], 0.1, "ncc_errors: .* got inf at layer 1"),
        ([0.5], 1.0, r"eps: expected a fraction in \[0, 1\), got 1.0"),
        ([0.5], -0.1, r"eps: expected a fraction in \[0, 1\), got -0.1"),
        ([0.5], nan, r"eps: expected a fraction in \[0, 1\), got nan"),
        ([0.5], 5, r"eps: expected a fraction in \[0, 1\), got 5"),
    ],
)
def test_bad_input_is_refused_by_name(function, errors, eps, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(errors, eps=eps)


curves = st.lists(st.floats(0, 1) | st.just(nan), min_size=1, max_size=25)
few = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@few
@given(curves, st.floats(0, 1, exclude_max=True))
@example([1.0, 1.0, math.nextafter(0.1, 1), 0.0], 0.1)
def test_interpolated_depth_rounds_up_to_the_effective_depth(errors, eps):
    depth, interpolated = effective_depth(errors, eps=eps), interpolated_depth(errors, eps=eps)
    if depth is None:
        assert interpolated is None
        assert not any(error <= eps for error in errors)
    else:
        assert depth - 1 < interpolated <= depth
        assert errors[depth - 1] <= eps
        assert not any(error <= eps for error in errors[: depth - 1])


@few
@given(curves, st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=5, unique=True).map(sorted))
def test_a_larger_eps_never_gives_a_greater_depth(errors, thresholds):
    depths = [math.inf if depth is None else depth for depth in depth_profile(errors, eps=thresholds).values()]
    assert all(later <= earlier for earlier, later in itertools.pairwise(depths))


def test_log_linearity_is_minus_one_for_one_factor_from_layer_to_layer():
    assert log_linearity([1000 * 0.3**i for i in range(6)]) == pytest.approx(-1.0, abs=1e-12)
    assert log_linearity([2.0, 4.0, 8.0]) == pytest.approx(1.0, abs=1e-12)
    assert log_linearity([100.0, 90.0, 1.0]) == pytest.approx(np.corrcoef(range(3), np.log([100.0, 90.0, 1.0]))[0, 1])


@pytest.mark.parametrize("measures", [[1.0, 1.0, 1.0], [1.0, 0.0], [1.0, -2.0], [1.0, nan, 2.0], [math.inf, 2.0]])
def test_log_linearity_of_what_has_no_logarithm_or_no_spread_is_nan(measures):
    assert math.isnan(log_linearity(measures))


def test_log_linearity_takes_two_layers_at_least():
    with pytest.raises(ValueError, match=r"^measures: expected one of at least two layers, got 1"):
        log_linearity([1.0])

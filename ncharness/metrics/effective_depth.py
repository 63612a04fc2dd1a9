"""Effective depth: from the NCC errors of layers 1..L to the first layer that separates the classes.

Everything here takes one number per layer, in the order of the network, and counts layers from 1. The measure is
a first crossing (arXiv:2202.09028 v9; Kothapalli et al., section 4.2): no monotonicity of the errors is required.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

EPS_SWEEP = (0.01, 0.02, 0.05, 0.10)
"""The thresholds over which every statement about effective depth is shown: the answer depends on eps."""


def _checked(ncc_errors: Sequence[float], eps: float) -> list[float]:
    errors = [float(value) for value in ncc_errors]
    if not errors:
        raise ValueError("ncc_errors: expected one NCC error per layer, got none")
    for index, value in enumerate(errors):
        if value < 0.0 or value > 1.0:
            raise ValueError(f"ncc_errors: expected fractions in [0, 1], got {value} at layer {index + 1}")
    if not 0.0 <= eps < 1.0:
        raise ValueError(f"eps: expected a fraction in [0, 1), got {eps}")
    return errors


def effective_depth(ncc_errors: Sequence[float], *, eps: float) -> int | None:
    """Effective depth: the first layer whose NCC error is at most `eps`, counted from 1.

    d = min {i in [L] : err_S(h_i) <= eps}. The literature assigns a number to "no such layer" without saying which.
    Here it is
    None, and whoever needs a number says which one.

    Args:
        ncc_errors: Training NCC error of layers 1 to L. A NaN error never qualifies.
        eps: Threshold in [0, 1].

    Returns:
        The layer, or None where no layer qualifies.

    Raises:
        ValueError: Errors or a threshold outside [0, 1].

    References:
        arXiv:2202.09028 v9.

    Examples:
        >>> effective_depth([0.4, 0.08, 0.01], eps=0.1)
        2
    """
    errors = _checked(ncc_errors, eps)
    return next((index + 1 for index, error in enumerate(errors) if error <= eps), None)


def depth_profile(ncc_errors: Sequence[float], *, eps: Iterable[float] = EPS_SWEEP) -> dict[float, int | None]:
    """Effective depth at each threshold.

    Args:
        ncc_errors: Training NCC error of layers 1 to L.
        eps: Thresholds.

    Returns:
        Dictionary from threshold to depth, None where no layer qualifies.

    Examples:
        >>> depth_profile([0.4, 0.08, 0.01])
        {0.01: 3, 0.02: 3, 0.05: 3, 0.1: 2}
    """
    return {threshold: effective_depth(ncc_errors, eps=threshold) for threshold in eps}


def interpolated_depth(ncc_errors: Sequence[float], *, eps: float) -> float | None:
    """Effective depth with a fraction: where the line between two layers' errors crosses `eps`.

    With i the effective depth it is (i - 1) + (err_{i-1} - eps) / (err_{i-1} - err_i), a number in (i - 1, i]. It is
    the
    continuous companion that carries the statistical tests, since integer depths tie.

    Args:
        ncc_errors: Training NCC error of layers 1 to L. A NaN error before layer i gives i itself.
        eps: Threshold in [0, 1].

    Returns:
        The depth in layers; 1.0 where the first layer qualifies, as nothing is known before it; None where no layer
        does.

    Examples:
        >>> interpolated_depth([0.4, 0.2, 0.0], eps=0.1)
        2.5
    """
    errors = _checked(ncc_errors, eps)
    depth = effective_depth(errors, eps=eps)
    if depth is None or depth == 1:
        return None if depth is None else 1.0
    before, at = errors[depth - 2], errors[depth - 1]
    if math.isnan(before):
        return float(depth)
    crossing = depth - 1 + (before - eps) / (before - at)
    return max(crossing, math.nextafter(depth - 1, depth))  # where the sum rounds to depth - 1


def is_monotone(ncc_errors: Sequence[float]) -> bool:
    """Whether no layer's NCC error exceeds that of the layer before it; published curves do not always comply."""
    errors = _checked(ncc_errors, 0.0)
    return all(later <= earlier for earlier, later in itertools.pairwise(errors))


def log_linearity(measures: Sequence[float]) -> float:
    """Correlation of the layer index with the logarithm of a measure of the layers.

    Pearson's correlation. It is -1 where the measure falls by one factor from layer to layer: the law of data
    separation, for
    `fuzziness` of a trained network.

    Args:
        measures: A positive number for each layer.

    Returns:
        A number in [-1, 1]. NaN where all are equal or one is not a positive number.

    Raises:
        ValueError: Fewer than two layers.

    References:
        He & Su (arXiv:2210.17020).

    Examples:
        >>> log_linearity([8.0, 4.0, 2.0, 1.0])
        -1.0
    """
    values = [float(value) for value in measures]
    if len(values) < 2:
        raise ValueError(f"measures: expected one of at least two layers, got {len(values)}")
    if not all(0.0 < value < math.inf for value in values) or len(set(values)) == 1:
        return math.nan
    return statistics.correlation(range(len(values)), [math.log(value) for value in values])

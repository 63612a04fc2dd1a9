"""NC2, the geometry of class means or of classifier rows: simplex ETF, orthogonal frame, norms and angles.

Every function takes class statistics, whose means it compares, or a matrix (C, d) such as the weight of the last
layer. `centre` says what is taken off the rows first (`centring.Centre`); the metrics about a simplex ETF default to
the mean of the class means. For the classifier, Zhu et al. (2021) take "none", Zhou et al. (2022) "classes". Each gives
a float64 scalar, NaN for fewer than two rows or rows that are not finite, and does not depend on scale or rotation.

Two centred rows are always a simplex ETF: with C = 2, NC2 about the mean holds of anything and says nothing.
"""

import math
import operator
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ncharness.kernels.arguments import Array, as_rows, check_choice
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.linalg import (
    Centre,
    centred,
    frobenius,
    measurable,
    normalised,
    row_norms,
    simplex_gram,
    undefined,
)


def etf_distance(of: ClassStats | Array, *, centre: Centre = "classes") -> Tensor:
    """Distance of class means to a simplex equiangular tight frame (ETF).

    ||M M^T / ||M M^T||_F - P / sqrt(C - 1)||_F with P = I - 11^T/C. An orthogonal frame that is not centred is at
    sqrt(2 - 2 sqrt((C - 1) / C)), as little as .10 for C = 100. Where d < C - 1, nothing is nearer than
    `etf_distance_floor`.

    Args:
        of: Class statistics, or the rows (C, d) themselves, such as a classifier's weight.
        centre: Point taken off the rows: their mean (`classes`), the mean of the samples (`samples`), or nothing
            (`none`).

    Returns:
        Scalar float64 in [0, 2].

    References:
        Zhu et al. (arXiv:2105.02375); Kothapalli et al. (arXiv:2206.04041, eq. 7).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> triangle = torch.tensor([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])  # a simplex ETF
        >>> round(float(nc.etf_distance(triangle)), 6)
        0.0
        >>> round(float(nc.etf_distance(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))), 3)
        0.46
    """
    rows = centred(of, centre)
    if not measurable(rows):
        return undefined(rows)
    return frobenius(normalised(rows @ rows.T) - simplex_gram(rows.shape[0], rows))


def etf_distance_floor(n_classes: int, n_features: int) -> float:
    """Least `etf_distance` of C rows in d dimensions: sqrt(2 - 2 sqrt(d / (C - 1))).

    A Gram of rank d and norm 1 has a trace of at most sqrt(d), and the distance falls with the trace.

    Args:
        n_classes: Number C of rows.
        n_features: Number d of dimensions.

    Returns:
        A number in [0, sqrt(2)); 0 from d = C - 1 on.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> nc.etf_distance_floor(3, 2), round(nc.etf_distance_floor(5, 1), 3)
        (0.0, 1.0)
    """
    if n_classes < 2 or n_features < 1:
        raise ValueError(f"n_classes, n_features: expected at least 2 and 1, got {n_classes} and {n_features}")
    return math.sqrt(2 - 2 * math.sqrt(min(n_features / (n_classes - 1), 1.0)))


def frame_distance(of: ClassStats | Array, *, centre: Centre = "none", unit: bool = False) -> Tensor:
    """Distance of class means to an orthogonal frame: ||G G^T / ||G G^T||_F - I / sqrt(C)||_F.

    Squared error without bias and ReLU features collapse to such a frame.

    Args:
        of: Class statistics, or the rows (C, d) themselves, such as a classifier's weight.
        centre: Point taken off the rows: their mean (`classes`), the mean of the samples (`samples`), or nothing
            (`none`).
        unit: Whether rows are first brought to length 1, so that norms may differ: the general orthogonal frame of
            imbalanced classes (Dang et al., ICML 2023).

    Returns:
        Scalar float64 in [0, 2].

    References:
        Tirer & Bruna (arXiv:2202.08087).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.frame_distance(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), unit=True))
        0.0
        >>> round(float(nc.frame_distance(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))), 3)
        0.534
    """
    rows = centred(of, centre)
    if not measurable(rows):
        return undefined(rows)
    if unit:
        rows = rows / row_norms(rows)[:, None]
    frame = torch.eye(rows.shape[0], dtype=torch.float64, device=rows.device)
    return frobenius(normalised(rows @ rows.T) - normalised(frame))


def equinorm(
    of: ClassStats | Array,
    *,
    centre: Centre = "classes",
    spread: Literal["unbiased", "biased", "log"] = "unbiased",
) -> Tensor:
    """Spread of the norms of class means: std_c ||m_c|| / mean_c ||m_c||.

    Args:
        of: Class statistics, or the rows (C, d) themselves, such as a classifier's weight.
        centre: Point taken off the rows: their mean (`classes`), the mean of the samples (`samples`), or nothing
            (`none`).
        spread: Variance with 1/(C - 1) (`unbiased`, as Papyan's code) or 1/C (`biased`, Fang et al. 2021); or the mean
            over
            pairs of |log ||m_i|| - log ||m_j||| (`log`), in [0, inf]. Without the absolute value, as published
            elsewhere,
            `log` would depend on the order of the classes.

    Returns:
        Scalar float64; 0 where all norms are equal.

    References:
        Papyan, Han & Donoho 2020 (arXiv:2008.08186).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> triangle = torch.tensor([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])  # a simplex ETF
        >>> round(float(nc.equinorm(triangle)), 6)
        0.0
        >>> float(nc.equinorm(torch.tensor([[1.0], [3.0]]), centre="none", spread="biased"))  # 1 / 2
        0.5
    """
    check_choice("spread", spread, ("unbiased", "biased", "log"))
    rows = centred(of, centre)
    if not measurable(rows):
        return undefined(rows)
    norms = row_norms(rows)
    if spread == "log":
        return torch.pdist(norms.log()[:, None]).mean()
    return norms.std(correction=int(spread == "unbiased")) / norms.mean()


def equiangularity(
    of: ClassStats | Array,
    *,
    centre: Centre = "classes",
    over: Literal["absolute", "std", "signed", "max"] = "absolute",
) -> Tensor:
    """Distance of angles between class means from those of a simplex ETF.

    The mean over pairs of |cos(m_i, m_j) + 1 / (C - 1)|.

    Args:
        of: Class statistics, or the rows (C, d) themselves, such as a classifier's weight.
        centre: Point taken off the rows: their mean (`classes`), the mean of the samples (`samples`), or nothing
            (`none`).
        over: `absolute`, as above; `std`, the standard deviation of the cosines (1/pairs); `max`, the value of the
            closest
            pair; `signed`, the mean without the absolute value, which is 0 for any equal norms that sum to zero.

    Returns:
        Scalar float64 in [0, 2]. NaN where a row is zero, which has no angle.

    References:
        Papyan et al. 2020; Parker et al. (arXiv:2308.02760); Fang et al. 2021 (arXiv:2101.12699).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> triangle = torch.tensor([[1.0, 0.0], [-0.5, 3**0.5 / 2], [-0.5, -(3**0.5) / 2]])  # a simplex ETF
        >>> round(float(nc.equiangularity(triangle)), 6)
        0.0
        >>> float(nc.equiangularity(torch.eye(2), centre="none"))  # cosine 0, which should be -1
        1.0
    """
    check_choice("over", over, ("absolute", "std", "signed", "max"))
    rows = centred(of, centre)
    if not measurable(rows):
        return undefined(rows)
    cosines = _cosines(rows)
    excess = cosines + 1 / (rows.shape[0] - 1)
    if over == "std":
        return cosines.std(correction=0)
    if over == "max":
        return excess.max()
    return (excess.abs() if over == "absolute" else excess).mean()


def discrimination(of: ClassStats | Array, *, centre: Centre = "none") -> Tensor:
    """Between-class discrimination D_l = 1 - max_{i != j} cos(mu_i, mu_j).

    The means are not centred. The value is 1 where the closest pair is orthogonal, and 0 where two classes point one
    way. A
    shift of all features changes it.

    Args:
        of: Class statistics, or the rows (C, d) themselves, such as a classifier's weight.
        centre: Point taken off the rows: their mean (`classes`), the mean of the samples (`samples`), or nothing
            (`none`).

    Returns:
        Scalar float64 in [0, 2]. NaN where a mean is zero.

    References:
        Wang et al. (arXiv:2311.02960).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.discrimination(torch.eye(3)))
        1.0
    """
    rows = centred(of, centre)
    return 1 - _cosines(rows).max() if measurable(rows) else undefined(rows)


def minority_cosine(weight: Array, minority: Sequence[int], *, floor: float = 1e-4) -> Tensor:
    """Mean cosine over pairs of the classifier rows of minority classes.

    -1 / (C - 1) in a simplex ETF, 1 where the minority classes have collapsed onto one another. Rows that have shrunk
    to
    nothing have no angles; `minority_spread` then tells what became of them.

    Args:
        weight: Weight (C, d) of the last layer, as it is.
        minority: At least two rows of it.
        floor: Least length of a row, as a share of the root mean square length of all rows.

    Returns:
        Scalar float64 in [-1, 1]; NaN where a minority row is shorter than the floor.

    Raises:
        ValueError: Fewer than two rows, or rows that are not there.

    References:
        Fang et al. (arXiv:2101.12699).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.minority_cosine(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), [1, 2]))
        1.0
    """
    rows, few = _minority(weight, minority)
    if not measurable(rows):
        return undefined(rows)
    if row_norms(few).min() < floor * frobenius(rows) / math.sqrt(len(rows)):
        return undefined(rows)
    return _cosines(few).mean()


def minority_spread(weight: Array, minority: Sequence[int]) -> Tensor:
    """Spread of the classifier rows of minority classes: ||W_m - mean(W_m)||_F / ||W||_F.

    It is 0 where the rows coincide, whether at a common direction or at nothing, so that it needs no guard as the angle
    does.

    Args:
        weight: Weight (C, d) of the last layer.
        minority: At least two rows of it.

    Returns:
        Scalar float64 in [0, 1].

    Raises:
        ValueError: Fewer than two rows, or rows that are not there.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.minority_spread(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), [1, 2]))
        0.0
    """
    rows, few = _minority(weight, minority)
    return frobenius(few - few.mean(dim=0)) / frobenius(rows) if measurable(rows) else undefined(rows)


def _minority(weight: Array, minority: Sequence[int]) -> tuple[Tensor, Tensor]:
    rows = as_rows(weight, "weight")
    try:
        chosen = sorted(operator.index(one) for one in minority)
    except TypeError:
        raise TypeError(f"minority: expected a sequence of integers, the classes, got {minority!r}") from None
    if len(set(chosen)) != len(chosen) or len(chosen) < 2:
        raise ValueError(f"minority: expected at least two different classes, got {list(minority)!r}")
    if chosen[0] < 0 or chosen[-1] >= len(rows):
        raise ValueError(f"minority: expected classes in [0, {len(rows)}), got {list(minority)!r}")
    return rows, rows[chosen]


def _cosines(rows: Tensor) -> Tensor:
    """The cosines of all pairs i < j."""
    unit = rows / row_norms(rows)[:, None]
    above = torch.triu(torch.ones(len(rows), len(rows), dtype=torch.bool, device=rows.device), diagonal=1)
    return (unit @ unit.T)[above].clamp(-1.0, 1.0)

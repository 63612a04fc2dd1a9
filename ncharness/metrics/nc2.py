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
    """||M M^T / ||M M^T||_F - P / sqrt(C - 1)||_F, P = I - 11^T/C: the distance to a simplex ETF, in [0, 2].

    Zhu et al. (arXiv:2105.02375), Kothapalli et al. (arXiv:2206.04041, eq. 7), `simplex_etf_error`. An orthogonal frame
    that is not centred is at sqrt(2 - 2 sqrt((C - 1) / C)), as little as .10 for C = 100, and where d < C - 1 nothing
    is nearer than `etf_distance_floor`.
    """
    rows = centred(of, centre)
    if not measurable(rows):
        return undefined(rows)
    return frobenius(normalised(rows @ rows.T) - simplex_gram(rows.shape[0], rows))


def etf_distance_floor(n_classes: int, n_features: int) -> float:
    """The least `etf_distance` of C rows in d dimensions: sqrt(2 - 2 sqrt(d / (C - 1))), 0 from d = C - 1 on.

    A Gram of rank d and norm 1 has a trace of at most sqrt(d), and the distance falls with the trace.
    """
    if n_classes < 2 or n_features < 1:
        raise ValueError(f"n_classes, n_features: expected at least 2 and 1, got {n_classes} and {n_features}")
    return math.sqrt(2 - 2 * math.sqrt(min(n_features / (n_classes - 1), 1.0)))


def frame_distance(of: ClassStats | Array, *, centre: Centre = "none", unit: bool = False) -> Tensor:
    """||G G^T / ||G G^T||_F - I / sqrt(C)||_F: the distance to an orthogonal frame, in [0, 2]; not centred.

    Tirer & Bruna (arXiv:2202.08087): what bias-free MSE and ReLU features collapse to. With `unit` the rows are first
    brought to length 1, so that norms may differ: the general orthogonal frame of imbalanced classes (Dang et al.,
    ICML 2023).
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
    """How much the norms differ: std_c ||m_c|| / mean_c ||m_c||, 0 where all are equal (Papyan et al. 2020).

    `unbiased` has 1/(C - 1) in the variance as Papyan's code, `biased` 1/C (Fang et al. 2021). `log` is the mean over
    pairs of |log ||m_i|| - log ||m_j|||, in [0, inf]; without the absolute value, as published elsewhere, it would
    depend on the order of the classes.
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
    """How far angles are from those of a simplex ETF: the mean over pairs of |cos(m_i, m_j) + 1 / (C - 1)|, in [0, 2].

    Papyan et al. (2020), Parker et al. (arXiv:2308.02760), Fang et al. (2021). `std` is the standard deviation of the
    cosines (1/pairs), `max` that of the closest pair, and `signed` the mean without the absolute value, which is 0 for
    *any* equal norms that sum to zero. NaN where a row is zero, which has no angle.
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
    """Between-class discrimination D_l = 1 - max_{i != j} cos(mu_i, mu_j), in [0, 2] (Wang et al., arXiv:2311.02960).

    Of means that are not centred: 1 where the closest pair is orthogonal, 0 where two classes point one way; a shift of
    all features changes it. NaN where a mean is zero.
    """
    rows = centred(of, centre)
    return 1 - _cosines(rows).max() if measurable(rows) else undefined(rows)


def minority_cosine(weight: Array, minority: Sequence[int], *, floor: float = 1e-4) -> Tensor:
    """Mean cosine over pairs of the classifier rows of minority classes, in [-1, 1]; the rows as they are.

    Fang et al. (arXiv:2101.12699): -1 / (C - 1) in a simplex ETF, 1 where the minority classes have collapsed onto one
    another. weight (C, d); `minority` are at least two of its rows. Rows that have shrunk to nothing have no angles:
    NaN where one of them is shorter than `floor` of the root mean square length of all rows, and then
    `minority_spread` tells what became of them.
    """
    rows, few = _minority(weight, minority)
    if not measurable(rows):
        return undefined(rows)
    if row_norms(few).min() < floor * frobenius(rows) / math.sqrt(len(rows)):
        return undefined(rows)
    return _cosines(few).mean()


def minority_spread(weight: Array, minority: Sequence[int]) -> Tensor:
    """||W_m - mean(W_m)||_F / ||W||_F, W_m the classifier rows of minority classes, in [0, 1]; arguments as above.

    0 where they coincide, whether at a common direction or at nothing, so that it needs no guard as the angle does.
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

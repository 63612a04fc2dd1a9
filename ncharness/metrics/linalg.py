"""Linear algebra shared by the metrics: rows that are class means or classifier weights, centring, norms."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from ncharness.kernels.arguments import Array, as_rows, check_choice
from ncharness.metrics.class_stats import ClassStats

Centre: TypeAlias = Literal["classes", "samples", "none"]
"""The global mean: of the class means (Papyan, Han & Donoho), of the samples (Zhu et al., He & Su), or none taken off.

The first two are equal where classes are balanced. Only class statistics know about samples."""

Weights: TypeAlias = Literal["classes", "samples"]
"""How classes weigh in an average over classes: 1/C each, or by their share n_c/n of the samples."""


def rows_of(of: ClassStats | Array, name: str = "means") -> Tensor:
    """(C, d) float64: the means of the classes that have rows, or the matrix itself."""
    return of.mean[of.count > 0] if isinstance(of, ClassStats) else as_rows(of, name)


def shares(stats: ClassStats, weights: Weights) -> Tensor:
    """(C,) float64 weights that sum to 1 over the classes that have rows."""
    check_choice("weights", weights, ("classes", "samples"))
    count = stats.count[stats.count > 0].double()
    return count / count.sum() if weights == "samples" else torch.full_like(count, 1 / max(len(count), 1))


def centred(of: ClassStats | Array, centre: Centre, name: str = "means") -> Tensor:
    """(C, d) float64: `rows_of` less the global mean that `centre` names."""
    check_choice("centre", centre, ("classes", "samples", "none"))
    rows = rows_of(of, name)
    if centre == "none":
        return rows
    rows = rows - rows.mean(dim=0)
    if centre == "classes":
        return rows
    if not isinstance(of, ClassStats):
        raise ValueError(f"centre: expected classes or none where {name} is a matrix, which has no samples")
    return rows - shares(of, "samples") @ rows


def undefined(like: Tensor) -> Tensor:
    """The float64 scalar NaN on the device of `like`."""
    return torch.full((), torch.nan, dtype=torch.float64, device=like.device)


def measurable(rows: Tensor) -> bool:
    """Whether there are at least two rows, all of them finite: no decomposition accepts others."""
    return rows.shape[0] >= 2 and bool(rows.isfinite().all())


def frobenius(matrix: Tensor) -> Tensor:
    """||A||_F, a scalar."""
    norm: Tensor = torch.linalg.matrix_norm(matrix)
    return norm


def row_norms(rows: Tensor) -> Tensor:
    """(C,): the length of each row of (C, d)."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norms


def normalised(matrix: Tensor) -> Tensor:
    """The matrix over its Frobenius norm; NaN for a matrix of zeros."""
    return matrix / frobenius(matrix)


def simplex_gram(n: int, like: Tensor) -> Tensor:
    """(n, n): the Gram I - 11^T/n of a simplex equiangular tight frame (ETF), at Frobenius norm 1."""
    return normalised(torch.eye(n, dtype=torch.float64, device=like.device) - 1 / n)

"""Ranks and subspaces: of weights, of features, of the span of class means."""

from collections.abc import Callable

import torch
from torch import Tensor

from ncharness.kernels.arguments import Array, as_features, as_labels, as_rows
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.linalg import Centre, centred, measurable, undefined


def stable_rank(matrix: Array, *, centre: bool = False) -> Tensor:
    """Stable rank ||A||_F^2 / ||A||_2^2 of a matrix.

    Args:
        matrix: Matrix (m, n), such as a weight, or features in rows.
        centre: Whether the mean row is taken off. The value is then tr(Sigma) / lambda_max(Sigma) of the features'
            covariance:
            the stable rank of the features, not of the matrix Sigma.

    Returns:
        Scalar float64 in [1, rank A]. NaN for a matrix of zeros or one that is not finite.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.stable_rank(torch.diag(torch.tensor([2.0, 1.0]))))  # 5 / 4
        1.25
    """
    values = _singular_values(matrix, centre)
    return values.square().sum() / values[0].square() if len(values) else undefined(values)


def numerical_rank(matrix: Array, *, rtol: float | None = None, centre: bool = False) -> Tensor:
    """Numerical rank: number of singular values above `rtol` times the largest.

    Args:
        matrix: Matrix (m, n).
        rtol: Relative threshold; by default max(m, n) times the rounding unit of the matrix's own type (Feng et al.,
            and
            numpy). The study of low-rank bias takes 1e-3 for weights (arXiv:2206.05794).
        centre: Whether the mean row is taken off.

    Returns:
        Scalar float64. 0 for a matrix of zeros, NaN for one that is not finite.

    References:
        Feng et al. (arXiv:2206.06072).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.numerical_rank(torch.tensor([[1.0, 1.0], [1.0, 1.0]])))
        1.0
    """
    values = _singular_values(matrix, centre)
    if not len(values):
        return undefined(values)
    if rtol is None:
        rtol = max(matrix.shape) * torch.finfo(torch.as_tensor(matrix).dtype).eps
    elif not 0 <= rtol < 1:
        raise ValueError(f"rtol: expected a number in [0, 1), got {rtol}")
    return (values > rtol * values[0]).sum().double()


def classification_dimension(
    features: Array, labels: Array, classify: Callable[[Tensor], Tensor], *, keep: float = 0.95
) -> int | None:
    """Least number of principal directions of a layer that keeps most of the accuracy.

    Features are projected on their first k principal directions about their mean, for k = 0, 1, ..., because accuracy
    need
    not grow with k. `classify` therefore runs up to min(n, d) + 1 times. It takes O(n d min(n, d)) time and no (d, d)
    matrix.

    Args:
        features: Rows (n, d) of a layer.
        labels: Integers (n,).
        classify: Function from features of the same shape and type to labels (n,): the rest of the network.
        keep: Share of the accuracy to keep.

    Returns:
        The number k. None where no k reaches it, which rounding alone can bring about.

    References:
        Feng et al., Rank Diminishing (arXiv:2206.06072).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[1.0, 0.1], [2.0, -0.1], [-1.0, 0.0], [-2.0, 0.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> nc.classification_dimension(features, labels, lambda x: (x[:, 0] < 0).long())
        1
    """
    x = as_features(features)
    y = as_labels(labels, x)
    if not 0 < keep <= 1:
        raise ValueError(f"keep: expected a share in (0, 1], got {keep}")
    if not len(x) or not bool(x.isfinite().all()):
        raise ValueError("features: expected at least one row, and finite ones")

    def accuracy(projected: Tensor) -> float:
        found = classify(projected.to(x.dtype, copy=True))  # which it may keep, or write to
        if found.shape != y.shape:
            raise ValueError(f"classify: expected to give labels of shape {tuple(y.shape)}, got {tuple(found.shape)}")
        return float((found == y).double().mean())

    wanted = keep * accuracy(x)
    mean = x.double().mean(dim=0)
    left, values, right = torch.linalg.svd(x.double() - mean, full_matrices=False)
    projected = mean.expand_as(x).clone()
    for k in range(len(values) + 1):
        if k:
            projected.addr_(left[:, k - 1] * values[k - 1], right[k - 1])
        if accuracy(projected) >= wanted:
            return k
    return None


def subspace_alignment(
    weight: Array, of: ClassStats | Array, *, centre: Centre = "none", rank: int | None = None
) -> Tensor:
    """Mean cosine of the principal angles between the next layer's weight and the class means.

    The top `rank` right singular vectors of the weight are set against the span of the C class means. Chance is not 0
    but of
    the order of sqrt(C / d): simulate it. Where either matrix has fewer dimensions, the missing angles count as 90
    degrees.

    Args:
        weight: Weight (m, d) of the next layer.
        of: Class statistics of a layer of d features, or the class means (C, d).
        centre: Point taken off the means, none by default.
        rank: Number of directions; by default C, or C - 1 with centred means, and at most d.

    Returns:
        Scalar float64 in [0, 1]. NaN for class means that are not finite.

    References:
        Rangamani et al. (ICML 2023).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> float(nc.subspace_alignment(torch.eye(2, 3), torch.eye(2, 3)))
        1.0
    """
    means, rows = centred(of, centre), as_rows(weight, "weight")
    if rows.shape[1] != means.shape[1]:
        raise ValueError(f"weight: expected {means.shape[1]} columns as the class means, got {rows.shape[1]}")
    if rank is None:
        rank = min(len(means) - (centre != "none"), means.shape[1])
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= means.shape[1]:
        raise ValueError(f"rank: expected an integer in [1, {means.shape[1]}], got {rank!r}")
    if not (measurable(means) and bool(rows.isfinite().all())):
        return undefined(means)
    cosines: Tensor = torch.linalg.svdvals(_span(rows, rank) @ _span(means, rank).T)
    return cosines.clamp_max(1.0).sum() / rank


def _span(rows: Tensor, rank: int) -> Tensor:
    """An orthonormal basis, in rows, of the at most `rank` leading right singular directions that are not rounding."""
    vectors: Tensor
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    kept = int((values > max(rows.shape) * torch.finfo(torch.float64).eps * values[0]).sum())
    return vectors[: min(rank, kept)]


def _singular_values(matrix: Array, centre: bool) -> Tensor:
    """In descending order; empty for a matrix that is not finite."""
    rows = as_rows(matrix, "matrix")
    if centre:
        rows = rows - rows.mean(dim=0)
    values: Tensor = torch.linalg.svdvals(rows) if bool(rows.isfinite().all()) else rows.new_empty(0)
    return values

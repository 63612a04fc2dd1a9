"""Class-distance normalised variance (CDNV): plain, one-sided and directional."""

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.distances import sq_distances
from ncharness.metrics.class_stats import ClassStats


def cdnv(stats: ClassStats, *, pairs: bool = False, unbiased: bool = False) -> Tensor:
    """Class-distance normalised variance (Var_i + Var_j) / (2 ||mu_i - mu_j||^2), averaged over pairs i < j.

    Var is E ||x - mu||^2 over a class, with 1/n.

    Args:
        stats: Class statistics.
        pairs: Whether to return the matrix over pairs, for a maximum or a median in place of the mean.
        unbiased: Whether Var has 1/(n - 1); a class of one row makes it NaN.

    Returns:
        Scalar float64 in [0, inf], or the symmetric (C, C) matrix with NaN on its diagonal, which takes O(C^2) memory.
        Empty
        classes are left out of every pair (NaN in the matrix). Fewer than two classes give NaN, two equal means inf.

    References:
        Galanti, György & Hutter (arXiv:2112.15121); arXiv:2202.09028, section 1.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.cdnv(stats))  # (1 + 1) / (2 * 16)
        0.0625
        >>> float(nc.cdnv(stats, unbiased=True))  # variances 2
        0.125
    """
    count = stats.count
    scatter = stats.scatter * count / (count - 1) if unbiased else stats.scatter
    if not pairs:
        return ops.cdnv(count, stats.mean, scatter)
    variance = scatter / count
    return _over((variance[:, None] + variance) / 2, sq_distances(stats.mean))


def one_sided_cdnv(stats: ClassStats, *, pairs: bool = False) -> Tensor:
    """One-sided CDNV Var_i / ||mu_i - mu_j||^2, averaged over ordered pairs i != j.

    Var is with 1/n. The average equals that of `cdnv`.

    Args:
        stats: Class statistics.
        pairs: Whether to return the (C, C) matrix, which is not symmetric.

    Returns:
        Scalar float64 or matrix; empty classes, single classes and equal means as for `cdnv`.

    References:
        Galanti, György & Hutter (arXiv:2212.12532).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.one_sided_cdnv(stats))
        0.0625
    """
    if not pairs:
        return cdnv(stats)
    return _over(stats.variance[:, None], sq_distances(stats.mean))


def directional_cdnv(stats: ClassStats, directional: Tensor, *, pairs: bool = False) -> Tensor:
    """Directional CDNV u^T Sigma_i u / ||mu_j - mu_i||^2, averaged over ordered pairs i != j.

    u is the unit vector from mu_i to mu_j. The value is at most the one-sided CDNV of the same pair.

    Args:
        stats: Class statistics.
        directional: Directional variances (C, C) of `measure(..., gram=True)`.
        pairs: Whether to return the (C, C) matrix, which is not symmetric and has NaN on its diagonal.

    Returns:
        Scalar float64 in [0, inf], or the matrix.

    Raises:
        ValueError: A matrix of another shape.

    References:
        Luthra et al. (arXiv:2603.03530).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(features, labels, 2, gram=True)
        >>> float(nc.directional_cdnv(found.stats, found.directional))  # nothing varies between the means
        0.0
    """
    check_square("directional", directional, stats)
    sq_distance = sq_distances(stats.mean)
    values = _over(directional / sq_distance, sq_distance)
    return values if pairs else _mean_over_pairs(values, stats)


def _over(numerator: Tensor, sq_distance: Tensor) -> Tensor:
    return torch.where(sq_distance == 0, torch.inf, numerator / sq_distance).fill_diagonal_(torch.nan)


def _mean_over_pairs(values: Tensor, stats: ClassStats) -> Tensor:
    # Over ordered pairs of classes that have rows.
    filled = stats.count > 0
    off_diagonal = ~torch.eye(stats.n_classes, dtype=torch.bool, device=filled.device)
    counted = filled[:, None] & filled & off_diagonal
    return torch.where(counted, values, 0.0).sum() / counted.sum()


def check_square(name: str, matrix: Tensor, stats: ClassStats) -> None:
    """Raise ValueError unless a matrix is (C, C)."""
    if matrix.shape != (stats.n_classes, stats.n_classes):
        raise ValueError(f"{name}: expected shape {(stats.n_classes, stats.n_classes)}, got {tuple(matrix.shape)}")

"""Class-distance normalised variance (CDNV): plain, one-sided and directional."""

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.distances import sq_distances
from ncharness.metrics.class_stats import ClassStats


def cdnv(stats: ClassStats, *, pairs: bool = False, unbiased: bool = False) -> Tensor:
    """Class-distance normalised variance: (Var_i + Var_j) / (2 ||mu_i - mu_j||^2), averaged over pairs i < j.

    Galanti, György & Hutter (arXiv:2112.15121) and arXiv:2202.09028, section 1: Var with 1/n, factor 1/2; with
    `unbiased` Var has 1/(n - 1), and a class of one row makes it NaN. Returns a float64 scalar, at least 0, or with
    `pairs` the symmetric (C, C) matrix with NaN on its diagonal, for a maximum or a median in place of the mean. Empty
    classes are left out of every pair (NaN in the matrix); fewer than two classes give NaN. Two classes with one mean
    give inf. Only the matrix takes O(C^2) memory.
    """
    count = stats.count
    scatter = stats.scatter * count / (count - 1) if unbiased else stats.scatter
    if not pairs:
        return ops.cdnv(count, stats.mean, scatter)
    variance = scatter / count
    return _over((variance[:, None] + variance) / 2, sq_distances(stats.mean))


def one_sided_cdnv(stats: ClassStats, *, pairs: bool = False) -> Tensor:
    """One-sided CDNV: Var_i / ||mu_i - mu_j||^2, averaged over ordered pairs i != j.

    Galanti, György & Hutter (arXiv:2212.12532), Var with 1/n. The average is that of `cdnv`; the (C, C) matrix that
    `pairs` asks for is not symmetric. Empty classes, single classes and equal means as for `cdnv`.
    """
    if not pairs:
        return cdnv(stats)
    return _over(stats.variance[:, None], sq_distances(stats.mean))


def directional_cdnv(stats: ClassStats, directional: Tensor, *, pairs: bool = False) -> Tensor:
    """Directional CDNV: u^T Sigma_i u / ||mu_j - mu_i||^2, u the unit vector from mu_i to mu_j, over ordered pairs.

    Luthra et al. (arXiv:2603.03530). `directional` (C, C) is that of `measure`. Returns the average over i != j as a
    float64 scalar, or with `pairs` the (C, C) matrix, which is not symmetric, with NaN on its diagonal. At most the
    one-sided CDNV of the same pair.
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
    if matrix.shape != (stats.n_classes, stats.n_classes):
        raise ValueError(f"{name}: expected shape {(stats.n_classes, stats.n_classes)}, got {tuple(matrix.shape)}")

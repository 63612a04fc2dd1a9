"""The quantities of the literature as pure functions of class statistics; each names the convention it follows."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncharness import ops
from ncharness.arrays import Array, as_features, as_labels, check_labels
from ncharness.reference import sq_distances
from ncharness.stats import ClassStats, check_and_warn

NC1_RTOL = 1e-12
"""Eigenvalues of the Gram of the centred class means below this share of the largest count as zero."""


def cdnv(stats: ClassStats, *, pairs: bool = False) -> Tensor:
    """Class-distance normalised variance: (Var_i + Var_j) / (2 ||mu_i - mu_j||^2), averaged over pairs i < j.

    Galanti, György & Hutter (arXiv:2112.15121) and arXiv:2202.09028, section 1: Var with 1/n, factor 1/2. Returns a
    float64 scalar, or with `pairs` the symmetric (C, C) matrix with NaN on its diagonal. Empty classes are left out
    of every pair (NaN in the matrix); fewer than two classes give NaN. Two classes with one mean give inf. Only the
    matrix takes O(C^2) memory.
    """
    if not pairs:
        return ops.cdnv(stats.count, stats.mean, stats.scatter)
    variance, sq_distance = stats.variance, sq_distances(stats.mean)
    values = torch.where(sq_distance == 0, torch.inf, (variance[:, None] + variance) / (2 * sq_distance))
    return values.fill_diagonal_(torch.nan)


def _mean_over_pairs(values: Tensor, stats: ClassStats) -> Tensor:
    # Over ordered pairs of classes that have rows.
    filled = stats.count > 0
    off_diagonal = ~torch.eye(stats.n_classes, dtype=torch.bool, device=filled.device)
    counted = filled[:, None] & filled & off_diagonal
    return torch.where(counted, values, 0.0).sum() / counted.sum()


def ncc(features: Array, stats: ClassStats) -> Tensor:
    """Nearest class centre: (n,) int64, argmin_c ||x - mean_c||, the lowest index on ties (arXiv:2202.09028).

    Empty classes never win; a row with NaN or infinite features has no nearest centre and gets -1. Raises ValueError
    where every class is empty or a class that has rows has a mean that is not finite.
    """
    x = as_features(features)
    if x.shape[1] != stats.n_features:
        raise ValueError(f"features: expected {stats.n_features} columns as in stats, got {x.shape[1]}")
    if x.device != stats.mean.device:
        raise ValueError(f"features: expected device {stats.mean.device} as stats, got {x.device}")
    if not torch.compiler.is_compiling():
        filled = stats.count > 0
        if not bool(filled.any()):
            raise ValueError("stats: expected at least one class with rows, got none")
        bad = (filled & ~stats.mean.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
        if bad:
            raise ValueError(f"stats: expected finite class means, got NaN or infinity in class {bad[0]}")
    return ops.class_scores(x, None, stats.mean)[0]


def ncc_accuracy(features: Array, labels: Array, stats: ClassStats) -> Tensor:
    """The share of rows whose nearest class centre is that of their label; a float64 scalar, NaN for no rows."""
    x = as_features(features)
    y = as_labels(labels, x)
    if not torch.compiler.is_compiling():
        check_labels(y, stats.n_classes)
    return (ncc(x, stats) == y).double().mean()


@dataclass(frozen=True, eq=False)
class ClassMeasure:
    """What `measure` found. `gram` and `directional` are None unless they were asked for.

    nearest (n,) int64; labels (n,) integers; gram (C, C), (1/n) sum t t^T with t_c = (x - m_y) . (m_c - g), g the mean
    of the class means; directional (C, C), entry (i, j) the variance of class i along m_j - m_i times ||m_j - m_i||^2.
    """

    stats: ClassStats
    nearest: Tensor
    labels: Tensor
    gram: Tensor | None = None
    directional: Tensor | None = None

    @property
    def ncc_accuracy(self) -> Tensor:
        """The share of rows nearest to the centre of their own class (1 - the NCC error on the training set)."""
        return torch.count_nonzero(self.nearest == self.labels).double() / self.labels.shape[0]

    @property
    def cdnv(self) -> Tensor:
        """The class-distance normalised variance, averaged over pairs; see `cdnv`."""
        return cdnv(self.stats)

    @property
    def nc1(self) -> Tensor:
        """tr(Sigma_W pinv(Sigma_B)) / C, with 1/C and the mean of the class means; see `nc1`."""
        return nc1(self.stats, self._asked(self.gram))

    @property
    def directional_cdnv(self) -> Tensor:
        """The directional CDNV, averaged over ordered pairs; see `directional_cdnv`."""
        return directional_cdnv(self.stats, self._asked(self.directional))

    @staticmethod
    def _asked(part: Tensor | None) -> Tensor:
        if part is None:
            raise ValueError("gram: this measurement was made without it; call measure(..., gram=True)")
        return part


def measure(features: Array, labels: Array, n_classes: int, *, gram: bool = False) -> ClassMeasure:
    """Class statistics, NCC labels and CDNV in two reads of the matrix; with `gram` also NC1 and directional CDNV.

    features (n, d) of a floating dtype, numpy or torch; labels (n,) integers in [0, n_classes). The Gram costs
    O(n C (d + C)) time and O(C^2) memory; no (d, d) or (n, C) matrix ever exists. Errors and warnings as for
    `class_stats`; a class that holds NaN or infinite features wins no row.
    """
    count, mean, scatter, nearest, gram_sum, directional_sum = ops.measure(features, labels, n_classes, gram)
    stats = ClassStats(count, mean, scatter)
    y = as_labels(labels, nearest)
    check_and_warn(stats, y)
    if not gram:
        return ClassMeasure(stats=stats, nearest=nearest, labels=y)
    return ClassMeasure(
        stats=stats,
        nearest=nearest,
        labels=y,
        gram=gram_sum / nearest.shape[0],
        directional=directional_sum / stats.count[:, None],
    )


def nc1(stats: ClassStats, gram: Tensor) -> Tensor:
    """Within-class variability NC1 = tr(Sigma_W pinv(Sigma_B)) / C (Papyan, Han & Donoho 2020, with the 1/C).

    Sigma_W = (1/n) sum (x - m_y)(x - m_y)^T over all rows; Sigma_B = (1/C) sum (m_c - g)(m_c - g)^T over the classes
    that have rows, g the mean of their means. `gram` (C, C) is that of `measure`. With A the (d, C) centred means,
    NC1 = tr(gram pinv(A^T A)^2), so that no (d, d) matrix is needed; directions of A^T A below NC1_RTOL of its largest
    eigenvalue are cut off. Never negative. NaN with fewer than two classes or a class mean that is not finite.
    """
    filled = stats.count > 0
    means = stats.mean[filled]
    if means.shape[0] < 2 or not bool(means.isfinite().all()):
        return torch.full((), torch.nan, dtype=torch.float64, device=means.device)
    centred = means - means.mean(dim=0)
    between = centred @ centred.T
    if not bool(between.isfinite().all()):  # too large to square
        return torch.full((), torch.nan, dtype=torch.float64, device=means.device)
    values, vectors = torch.linalg.eigh(between)
    kept = values > NC1_RTOL * values[-1]
    within = (vectors * (gram[filled][:, filled] @ vectors)).sum(dim=0)  # v_k^T G v_k, at least 0 as G is a Gram
    ratios: Tensor = within.clamp_min(0.0)[kept] / values[kept].square()
    return ratios.sum()


def directional_cdnv(stats: ClassStats, directional: Tensor, *, pairs: bool = False) -> Tensor:
    """Directional CDNV: u^T Sigma_i u / ||mu_j - mu_i||^2, u the unit vector from mu_i to mu_j, over ordered pairs.

    Luthra et al. (arXiv:2603.03530). `directional` (C, C) is that of `measure`. Returns the average over i != j as a
    float64 scalar, or with `pairs` the (C, C) matrix, which is not symmetric, with NaN on its diagonal.
    """
    sq_distance = sq_distances(stats.mean)
    values = directional / sq_distance.square()
    values = torch.where(sq_distance == 0, torch.inf, values)
    values.fill_diagonal_(torch.nan)
    return values if pairs else _mean_over_pairs(values, stats)

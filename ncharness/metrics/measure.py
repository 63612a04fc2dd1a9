"""Nearest class centres, and the fused measurement of a matrix; the other metrics by subject are imported from here.

Pure functions of class statistics, class means, Gram, classifier or rows; each names the convention it follows.
`variability` holds NC1, `geometry` NC2, `classifier` NC3, NC4 and margins, `spectrum` ranks and subspaces.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.arguments import Array, as_features, as_labels, check_labels
from ncharness.metrics.cdnv import cdnv, directional_cdnv, one_sided_cdnv
from ncharness.metrics.class_stats import ClassStats, check_and_warn
from ncharness.metrics.nc1 import (
    MOST_FEATURES,
    NC1_RTOL,
    between_rank,
    between_trace,
    class_separation,
    fisher,
    fuzziness,
    kernel_nc1,
    nc1,
    nc1_trace,
    strong_collapse,
    unit_rows,
    weak_collapse,
)
from ncharness.metrics.nc2 import (
    discrimination,
    equiangularity,
    equinorm,
    etf_distance,
    etf_distance_floor,
    frame_distance,
    minority_cosine,
    minority_spread,
)
from ncharness.metrics.nc3_nc4 import (
    linear_predictions,
    margins,
    ncc_agreement,
    ncc_mismatch,
    normalised_margin,
    product_duality,
    self_duality,
    unconstrained_margin,
)
from ncharness.metrics.rank import classification_dimension, numerical_rank, stable_rank, subspace_alignment

__all__ = [
    "MOST_FEATURES",
    "NC1_RTOL",
    "ClassMeasure",
    "between_rank",
    "between_trace",
    "cdnv",
    "class_separation",
    "classification_dimension",
    "directional_cdnv",
    "discrimination",
    "equiangularity",
    "equinorm",
    "etf_distance",
    "etf_distance_floor",
    "fisher",
    "frame_distance",
    "fuzziness",
    "kernel_nc1",
    "linear_predictions",
    "margins",
    "measure",
    "minority_cosine",
    "minority_spread",
    "nc1",
    "nc1_trace",
    "ncc",
    "ncc_accuracy",
    "ncc_agreement",
    "ncc_mismatch",
    "normalised_margin",
    "numerical_rank",
    "one_sided_cdnv",
    "product_duality",
    "residual_gram",
    "self_duality",
    "stable_rank",
    "strong_collapse",
    "subspace_alignment",
    "unconstrained_margin",
    "unit_rows",
    "weak_collapse",
]


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


def residual_gram(features: Array, labels: Array, stats: ClassStats) -> tuple[Tensor, Tensor]:
    """What these rows add to the Gram and the directional variances of a data set: two (C, C) float64 matrices.

    For data that come in batches: after a first sweep that gave the `stats` of all rows, the sums of this over the
    batches of a second are the `gram` and `directional` of `measure`, which `nc1`, `fuzziness` and `directional_cdnv`
    take. Rows of `directional` for empty classes are NaN. Errors as for `class_stats`.
    """
    _, gram, directional = ops.class_scores(features, labels, stats.mean, gram=True)
    return gram / stats.count.sum(), directional / stats.count[:, None]


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

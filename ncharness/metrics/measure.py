"""Nearest class centres, and the fused measurement of a feature matrix in two reads."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.arguments import Array, as_features, as_labels, check_labels
from ncharness.metrics.cdnv import cdnv, directional_cdnv
from ncharness.metrics.class_stats import ClassStats, check_and_warn
from ncharness.metrics.nc1 import nc1


def ncc(features: Array, stats: ClassStats) -> Tensor:
    """Return the index of the nearest class centre of each row.

    argmin_c ||x - mean_c||. The lowest index wins ties, and empty classes never win.

    Args:
        features: Rows (n, d) of a floating dtype, numpy or torch.
        stats: Class statistics of d features, whose means are the centres.

    Returns:
        Indices (n,) int64. A row with NaN or infinite features has no nearest centre and gets -1.

    Raises:
        ValueError: Every class is empty, or a class that has rows has a mean that is not finite.

    References:
        arXiv:2202.09028.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> nc.ncc(torch.tensor([[1.0, 1.0], [1.0, 3.0]]), stats).tolist()
        [0, 1]
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
    """Return the share of rows whose nearest class centre is that of their label.

    Args:
        features: Rows (n, d).
        labels: Integers (n,) in [0, C).
        stats: Class statistics of d features, whose means are the centres.

    Returns:
        Scalar float64 in [0, 1]; NaN for no rows.

    Raises:
        ValueError: Labels out of range, or as `ncc` raises.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.ncc_accuracy(features, torch.tensor([0, 0, 1, 0]), stats))
        0.75
    """
    x = as_features(features)
    y = as_labels(labels, x)
    if not torch.compiler.is_compiling():
        check_labels(y, stats.n_classes)
    return (ncc(x, stats) == y).double().mean()


def residual_gram(features: Array, labels: Array, stats: ClassStats) -> tuple[Tensor, Tensor]:
    """Return the sums that a batch adds to the Gram and the directional variances of a data set.

    Data that come in batches are swept twice. The first sweep gives the statistics of all rows. The sums of this
    function
    over the batches of the second sweep are the `gram` and `directional` of `measure`, which `nc1`, `fuzziness` and
    `directional_cdnv` take.

    Args:
        features: Rows (n, d) of one batch.
        labels: Integers (n,) in [0, C).
        stats: Class statistics of the whole data set.

    Returns:
        Two matrices (C, C) float64: gram and directional. Rows of `directional` for empty classes are NaN.

    Raises:
        TypeError: As for `class_stats`.
        ValueError: As for `class_stats`.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(features, labels, 2, gram=True)
        >>> parts = [nc.residual_gram(features[i : i + 2], labels[i : i + 2], found.stats) for i in (0, 2)]
        >>> torch.allclose(parts[0][0] + parts[1][0], found.gram)
        True
    """
    _, gram, directional = ops.class_scores(features, labels, stats.mean, gram=True)
    return gram / stats.count.sum(), directional / stats.count[:, None]


@dataclass(frozen=True, eq=False)
class ClassMeasure:
    """Result of `measure`.

    Attributes:
        stats: Class statistics.
        nearest: Index (n,) int64 of the nearest class centre of each row.
        labels: Integers (n,).
        gram: (C, C), (1/n) sum t t^T with t_c = (x - m_y) . (m_c - g) and g the mean of the class means; None unless it
            was asked for.
        directional: (C, C), entry (i, j) is the variance of class i along m_j - m_i times ||m_j - m_i||^2; None unless
            the Gram was asked for.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(features, labels, 2, gram=True)
        >>> float(found.ncc_accuracy), float(found.cdnv)
        (1.0, 0.0625)
    """

    stats: ClassStats
    nearest: Tensor
    labels: Tensor
    gram: Tensor | None = None
    directional: Tensor | None = None

    @property
    def ncc_accuracy(self) -> Tensor:
        """Share of rows nearest to the centre of their own class, 1 minus the NCC error."""
        return torch.count_nonzero(self.nearest == self.labels).double() / self.labels.shape[0]

    @property
    def cdnv(self) -> Tensor:
        """Class-distance normalised variance, averaged over pairs of classes; see `cdnv`."""
        return cdnv(self.stats)

    @property
    def nc1(self) -> Tensor:
        """tr(Sigma_W pinv(Sigma_B)) / C about the mean of the class means; see `nc1`."""
        return nc1(self.stats, self._asked(self.gram))

    @property
    def directional_cdnv(self) -> Tensor:
        """Directional CDNV, averaged over ordered pairs of classes; see `directional_cdnv`."""
        return directional_cdnv(self.stats, self._asked(self.directional))

    @staticmethod
    def _asked(part: Tensor | None) -> Tensor:
        if part is None:
            raise ValueError("gram: this measurement was made without it; call measure(..., gram=True)")
        return part


def measure(features: Array, labels: Array, n_classes: int, *, gram: bool = False) -> ClassMeasure:
    """Measure class statistics, nearest class centres and CDNV in two reads of the matrix.

    With `gram` also NC1 and the directional CDNV. The Gram costs O(n C (d + C)) time and O(C^2) memory. No (d, d) or
    (n, C)
    matrix ever exists.

    Args:
        features: Rows (n, d) of float64, float32, float16 or bfloat16, numpy or torch.
        labels: Integers (n,) in [0, n_classes).
        n_classes: Number C of classes, empty ones included.
        gram: Whether to compute the Gram and the directional variances.

    Returns:
        The measurement, in float64 on the device of the features. A class that holds NaN or infinite features wins no
        row.

    Raises:
        TypeError: As for `class_stats`.
        ValueError: As for `class_stats`.

    Warns:
        RuntimeWarning: A class holds NaN or infinite features.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = nc.measure(features, labels, 2)
        >>> float(found.cdnv)  # variances 1, squared distance 16
        0.0625
        >>> found.nearest.tolist()
        [0, 0, 1, 1]
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

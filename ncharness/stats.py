"""Class statistics of a feature matrix: count, mean and within-class scatter, streaming and mergeable."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ncharness import ops
from ncharness.ops import Array


@dataclass(eq=False)
class ClassStats:
    """Per-class statistics in float64, on the device of the features.

    count (C,) int64. mean (C, d), NaN for an empty class. scatter (C,) is sum ||x - mean||^2 over the rows of the
    class: 0 for a class of one row or none. A NaN or infinite feature makes the mean and scatter of its class NaN
    or infinite, and `class_stats` warns of it.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, n_classes: int, n_features: int, *, device: torch.device | str = "cpu") -> "ClassStats":
        """Statistics of no rows at all, to be updated batch by batch."""
        ops.check_n_classes(n_classes)
        if n_features < 1:
            raise ValueError(f"n_features: expected at least 1, got {n_features}")
        return cls(
            count=torch.zeros(n_classes, dtype=torch.int64, device=device),
            mean=torch.full((n_classes, n_features), torch.nan, dtype=torch.float64, device=device),
            scatter=torch.zeros(n_classes, dtype=torch.float64, device=device),
        )

    @property
    def n_classes(self) -> int:
        return self.mean.shape[0]

    @property
    def n_features(self) -> int:
        return self.mean.shape[1]

    @property
    def variance(self) -> Tensor:
        """(C,) E ||x - mean||^2 with 1/n, the trace of the class covariance; NaN for an empty class."""
        return self.scatter / self.count

    def update(self, features: Array, labels: Array) -> "ClassStats":
        """Adds a batch: features (n, d), labels (n,). Any split into batches gives the same up to rounding."""
        return self.merge(class_stats(features, labels, self.n_classes))

    def merge(self, other: "ClassStats") -> "ClassStats":
        """Adds the statistics of other rows, in place (Chan, Golub & LeVeque, STAN-CS-79-773); returns itself."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"other: expected statistics of shape {tuple(self.mean.shape)}, got {tuple(other.mean.shape)}"
            )
        total = self.count + other.count
        # In float64, which two integer tensors would not divide in; 0 where both sides are empty.
        share = (other.count.double() / total).nan_to_num(0.0)
        # An empty side has NaN for a mean and nothing to say: the other side's mean stands for both.
        mine = torch.where((self.count == 0)[:, None], other.mean, self.mean)
        theirs = torch.where((other.count == 0)[:, None], mine, other.mean)
        delta = theirs - mine
        between = torch.where(total > 0, delta.square().sum(dim=1) * (self.count * share), 0.0)
        self.scatter = self.scatter + other.scatter + between
        self.mean = mine + delta * share[:, None]
        self.count = total
        return self


def class_stats(features: Array, labels: Array, n_classes: int) -> ClassStats:
    """Count, mean and within-class scatter of each class, by two reads of the matrix.

    features (n, d) of a floating dtype, numpy or torch; labels (n,) integers in [0, n_classes). The scatter is the
    two-pass sum ||x - m_y||^2 in float64, never E[x^2] - E[x]^2, so it holds under any common offset and in the
    collapsed regime. Raises TypeError or ValueError that names the argument; warns (RuntimeWarning) of classes that
    hold NaN or infinite features.
    """
    x = ops.as_features(features)
    y = ops.as_labels(labels, x)
    ops.check_n_classes(n_classes)
    stats = stats_from_sums(*ops.class_sums(x, y, n_classes))
    stats.scatter = ops.class_scores(x, y, stats.mean, nearest=False)[1]
    warn_of_non_finite(stats)
    return stats


def stats_from_sums(count: Tensor, total: Tensor) -> ClassStats:
    """Counts (C,) and sums (C, d) of pass 1 as statistics whose scatter is still to come (0)."""
    mean = total / count[:, None]  # 0 / 0 makes the NaN of an empty class
    return ClassStats(count=count, mean=mean, scatter=total.new_zeros(count.shape))


def warn_of_non_finite(stats: ClassStats) -> None:
    """Warns (RuntimeWarning) of classes with rows whose mean is not finite: a NaN or infinity among the features."""
    if torch.compiler.is_compiling():
        return  # whether to warn depends on the data, which a compiled graph cannot ask
    poisoned = (stats.count > 0) & ~stats.mean.isfinite().all(dim=1)
    if poisoned.any():
        classes = poisoned.nonzero()[:, 0].tolist()
        shown = ", ".join(str(c) for c in classes[:10]) + (", ..." if len(classes) > 10 else "")
        warnings.warn(
            f"features: NaN or infinite values in class {shown}; their means and scatters are not finite",
            RuntimeWarning,
            stacklevel=3,
        )

"""Class statistics of a feature matrix: count, mean and within-class scatter, streaming and mergeable."""

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.arguments import Array, check_n_classes
from ncharness.kernels.merging import first_bad_label, merge_stats


@dataclass(eq=False)
class ClassStats:
    """Count, mean and scatter of each class, in float64 on the device of the features.

    Attributes:
        count: Number of rows (C,) int64.
        mean: Class means (C, d); NaN for an empty class.
        scatter: (C,) sum ||x - mean||^2 over the rows of the class; 0 for a class of one row or none.

    A NaN or infinite feature makes the mean and the scatter of its class NaN or infinite. `class_stats` warns of it.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> stats.count.tolist(), stats.mean.tolist(), stats.scatter.tolist()
        ([2, 2], [[1.0, 0.0], [1.0, 4.0]], [2.0, 2.0])
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(cls, n_classes: int, n_features: int, *, device: torch.device | str = "cpu") -> "ClassStats":
        """Return statistics of no rows, to be updated batch by batch.

        Args:
            n_classes: Number of classes.
            n_features: Number of columns.
            device: Device of the tensors.

        Returns:
            Statistics with count 0, mean NaN and scatter 0.

        Raises:
            TypeError: A number that is no integer.
            ValueError: A number below 1.

        Examples:
            >>> import torch
            >>> import ncharness as nc
            >>> stats = nc.ClassStats.empty(2, 3)
            >>> stats.count.tolist(), tuple(stats.mean.shape)
            ([0, 0], (2, 3))
        """
        check_n_classes(n_classes)
        if not isinstance(n_features, int) or isinstance(n_features, bool):
            raise TypeError(f"n_features: expected an integer, got {type(n_features).__name__}")
        if n_features < 1:
            raise ValueError(f"n_features: expected at least 1, got {n_features}")
        return cls(
            count=torch.zeros(n_classes, dtype=torch.int64, device=device),
            mean=torch.full((n_classes, n_features), torch.nan, dtype=torch.float64, device=device),
            scatter=torch.zeros(n_classes, dtype=torch.float64, device=device),
        )

    @property
    def n_classes(self) -> int:
        """Number C of classes, empty ones included."""
        return self.mean.shape[0]

    @property
    def n_features(self) -> int:
        """Number d of features."""
        return self.mean.shape[1]

    @property
    def variance(self) -> Tensor:
        """Variance (C,) E ||x - mean||^2 with 1/n, the trace of the class covariance; NaN for an empty class."""
        return self.scatter / self.count

    def update(self, features: Array, labels: Array) -> "ClassStats":
        """Add a batch of rows in one read.

        Any split into batches gives the same statistics up to rounding.

        Args:
            features: Rows (n, d).
            labels: Integers (n,) in [0, C).

        Returns:
            The object itself.

        Raises:
            TypeError: As `class_stats` raises.
            ValueError: As `class_stats` raises, and then nothing was added. On a CUDA device, however, a label out of
                range
                has spoilt the statistics by the time it is found.

        Warns:
            RuntimeWarning: A class holds NaN or infinite features.

        Examples:
            >>> import torch
            >>> import ncharness as nc
            >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
            >>> labels = torch.tensor([0, 0, 1, 1])
            >>> stats = nc.ClassStats.empty(2, 2)
            >>> stats.update(features[:3], labels[:3]).update(features[3:], labels[3:]).scatter.tolist()
            [2.0, 2.0]
        """
        ops.class_update(features, labels, self.count, self.mean, self.scatter)
        check_and_warn(self, labels)
        return self

    def merge(self, other: "ClassStats") -> "ClassStats":
        """Add the statistics of other rows, in place.

        Args:
            other: Statistics with as many classes and features.

        Returns:
            The object itself.

        Raises:
            ValueError: Shapes differ.

        References:
            Chan, Golub & LeVeque, STAN-CS-79-773.

        Examples:
            >>> import torch
            >>> import ncharness as nc
            >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
            >>> labels = torch.tensor([0, 0, 1, 1])
            >>> stats = nc.class_stats(features[:2], labels[:2], 2)
            >>> stats.merge(nc.class_stats(features[2:], labels[2:], 2)).count.tolist()
            [2, 2]
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"other: expected statistics of shape {tuple(self.mean.shape)}, got {tuple(other.mean.shape)}"
            )
        merge_stats((self.count, self.mean, self.scatter), (other.count, other.mean, other.scatter))
        return self


def class_stats(features: Array, labels: Array, n_classes: int) -> ClassStats:
    """Compute count, mean and within-class scatter of each class by one read of the matrix.

    All sums are float64 and of differences from a row of the same class, never E[x^2] - E[x]^2. They hold under any
    common
    offset and in the collapsed regime. Where that row turns out to be an outlier among more than a thousand rows, the
    matrix
    is read once more.

    Args:
        features: Rows (n, d) of float64, float32, float16 or bfloat16, numpy or torch; any row stride.
        labels: Integers (n,) in [0, n_classes).
        n_classes: Number of classes, empty ones included.

    Returns:
        Statistics in float64 on the device of the features.

    Raises:
        TypeError: A wrong type or dtype; the message names the argument.
        ValueError: A wrong shape or device, or a label out of range with its index.

    Warns:
        RuntimeWarning: A class holds NaN or infinite features.

    The search for bad labels and NaN waits for a CUDA device once. The ops of `torch.ops.ncharness`, and calls captured
    in a
    CUDA graph, do not wait: they leave NaN and negative counts behind.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> stats.mean.tolist(), stats.variance.tolist()
        ([[1.0, 0.0], [1.0, 4.0]], [1.0, 1.0])
    """
    stats = ClassStats(*ops.class_stats(features, labels, n_classes))
    check_and_warn(stats, labels)
    return stats


def check_and_warn(stats: ClassStats, labels: Array | None) -> None:
    """Raises and warns of what only the finished statistics of a CUDA device tell, and of values that are not finite.

    `labels` (n,) are those that were added last, if they are at hand.
    """
    if torch.compiler.is_compiling():
        return  # whether to depends on the data, which a compiled graph cannot ask
    if stats.scatter.is_cuda and torch.cuda.is_current_stream_capturing():
        return
    if math.isfinite(float(stats.scatter.sum())):
        return  # a NaN or infinity among the features would be in here, and so would a bad label
    bad = first_bad_label(stats.count)
    if bad is not None:
        got = int(labels[bad]) if labels is not None and bad < len(labels) else 0
        what = f"got {got}" if not 0 <= got < stats.n_classes else "an earlier batch had another"
        raise ValueError(f"labels: expected values in [0, {stats.n_classes}), {what} at index {bad}")
    _warn_of_non_finite(stats)


def _warn_of_non_finite(stats: ClassStats) -> None:
    poisoned = (stats.count > 0) & ~stats.mean.isfinite().all(dim=1)
    if poisoned.any():
        classes = poisoned.nonzero()[:, 0].tolist()
        shown = ", ".join(str(c) for c in classes[:10]) + (", ..." if len(classes) > 10 else "")
        warnings.warn(
            f"features: NaN or infinite values in class {shown}; their means and scatters are not finite",
            RuntimeWarning,
            stacklevel=4,
        )

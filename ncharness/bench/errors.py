"""Error of a measurement against a float64 reference on the same values."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ncharness.bench.contenders import Answer, Shape

CLEAR = 1e-5
"""Relative gap of a row's two smallest distances above which a different label counts as an error."""


class Truth(NamedTuple):
    """Reference measurement in float64, on the same values that the contenders get."""

    means: Tensor  # (C, d)
    variance: Tensor  # (C,)
    cdnv: float
    nearest: Tensor  # (n,)
    clear: Tensor  # (n,) whether the two smallest distances differ by more than CLEAR


def truth(x: Tensor, y: Tensor, n_classes: int) -> Truth:
    """Compute the reference in plain torch. Every class must occur. Memory O(n (d + C)): for small matrices."""
    x = x.double()
    shift = x.mean(0)
    x = x - shift
    count = torch.bincount(y, minlength=n_classes)
    means = x.new_zeros(n_classes, x.shape[1]).index_add_(0, y, x) / count[:, None]
    variance = x.new_zeros(n_classes).index_add_(0, y, (x - means[y]).square().sum(1)) / count
    i, j = torch.triu_indices(n_classes, n_classes, offset=1)
    between = torch.cdist(means, means).square()[i, j]
    two = torch.cdist(x, means).topk(2, dim=1, largest=False)
    return Truth(
        means=means + shift,
        variance=variance,
        cdnv=float(((variance[i] + variance[j]) / (2 * between)).mean()),
        nearest=two.indices[:, 0],
        clear=two.values[:, 1] - two.values[:, 0] > CLEAR * two.values[:, 0],
    )


class Errors(NamedTuple):
    """Fraction of clear rows with a wrong NCC label, and relative error of the CDNV (inf where it is not finite)."""

    wrong: float
    cdnv: float


def errors_of(answer: Answer, true: Truth) -> Errors:
    """Compare an answer with the reference."""
    wrong = (answer.nearest != true.nearest)[true.clear].double().mean()
    relative = abs(answer.cdnv - true.cdnv) / true.cdnv
    return Errors(float(wrong), relative if math.isfinite(relative) else math.inf)


def error_shape(shape: Shape) -> Shape:
    """Shape of the matrix on which errors are taken: the same d and C, and at most 2,048 rows or four per class."""
    return shape._replace(n=min(shape.n, max(4 * shape.C, min(2048, (1 << 23) // shape.d))))

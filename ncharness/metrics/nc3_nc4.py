"""NC3, NC4 and margins: what the last layer does with the features and their class means."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ncharness.kernels import ops
from ncharness.kernels.arguments import Array, as_features, as_labels, as_rows, check_choice, check_labels
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.linalg import Centre, centred, frobenius, measurable, normalised, simplex_gram, undefined


def self_duality(
    weight: Array,
    of: ClassStats | Array,
    *,
    centre: Centre = "classes",
    squared: bool = True,
    centre_weight: bool = False,
) -> Tensor:
    """NC3, distance of classifier and class means: ||W / ||W||_F - M / ||M||_F||_F^2.

    Args:
        weight: Weight W (C, d) of the last layer.
        of: Class statistics of its inputs, or the class means M (C, d).
        centre: Point taken off the means, as in `etf_distance`.
        squared: Whether the norm is squared, in [0, 4] (Papyan et al.). Later code takes the norm itself, in [0, 2].
        centre_weight: Whether the mean of W's rows is taken off, without which training on squared error looks far from
            dual.

    Returns:
        Scalar float64. Rows of classes without features are left out. NaN with fewer than two classes.

    References:
        Papyan, Han & Donoho 2020 (arXiv:2008.08186).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(nc.self_duality(3 * means, means)), 6), round(float(nc.self_duality(-means, means)), 6)
        (0.0, 4.0)
    """
    rows, means = _pair(weight, of, centre, centre_weight)
    if not (measurable(rows) and measurable(means)):
        return undefined(means)
    apart = frobenius(normalised(rows) - normalised(means))
    return apart.square() if squared else apart


def product_duality(
    weight: Array, of: ClassStats | Array, *, centre: Centre = "classes", centre_weight: bool = False
) -> Tensor:
    """NC3 in product form: ||W M^T / ||W M^T||_F - P / sqrt(C - 1)||_F.

    Neither form of NC3 follows from the other.

    Args:
        weight: Weight W (C, d) of the last layer, as it is in Zhu et al.
        of: Class statistics of its inputs, or the class means M (C, d).
        centre: Point taken off the means, as in `etf_distance`.
        centre_weight: Whether the mean of W's rows is taken off, as in Zhou et al. (arXiv:2203.01238).

    Returns:
        Scalar float64 in [0, 2]. Rows of classes without features are left out. NaN with fewer than two classes.

    References:
        Zhu et al. (arXiv:2105.02375); Kothapalli et al. (arXiv:2206.04041, eq. 8).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> round(float(nc.product_duality(2 * means, means)), 6)
        0.0
    """
    rows, means = _pair(weight, of, centre, centre_weight)
    if not (measurable(rows) and measurable(means)):
        return undefined(means)
    return frobenius(normalised(rows @ means.T) - simplex_gram(len(means), means))


def linear_predictions(features: Array, weight: Array, bias: Array | None = None) -> Tensor:
    """Return the labels that a linear classifier gives: the argmax over c of <w_c, x> + b_c, in float64.

    Args:
        features: Rows (n, d).
        weight: Weight (C, d).
        bias: Bias (C,), or None for none.

    Returns:
        Labels (n,) int64.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> rows, bias = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.0, 2.0])
        >>> nc.linear_predictions(rows, torch.eye(2), bias).tolist()
        [1, 1]
    """
    x, rows = as_features(features), as_rows(weight, "weight")
    if rows.shape[1] != x.shape[1]:
        raise ValueError(f"weight: expected {x.shape[1]} columns as features, got {rows.shape[1]}")
    scores = x.double() @ rows.T
    if bias is not None:
        offsets = torch.as_tensor(bias).detach()
        if offsets.shape != rows.shape[:1]:
            raise ValueError(f"bias: expected shape ({rows.shape[0]},) as weight, got {tuple(offsets.shape)}")
        scores += offsets.double()
    return scores.argmax(dim=1)


def ncc_mismatch(features: Array, predicted: Array, stats: ClassStats) -> Tensor:
    """NC4, share of rows that the network labels otherwise than the nearest class centre.

    It is not the NCC error, which is against the labels of the data: the two differ before training error is 0.

    Args:
        features: Rows (n, d).
        predicted: Labels (n,) that the network gives, its bias included, or those of `linear_predictions`. Without a
            bias
            there, 1 minus the result is `clf_ncc_agreement` of other packages.
        stats: Class statistics of the training set.

    Returns:
        Scalar float64 in [0, 1]. A row that is not finite differs.

    References:
        Papyan, Han & Donoho 2020 (arXiv:2008.08186).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.ncc_mismatch(features, torch.tensor([0, 0, 1, 0]), stats))
        0.25
    """
    x = as_features(features)
    labels = as_labels(predicted, x)
    return (ops.class_scores(x, None, stats.mean)[0] != labels).double().mean()


def ncc_agreement(features: Array, predicted: Array, stats: ClassStats) -> Tensor:
    """NC4 as agreement: 1 - `ncc_mismatch`.

    Args:
        features: Rows (n, d).
        predicted: Labels (n,) that the network gives.
        stats: Class statistics of the training set.

    Returns:
        Scalar float64 in [0, 1].

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> stats = nc.class_stats(features, labels, 2)
        >>> float(nc.ncc_agreement(features, torch.tensor([0, 0, 1, 0]), stats))
        0.75
    """
    return 1 - ncc_mismatch(features, predicted, stats)


def margins(scores: Array, labels: Array) -> Tensor:
    """Margin of each row: the score of its own class less the best of the others.

    Args:
        scores: Outputs (n, C) with C of at least 2.
        labels: Integers (n,) in [0, C).

    Returns:
        Margins (n,) float64; positive where the row is classified right.

    Raises:
        ValueError: Fewer than two classes, or labels out of range.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> nc.margins(torch.tensor([[3.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 0])).tolist()
        [2.0, -2.0]
    """
    z = as_features(scores).double()
    if z.shape[1] < 2:
        raise ValueError(f"scores: expected at least two columns, got shape {tuple(z.shape)}")
    y = as_labels(labels, z).long()[:, None]
    check_labels(y[:, 0], z.shape[1])
    return z.gather(1, y)[:, 0] - z.scatter(1, y, -torch.inf).amax(dim=1)


def normalised_margin(
    scores: Array, labels: Array, weights: Sequence[Tensor], *, by: Literal["norm", "layers"] = "norm"
) -> Tensor:
    """Least margin over ||theta||_2^L, for a network homogeneous of order L in its weights.

    Args:
        scores: Outputs (n, C).
        labels: Integers (n,) in [0, C).
        weights: Weights of the L layers; ||theta||_2 is the norm of all of them together.
        by: `norm`, as above; `layers` divides by the product of the layers' Frobenius norms instead, which is at least
            L^(L/2) times the first.

    Returns:
        Scalar float64.

    References:
        Lyu & Li (arXiv:1906.05890).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> weights = [torch.tensor([[3.0]]), torch.tensor([[4.0]])]
        >>> float(nc.normalised_margin(torch.tensor([[6.0, 1.0]]), torch.tensor([0]), weights))  # 5 / 25
        0.2
    """
    check_choice("by", by, ("norm", "layers"))
    norms = [float(torch.linalg.vector_norm(weight.detach().double())) for weight in weights]
    if not norms:
        raise ValueError("weights: expected at least one layer's, got none")
    scale = math.prod(norms) if by == "layers" else math.hypot(*norms) ** len(norms)
    return margins(scores, labels).min() / scale


def unconstrained_margin(features: Array, weight: Array, labels: Array) -> Tensor:
    """Least margin of W x over (||W||_F^2 + ||H||_F^2) / 2, with H all the features.

    In the unconstrained layer-peeled model without bias it is at most 1 / ((C - 1) sqrt(n)) for C classes of n rows
    each.

    Args:
        features: Rows (n, d).
        weight: Weight (C, d).
        labels: Integers (n,) in [0, C).

    Returns:
        Scalar float64.

    References:
        Ji et al. (arXiv:2110.02796).

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> rows = torch.tensor([[1.0], [-1.0]])
        >>> float(nc.unconstrained_margin(rows, rows, torch.tensor([0, 1])))  # margin 2, norms 2 and 2
        1.0
    """
    x, rows = as_features(features).double(), as_rows(weight, "weight")
    if rows.shape[1] != x.shape[1]:
        raise ValueError(f"weight: expected {x.shape[1]} columns as features, got {rows.shape[1]}")
    return margins(x @ rows.T, labels).min() / ((rows.square().sum() + x.square().sum()) / 2)


def _pair(weight: Array, of: ClassStats | Array, centre: Centre, centre_weight: bool) -> tuple[Tensor, Tensor]:
    means, rows = centred(of, centre), as_rows(weight, "weight")
    shape = tuple(of.mean.shape) if isinstance(of, ClassStats) else tuple(means.shape)
    if tuple(rows.shape) != shape:
        raise ValueError(f"weight: expected shape {shape} as the class means, got {tuple(rows.shape)}")
    if isinstance(of, ClassStats):
        rows = rows[of.count > 0]
    return rows - rows.mean(dim=0) if centre_weight else rows, means

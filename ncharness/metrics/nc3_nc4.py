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
    """NC3: ||W / ||W||_F - M / ||M||_F||_F^2, in [0, 4]; weight (C, d) of the last layer, M the centred class means.

    Papyan, Han & Donoho (2020): squared, W as it is. `squared=False` gives the norm itself, in [0, 2], as later code
    does; `centre_weight` takes the mean of W's rows off, without which MSE training looks far from dual. Rows of
    classes without features are left out. NaN with fewer than two classes.
    """
    rows, means = _pair(weight, of, centre, centre_weight)
    if not (measurable(rows) and measurable(means)):
        return undefined(means)
    apart = frobenius(normalised(rows) - normalised(means))
    return apart.square() if squared else apart


def product_duality(
    weight: Array, of: ClassStats | Array, *, centre: Centre = "classes", centre_weight: bool = False
) -> Tensor:
    """NC3 in product form: ||W M^T / ||W M^T||_F - P / sqrt(C - 1)||_F, in [0, 2] (Kothapalli et al., eq. 8).

    Zhu et al. (arXiv:2105.02375) with W as it is, Zhou et al. (arXiv:2203.01238) with `centre_weight`. Neither form of
    NC3 follows from the other. Rows of classes without features are left out. NaN with fewer than two classes.
    """
    rows, means = _pair(weight, of, centre, centre_weight)
    if not (measurable(rows) and measurable(means)):
        return undefined(means)
    return frobenius(normalised(rows @ means.T) - simplex_gram(len(means), means))


def linear_predictions(features: Array, weight: Array, bias: Array | None = None) -> Tensor:
    """(n,) int64: argmax_c w_c . x + b_c in float64; without `bias`, none is added."""
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
    """NC4: the share of rows that the network labels otherwise than the nearest class centre, in [0, 1].

    Papyan, Han & Donoho (2020). `predicted` (n,) integers are the network's own labels, its bias included, or those of
    `linear_predictions`; without a bias there, 1 minus this is `clf_ncc_agreement`. Not the NCC error, which
    is against the labels of the data: the two part ways before training error is 0. A row that is not finite differs.
    """
    x = as_features(features)
    labels = as_labels(predicted, x)
    return (ops.class_scores(x, None, stats.mean)[0] != labels).double().mean()


def ncc_agreement(features: Array, predicted: Array, stats: ClassStats) -> Tensor:
    """NC4 the other way round: 1 - `ncc_mismatch`."""
    return 1 - ncc_mismatch(features, predicted, stats)


def margins(scores: Array, labels: Array) -> Tensor:
    """(n,) float64: the score of a row's own class less the best of the others; positive where it is classified right.

    scores (n, C) with C of at least 2; labels (n,) integers in [0, C).
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
    """The least margin over ||theta||_2^L, for a network homogeneous of order L in its weights (arXiv:1906.05890).

    Lyu & Li. `weights` are the L layers' weights, ||theta||_2 the norm of all of them together. `by="layers"` divides
    by the product of the layers' Frobenius norms instead, which is another level: at least L^(L/2) times the first.
    """
    check_choice("by", by, ("norm", "layers"))
    norms = [float(torch.linalg.vector_norm(weight.detach().double())) for weight in weights]
    if not norms:
        raise ValueError("weights: expected at least one layer's, got none")
    scale = math.prod(norms) if by == "layers" else math.hypot(*norms) ** len(norms)
    return margins(scores, labels).min() / scale


def unconstrained_margin(features: Array, weight: Array, labels: Array) -> Tensor:
    """The least margin of W x over (||W||_F^2 + ||H||_F^2) / 2, H all the features (Ji et al., arXiv:2110.02796).

    The unconstrained layer-peeled model without bias: at most 1 / ((C - 1) sqrt(n)) for C classes of n rows each.
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

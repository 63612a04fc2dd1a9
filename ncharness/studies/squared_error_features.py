"""Unconstrained features under squared error, optionally with a bias or a further layer, in float64.

Tirer & Bruna, ICML 2022 (arXiv:2202.08087): min |W H + b 1^T - Y|^2 / (2 C n) + (lambda_W / 2 C) |W|^2
+ (lambda_H / 2 C n) |H|^2, Y one-hot; with a further layer W W_1 H in place of W H, and (lambda_W / 2 C) |W_1|^2.
"""

import math
from typing import NamedTuple

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc2 import etf_distance, frame_distance
from ncharness.metrics.nc3_nc4 import self_duality
from ncharness.studies.unconstrained import minimise
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"minimum": 1.0}  # 10 with eight starts and a further ReLU layer


def least_squared_error(classes: int, samples: int, decays: tuple[float, ...], *, free_bias: bool = False) -> float:
    """Return the least objective of a product of len(decays) factors with half of these decays on their squares.

    The labels have C singular values sqrt(n), or one fewer if a free bias removes the mean. The squares of m factors of
    a singular value s cost at least (m / 2) (product of the decays)^(1/m) s^(2/m).
    """
    m, target = len(decays), math.sqrt(samples)
    price = 0.5 * m * math.prod(decays) ** (1 / m)

    def cost(value: float) -> float:
        paid: float = (target - value) ** 2 / (2 * classes * samples) + price * value ** (2 / m)
        return paid

    # Between 0 and the target there is at most one maximum, near 0, and one minimum. If any positive value is better
    # than 0, the minimum is above half of the target.
    found = minimize_scalar(
        cost, bounds=(target / 3 if m > 2 else 0.0, target), method="bounded", options={"xatol": 1e-12}
    )
    return (classes - free_bias) * min(cost(0.0), float(found.fun))


def minimum(
    *,
    classes: int = 5,
    samples: int = 8,
    dim: int = 12,
    weight_decay: float = 0.1,
    feature_decay: float = 0.05,
    bias: str = "none",
    bias_decay: float = 0.0,
    further: str = "none",
    starts: int = 1,
) -> list[Row]:
    """Minimise from `starts` random starts and return the best of the minimisers.

    `bias` is none or trained, with `bias_decay` / 2 on its squares. `further` is none, linear or relu, the activation
    of a further layer: the classifier then takes the features after it, and those before it are called `first`. `gap`
    is the difference to the least objective, which is known without a bias or for one without decay. `reached` is the
    fraction of starts that end within 1e-7 of the best. `norm_error` is the error of the squared norms of the class
    means relative to (1 - c) sqrt(lambda_W / lambda_H), c = sqrt(lambda_W lambda_H), which holds without bias and
    further layer.
    """
    for name, value, known in (("bias", bias, ("none", "trained")), ("further", further, ("none", "linear", "relu"))):
        if value not in known:
            raise ValueError(f"{name}: expected {', '.join(known)}, got {value!r}")
    model = _Model(classes, samples, dim, weight_decay, feature_decay, bias == "trained", bias_decay, further)
    found = sorted((_search(model) for _ in range(starts)), key=lambda one: one[0])
    loss, gradient, (weight, features, layer, offset) = found[0]
    least = least_squared_error(classes, samples, tuple(model.decays), free_bias=model.bias)
    labels = model.labels
    last, first = (class_stats(rows, labels, classes) for rows in (model.last_features(features, layer), features))
    expected = (1 - math.sqrt(weight_decay * feature_decay)) * math.sqrt(weight_decay / feature_decay)
    return network_rows(
        loss=loss,
        gap=loss - least,
        reached=sum(one[0] <= loss + 1e-7 for one in found) / starts,
        gradient=gradient,
        nc1_trace=nc1_trace(last),
        frame_distance=frame_distance(last),
        etf_distance=etf_distance(last),
        uncentred_etf_distance=etf_distance(last, centre="none"),
        first_nc1_trace=nc1_trace(first),
        first_frame_distance=frame_distance(first),
        duality=self_duality(weight, last, centre="none", squared=False),
        centred_duality=self_duality(weight, last, squared=False, centre_weight=True),
        norm_error=(last.mean.square().sum(1) / expected - 1).abs().max(),
        bias_error=(offset - 1 / classes).abs().max(),
        size=math.sqrt(float(weight.square().sum() + features.square().sum())),
    )


class _Model(NamedTuple):
    """Settings of `minimum` that define the objective."""

    classes: int
    samples: int
    dim: int
    weight_decay: float
    feature_decay: float
    bias: bool
    bias_decay: float
    further: str

    @property
    def labels(self) -> Tensor:
        return torch.arange(self.classes).repeat_interleave(self.samples)

    @property
    def decays(self) -> list[float]:
        """Decays on half the squares of every factor: classifier, features, and the further layer if there is one."""
        of_weights, of_features = self.weight_decay / self.classes, self.feature_decay / (self.classes * self.samples)
        return [of_weights, of_features, *([of_weights] if self.further != "none" else [])]

    def last_features(self, features: Tensor, layer: Tensor) -> Tensor:
        """Return the input of the classifier."""
        if self.further == "none":
            return features
        mapped = features @ layer.T
        return torch.relu(mapped) if self.further == "relu" else mapped


def _search(model: _Model) -> tuple[float, float, list[Tensor]]:
    """Minimise from one random start. Returns loss, gradient, and classifier, features, further layer and bias."""
    classes, samples, dim, decays = model.classes, model.samples, model.dim, model.decays
    targets = functional.one_hot(model.labels, classes).double()
    shapes = ((classes, dim), (classes * samples, dim), (dim, dim), (classes,))
    weight, features, layer, offset = (torch.randn(*shape, dtype=torch.float64).mul_(0.3) for shape in shapes)
    if not model.bias:
        offset.zero_()
    factors = [weight, features, *([layer] if model.further != "none" else [])]
    variables = [*factors, *([offset] if model.bias else [])]
    for one in variables:
        one.requires_grad_()

    def objective() -> Tensor:
        fitted = (model.last_features(features, layer) @ weight.T + offset - targets).square().sum()
        squares = torch.stack([d * one.square().sum() for d, one in zip(decays, factors, strict=True)]).sum()
        return fitted / (2 * classes * samples) + 0.5 * squares + 0.5 * model.bias_decay * offset.square().sum()

    return *minimise(objective, variables), [one.detach() for one in (weight, features, layer, offset)]

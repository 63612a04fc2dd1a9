"""Unconstrained features under losses other than cross-entropy with decay, in float64.

Label smoothing and focal loss with decay of classifier and features (Zhou et al., NeurIPS 2022, arXiv:2210.02192),
cross-entropy with classifier rows and features on the unit sphere (Lu & Steinerberger, arXiv:2012.08465; Yaras et al.,
arXiv:2209.09211), supervised contrastive loss on the sphere (Graf et al., ICML 2021, arXiv:2102.08817).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc2 import etf_distance
from ncharness.studies.unconstrained import minimise
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"minimum": 0.2}


def minimum(
    *,
    loss: str = "smoothed",
    classes: int = 4,
    samples: int = 5,
    dim: int = 8,
    decay: float = 5e-3,
    smoothing: float = 0.1,
    focus: float = 2.0,
    temperature: float = 0.5,
) -> list[Row]:
    """Minimise from a random start under `loss`: smoothed, focal, sphere or contrastive.

    `gap` is the difference of the last two losses to their least values. For the others, which have decay and no least
    value here, it is 0.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    weight = torch.randn(classes, dim, dtype=torch.float64).mul_(0.1).requires_grad_()
    features = torch.randn(classes * samples, dim, dtype=torch.float64).mul_(0.1).requires_grad_()

    def decayed(fitted: Callable[[Tensor], Tensor]) -> Tensor:
        return fitted(features @ weight.T) + 0.5 * decay * (weight.square().sum() + features.square().sum())

    def on_sphere() -> Tensor:
        return functional.cross_entropy(_unit(features) @ _unit(weight).T / temperature, labels)

    objectives: dict[str, Callable[[], Tensor]] = {
        "smoothed": lambda: decayed(lambda z: functional.cross_entropy(z, labels, label_smoothing=smoothing)),
        "focal": lambda: decayed(lambda z: focal(z, labels, focus)),
        "sphere": on_sphere,
        "contrastive": lambda: contrastive(_unit(features), labels, temperature),
    }
    if loss not in objectives:
        raise ValueError(f"loss: expected one of {', '.join(objectives)}, got {loss!r}")
    variables = [features] if loss == "contrastive" else [weight, features]
    found, gradient = minimise(objectives[loss], variables)
    own, other = 1 / temperature, -1 / ((classes - 1) * temperature)  # the scores in a simplex ETF on the sphere
    least = {
        "sphere": math.log1p((classes - 1) * math.exp(other - own)),
        "contrastive": math.log((samples - 1) + samples * (classes - 1) * math.exp(other - own)),
    }
    rows = features.detach()
    stats = class_stats(_unit(rows) if loss in least else rows, labels, classes)
    return network_rows(
        loss=found,
        gap=found - least.get(loss, found),
        gradient=gradient,
        nc1_trace=nc1_trace(stats),
        etf_distance=etf_distance(stats),
    )


def focal(scores: Tensor, labels: Tensor, focus: float) -> Tensor:
    """Return the mean of -(1 - p)^focus log p, p the probability of the label (Lin et al., ICCV 2017)."""
    own = functional.log_softmax(scores, 1).gather(1, labels[:, None])
    return -((1 - own.exp()) ** focus * own).mean()


def contrastive(rows: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss of unit rows (n, d): the rest of an anchor's class against all others.

    Khosla et al., NeurIPS 2020 (arXiv:2004.11362), with the mean over positives outside of the logarithm.
    """
    itself = torch.eye(len(labels), dtype=torch.bool)
    scores = (rows @ rows.T / temperature).masked_fill(itself, -torch.inf)
    alike = (labels[:, None] == labels) & ~itself
    logs: Tensor = scores - scores.logsumexp(1, keepdim=True)
    loss: Tensor = -(torch.where(alike, logs, 0.0).sum(1) / alike.sum(1)).mean()
    return loss


def _unit(rows: Tensor) -> Tensor:
    unit: Tensor = rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return unit

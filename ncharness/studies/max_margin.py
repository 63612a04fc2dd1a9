"""Gradient descent on unregularised cross-entropy over unconstrained features without bias: margin and conserved norms.

Ji et al., ICLR 2022 (arXiv:2110.02796): gradient flow ends in the direction of the largest margin, which is collapsed,
and conserves |W|^2 - |H|^2. The least margin over (|W|^2 + |H|^2) / 2 is at most 1 / ((C - 1) sqrt(n)).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc3_nc4 import unconstrained_margin
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"descent": 1.0}
CHECKPOINTS = (250, 500, 1000, 2000, 4000, 8000, 16000)


def descent(
    *, classes: int = 4, samples: int = 5, dim: int = 8, scale: float = 0.1, lr: float = 1.5, adapt: bool = True
) -> list[Row]:
    """Descend, and at every one of CHECKPOINTS steps measure loss, margin over its limit, NC1 and the squared norms.

    With `adapt` the step is `lr` over the product of the loss and the sum of both squared norms, because the gradient
    vanishes with the loss, and longer vectors change direction more slowly. Otherwise it is `lr` itself.
    """
    labels = torch.arange(classes).repeat_interleave(samples)
    target = functional.one_hot(labels, classes).double()
    weight = scale * torch.randn(classes, dim, dtype=torch.float64)
    features = scale * torch.randn(classes * samples, dim, dtype=torch.float64)
    others = target.bool().logical_not()
    limit = 1 / ((classes - 1) * math.sqrt(samples))

    def behind() -> Tensor:
        """Return the score of every other label less that of the row's own: no cancellation where the loss is tiny."""
        scores = features @ weight.T
        own = (scores * target).sum(1, keepdim=True)
        return (scores - own).masked_fill(~others, -torch.inf)

    def measured(step: int) -> list[Row]:
        loss = behind().logsumexp(1).exp().log1p().mean()
        return network_rows(
            step,
            loss=loss,
            margin_share=unconstrained_margin(features, weight, labels) / limit,
            nc1_trace=nc1_trace(class_stats(features, labels, classes)),
            classifier_norm=weight.square().sum(),
            feature_norm=features.square().sum(),
        )

    rows = measured(0)
    for step in range(1, CHECKPOINTS[-1] + 1):
        odds = behind().exp()
        total = odds.sum(1, keepdim=True)
        pull = odds / (1 + total)  # the probabilities of the others
        residual = (pull - target * pull.sum(1, keepdim=True)) / len(labels)
        norms = weight.square().sum() + features.square().sum()
        rate = lr / float(total.log1p().mean() * norms) if adapt else lr
        weight, features = weight - rate * residual.T @ features, features - rate * residual @ weight
        if step in CHECKPOINTS:
            rows += measured(step)
    return rows

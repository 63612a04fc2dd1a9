"""Reference implementation in plain torch, in float64: for devices without kernels, and for tests of the kernels.

Arguments must have been converted and checked by `arguments`.
"""

import torch
from torch import Tensor

from ncharness.kernels.arguments import check_labels
from ncharness.kernels.distances import row_blocks, sq_distances
from ncharness.kernels.merging import merge_stats


def class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    labels = labels.long()
    check_labels(labels, n_classes)
    count = torch.bincount(labels, minlength=n_classes)
    total = features.new_zeros((n_classes, features.shape[1]), dtype=torch.float64)
    for rows in row_blocks(features):
        total.index_add_(0, labels[rows], features[rows].double())
    mean = total / count[:, None]  # 0 / 0 makes the NaN of an empty class
    scatter = total.new_zeros(n_classes)
    for rows in row_blocks(features):
        y = labels[rows]
        scatter.index_add_(0, y, (features[rows].double() - mean[y]).square().sum(dim=1))
    return count, mean, scatter


def class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    merge_stats((count, mean, scatter), class_stats(features, labels, mean.shape[0]))


def class_scores(features: Tensor, labels: Tensor | None, means: Tensor, gram: bool) -> tuple[Tensor, Tensor, Tensor]:
    means = means.double()
    n_classes = means.shape[0]
    if labels is not None:
        labels = labels.long()
        check_labels(labels, n_classes)
    active = means.isfinite().all(dim=1)
    shift = means[active].mean(dim=0) if bool(active.any()) else torch.zeros_like(means[0])
    centred = torch.where(active[:, None], means - shift, 0.0)
    sq_norm = torch.where(active, centred.square().sum(dim=1), torch.inf)  # an inactive class is infinitely far
    first = _first_of_equal(means)
    cross = centred @ centred.T
    nearest = features.new_empty(features.shape[0], dtype=torch.int64)
    side = n_classes if gram else 0
    gram_out, directional = means.new_zeros((side, side)), means.new_zeros((side, side))
    for rows in row_blocks(features):
        x = features[rows].double()
        dots = (x - shift) @ centred.T
        # A GEMM may add the terms of equal columns in different orders, so equal means may differ in the last bit.
        found = first[(sq_norm - 2 * dots).argmin(dim=1)]  # torch's argmin returns the first minimum on the CPU
        usable = (x - shift).square().sum(dim=1).isfinite() & active.any()
        nearest[rows] = torch.where(usable, found, -1)
        if gram:
            assert labels is not None
            y = labels[rows]
            residual = torch.where(active[y, None] & active, dots - cross[y], 0.0)
            gram_out += residual.T @ residual
            between = torch.where(active, residual - residual.gather(1, y[:, None]), 0.0)
            directional.index_add_(0, y, between.square())
    return nearest, gram_out, directional


def _first_of_equal(means: Tensor) -> Tensor:
    """Return (C,) int64: the lowest index of a class with the same mean."""
    same = torch.unique(means, dim=0, return_inverse=True)[1]
    index = torch.arange(len(means), device=means.device)
    return index.scatter_reduce(0, same, index, "amin", include_self=False)[same]


def measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats = class_stats(features, labels, n_classes)
    return *stats, *class_scores(features, labels, stats[1], gram)


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    filled = count > 0
    variance, sq_distance = (scatter / count)[filled], sq_distances(mean[filled])
    values = torch.where(sq_distance == 0, torch.inf, (variance[:, None] + variance) / (2 * sq_distance))
    pairs = torch.triu(torch.ones_like(sq_distance, dtype=torch.bool), diagonal=1)
    return values[pairs].mean()

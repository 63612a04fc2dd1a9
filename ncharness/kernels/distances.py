"""Squared Euclidean distances from differences, in torch on any device."""

import torch
from torch import Tensor

_BLOCK_ELEMENTS = 1 << 22  # 32 MiB of float64


def sq_distances(means: Tensor) -> Tensor:
    """Return (C, C) squared distances, from differences: a GEMM cancels where close means have large norms."""
    return torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").square()


def sq_distances_to(features: Tensor, centres: Tensor, index: Tensor) -> Tensor:
    """Return (n,) float64: the squared distance of each row to the centre of its index, NaN for the index -1."""
    found = centres.new_empty(features.shape[0])
    for rows in row_blocks(features):
        found[rows] = (features[rows].double() - centres[index[rows].long()]).square().sum(dim=1)
    return torch.where(index < 0, torch.nan, found)


def row_blocks(features: Tensor) -> list[slice]:
    """Return slices of the rows of (n, d), each of about 32 MiB in float64."""
    n, d = features.shape
    step = max(1, _BLOCK_ELEMENTS // d)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]

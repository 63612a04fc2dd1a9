"""Merging of class statistics, and the mark that a label out of range leaves in them on a CUDA device.

The CUDA kernels cannot raise. Where row i has the first label out of range, they set every count to -1 - i and every
mean and scatter to NaN (csrc/cuda.hpp). The mark survives merging, and `first_bad_label` reads it.
"""

import torch
from torch import Tensor


def merge_stats(into: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]) -> None:
    """Adds count, mean and scatter of other rows, in place (Chan, Golub & LeVeque, STAN-CS-79-773)."""
    count, mean, scatter = into
    other_count, other_mean, other_scatter = other
    total = count + other_count
    # In float64, which two integer tensors would not divide in; 0 where both sides are empty.
    share = (other_count.double() / total).nan_to_num(0.0)
    # An empty side has NaN for a mean and nothing to say: the other side's mean stands for both.
    mine = torch.where((count == 0)[:, None], other_mean, mean)
    theirs = torch.where((other_count == 0)[:, None], mine, other_mean)
    delta = theirs - mine
    between = torch.where(total > 0, delta.square().sum(dim=1) * (count * share), 0.0)
    scatter += other_scatter + between
    mean.copy_(mine + delta * share[:, None])
    count.copy_(torch.where(torch.minimum(count, other_count) < 0, torch.minimum(count, other_count), total))


def first_bad_label(count: Tensor) -> int | None:
    """The first row whose label was out of range, as these counts (C,) tell, or None. Waits for the device."""
    first = int(count[0])
    return -1 - first if first < 0 else None

"""Merging of class statistics, and the encoding of a label out of range in those of a CUDA device.

The CUDA kernels cannot raise. If row i has the first label out of range, they set every count to -1 - i and every mean
and scatter to NaN (csrc/cuda.hpp). Merging keeps such counts, and `first_bad_label` decodes them. No other Python
module knows the encoding.
"""

import torch
from torch import Tensor


def merge_stats(into: tuple[Tensor, Tensor, Tensor], other: tuple[Tensor, Tensor, Tensor]) -> None:
    """Add count, mean and scatter of other rows, in place (Chan, Golub & LeVeque, STAN-CS-79-773)."""
    count, mean, scatter = into
    other_count, other_mean, other_scatter = other
    total = count + other_count
    # In float64: two integer tensors would divide in float32. 0 where both sides are empty.
    share = (other_count.double() / total).nan_to_num(0.0)
    # The mean of an empty side is NaN: the mean of the other side is used for both.
    mine = torch.where((count == 0)[:, None], other_mean, mean)
    theirs = torch.where((other_count == 0)[:, None], mine, other_mean)
    delta = theirs - mine
    between = torch.where(total > 0, delta.square().sum(dim=1) * (count * share), 0.0)
    scatter += other_scatter + between
    mean.copy_(mine + delta * share[:, None])
    count.copy_(torch.where(torch.minimum(count, other_count) < 0, torch.minimum(count, other_count), total))


def first_bad_label(count: Tensor) -> int | None:
    """Decode the first row with a label out of range from counts (C,); None if there is none. Waits for the device."""
    first = int(count[0])
    return -1 - first if first < 0 else None

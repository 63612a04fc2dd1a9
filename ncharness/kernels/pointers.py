"""Addresses, codes and sizes of tensors for the extension. Every tensor must outlive the call that it is passed to."""

import torch
from torch import Tensor

from ncharness.kernels.arguments import FLOATS, LABELS

CPU = torch.device("cpu")  # explicit, because the default device may be another
_DTYPE_CODES = {dtype: code for code, dtype in enumerate(FLOATS)}  # csrc/class_stats.hpp: DType
_LABEL_CODES = {dtype: code for code, dtype in enumerate(LABELS)}  # LabelType


def of_features(features: Tensor) -> tuple[int, int, int, int, int]:
    """Return address, dtype code, n, d and row stride in elements of features (n, d)."""
    n, d = features.shape
    return features.data_ptr(), _DTYPE_CODES[features.dtype], n, d, features.stride(0)


def of_labels(labels: Tensor | None) -> tuple[int, int]:
    """Return address and dtype code of labels (n,); zeros without labels."""
    return (0, 0) if labels is None else (labels.data_ptr(), _LABEL_CODES[labels.dtype])


def of_all(tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[int, int, int]:
    """Return the addresses of three tensors."""
    first, second, third = tensors
    return first.data_ptr(), second.data_ptr(), third.data_ptr()


def aligned(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy if its address is not a multiple of its element size (a view into a byte buffer)."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def empty_stats(n_classes: int, d: int, device: torch.device = CPU) -> tuple[Tensor, Tensor, Tensor]:
    """Return memory for count (C,) int64, mean (C, d) and scatter (C,) float64."""
    return (
        torch.empty(n_classes, dtype=torch.int64, device=device),
        torch.empty((n_classes, d), dtype=torch.float64, device=device),
        torch.empty(n_classes, dtype=torch.float64, device=device),
    )


def empty_scores(n: int, n_classes: int, gram: bool, device: torch.device = CPU) -> tuple[Tensor, Tensor, Tensor]:
    """Return memory for nearest (n,) int64, gram and directional (C, C) float64; (0, 0) for both without `gram`."""
    side = n_classes if gram else 0
    gram_out, directional = (torch.empty((side, side), dtype=torch.float64, device=device) for _ in range(2))
    return torch.empty(n, dtype=torch.int64, device=device), gram_out, directional

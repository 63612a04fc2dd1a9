"""Conversion of arguments to tensors that the kernels take. Every error about an argument is raised here, by name."""

import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = np.ndarray[Any, Any] | Tensor

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
LABELS = (torch.int64, torch.int32, torch.uint8)
_INTEGERS = (*LABELS, torch.int16, torch.int8, torch.uint16, torch.uint32, torch.uint64)
_MAX_CLASSES = 2**31 - 1  # the kernels count them in 32 bits


def as_features(features: Array) -> Tensor:
    """Convert `features` to a floating-point tensor (n, d), contiguous along d, without a copy where possible.

    Raises TypeError for anything that is not a numpy array or torch tensor of float64, float32, float16 or bfloat16,
    ValueError for a wrong rank or d = 0.
    """
    tensor = _as_tensor(features, "features")
    if tensor.ndim != 2:
        raise ValueError(f"features: expected shape (n, d), got {tuple(tensor.shape)}")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"features: expected float64, float32, float16 or bfloat16, got {tensor.dtype}")
    if tensor.shape[1] < 1:
        raise ValueError(f"features: expected at least one column, got shape {tuple(tensor.shape)}")
    return tensor if tensor.shape[1] == 1 or tensor.stride(1) == 1 else tensor.contiguous()


def as_labels(labels: Array, features: Tensor) -> Tensor:
    """Convert `labels` to a contiguous tensor (n,) for the n rows of `features`; the values are not checked here.

    int64, int32 and uint8 keep their dtype, other integers become int64.
    """
    tensor = _as_tensor(labels, "labels")
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"labels: expected integers, got {tensor.dtype}")
    if tensor.ndim != 1 or tensor.shape[0] != features.shape[0]:
        raise ValueError(
            f"labels: expected shape ({features.shape[0]},) as features has rows, got {tuple(tensor.shape)}"
        )
    if tensor.device != features.device:
        raise ValueError(f"labels: expected device {features.device} as features, got {tensor.device}")
    return (tensor if tensor.dtype in LABELS else tensor.to(torch.int64)).contiguous()


def as_rows(rows: Array, name: str) -> Tensor:
    """Convert `rows` to a float64 tensor (C, d): class means, or the weight of a linear layer.

    Errors call the argument `name`.
    """
    tensor = _as_tensor(rows, name)
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name}: expected float64, float32, float16 or bfloat16, got {tensor.dtype}")
    if tensor.ndim != 2 or 0 in tensor.shape:
        raise ValueError(f"{name}: expected shape (C, d), at least one of each, got {tuple(tensor.shape)}")
    return tensor.double()


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def check_n_classes(n_classes: int) -> None:
    """Raise TypeError or ValueError unless `n_classes` is an integer from 1 to 2^31 - 1."""
    if not isinstance(n_classes, int | np.integer | torch.SymInt) or isinstance(n_classes, bool):
        raise TypeError(f"n_classes: expected an integer, got {type(n_classes).__name__}")
    if n_classes < 1:
        raise ValueError(f"n_classes: expected at least 1, got {n_classes}")
    if n_classes > _MAX_CLASSES:
        raise ValueError(f"n_classes: expected at most {_MAX_CLASSES}, got {n_classes}")


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Raise ValueError that names the first label outside [0, n_classes), as the native kernels do."""
    bad = (labels < 0) | (labels >= n_classes)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(f"labels: expected values in [0, {n_classes}), got {int(labels[index])} at index {index}")


def check_means(means: Tensor, features: Tensor) -> None:
    """Raise ValueError unless `means` (C, d) match `features` (n, d) in columns and device."""
    if features.ndim != 2:
        raise ValueError(f"features: expected shape (n, d), got {tuple(features.shape)}")
    if means.ndim != 2 or len(means) < 1 or means.shape[1] != features.shape[1]:
        raise ValueError(f"means: expected shape (C, {features.shape[1]}) as features, got {tuple(means.shape)}")
    if means.device != features.device:
        raise ValueError(f"means: expected device {features.device} as features, got {means.device}")


def check_stats(features: Tensor | None, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    """Raise TypeError or ValueError unless the three are statistics from `class_stats`, for such features."""
    if count.dtype != torch.int64 or mean.dtype != torch.float64 or scatter.dtype != torch.float64:
        raise TypeError(
            "stats: expected int64 counts, float64 means and scatters, "
            f"got {count.dtype}, {mean.dtype}, {scatter.dtype}"
        )
    if mean.ndim != 2 or mean.shape[0] < 1 or not count.shape == scatter.shape == mean.shape[:1]:
        raise ValueError(
            "stats: expected count (C,), mean (C, d) and scatter (C,), "
            f"got {tuple(count.shape)}, {tuple(mean.shape)} and {tuple(scatter.shape)}"
        )
    if features is not None and mean.shape[1] != features.shape[1]:
        raise ValueError(f"features: expected {mean.shape[1]} columns as in stats, got {features.shape[1]}")
    if not count.device == mean.device == scatter.device == (mean if features is None else features).device:
        of = "" if features is None else f" with features on {features.device}"
        raise ValueError(f"stats: expected one device for all, got {count.device}, {mean.device}, {scatter.device}{of}")
    if not (count.is_contiguous() and mean.is_contiguous() and scatter.is_contiguous()):
        raise ValueError("stats: expected contiguous tensors")


def _as_tensor(array: Array, name: str) -> Tensor:
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got layout {array.layout}")
        return (array.detach() if array.requires_grad else array).resolve_neg()
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array or a torch tensor, got {type(array).__name__}")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if not array.dtype.isnative or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C")  # torch has no such layout
    with warnings.catch_warnings():
        # A read-only array, such as a memory-mapped file, is fine: nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)

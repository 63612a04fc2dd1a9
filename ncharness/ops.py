"""The two passes as `torch.library` ops: the only module that knows the compiled extension.

`torch.ops.ncharness.class_sums(features, labels, n_classes)` -> count (C,) int64, sum (C, d) float64
`torch.ops.ncharness.class_scores(features, labels, means, nearest, gram)` -> nearest (n,) int64, scatter (C,),
gram (C, C), directional (C, C) float64; outputs that were not asked for are empty. csrc/class_stats.hpp says what
each of them is.

On the CPU the ops run the native kernels. On other devices, and where the extension is missing, the torch reference
below serves; `backend()` says which, and why.
"""

import warnings
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

try:
    import ncharness._core as _core

    _missing = ""
except ImportError as error:
    _core = None  # type: ignore[assignment]  # the reference serves, and backend() says so
    _missing = str(error)

Array: TypeAlias = "np.ndarray[Any, Any] | Tensor"

_DTYPE_CODES = {torch.float32: 0, torch.float64: 1}
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
_CHUNK_ELEMENTS = 1 << 22  # of the reference: 32 MiB of float64 at a time


class Backend(NamedTuple):
    """Which implementation serves CPU tensors: `cpu` (native) or `torch` (the reference), and why."""

    name: str
    reason: str


def backend() -> Backend:
    """The implementation behind the ops for CPU tensors and numpy arrays."""
    if _core is None:
        hint = (
            "; after a plain `pip install .`, Python started in the source tree finds the tree, not the installed "
            "package: use `pip install -e .` or `python -P`"
        )
        why = f"the native extension could not be imported ({_missing})"
        return Backend("torch", why + (hint if _missing.startswith("No module") else ""))
    return Backend("cpu", f"native kernels, instruction set {_core.level()} of {', '.join(_core.levels())}")


def as_features(features: Array) -> Tensor:
    """`features` as a float32 or float64 tensor (n, d), contiguous along d, without a copy where possible.

    float16 and bfloat16 are converted to float32, which holds them exactly. Raises TypeError for anything that is
    not a floating-point numpy array or torch tensor, ValueError for a wrong rank or d = 0.
    """
    tensor = _as_tensor(features, "features")
    if tensor.ndim != 2:
        raise ValueError(f"features: expected shape (n, d), got {tuple(tensor.shape)}")
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    if tensor.dtype not in _DTYPE_CODES:
        raise TypeError(f"features: expected float64, float32, float16 or bfloat16, got {tensor.dtype}")
    if tensor.shape[1] < 1:
        raise ValueError(f"features: expected at least one column, got shape {tuple(tensor.shape)}")
    return tensor if tensor.shape[1] == 1 or tensor.stride(1) == 1 else tensor.contiguous()


def as_labels(labels: Array, features: Tensor) -> Tensor:
    """`labels` as a contiguous int64 tensor (n,) that belongs to `features`; the values are checked by the ops."""
    tensor = _as_tensor(labels, "labels")
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"labels: expected integers, got {tensor.dtype}")
    if tensor.shape != features.shape[:1]:
        raise ValueError(
            f"labels: expected shape ({features.shape[0]},) as features has rows, got {tuple(tensor.shape)}"
        )
    if tensor.device != features.device:
        raise ValueError(f"labels: expected device {features.device} as features, got {tensor.device}")
    return tensor.to(torch.int64).contiguous()


def check_n_classes(n_classes: int) -> None:
    """Raises TypeError or ValueError unless `n_classes` is an integer of at least 1."""
    if not isinstance(n_classes, int | np.integer | torch.SymInt) or isinstance(n_classes, bool):
        raise TypeError(f"n_classes: expected an integer, got {type(n_classes).__name__}")
    if n_classes < 1:
        raise ValueError(f"n_classes: expected at least 1, got {n_classes}")


def _as_tensor(array: Array, name: str) -> Tensor:
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got layout {array.layout}")
        return array.detach()
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array or a torch tensor, got {type(array).__name__}")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if not array.dtype.isnative or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))  # torch knows no such layout
    with warnings.catch_warnings():
        # A read-only array, such as a memory-mapped file, is fine: nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


# --- native -----------------------------------------------------------------------------------------------------------


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where a view into a byte buffer does not lie on its element size."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _address(features: Tensor) -> tuple[int, int, int, int, int]:
    n, d = features.shape
    return features.data_ptr(), _DTYPE_CODES[features.dtype], n, d, features.stride(0)


def _native_class_sums(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    features = _aligned(as_features(features))
    labels = _aligned(as_labels(labels, features))
    count, total = _core.class_sums(_address(features), labels.data_ptr(), n_classes, torch.get_num_threads())
    return torch.from_numpy(count), torch.from_numpy(total)


def _native_class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, nearest: bool, gram: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features = _aligned(as_features(features))
    labels = None if labels is None else _aligned(as_labels(labels, features))
    address = 0 if labels is None else labels.data_ptr()
    mean = means.detach().to(torch.float64).contiguous().numpy()
    outputs = _core.class_scores(_address(features), address, mean, nearest, gram, torch.get_num_threads())
    first, second, third, fourth = (torch.from_numpy(output) for output in outputs)
    return first, second, third, fourth


# --- reference --------------------------------------------------------------------------------------------------------


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Raises ValueError with the first label outside [0, n_classes), as the native kernels do."""
    bad = (labels < 0) | (labels >= n_classes)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(f"labels: expected values in [0, {n_classes}), got {int(labels[index])} at index {index}")


def _reference_class_sums(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    features, labels = as_features(features), as_labels(labels, features)
    check_n_classes(n_classes)
    check_labels(labels, n_classes)
    count = torch.bincount(labels, minlength=n_classes)
    total = features.new_zeros((n_classes, features.shape[1]), dtype=torch.float64)
    for rows in _chunks(features):
        total.index_add_(0, labels[rows], features[rows].double())
    return count, total


def _reference_class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, nearest: bool, gram: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, means = as_features(features), means.double()
    n_classes = means.shape[0]
    if labels is not None:
        labels = as_labels(labels, features)
        check_labels(labels, n_classes)
    active = means.isfinite().all(dim=1)
    shift = means[active].mean(dim=0) if bool(active.any()) else torch.zeros_like(means[0])
    centred = torch.where(active[:, None], means - shift, 0.0)
    sq_norm = torch.where(active, centred.square().sum(dim=1), torch.inf)  # an inactive class is infinitely far
    cross = centred @ centred.T
    labels_out = features.new_empty(features.shape[0] if nearest else 0, dtype=torch.int64)
    scatter = features.new_zeros(n_classes, dtype=torch.float64)
    side = n_classes if gram else 0
    gram_out, directional = scatter.new_zeros((side, side)), scatter.new_zeros((side, side))
    for rows in _chunks(features):
        x = features[rows].double()
        dots = (x - shift) @ centred.T
        if nearest:
            found = (sq_norm - 2 * dots).argmin(dim=1)  # torch's argmin returns the first minimum on the CPU
            usable = (x - shift).square().sum(dim=1).isfinite() & active.any()
            labels_out[rows] = torch.where(usable, found, -1)
        if labels is None:
            continue
        y = labels[rows]
        scatter.index_add_(0, y, (x - means[y]).square().sum(dim=1))
        if gram:
            residual = torch.where(active[y, None] & active, dots - cross[y], 0.0)
            gram_out += residual.T @ residual
            between = torch.where(active, residual - residual.gather(1, y[:, None]), 0.0)
            directional.index_add_(0, y, between.square())
    return labels_out, scatter, gram_out, directional


def _chunks(features: Tensor) -> list[slice]:
    n, d = features.shape
    step = max(1, _CHUNK_ELEMENTS // d)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


# --- registration -----------------------------------------------------------------------------------------------------

torch.library.define(
    "ncharness::class_sums",
    "(Tensor features, Tensor labels, SymInt n_classes) -> (Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.define(
    "ncharness::class_scores",
    "(Tensor features, Tensor? labels, Tensor means, bool nearest, bool gram) -> (Tensor, Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
torch.library.impl("ncharness::class_sums", "default", _reference_class_sums)
torch.library.impl("ncharness::class_scores", "default", _reference_class_scores)
if _core is not None:
    torch.library.impl("ncharness::class_sums", "cpu", _native_class_sums)
    torch.library.impl("ncharness::class_scores", "cpu", _native_class_scores)


def _fake_class_sums(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    count = features.new_empty(n_classes, dtype=torch.int64)
    return count, features.new_empty((n_classes, features.shape[1]), dtype=torch.float64)


def _fake_class_scores(
    features: Tensor,
    labels: Tensor | None,  # noqa: ARG001  # the schema names it
    means: Tensor,
    nearest: bool,
    gram: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n_classes = means.shape[0]
    side = n_classes if gram else 0
    labels_out = features.new_empty(features.shape[0] if nearest else 0, dtype=torch.int64)
    scatter = features.new_empty(n_classes, dtype=torch.float64)
    return labels_out, scatter, scatter.new_empty((side, side)), scatter.new_empty((side, side))


torch.library.register_fake("ncharness::class_sums", _fake_class_sums)
torch.library.register_fake("ncharness::class_scores", _fake_class_scores)


def class_sums(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Pass 1: `count` (C,) int64 and `sum` (C, d) float64 of the rows of each class."""
    count, total = torch.ops.ncharness.class_sums(features, labels, n_classes)
    return count, total


def class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, *, nearest: bool = True, gram: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pass 2: nearest (n,) int64, scatter (C,), gram (C, C) and directional (C, C) float64, given the class means."""
    if gram and labels is None:
        raise ValueError("gram: needs labels")
    if means.ndim != 2 or len(means) < 1 or means.shape[1:] != features.shape[1:]:
        raise ValueError(f"means: expected shape (C, {features.shape[1]}) as features, got {tuple(means.shape)}")
    first, second, third, fourth = torch.ops.ncharness.class_scores(features, labels, means, nearest, gram)
    return first, second, third, fourth

"""The two passes as `torch.library` ops: the only module that knows the compiled extension.

`torch.ops.ncharness.class_stats(features, labels, n_classes)` -> count (C,) int64, mean (C, d), scatter (C,) float64
`torch.ops.ncharness.class_update(features, labels, count, mean, scatter)` adds rows to those, in place
`torch.ops.ncharness.class_scores(features, labels, means, gram)` -> nearest (n,) int64, gram (C, C), directional
(C, C) float64; empty ones where no Gram was asked for, which alone needs labels
`torch.ops.ncharness.measure(features, labels, n_classes, gram)` -> those of class_stats, then those of class_scores
`torch.ops.ncharness.cdnv(count, mean, scatter)` -> a float64 scalar
csrc/class_stats.hpp says what each of them is.

On the CPU the ops run the native kernels. On other devices, and where the extension is missing, the torch reference
below serves; `backend()` says which, and why.
"""

import warnings
from collections.abc import Callable
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

_DTYPE_CODES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}
_LABEL_CODES = {torch.int64: 0, torch.int32: 1, torch.uint8: 2}
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)
_MAX_CLASSES = 2**31 - 1  # the kernels count them in 32 bits
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
    """`features` as a floating-point tensor (n, d), contiguous along d, without a copy where possible.

    Raises TypeError for anything that is not a numpy array or torch tensor of float64, float32, float16 or bfloat16,
    ValueError for a wrong rank or d = 0.
    """
    tensor = _as_tensor(features, "features")
    if tensor.ndim != 2:
        raise ValueError(f"features: expected shape (n, d), got {tuple(tensor.shape)}")
    if tensor.dtype not in _DTYPE_CODES:
        raise TypeError(f"features: expected float64, float32, float16 or bfloat16, got {tensor.dtype}")
    if tensor.shape[1] < 1:
        raise ValueError(f"features: expected at least one column, got shape {tuple(tensor.shape)}")
    return tensor if tensor.shape[1] == 1 or tensor.stride(1) == 1 else tensor.contiguous()


def as_labels(labels: Array, features: Tensor) -> Tensor:
    """`labels` as a contiguous tensor (n,) that belongs to `features`; the values are checked by the ops.

    int64, int32 and uint8 stay what they are, other integers become int64.
    """
    tensor = _as_tensor(labels, "labels")
    if tensor.dtype not in _INTEGERS:
        raise TypeError(f"labels: expected integers, got {tensor.dtype}")
    if tensor.shape != features.shape[:1]:
        raise ValueError(
            f"labels: expected shape ({features.shape[0]},) as features has rows, got {tuple(tensor.shape)}"
        )
    if tensor.device != features.device:
        raise ValueError(f"labels: expected device {features.device} as features, got {tensor.device}")
    return (tensor if tensor.dtype in _LABEL_CODES else tensor.to(torch.int64)).contiguous()


def check_n_classes(n_classes: int) -> None:
    """Raises TypeError or ValueError unless `n_classes` is an integer of at least 1 that 31 bits hold."""
    if not isinstance(n_classes, int | np.integer | torch.SymInt) or isinstance(n_classes, bool):
        raise TypeError(f"n_classes: expected an integer, got {type(n_classes).__name__}")
    if n_classes < 1:
        raise ValueError(f"n_classes: expected at least 1, got {n_classes}")
    if n_classes > _MAX_CLASSES:
        raise ValueError(f"n_classes: expected at most {_MAX_CLASSES}, got {n_classes}")


def _as_tensor(array: Array, name: str) -> Tensor:
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise TypeError(f"{name}: expected a dense tensor, got layout {array.layout}")
        return array.detach().resolve_neg()
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy array or a torch tensor, got {type(array).__name__}")
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if not array.dtype.isnative or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C")  # torch knows no such layout
    with warnings.catch_warnings():
        # A read-only array, such as a memory-mapped file, is fine: nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


# --- native -----------------------------------------------------------------------------------------------------------


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where a view into a byte buffer does not lie on its element size."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _features(features: Tensor) -> tuple[int, int, int, int, int]:
    n, d = features.shape
    return features.data_ptr(), _DTYPE_CODES[features.dtype], n, d, features.stride(0)


def _labels(labels: Tensor) -> tuple[int, int]:
    return labels.data_ptr(), _LABEL_CODES[labels.dtype]


def _native_class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    features = _aligned(as_features(features))
    labels = _aligned(as_labels(labels, features))
    check_n_classes(n_classes)
    return _native_stats(features, labels, n_classes)


def _native_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    count = torch.zeros(n_classes, dtype=torch.int64)
    mean = torch.full((n_classes, features.shape[1]), torch.nan, dtype=torch.float64)
    scatter = torch.zeros(n_classes, dtype=torch.float64)
    _add_rows(features, labels, count, mean, scatter)
    return count, mean, scatter


def _native_class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    features = _aligned(as_features(features))
    labels = _aligned(as_labels(labels, features))
    _check_stats(features, count, mean, scatter)
    _add_rows(features, labels, count, mean, scatter)


def _add_rows(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    into = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    _core.add_rows(_features(features), _labels(labels), mean.shape[0], torch.get_num_threads(), *into)


def _check_stats(features: Tensor | None, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    expected = (torch.int64, torch.float64, torch.float64)
    if (count.dtype, mean.dtype, scatter.dtype) != expected:
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
        raise ValueError(f"stats: expected one device for all, got {count.device}, {mean.device}, {scatter.device}")
    if not (count.is_contiguous() and mean.is_contiguous() and scatter.is_contiguous()):
        raise ValueError("stats: expected contiguous tensors")


class _NativeScorer:
    """Class means made ready for pass 2, once per type that features come in."""

    def __init__(self, means: Tensor, gram: bool) -> None:
        self.means = means.detach().resolve_neg().to(torch.float64).contiguous()
        self.gram = gram
        self.centres: dict[bool, Any] = {}

    def __call__(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        n_classes, d = self.means.shape
        wide, threads = features.dtype == torch.float64, torch.get_num_threads()
        if wide not in self.centres:
            self.centres[wide] = _core.Centres(self.means.data_ptr(), n_classes, d, wide, self.gram, threads)
        nearest = torch.empty(features.shape[0], dtype=torch.int64)
        side = n_classes if self.gram else 0
        gram, directional = (torch.empty((side, side), dtype=torch.float64) for _ in range(2))
        into = nearest.data_ptr(), gram.data_ptr(), directional.data_ptr()
        classes = (0, 0) if labels is None else _labels(labels)
        _core.class_scores(_features(features), classes, self.centres[wide], threads, *into)
        return nearest, gram, directional


def _native_class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, gram: bool
) -> tuple[Tensor, Tensor, Tensor]:
    features = _aligned(as_features(features))
    return _NativeScorer(means, gram)(features, _gram_labels(labels, features) if gram else None)


def _gram_labels(labels: Tensor | None, features: Tensor) -> Tensor:
    if labels is None:
        raise ValueError("gram: needs labels")
    return _aligned(as_labels(labels, features))


def _native_measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    features = _aligned(as_features(features))
    labels = _aligned(as_labels(labels, features))
    check_n_classes(n_classes)
    stats = _native_stats(features, labels, n_classes)
    return *stats, *_NativeScorer(stats[1], gram)(features, labels if gram else None)


def _native_cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    _check_stats(None, count, mean, scatter)
    n_classes, d = mean.shape
    of = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    return torch.tensor(_core.cdnv(*of, n_classes, d, torch.get_num_threads()), dtype=torch.float64)


# --- reference --------------------------------------------------------------------------------------------------------


def check_labels(labels: Tensor, n_classes: int) -> None:
    """Raises ValueError with the first label outside [0, n_classes), as the native kernels do."""
    bad = (labels < 0) | (labels >= n_classes)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(f"labels: expected values in [0, {n_classes}), got {int(labels[index])} at index {index}")


def _reference_class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    features = as_features(features)
    labels = as_labels(labels, features).long()
    check_n_classes(n_classes)
    check_labels(labels, n_classes)
    count = torch.bincount(labels, minlength=n_classes)
    total = features.new_zeros((n_classes, features.shape[1]), dtype=torch.float64)
    for rows in _chunks(features):
        total.index_add_(0, labels[rows], features[rows].double())
    mean = total / count[:, None]  # 0 / 0 makes the NaN of an empty class
    scatter = total.new_zeros(n_classes)
    for rows in _chunks(features):
        y = labels[rows]
        scatter.index_add_(0, y, (features[rows].double() - mean[y]).square().sum(dim=1))
    return count, mean, scatter


def _reference_class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    features = as_features(features)
    _check_stats(features, count, mean, scatter)
    merge_stats((count, mean, scatter), _reference_class_stats(features, labels, mean.shape[0]))


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
    count.copy_(total)


def _reference_class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, gram: bool
) -> tuple[Tensor, Tensor, Tensor]:
    features, means = as_features(features), means.double()
    n_classes = means.shape[0]
    if gram:
        labels = _gram_labels(labels, features).long()
        check_labels(labels, n_classes)
    active = means.isfinite().all(dim=1)
    shift = means[active].mean(dim=0) if bool(active.any()) else torch.zeros_like(means[0])
    centred = torch.where(active[:, None], means - shift, 0.0)
    sq_norm = torch.where(active, centred.square().sum(dim=1), torch.inf)  # an inactive class is infinitely far
    cross = centred @ centred.T
    nearest = features.new_empty(features.shape[0], dtype=torch.int64)
    side = n_classes if gram else 0
    gram_out, directional = means.new_zeros((side, side)), means.new_zeros((side, side))
    for rows in _chunks(features):
        x = features[rows].double()
        dots = (x - shift) @ centred.T
        found = (sq_norm - 2 * dots).argmin(dim=1)  # torch's argmin returns the first minimum on the CPU
        usable = (x - shift).square().sum(dim=1).isfinite() & active.any()
        nearest[rows] = torch.where(usable, found, -1)
        if gram:
            assert labels is not None  # checked above
            y = labels[rows]
            residual = torch.where(active[y, None] & active, dots - cross[y], 0.0)
            gram_out += residual.T @ residual
            between = torch.where(active, residual - residual.gather(1, y[:, None]), 0.0)
            directional.index_add_(0, y, between.square())
    return nearest, gram_out, directional


def _reference_measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats = _reference_class_stats(features, labels, n_classes)
    return *stats, *_reference_class_scores(features, labels, stats[1], gram)


def _reference_cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    _check_stats(None, count, mean, scatter)
    filled = count > 0
    variance, sq_distance = (scatter / count)[filled], sq_distances(mean[filled])
    values = torch.where(sq_distance == 0, torch.inf, (variance[:, None] + variance) / (2 * sq_distance))
    pairs = torch.triu(torch.ones_like(sq_distance, dtype=torch.bool), diagonal=1)
    return values[pairs].mean()


def sq_distances(means: Tensor) -> Tensor:
    """(C, C) squared distances, by differences: a matrix product loses close means in the norms of distant ones."""
    return torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").square()


def _chunks(features: Tensor) -> list[slice]:
    n, d = features.shape
    step = max(1, _CHUNK_ELEMENTS // d)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


# --- registration -----------------------------------------------------------------------------------------------------

_SCHEMAS = {
    "class_stats": "(Tensor features, Tensor labels, SymInt n_classes) -> (Tensor, Tensor, Tensor)",
    "class_update": "(Tensor features, Tensor labels, Tensor(a!) count, Tensor(b!) mean, Tensor(c!) scatter) -> ()",
    "class_scores": "(Tensor features, Tensor? labels, Tensor means, bool gram) -> (Tensor, Tensor, Tensor)",
    "measure": "(Tensor features, Tensor labels, SymInt n_classes, bool gram)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    "cdnv": "(Tensor count, Tensor mean, Tensor scatter) -> Tensor",
}
_REFERENCE: dict[str, Callable[..., Any]] = {
    "class_stats": _reference_class_stats,
    "class_update": _reference_class_update,
    "class_scores": _reference_class_scores,
    "measure": _reference_measure,
    "cdnv": _reference_cdnv,
}
_NATIVE: dict[str, Callable[..., Any]] = {
    "class_stats": _native_class_stats,
    "class_update": _native_class_update,
    "class_scores": _native_class_scores,
    "measure": _native_measure,
    "cdnv": _native_cdnv,
}
for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"ncharness::{_name}", _schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(f"ncharness::{_name}", "default", _REFERENCE[_name])
    if _core is not None:
        torch.library.impl(f"ncharness::{_name}", "cpu", _NATIVE[_name])


def _fake_class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001  # the schema names them
    scatter = features.new_empty(n_classes, dtype=torch.float64)
    return scatter.to(torch.int64), scatter.new_empty((n_classes, features.shape[1])), scatter


def _fake_class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    """Writes to its arguments alone."""


def _fake_class_scores(
    features: Tensor,
    labels: Tensor | None,  # noqa: ARG001  # the schema names it
    means: Tensor,
    gram: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    side = means.shape[0] if gram else 0
    nearest = features.new_empty(features.shape[0], dtype=torch.int64)
    square = features.new_empty((side, side), dtype=torch.float64)
    return nearest, square, torch.empty_like(square)


def _fake_measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats = _fake_class_stats(features, labels, n_classes)
    return *stats, *_fake_class_scores(features, labels, stats[1], gram)


def _fake_cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:  # noqa: ARG001  # the schema names them
    return scatter.new_empty(())


_FAKE: dict[str, Callable[..., Any]] = {
    "class_stats": _fake_class_stats,
    "class_update": _fake_class_update,
    "class_scores": _fake_class_scores,
    "measure": _fake_measure,
    "cdnv": _fake_cdnv,
}
for _name, _fake in _FAKE.items():
    torch.library.register_fake(f"ncharness::{_name}", _fake)

# --- the way in -------------------------------------------------------------------------------------------------------


def class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pass 1: count (C,) int64, mean (C, d) and scatter (C,) float64 of the rows of each class."""
    count, mean, scatter = torch.ops.ncharness.class_stats.default(features, labels, n_classes)
    return count, mean, scatter


def class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    """Adds rows to the count, mean and scatter of each class, in place."""
    torch.ops.ncharness.class_update.default(features, labels, count, mean, scatter)


def class_scores(
    features: Tensor, labels: Tensor | None, means: Tensor, *, gram: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass 2: nearest (n,) int64, and with `gram` gram (C, C) and directional (C, C) float64, given the class means."""
    _check_means(means, features)
    nearest, gram_out, directional = torch.ops.ncharness.class_scores.default(features, labels, means, gram)
    return nearest, gram_out, directional


def measure(features: Tensor, labels: Tensor, n_classes: int, *, gram: bool = False) -> tuple[Tensor, ...]:
    """Both passes: what `class_stats` gives, then what `class_scores` gives for its means."""
    found: tuple[Tensor, ...] = torch.ops.ncharness.measure.default(features, labels, n_classes, gram)
    return found


def nearest_centre(means: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from features (n, d) to the nearest of the means (C, d), which are prepared once for many batches."""
    if _core is None or means.device.type != "cpu" or torch.compiler.is_compiling():
        return lambda features: class_scores(features, None, means)[0]
    scorer = _NativeScorer(means, gram=False)

    def nearest(features: Tensor) -> Tensor:
        _check_means(means, features)
        return scorer(_aligned(as_features(features)), None)[0]

    return nearest


def _check_means(means: Tensor, features: Tensor) -> None:
    if features.ndim != 2:
        raise ValueError(f"features: expected shape (n, d), got {tuple(features.shape)}")
    if means.ndim != 2 or len(means) < 1 or means.shape[1:] != features.shape[1:]:
        raise ValueError(f"means: expected shape (C, {features.shape[1]}) as features, got {tuple(means.shape)}")
    if means.device != features.device:
        raise ValueError(f"means: expected device {features.device} as features, got {means.device}")


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    """The class-distance normalised variance, averaged over pairs of classes that have rows; see `metrics.cdnv`."""
    value: Tensor = torch.ops.ncharness.cdnv.default(count, mean, scatter)
    return value


def read(features: Array) -> int:
    """One vectorised read of the matrix on all torch threads: the floor that the passes are measured against.

    Returns a checksum of the bits. Without the native extension, or off the CPU, torch's sum does the reading.
    """
    x = as_features(features)
    if _core is None or x.device.type != "cpu":
        return int(x.sum() != 0)
    x = _aligned(x)  # which must outlive the call
    return int(_core.read(_features(x), torch.get_num_threads()))

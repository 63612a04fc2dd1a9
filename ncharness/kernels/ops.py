"""The two passes over a feature matrix as `torch.library` ops, and the dispatch to their implementations.

`torch.ops.ncharness.class_stats(features, labels, n_classes)` -> count (C,) int64, mean (C, d), scatter (C,) float64
`torch.ops.ncharness.class_update(features, labels, count, mean, scatter)` adds rows to those, in place
`torch.ops.ncharness.class_scores(features, labels, means, gram)` -> nearest (n,) int64, gram (C, C), directional
(C, C) float64; empty ones where no Gram was asked for, which alone needs labels
`torch.ops.ncharness.measure(features, labels, n_classes, gram)` -> results of class_stats, then of class_scores
`torch.ops.ncharness.cdnv(count, mean, scatter)` -> a float64 scalar
csrc/class_stats.hpp defines each result.

CPU tensors are served by the native CPU kernels, CUDA tensors by the CUDA kernels where the extension has them, and all
others by the torch reference. `backend()` says which, and why.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ncharness.kernels import cpu, cuda, reference
from ncharness.kernels.arguments import Array, as_features, as_labels, check_means, check_n_classes, check_stats


class Backend(NamedTuple):
    """Implementation that serves a device: `cpu`, `cuda` (both native) or `torch` (the reference), and the reason."""

    name: str
    reason: str


def backend(device: torch.device | str = "cpu") -> Backend:
    """Return the implementation behind the ops for tensors of a device, and the reason.

    Args:
        device: Device; numpy arrays count as the CPU's.

    Returns:
        Name (`cpu`, `cuda` or `torch`) and reason in one sentence.

    Examples:
        >>> import ncharness as nc
        >>> nc.backend("meta").name
        'torch'
    """
    device = torch.device(device)
    if not cpu.available():
        hint = (
            "; after a plain `pip install .`, Python started in the source tree finds the tree, not the installed "
            "package: use `pip install -e .` or `python -P`"
        )
        why = f"the native extension could not be imported ({cpu.missing})"
        return Backend("torch", why + (hint if cpu.missing.startswith("No module") else ""))
    if device.type == "cpu":
        level, levels = cpu.instruction_sets()
        return Backend("cpu", f"native kernels, instruction set {level} of {', '.join(levels)}")
    if device.type != "cuda":
        return Backend("torch", f"there are no native kernels for {device.type} devices")
    if cuda.available() and not torch.cuda.is_available():
        return Backend("torch", "the native extension has kernels for CUDA devices, but torch finds no such device")
    if why := cuda.refusal(device):
        return Backend("torch", why)
    major, minor = torch.cuda.get_device_capability(device)
    return Backend("cuda", f"native kernels, compute capability {major}.{minor}")


def _kernels(tensor: Tensor) -> ModuleType:
    if tensor.device.type == "cuda":
        return reference if cuda.refusal(tensor.device) else cuda
    return cpu if tensor.device.type == "cpu" and cpu.available() else reference


def _dispatched() -> bool:
    # What is compiled, traced or watched goes through torch's dispatcher. Any other call is spared the detour, which
    # takes longer than the smallest batches do.
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode()


def _function(name: str, tensor: Tensor, kernels: ModuleType | None) -> Callable[..., Any]:
    if kernels is None and _dispatched():
        return getattr(torch.ops.ncharness, name).default  # type: ignore[no-any-return]
    return getattr(kernels or _kernels(tensor), name)  # type: ignore[no-any-return]


# --- the way in; `kernels` is for the ops themselves, which are these functions with `native` or `reference` ----------


def class_stats(
    features: Array, labels: Array, n_classes: int, *, kernels: ModuleType | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass 1: count (C,) int64, mean (C, d) and scatter (C,) float64 of the rows of each class."""
    x = as_features(features)
    y = as_labels(labels, x)
    check_n_classes(n_classes)
    count, mean, scatter = _function("class_stats", x, kernels)(x, y, n_classes)
    return count, mean, scatter


def class_update(
    features: Array, labels: Array, count: Tensor, mean: Tensor, scatter: Tensor, *, kernels: ModuleType | None = None
) -> None:
    """Add rows to the count, mean and scatter of each class, in place."""
    x = as_features(features)
    y = as_labels(labels, x)
    check_stats(x, count, mean, scatter)
    _function("class_update", x, kernels)(x, y, count, mean, scatter)


def class_scores(
    features: Array, labels: Array | None, means: Tensor, gram: bool = False, *, kernels: ModuleType | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pass 2: nearest (n,) int64, and with `gram` gram (C, C) and directional (C, C) float64, given the class means."""
    x = as_features(features)
    if gram and labels is None:
        raise ValueError("gram: needs labels")
    y = as_labels(labels, x) if gram and labels is not None else None
    check_means(means, x)
    nearest, gram_out, directional = _function("class_scores", x, kernels)(x, y, means, gram)
    return nearest, gram_out, directional


def measure(
    features: Array, labels: Array, n_classes: int, gram: bool = False, *, kernels: ModuleType | None = None
) -> tuple[Tensor, ...]:
    """Run both passes: the results of `class_stats`, then those of `class_scores` for its means."""
    x = as_features(features)
    y = as_labels(labels, x)
    check_n_classes(n_classes)
    found: tuple[Tensor, ...] = _function("measure", x, kernels)(x, y, n_classes, gram)
    return found


def scorer(means: Tensor, gram: bool = False) -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, Tensor]]:
    """Return pass 2 as a function of features (n, d) and labels, for means (C, d) prepared once for many batches.

    The Gram and the directional sums of several batches add up to those of all their rows.
    """
    kernels = _kernels(means)
    if kernels is reference or _dispatched():
        return lambda features, labels: class_scores(features, labels, means, gram)
    prepared = kernels.Scorer(means, gram=gram)

    def scores(features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        x = as_features(features)
        if gram and labels is None:
            raise ValueError("gram: needs labels")
        y = as_labels(labels, x) if gram and labels is not None else None
        check_means(means, x)
        nearest, gram_out, directional = prepared(x, y)
        return nearest, gram_out, directional

    return scores


def nearest_centre(means: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function from features (n, d) to the nearest of the means (C, d), prepared once for many batches."""
    score = scorer(means)
    return lambda features: score(features, None)[0]


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor, *, kernels: ModuleType | None = None) -> Tensor:
    """The class-distance normalised variance, averaged over pairs of classes that have rows; see `metrics.cdnv`."""
    check_stats(None, count, mean, scatter)
    value: Tensor = _function("cdnv", mean, kernels)(count, mean, scatter)
    return value


def read(features: Array) -> int:
    """One vectorised read of the matrix on all torch threads: the floor that the passes are measured against.

    Returns a checksum of the bits. Without the native extension, or off the CPU, torch's sum does the reading.
    """
    x = as_features(features)
    return cpu.read(x) if _kernels(x) is cpu else int(x.sum() != 0)


# --- registration -----------------------------------------------------------------------------------------------------

_SCHEMAS = {
    "class_stats": "(Tensor features, Tensor labels, SymInt n_classes) -> (Tensor, Tensor, Tensor)",
    "class_update": "(Tensor features, Tensor labels, Tensor(a!) count, Tensor(b!) mean, Tensor(c!) scatter) -> ()",
    "class_scores": "(Tensor features, Tensor? labels, Tensor means, bool gram) -> (Tensor, Tensor, Tensor)",
    "measure": "(Tensor features, Tensor labels, SymInt n_classes, bool gram)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    "cdnv": "(Tensor count, Tensor mean, Tensor scatter) -> Tensor",
}


_OPS: dict[str, Callable[..., Any]] = {
    "class_stats": class_stats,
    "class_update": class_update,
    "class_scores": class_scores,
    "measure": measure,
    "cdnv": cdnv,
}


def _on_device(op: Callable[..., Any], *args: Any) -> Any:
    return op(*args, kernels=_kernels(args[0]))


for _name, _op in _OPS.items():
    torch.library.define(f"ncharness::{_name}", _SCHEMAS[_name], tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(f"ncharness::{_name}", "default", partial(_op, kernels=reference))
    if cpu.available():
        torch.library.impl(f"ncharness::{_name}", "cpu", partial(_op, kernels=cpu))
    if cuda.available():
        torch.library.impl(f"ncharness::{_name}", "cuda", partial(_on_device, _op))


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

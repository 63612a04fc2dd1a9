"""Compiled kernels for CUDA tensors, enqueued on the current stream without waiting for the device.

Arguments must have been converted and checked by `arguments`; csrc/cuda.hpp defines the results. Memory comes from
torch's allocator. A label out of range raises nothing here, because the labels have not been read yet: it invalidates
the statistics, and `merging.first_bad_label` finds it in them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeAlias

import torch
from torch import Tensor

from ncharness.kernels import cpu, reference
from ncharness.kernels.pointers import aligned, empty_scores, empty_stats, of_all, of_features, of_labels

_core = cpu._core  # None where the extension could not be imported

LEAST_CAPABILITY = (8, 0)
"""Least compute capability of a device: its tensor cores multiply bfloat16."""

_Pass1: TypeAlias = Callable[
    [tuple[int, int, int, int, int], tuple[int, int], int, int, int, int, tuple[int, int], int], None
]


def available() -> bool:
    """Return whether the extension has kernels for CUDA devices."""
    return hasattr(_core, "cuda_class_stats")


@cache
def refusal(device: torch.device) -> str:
    """Return the reason for not using the kernels on this device, or an empty string.

    The first call for a device waits for it.
    """
    if not available():
        return "the native extension was built without nvcc"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"the kernels need compute capability 8.0, and this device has {capability[0]}.{capability[1]}"
    try:
        why = "" if agrees_with_reference(device) else "gave wrong answers"
    except RuntimeError as error:  # for example an older driver, or no code for this device
        why = f"failed ({error})"
    if why:
        warnings.warn(f"the kernels {why} on {device}, which gets the torch reference", stacklevel=2)
    return why and f"the kernels {why} on this device"


def agrees_with_reference(device: torch.device) -> bool:
    """Return whether kernels and reference agree on small examples: the device may be newer than the kernels."""
    generator = torch.Generator().manual_seed(0)
    for n_classes in (10, 40):
        y = torch.arange(3 * n_classes, device="cpu") % n_classes
        centres, noise = (torch.randn(n, 70, generator=generator, device="cpu") for n in (n_classes, len(y)))
        x, y = (3 * centres[y] + noise).to(device), y.to(device)
        true, found = reference.measure(x, y, n_classes, True), measure(x, y, n_classes, True)
        for mine, expected in zip(found, true, strict=True):
            if not torch.allclose(mine.double(), expected.double(), rtol=1e-5, atol=1e-5 * float(expected.abs().max())):
                return False
    return True


def class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    stats = empty_stats(n_classes, features.shape[1], features.device)
    _add(_core.cuda_class_stats, features, labels, stats)
    return stats


def class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    _add(_core.cuda_add_rows, features, labels, (count, mean, scatter))


def class_scores(features: Tensor, labels: Tensor | None, means: Tensor, gram: bool) -> tuple[Tensor, Tensor, Tensor]:
    return Scorer(means, gram)(features, labels)


def measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats = class_stats(features, labels, n_classes)
    return *stats, *class_scores(features, labels, stats[1], gram)


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    n_classes, d = mean.shape
    value = torch.empty((), dtype=torch.float64, device=mean.device)
    with _stream(mean.device) as stream:
        scratch = _memory(_core.cuda_cdnv_bytes(n_classes), mean.device)
        of = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
        _core.cuda_cdnv(*of, n_classes, d, value.data_ptr(), _place(scratch), stream)
    return value


class Scorer:
    """Pass 2 for fixed class means, which are prepared once for float64 features and once for all others."""

    def __init__(self, means: Tensor, gram: bool) -> None:
        # A copy, because the caller may change the means later, and near ties are decided by comparing with them.
        self.means = means.detach().to(torch.float64, copy=True).resolve_neg().contiguous()
        self.gram = gram
        # By whether features are float64, and by stream, because streams do not wait for each other.
        self.centres: dict[tuple[bool, int], Tensor] = {}

    def __call__(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        n_classes, d = self.means.shape
        n, device, float64 = features.shape[0], features.device, features.dtype == torch.float64
        features, labels = aligned(features), None if labels is None else aligned(labels)
        of = self.means.data_ptr(), n_classes
        if self.means.is_cuda:
            self.means.record_stream(torch.cuda.current_stream(device))
        with _stream(device) as stream:
            centres = self.centres.get((float64, stream))
            if centres is None:
                centres = _memory(_core.cuda_centres_bytes(n_classes, d, float64, self.gram), device)
                _core.cuda_prepare(*of, d, float64, self.gram, _place(centres), stream)
                if not _capturing(device):  # what a graph recorded exists only once it has run
                    self.centres[float64, stream] = centres
            scores = empty_scores(n, n_classes, self.gram, device)
            scratch = _memory(_core.cuda_scores_bytes(n, n_classes, d, float64, self.gram), device)
            prepared, into = _place(centres), of_all(scores)
            _core.cuda_class_scores(
                of_features(features), of_labels(labels), *of, self.gram, prepared, *into, _place(scratch), stream
            )
        return scores


def _add(add: _Pass1, features: Tensor, labels: Tensor, into: tuple[Tensor, Tensor, Tensor]) -> None:
    (n, d), n_classes = features.shape, into[1].shape[0]
    features, labels = aligned(features), aligned(labels)
    with _stream(features.device) as stream:
        scratch = _memory(_core.cuda_stats_bytes(n, d, n_classes), features.device)
        add(of_features(features), of_labels(labels), n_classes, *of_all(into), _place(scratch), stream)


@contextmanager
def _stream(device: torch.device) -> Iterator[int]:
    """Make the device the current one and yield the handle of its current stream."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _memory(size: int, device: torch.device) -> Tensor:
    # May be freed before the kernels that use it have run: torch reuses it only for later work of the same stream.
    return torch.empty(size, dtype=torch.uint8, device=device)


def _place(memory: Tensor) -> tuple[int, int]:
    return memory.data_ptr(), memory.numel()

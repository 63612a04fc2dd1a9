"""The compiled kernels for CUDA tensors: on the current stream, without waiting for the device.

Arguments are as `arrays` makes and checks them; csrc/cuda.hpp says what is computed. Memory comes from torch's
allocator. A label out of range raises nothing here, where nobody has looked yet: it spoils the statistics, and
`first_bad_label` finds it in them.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from ncharness.kernels import cpu, reference
from ncharness.kernels.pointers import aligned, empty_scores, empty_stats, of_all, of_features, of_labels

_core = cpu._core  # type: ignore[attr-defined]  # that module's import, on purpose

LEAST_CAPABILITY = (8, 0)
"""Of a device: it multiplies bfloat16 on its tensor cores."""


def available() -> bool:
    """Whether the extension has kernels for CUDA devices."""
    return hasattr(_core, "cuda_class_stats")


@cache
def refusal(device: torch.device) -> str:
    """Why the kernels do not serve this device; empty where they do. Finding out waits for the device, once."""
    if not available():
        return "the native extension was built without nvcc"
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        return f"the kernels need compute capability 8.0, and this device has {capability[0]}.{capability[1]}"
    try:
        why = "" if agrees_with_reference(device) else "gave wrong answers"
    except RuntimeError as error:  # such as of a driver older than they are, or no code for this device
        why = f"failed ({error})"
    if why:
        warnings.warn(f"the kernels {why} on {device}, which gets the torch reference", stacklevel=2)
    return why and f"the kernels {why} on this device"


def agrees_with_reference(device: torch.device) -> bool:
    """Whether the kernels give the reference's answers on small examples: a device may be newer than they are."""
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
    """Class means made ready for pass 2, once per type that features come in."""

    def __init__(self, means: Tensor, gram: bool) -> None:
        # A copy: near ties are decided by them, and whose they are may go on changing them.
        self.means = means.detach().to(torch.float64, copy=True).resolve_neg().contiguous()
        self.gram = gram
        self.centres: dict[tuple[bool, int], Tensor] = {}  # by stream, as no stream waits for another

    def __call__(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        n_classes, d = self.means.shape
        n, device, wide = features.shape[0], features.device, features.dtype == torch.float64
        features, labels = aligned(features), None if labels is None else aligned(labels)
        of = self.means.data_ptr(), n_classes
        if self.means.is_cuda:
            self.means.record_stream(torch.cuda.current_stream(device))
        with _stream(device) as stream:
            centres = self.centres.get((wide, stream))
            if centres is None:
                centres = _memory(_core.cuda_centres_bytes(n_classes, d, wide, self.gram), device)
                _core.cuda_prepare(*of, d, wide, self.gram, _place(centres), stream)
                if not _capturing(device):  # what a graph has recorded is there once it has run
                    self.centres[wide, stream] = centres
            scores = empty_scores(n, n_classes, self.gram, device)
            scratch = _memory(_core.cuda_scores_bytes(n, n_classes, d, wide, self.gram), device)
            prepared, into = _place(centres), of_all(scores)
            _core.cuda_class_scores(
                of_features(features), of_labels(labels), *of, self.gram, prepared, *into, _place(scratch), stream
            )
        return scores


def _add(add, features: Tensor, labels: Tensor, into: tuple[Tensor, Tensor, Tensor]) -> None:  # type: ignore[no-untyped-def]  # a function of the extension
    (n, d), n_classes = features.shape, into[1].shape[0]
    features, labels = aligned(features), aligned(labels)
    with _stream(features.device) as stream:
        scratch = _memory(_core.cuda_stats_bytes(n, d, n_classes), features.device)
        add(of_features(features), of_labels(labels), n_classes, *of_all(into), _place(scratch), stream)


@contextmanager
def _stream(device: torch.device) -> Iterator[int]:
    """The current stream of a device, which is the current device meanwhile."""
    with torch.cuda.device(device):
        yield torch.cuda.current_stream(device).cuda_stream


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _memory(size: int, device: torch.device) -> Tensor:
    # Given back to torch while kernels that use it are still to run, it goes to later work of the same stream alone.
    return torch.empty(size, dtype=torch.uint8, device=device)


def _place(memory: Tensor) -> tuple[int, int]:
    return memory.data_ptr(), memory.numel()

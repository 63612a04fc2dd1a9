"""The compiled kernels for CPU tensors: the only module that knows the extension.

Arguments are as `arrays` makes and checks them; csrc/class_stats.hpp says what is computed. The extension gets
addresses and sizes, so every tensor here must outlive the call it is passed to.
"""

from typing import Any

import torch
from torch import Tensor

from ncharness.arrays import FLOATS, LABELS

try:
    import ncharness._core as _core

    missing = ""
except ImportError as error:
    _core = None  # type: ignore[assignment]  # the reference serves, and ops.backend() says so
    missing = str(error)

_DTYPE_CODES = {dtype: code for code, dtype in enumerate(FLOATS)}  # csrc/class_stats.hpp: DType
_LABEL_CODES = {dtype: code for code, dtype in enumerate(LABELS)}  # LabelType


def available() -> bool:
    """Whether the extension could be imported; `missing` says why not."""
    return _core is not None


def instruction_sets() -> tuple[str, list[str]]:
    """The one in use, and all that this processor has, best first."""
    return _core.level(), _core.levels()


def class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    stats = _empty_stats(n_classes, features.shape[1])
    features, labels = _aligned(features), _aligned(labels)
    _core.class_stats(_features(features), _labels(labels), n_classes, torch.get_num_threads(), *_addresses(stats))
    return stats


def class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    features, labels = _aligned(features), _aligned(labels)
    into = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    _core.add_rows(_features(features), _labels(labels), mean.shape[0], torch.get_num_threads(), *into)


def class_scores(features: Tensor, labels: Tensor | None, means: Tensor, gram: bool) -> tuple[Tensor, Tensor, Tensor]:
    return Scorer(means, gram)(features, labels)


def measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats, scores = _empty_stats(n_classes, features.shape[1]), _empty_scores(features.shape[0], n_classes, gram)
    features, labels = _aligned(features), _aligned(labels)
    into = *_addresses(stats), *_addresses(scores)
    _core.measure(_features(features), _labels(labels), n_classes, gram, torch.get_num_threads(), *into)
    return *stats, *scores


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    n_classes, d = mean.shape
    of = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    return torch.tensor(_core.cdnv(*of, n_classes, d, torch.get_num_threads()), dtype=torch.float64)


def read(features: Tensor) -> int:
    features = _aligned(features)
    return int(_core.read(_features(features), torch.get_num_threads()))


class Scorer:
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
        features, labels = _aligned(features), None if labels is None else _aligned(labels)
        classes = (0, 0) if labels is None else _labels(labels)
        scores = _empty_scores(features.shape[0], n_classes, self.gram)
        _core.class_scores(_features(features), classes, self.centres[wide], threads, *_addresses(scores))
        return scores


def _empty_stats(n_classes: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        torch.empty(n_classes, dtype=torch.int64),
        torch.empty((n_classes, d), dtype=torch.float64),
        torch.empty(n_classes, dtype=torch.float64),
    )


def _empty_scores(n: int, n_classes: int, gram: bool) -> tuple[Tensor, Tensor, Tensor]:
    side = n_classes if gram else 0
    gram_out, directional = (torch.empty((side, side), dtype=torch.float64) for _ in range(2))
    return torch.empty(n, dtype=torch.int64), gram_out, directional


def _addresses(tensors: tuple[Tensor, Tensor, Tensor]) -> tuple[int, int, int]:
    first, second, third = tensors
    return first.data_ptr(), second.data_ptr(), third.data_ptr()


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy where a view into a byte buffer does not lie on its element size."""
    return tensor.clone() if tensor.data_ptr() % tensor.element_size() else tensor


def _features(features: Tensor) -> tuple[int, int, int, int, int]:
    n, d = features.shape
    return features.data_ptr(), _DTYPE_CODES[features.dtype], n, d, features.stride(0)


def _labels(labels: Tensor) -> tuple[int, int]:
    return labels.data_ptr(), _LABEL_CODES[labels.dtype]

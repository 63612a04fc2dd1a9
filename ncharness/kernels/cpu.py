"""Compiled kernels for CPU tensors. Only this module imports the extension.

Arguments must have been converted and checked by `arguments`; csrc/class_stats.hpp defines the results.
"""

import torch
from torch import Tensor

from ncharness.kernels.pointers import aligned, empty_scores, empty_stats, of_all, of_features, of_labels

try:
    from ncharness.kernels import _core as _core

    missing = ""
except ImportError as error:
    _core = None  # type: ignore[assignment]  # the reference is used instead, and ops.backend() says so
    missing = str(error)


def available() -> bool:
    """Return whether the extension could be imported; if not, `missing` holds the reason."""
    return _core is not None


def instruction_sets() -> tuple[str, list[str]]:
    """Return the instruction set in use, and all that this processor has, best first."""
    return _core.level(), _core.levels()


def class_stats(features: Tensor, labels: Tensor, n_classes: int) -> tuple[Tensor, Tensor, Tensor]:
    stats = empty_stats(n_classes, features.shape[1])
    features, labels = aligned(features), aligned(labels)
    _core.class_stats(of_features(features), of_labels(labels), n_classes, torch.get_num_threads(), *of_all(stats))
    return stats


def class_update(features: Tensor, labels: Tensor, count: Tensor, mean: Tensor, scatter: Tensor) -> None:
    features, labels = aligned(features), aligned(labels)
    into = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    _core.add_rows(of_features(features), of_labels(labels), mean.shape[0], torch.get_num_threads(), *into)


def class_scores(features: Tensor, labels: Tensor | None, means: Tensor, gram: bool) -> tuple[Tensor, Tensor, Tensor]:
    return Scorer(means, gram)(features, labels)


def measure(features: Tensor, labels: Tensor, n_classes: int, gram: bool) -> tuple[Tensor, ...]:
    stats, scores = empty_stats(n_classes, features.shape[1]), empty_scores(features.shape[0], n_classes, gram)
    features, labels = aligned(features), aligned(labels)
    into = *of_all(stats), *of_all(scores)
    _core.measure(of_features(features), of_labels(labels), n_classes, gram, torch.get_num_threads(), *into)
    return *stats, *scores


def cdnv(count: Tensor, mean: Tensor, scatter: Tensor) -> Tensor:
    n_classes, d = mean.shape
    of = count.data_ptr(), mean.data_ptr(), scatter.data_ptr()
    return torch.tensor(_core.cdnv(*of, n_classes, d, torch.get_num_threads()), dtype=torch.float64)


def read(features: Tensor) -> int:
    features = aligned(features)
    return int(_core.read(of_features(features), torch.get_num_threads()))


class Scorer:
    """Pass 2 for fixed class means, which are prepared once for float64 features and once for all others."""

    def __init__(self, means: Tensor, gram: bool) -> None:
        self.means = means.detach().resolve_neg().to(torch.float64).contiguous()
        self.gram = gram
        self.centres: dict[bool, _core.Centres] = {}  # by whether features are float64

    def __call__(self, features: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        n_classes, d = self.means.shape
        float64, threads = features.dtype == torch.float64, torch.get_num_threads()
        if float64 not in self.centres:
            self.centres[float64] = _core.Centres(self.means.data_ptr(), n_classes, d, float64, self.gram, threads)
        features, labels = aligned(features), None if labels is None else aligned(labels)
        scores = empty_scores(features.shape[0], n_classes, self.gram)
        _core.class_scores(of_features(features), of_labels(labels), self.centres[float64], threads, *of_all(scores))
        return scores

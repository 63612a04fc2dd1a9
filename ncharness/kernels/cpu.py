"""The compiled kernels for CPU tensors, and the only module that imports the extension.

Arguments are as `arrays` makes and checks them; csrc/class_stats.hpp says what is computed.
"""

from typing import Any

import torch
from torch import Tensor

from ncharness.kernels.pointers import aligned, empty_scores, empty_stats, of_all, of_features, of_labels

try:
    from ncharness.kernels import _core

    missing = ""
except ImportError as error:
    _core = None  # type: ignore[assignment]  # the reference serves, and ops.backend() says so
    missing = str(error)


def available() -> bool:
    """Whether the extension could be imported; `missing` says why not."""
    return _core is not None


def instruction_sets() -> tuple[str, list[str]]:
    """The one in use, and all that this processor has, best first."""
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
        features, labels = aligned(features), None if labels is None else aligned(labels)
        scores = empty_scores(features.shape[0], n_classes, self.gram)
        _core.class_scores(of_features(features), of_labels(labels), self.centres[wide], threads, *of_all(scores))
        return scores

"""Common implementations of the measurement of neural collapse, each one plain function, and ours.

An implementation takes features (n, d) float32 on the CPU, labels (n,) int64 in which every class occurs, and the
number of classes C. Each is written as a careful user of the package would write it, not as a strawman: no Python loop
over rows, no `np.add.at`. Packages that may be missing are imported where they are used.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.measure import measure

MEMORY_LIMIT = 4 << 30
"""Bytes of temporaries above which an implementation is not run."""
TIME_LIMIT = 60.0
"""Estimated seconds of one call above which an implementation is not run."""
_CHUNK_ELEMENTS = 1 << 21  # 8 MiB of float32: small enough for the allocator to hand the same pages out again


class Shape(NamedTuple):
    """Numbers of rows, features and classes of a matrix."""

    n: int
    d: int
    C: int

    def __str__(self) -> str:
        return f"n={_short(self.n)} d={self.d} C={_short(self.C)}"


def _short(number: int) -> str:
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if number >= unit and number * 10 % unit == 0:
            return f"{number / unit:g}{letter}"
    return str(number)


class Answer(NamedTuple):
    """Results of a measurement: class means (C, d), variances (C,), the CDNV and NCC labels (n,).

    The variance is None where a package computes it internally and does not return it.
    """

    means: Tensor
    variance: Tensor | None
    cdnv: float
    nearest: Tensor


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One implementation. `kind` is ours, torch idiom, numpy or package.

    `temporaries` and `seconds` are pessimistic estimates of the bytes and the time of a call. They decide whether it is
    run.
    """

    name: str
    kind: str
    run: Callable[[Tensor, Tensor, int], Answer]
    temporaries: Callable[[Shape], float]
    seconds: Callable[[Shape], float] = lambda s: 4.0 * s.n * s.d * s.C / 2e10  # two GEMMs
    package: str = ""
    note: str = ""

    def refusal(self, shape: Shape) -> str:
        """Return the reason for not running it at this shape, or an empty string."""
        if self.package and find_spec(self.package) is None:
            return f"{self.package} is not installed"
        if (need := self.temporaries(shape)) > MEMORY_LIMIT:
            return f"not tried: about {need / 2**30:.1f} GiB of temporaries, limit {MEMORY_LIMIT / 2**30:g} GiB"
        if (need := self.seconds(shape)) > TIME_LIMIT:
            return f"not tried: about {need:.0f} s a call, limit {TIME_LIMIT:g} s"
        return ""


def ours(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    found = measure(x, y, n_classes)
    return Answer(found.stats.mean, found.stats.variance, float(found.cdnv), found.nearest)


# --- torch ------------------------------------------------------------------------------------------------------------


def torch_one_hot(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    hot = functional.one_hot(y, n_classes).to(x.dtype)
    count = hot.sum(0)
    means = hot.T @ x / count[:, None]
    variance = hot.T @ (x - means[y]).square().sum(1) / count
    return Answer(means, variance, _cdnv(means, variance), _nearest(x, means))


def torch_index_add(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    count, means = _index_add_means(x, y, n_classes)
    variance = x.new_zeros(n_classes).index_add_(0, y, (x - means[y]).square().sum(1)) / count
    return Answer(means, variance, _cdnv(means, variance), _nearest(x, means))


def torch_moments(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    count, means = _index_add_means(x, y, n_classes)
    second = x.new_zeros(n_classes).index_add_(0, y, torch.linalg.vector_norm(x, dim=1).square()) / count
    variance = second - means.square().sum(1)
    return Answer(means, variance, _cdnv(means, variance), _nearest(x, means))


def torch_cdist(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    count, means = _index_add_means(x, y, n_classes)
    distance = torch.cdist(x, means)
    own = distance.gather(1, y[:, None])[:, 0]
    variance = x.new_zeros(n_classes).index_add_(0, y, own.square()) / count
    return Answer(means, variance, _cdnv(means, variance), distance.argmin(1))


def torch_shift_chunks(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    count, shift = torch.bincount(y, minlength=n_classes), x[:1024].mean(0)
    step = max(1, _CHUNK_ELEMENTS // x.shape[1])
    chunks = list(zip(torch.split(x, step), torch.split(y, step), strict=True))
    means = x.new_zeros(n_classes, x.shape[1])
    for rows, labels in chunks:
        means.index_add_(0, labels, rows - shift)
    means /= count[:, None]
    scatter, nearest = x.new_zeros(n_classes), []
    for rows, labels in chunks:
        centred = rows - shift
        nearest.append(_nearest(centred, means))
        scatter.index_add_(0, labels, (centred - means[labels]).square().sum(1))
    variance = scatter / count
    return Answer(means + shift, variance, _cdnv(means, variance), torch.cat(nearest))


def _index_add_means(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    count = torch.bincount(y, minlength=n_classes)
    return count, x.new_zeros(n_classes, x.shape[1]).index_add_(0, y, x) / count[:, None]


def _nearest(x: Tensor, means: Tensor) -> Tensor:
    return torch.addmm(means.square().sum(1), x, means.T, alpha=-2).argmin(1)


def _cdnv(means: Tensor, variance: Tensor) -> float:
    values = (variance[:, None] + variance) / (2 * torch.cdist(means, means).square())
    n_classes = len(means)
    return float(values.fill_diagonal_(0.0).sum()) / (n_classes * (n_classes - 1))


# --- numpy and packages -----------------------------------------------------------------------------------------------


def numpy_by_class(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    features, labels = x.numpy(), y.numpy()
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(1, n_classes))
    means = np.empty((n_classes, features.shape[1]), features.dtype)
    variance = np.empty(n_classes, features.dtype)
    for c, members in enumerate(np.split(order, starts)):
        rows = features[members]
        means[c] = rows.mean(axis=0)
        variance[c] = np.square(rows - means[c]).sum(axis=1).mean()
    sq_norm = np.square(means).sum(axis=1)
    nearest = (sq_norm - 2 * (features @ means.T)).argmin(axis=1)
    sq_distance = sq_norm[:, None] + sq_norm - 2 * (means @ means.T)
    i, j = np.triu_indices(n_classes, k=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a distance may cancel to 0
        cdnv = float(((variance[i] + variance[j]) / (2 * sq_distance[i, j])).mean())
    return Answer(torch.from_numpy(means), torch.from_numpy(variance), cdnv, torch.from_numpy(nearest))


def scikit_learn(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    from sklearn.neighbors import NearestCentroid

    features, labels = x.numpy(), y.numpy()
    model = NearestCentroid().fit(features, labels)
    nearest = torch.from_numpy(model.predict(features))
    means = torch.from_numpy(model.centroids_)
    residual = features - model.centroids_[labels]
    count = np.bincount(labels, minlength=n_classes)
    within = np.bincount(labels, weights=np.square(residual).sum(axis=1), minlength=n_classes) / count
    variance = torch.from_numpy(within.astype(features.dtype))
    return Answer(means, variance, _cdnv(means, variance), nearest)


def kowalski(x: Tensor, y: Tensor, n_classes: int) -> Answer:  # noqa: ARG001  # it takes the classes that occur
    from kowalski.neural_collapse import class_distance_normalized_variance
    from kowalski.utils import to_per_class_list

    by_class = to_per_class_list(x, y)
    means = [rows.mean(dim=0) for rows in by_class]
    cdnv = float(class_distance_normalized_variance(by_class, class_means=means))
    stacked = torch.stack(means)
    return Answer(stacked, None, cdnv, torch.cdist(x, stacked).argmin(1))


def faiss(x: Tensor, y: Tensor, n_classes: int) -> Answer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its generated wrappers, once, on import
        import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    count, means = _index_add_means(x, y, n_classes)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(means.numpy())
    nearest = torch.from_numpy(index.search(x.numpy(), 1)[1][:, 0])
    variance = x.new_zeros(n_classes).index_add_(0, y, (x - means[y]).square().sum(1)) / count
    return Answer(means, variance, _cdnv(means, variance), nearest)


# --- all of them ------------------------------------------------------------------------------------------------------

CONTENDERS = (
    Contender(
        name="ours",
        kind="ours",
        run=ours,
        temporaries=lambda s: 32 * (s.C * s.d + s.C**2),
        note="nc.measure(x, y, C), its .cdnv, .nearest and .stats",
    ),
    Contender(
        name="torch one-hot",
        kind="torch idiom",
        run=torch_one_hot,
        temporaries=lambda s: 12 * s.n * s.C + 8 * s.n * s.d,
        note="one-hot product for means and scatter, residuals, addmm and argmin",
    ),
    Contender(
        name="torch index_add",
        kind="torch idiom",
        run=torch_index_add,
        temporaries=lambda s: 8 * s.n * s.d + 4 * s.n * s.C,
        note="index_add for means and scatter, residuals, addmm and argmin",
    ),
    Contender(
        name="torch moments",
        kind="torch idiom",
        run=torch_moments,
        temporaries=lambda s: 4 * s.n * s.C,
        note="the same with E|x|^2 - |m|^2 for the variance: no residuals, and nothing left of it once they are small",
    ),
    Contender(
        name="torch cdist",
        kind="torch idiom",
        run=torch_cdist,
        temporaries=lambda s: 8 * s.n * s.C + 8 * s.n * s.d,
        note="index_add for the means, cdist to all of them; variance from the distance to the own mean",
    ),
    Contender(
        name="torch shift + chunks",
        kind="torch idiom",
        run=torch_shift_chunks,
        temporaries=lambda s: 4 * max(1, _CHUNK_ELEMENTS // s.d) * (5 * s.d + s.C) + 8 * s.C * s.d,
        note="index_add, residuals and addmm on chunks of 2^21 numbers, shifted by the mean of the first 1,024 rows",
    ),
    Contender(
        name="numpy by class",
        kind="numpy",
        run=numpy_by_class,
        temporaries=lambda s: 8 * s.n * s.C + 12 * s.n * s.d / s.C + 40 * s.C**2,
        note="labels sorted once, mean and variance class by class, product and argmin",
    ),
    Contender(
        name="scikit-learn",
        kind="package",
        run=scikit_learn,
        temporaries=lambda s: 24 * s.n * s.d,
        package="sklearn",
        note="NearestCentroid's fit and predict give means and labels; variance in numpy and CDNV in torch complete it",
    ),
    Contender(
        name="kowalski",
        kind="package",
        run=kowalski,
        temporaries=lambda s: 14 * s.n * s.d + 4 * s.n * s.C,
        seconds=lambda s: 4 * s.n * s.d * s.C / 2e10 + s.n * s.C / 1e9 + 1e-4 * s.C,
        package="kowalski",
        note="gives the CDNV; torch.cdist and argmin to the class means complete it; class variances stay inside it",
    ),
    Contender(
        name="faiss",
        kind="package",
        run=faiss,
        temporaries=lambda s: 8 * s.n * s.d,
        package="faiss",
        note="IndexFlatL2 over the class means gives labels; index_add means, residuals and CDNV in torch complete it",
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}

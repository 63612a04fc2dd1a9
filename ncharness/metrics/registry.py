"""The metrics that `measure_layers` and a run's configuration take by name, by what two sweeps must gather for them.

Each name stands for the convention that its function follows by default. For the other conventions call the function on
the class statistics, Gram and directional sums of a `LayerReport`.
"""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ncharness.kernels.distances import sq_distances_to
from ncharness.metrics.cdnv import cdnv, directional_cdnv
from ncharness.metrics.class_stats import ClassStats
from ncharness.metrics.nc1 import between_rank, between_trace, class_separation, fuzziness, nc1, nc1_trace
from ncharness.metrics.nc2 import discrimination, equiangularity, equinorm, etf_distance, frame_distance
from ncharness.metrics.nc3_nc4 import product_duality, self_duality
from ncharness.metrics.rank import stable_rank, subspace_alignment

RowFunction: TypeAlias = Callable[[Tensor, Tensor, ClassStats], "Tensor | float"]
"""A metric of one's own: features (n, d) of a batch, labels (n,), the training set's statistics of the layer.

Returns a number per row, (n,), or their mean over the batch; the metric is the mean over all rows of the data set. It
must not write to the features, which the network goes on with."""

Metric: TypeAlias = str | RowFunction


def _filled_rank(stats: ClassStats) -> int:
    return max(min(int((stats.count > 0).sum()) - 1, stats.n_features), 1)


OF_STATS: dict[str, Callable[[ClassStats], Tensor]] = {
    "nc1_trace": nc1_trace,
    "cdnv_unbiased": lambda stats: cdnv(stats, unbiased=True),
    "between_rank": between_rank,
    "between_stable_rank": lambda stats: stable_rank(stats.mean[stats.count > 0], centre=True),
    "etf_distance": etf_distance,
    "frame_distance": frame_distance,
    "equinorm": equinorm,
    "equiangularity": equiangularity,
    "equiangularity_std": lambda stats: equiangularity(stats, over="std"),
    "discrimination": discrimination,
}
"""Of a layer's class statistics, which the first sweep gives."""

OF_GRAM: dict[str, Callable[[ClassStats, Tensor, Tensor], Tensor]] = {
    "nc1": lambda stats, gram, _: nc1(stats, gram),
    "nc1_top": lambda stats, gram, _: nc1(stats, gram, rank=_filled_rank(stats)),  # exactly C - 1 directions
    "fuzziness": lambda stats, gram, _: fuzziness(stats, gram),
    "directional_cdnv": lambda stats, _, directional: directional_cdnv(stats, directional),
}
"""Of the statistics, the Gram and the directional variances, which the second sweep gives if it is asked to."""

OF_UNIT_ROWS: dict[str, Callable[[ClassStats], Tensor]] = {"class_separation": class_separation}
"""Of the class statistics of the features at unit length, gathered beside the others in the first sweep."""

OF_CLASSIFIER: dict[str, Callable[[Tensor, ClassStats], Tensor]] = {
    "self_duality": self_duality,
    "self_duality_centred": lambda weight, stats: self_duality(weight, stats, centre_weight=True),
    "product_duality": product_duality,
    "product_duality_centred": lambda weight, stats: product_duality(weight, stats, centre_weight=True),
    "subspace_alignment": subspace_alignment,
}
"""Of the classifier's weight (C, d) and the statistics of a layer of d features; NaN for layers of another width."""

OF_ROWS: dict[str, Callable[[Tensor, Tensor, Tensor, ClassStats], Tensor]] = {
    "strong_collapse": lambda x, y, _, stats: sq_distances_to(x, stats.mean, y),
    "weak_collapse": lambda x, _, nearest, stats: sq_distances_to(x, stats.mean, nearest),
}
"""A number per row of features, labels, nearest class centres and training statistics; the metric is their mean over
tr(Sigma_B) of the training set, on the training and on the held-out rows."""

MISMATCH = "ncc_mismatch"
"""The share of rows that the network labels otherwise than a layer's nearest class centre, training and held-out."""

OF_WEIGHT: dict[str, Callable[[Tensor], Tensor]] = {
    "classifier_etf_distance": lambda weight: etf_distance(weight, centre="none"),
    "classifier_etf_distance_centred": etf_distance,
    "classifier_equinorm": lambda weight: equinorm(weight, centre="none"),
    "classifier_equiangularity": lambda weight: equiangularity(weight, centre="none"),
    "classifier_stable_rank": stable_rank,
}
"""Of the classifier's weight alone: one number for the network."""

MARGIN = "margin"
"""The least margin of the training rows at the network's output: one number for the network."""

NAMES = (*OF_STATS, *OF_GRAM, *OF_UNIT_ROWS, *OF_CLASSIFIER, *OF_ROWS, MISMATCH, *OF_WEIGHT, MARGIN)


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError, with close matches, unless all are in `NAMES` and each is there once."""
    seen: set[str] = set()
    for name in names:
        if name in ("cdnv", "ncc_error"):
            raise ValueError(f"metrics: {name} is measured of every layer anyway; leave it out")
        if name not in NAMES:
            close = difflib.get_close_matches(str(name), NAMES, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(NAMES)}"
            raise ValueError(f"metrics: expected names of metrics, got {name!r}; {hint}")
        if name in seen:
            raise ValueError(f"metrics: {name} is named twice")
        seen.add(name)


@dataclass(frozen=True)
class Wanted:
    """The metrics asked for, in their order: names, and functions of one's own by their names."""

    names: tuple[str, ...] = ()
    functions: tuple[tuple[str, RowFunction], ...] = ()

    @classmethod
    def of(cls, metrics: Sequence[Metric]) -> "Wanted":
        """Raises TypeError or ValueError for what is neither, and for two of one name."""
        if isinstance(metrics, str):
            raise TypeError(f"metrics: expected a sequence of names and functions, got the string {metrics!r}")
        names = [metric for metric in metrics if isinstance(metric, str)]
        check_names(names)
        functions: dict[str, RowFunction] = {}
        for metric in metrics:
            if isinstance(metric, str):
                continue
            if not callable(metric):
                raise TypeError(f"metrics: expected names and functions, got a {type(metric).__name__}")
            name = getattr(metric, "__name__", type(metric).__name__)
            if name in NAMES:
                raise ValueError(f"metrics: {name} is a metric of ncharness; ask for it by its name {name!r}")
            if name in functions:
                raise ValueError(f"metrics: two functions are called {name}; give them names of their own")
            functions[name] = metric
        return cls(tuple(names), tuple(functions.items()))

    def some(self, table: Iterable[str]) -> list[str]:
        """The names asked for that are in the table, in the order asked."""
        known = set(table)
        return [name for name in self.names if name in known]


def layer_values(
    wanted: Wanted,
    stats: ClassStats,
    *,
    gram: Tensor | None,
    directional: Tensor | None,
    unit_stats: ClassStats | None,
    weight: Tensor | None,
) -> dict[str, float]:
    """What is wanted of one layer's training rows, save the means over rows."""
    values = {name: float(OF_STATS[name](stats)) for name in wanted.some(OF_STATS)}
    if gram is not None and directional is not None:
        values |= {name: float(OF_GRAM[name](stats, gram, directional)) for name in wanted.some(OF_GRAM)}
    if unit_stats is not None:
        values |= {name: float(OF_UNIT_ROWS[name](unit_stats)) for name in wanted.some(OF_UNIT_ROWS)}
    if weight is not None:
        fits = weight.shape[1] == stats.n_features
        for name in wanted.some(OF_CLASSIFIER):
            values[name] = float(OF_CLASSIFIER[name](weight, stats)) if fits else float("nan")
    return values


def row_sum(wanted: Wanted, x: Tensor, y: Tensor, nearest: Tensor, stats: ClassStats) -> dict[str, Tensor]:
    """The sum over one batch of every number per row that is wanted; float64 scalars."""
    sums = {name: OF_ROWS[name](x, y, nearest, stats).sum() for name in wanted.some(OF_ROWS)}
    return sums | {name: _summed(name, function(x, y, stats), x) for name, function in wanted.functions}


def row_means(wanted: Wanted, sums: dict[str, Tensor], n_rows: int, stats: ClassStats) -> dict[str, float]:
    """The metrics that are means over rows, of their sums over all batches."""
    scale = between_trace(stats) if wanted.some(OF_ROWS) else torch.ones(())
    return {name: float(total / n_rows / (scale if name in OF_ROWS else 1.0)) for name, total in sums.items()}


def _summed(name: str, value: object, x: Tensor) -> Tensor:
    given = value if isinstance(value, Tensor) else torch.as_tensor(value, device=x.device)
    if given.shape == (len(x),):
        return given.double().sum()
    if given.shape == ():
        return given.double() * len(x)
    raise ValueError(
        f"metrics: expected {name} to return a number per row, shape ({len(x)},), or their mean, "
        f"got shape {tuple(given.shape)}"
    )

"""Data of the figures: the runs grouped by figure, and their measurements as arrays. Nothing is drawn here."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ncharness.store.run import Run
from ncharness.studies.study import Study
from ncharness.training.config import RunConfig

FloatArray = NDArray[np.float64]
Groups = Mapping[Any, Sequence["Trace"]]
NEUTRAL: dict[str, Any] = {"seed": 0, "split": 0, "depth": 1, "noise": 0.0}
"""Fields in which the runs of one family may differ, with the values that replace them when families are compared."""
SHOWN = ("data", "arch", "width", "n_train", "epochs")
"""Fields that every caption names; the others are named if families differ in them."""


@dataclass(frozen=True)
class Trace:
    """Measurements of one run at one capture point over its measured epochs."""

    config: RunConfig
    point: str
    epochs: tuple[int, ...]
    errors: FloatArray  # (epochs, L): training NCC error of layers 1..L
    accuracy: FloatArray  # (epochs,): training accuracy of the network itself; NaN where it was not measured
    others: Mapping[tuple[str, str], FloatArray] = field(
        default_factory=dict
    )  # by (metric, split), as `errors`; NaN likewise

    def of(self, metric: str, split: str) -> FloatArray:
        """Return a metric (epochs, L) of layers 1..L on a split; NaN where it was not measured."""
        nowhere = np.full_like(self.errors, math.nan)
        return self.errors if (metric, split) == ("ncc_error", "train") else self.others.get((metric, split), nowhere)


@dataclass(frozen=True)
class Family:
    """Runs that differ only in the fields of NEUTRAL, and their controls at learning rate 0."""

    data: str
    arch: str
    about: str
    traces: list[Trace]
    controls: list[Trace]


def traces_of(runs: Iterable[Run]) -> list[Trace]:
    """Return the traces of the training runs at every capture point; studies are left out."""
    trained = [run for run in runs if not isinstance(run.config, Study)]
    return [found for run in trained for point in run.points if (found := trace(run, point)) is not None]


def trace(run: Run, point: str) -> Trace | None:
    """Return the trace of a run at a capture point; None if no layer was measured there."""
    layers: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in run.rows:
        if row.layer.endswith(f".{point}"):
            layers.setdefault((row.metric, row.split), {}).setdefault(row.epoch, []).append(row.value)
    # A metric may be missing at some epochs.
    whole = {kind: {e: v for e, v in by.items() if len(v) == run.training.depth} for kind, by in layers.items()}
    errors = whole.pop(("ncc_error", "train"), {})
    if not errors:
        return None
    epochs, unknown = sorted(errors), [math.nan] * run.training.depth
    accuracy = []
    for epoch in epochs:
        accuracy.append(math.nan)
        with suppress(KeyError):
            accuracy[-1] = 1.0 - run.scalar(epoch=epoch)
    others = {kind: np.array([by.get(epoch, unknown) for epoch in epochs]) for kind, by in whole.items()}
    return Trace(
        run.training, point, tuple(epochs), np.array([errors[epoch] for epoch in epochs]), np.array(accuracy), others
    )


def group(traces: Iterable[Trace], **free: Any) -> list[Family]:
    """Group by capture point and by what the configurations share outside NEUTRAL and the free fields."""
    groups: dict[tuple[RunConfig, str], dict[RunConfig, Trace]] = {}
    for trace in traces:
        # The points do not change the training: runs that differ in nothing else are one run, measured twice.
        config = trace.config.replace(points=("paper",))
        shared = config.replace(**NEUTRAL, **free, **({} if config.noise else {"noise_kind": "exact"}))
        groups.setdefault((shared, trace.point), {})[config] = trace
    trained = [key for key in groups if key[0].lr > 0.0]
    found = []
    for config, point in sorted(trained, key=lambda key: _order(*key)):
        name = f"{config.data}, {config.arch.upper()}-L-{'H' if 'width' in free else config.width}"
        alike = [other.to_dict() for other, _ in trained if (other.data, other.arch) == (config.data, config.arch)]
        for key, value in config.to_dict().items():
            if key not in SHOWN and any(other[key] != value for other in alike):
                name += f", {key.replace('_', ' ')} {value}"
        if len({at for _, at in trained}) > 1:
            name += f", {point}"
        about = f"{name}; {_samples(config)}{config.epochs} epochs, layers taken at {point}"
        controls = groups.get((config.replace(lr=0.0), point), {})
        members = groups[config, point].values()
        found.append(Family(config.data, config.arch, about, [*members], [*controls.values()]))
    return found


def _samples(config: RunConfig) -> str:
    """Describe the training samples that were used, for a caption."""
    if config.n_train is None:
        return ""
    if config.part == "all":
        return f"first {config.n_train} training samples, "
    return f"{'S1' if config.part == 'first' else 'S1 and noisy S2'} of {config.n_train // 2} training samples, "


def _order(config: RunConfig, point: str) -> tuple[str, str, int, str, str]:
    return config.data, config.arch, config.width, config.key(), point


def by(traces: Iterable[Trace], field: str, **fixed: Any) -> Groups:
    """Select the traces whose configuration has the fixed values, and group them by another field, ascending."""
    groups: dict[Any, list[Trace]] = {}
    for trace in traces:
        if all(getattr(trace.config, name) == value for name, value in fixed.items()):
            groups.setdefault(getattr(trace.config, field), []).append(trace)
    return dict(sorted(groups.items()))


def seeds(groups: Iterable[Sequence[Trace]]) -> str:
    """Describe the number of seeds in the groups, in words."""
    sizes = {len(group) for group in groups}
    low, high = min(sizes), max(sizes)
    return f"n = {low}{'' if low == high else f' to {high}'} seed{'' if high == 1 else 's'}"


def over_epochs(traces: Sequence[Trace], pick: Callable[[Trace], FloatArray]) -> tuple[list[int], FloatArray]:
    """Return the epochs that all the traces have, and the picked array of each at these: (seeds, epochs, ...)."""
    epochs = sorted(set.intersection(*(set(trace.epochs) for trace in traces)))
    return epochs, np.array([pick(trace)[[trace.epochs.index(epoch) for epoch in epochs]] for trace in traces])


def over_training(traces: Sequence[Trace]) -> dict[float, list[FloatArray]]:
    """Return the errors of layers 1..L of every trace, by epoch."""
    epochs, errors = over_epochs(traces, lambda trace: trace.errors)
    return {epoch: [*errors[:, i]] for i, epoch in enumerate(epochs)}


def finals(groups: Groups) -> dict[float, list[FloatArray]]:
    """Return the last measured errors of layers 1..L of every trace, by the field that groups the traces."""
    return {x: [trace.errors[-1] for trace in traces] for x, traces in groups.items()}


def is_swept(family: Family, others: Iterable[Family]) -> bool:
    """Return whether a family has several depths, or no family of the same data and architecture has.

    Otherwise the other family is shown instead.
    """
    alike = [other for other in others if (other.data, other.arch) == (family.data, family.arch)]
    return len(by(family.traces, "depth")) > 1 or all(len(by(other.traces, "depth")) == 1 for other in alike)


def summary(depths: Sequence[float | None], *, over_epochs: bool) -> tuple[float, float, float]:
    """Return the mean with its 95 % t confidence interval, or with the range if `over_epochs` or for a single seed.

    All three are NaN if a seed has no depth.
    """
    found = np.array([depth for depth in depths if depth is not None])
    n = len(found)
    if n < len(depths):
        return math.nan, math.nan, math.nan
    mean = float(found.mean())
    if over_epochs or n == 1:
        return mean, float(found.min()), float(found.max())
    half = float(stats.t.ppf(0.975, n - 1) * found.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half

"""Measurement of the layers of a network over a whole data set, in two forward sweeps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ncharness.kernels import ops
from ncharness.kernels.arguments import as_features, as_labels, check_n_classes
from ncharness.metrics.capture import evaluating, hooked, layer_names
from ncharness.metrics.cdnv import cdnv
from ncharness.metrics.class_stats import ClassStats, check_and_warn
from ncharness.metrics.effective_depth import effective_depth
from ncharness.metrics.nc1 import unit_rows
from ncharness.metrics.nc3_nc4 import margins
from ncharness.metrics.registry import (
    Metric,
    Needs,
    Wanted,
    layer_values,
    row_means,
    row_sum,
)

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class LayerReport:
    """Result of `measure_layers`: dictionaries by layer, in the order of execution.

    Attributes:
        stats: Class statistics of the training samples.
        ncc_error: Share of training samples whose nearest class centre is not that of their label.
        predicted: Argmax (n,) of the network's own output for each training sample, in the order of the batches.
        held_out_stats: Class statistics of the held-out samples alone; None without held-out batches, as all that
            follows.
        held_out_ncc_error: NCC error of held-out samples about the training set's class means.
        held_out_predicted: Argmax of the network's output for held-out samples.
        metrics: Metrics that were asked for, by metric and then by layer.
        held_out_metrics: Metrics of held-out samples, by metric and then by layer.
        network: Metrics of the network as a whole.
        gram: Gram of each layer, as in `ClassMeasure`; empty unless a metric needed it.
        directional: Directional variances of each layer; empty unless a metric needed them.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2))
        >>> batches = [(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]), torch.tensor([0, 0, 1, 1]))]
        >>> report = nc.measure_layers(model, batches, layers=["0"], n_classes=2)
        >>> report.layers, report.cdnv, report.effective_depth(eps=0.05)
        (['0'], {'0': 0.0625}, 1)
    """

    stats: dict[str, ClassStats]
    ncc_error: dict[str, float]
    predicted: Tensor
    held_out_stats: dict[str, ClassStats] | None = None
    held_out_ncc_error: dict[str, float] | None = None
    held_out_predicted: Tensor | None = None
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    held_out_metrics: dict[str, dict[str, float]] | None = None
    network: dict[str, float] = field(default_factory=dict)
    gram: dict[str, Tensor] = field(default_factory=dict)
    directional: dict[str, Tensor] = field(default_factory=dict)

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order of execution."""
        return list(self.stats)

    @property
    def cdnv(self) -> dict[str, float]:
        """Class-distance normalised variance of each layer on the training batches."""
        return _cdnv(self.stats)

    @property
    def held_out_cdnv(self) -> dict[str, float] | None:
        """Class-distance normalised variance of each layer on the held-out batches; None without them."""
        return None if self.held_out_stats is None else _cdnv(self.held_out_stats)

    def effective_depth(self, *, eps: float) -> int | None:
        """Effective depth: the first of the layers whose training NCC error is at most `eps`.

        Args:
            eps: Threshold in [0, 1].

        Returns:
            The layer, counted from 1, or None where no layer qualifies.
        """
        return effective_depth(list(self.ncc_error.values()), eps=eps)


def measure_layers(
    model: nn.Module,
    batches: Batches,
    *,
    layers: Sequence[str],
    n_classes: int,
    held_out: Batches | None = None,
    metrics: Sequence[Metric] = (),
    classifier: str | None = None,
) -> LayerReport:
    """Measure NCC error, class statistics and metrics of several layers in two forward sweeps.

    Features are flattened to (n, d) and measured inside the forward pass, so that one layer's activations are alive at
    a time.
    The network is in eval mode without gradients, and every module's mode is restored.

    Args:
        model: Network, whose output is (n, n_classes).
        batches: Pairs of tensors (inputs, labels), iterated twice: a list, or a DataLoader that neither shuffles nor
            augments.
            Other labels or another order the second time are an error. Other inputs for the same labels, as
            augmentation
            gives them, are not noticed.
        layers: Names as in `named_modules()`, or globs such as `block*.out`.
        n_classes: Number of classes.
        held_out: Batches of held-out samples.
        metrics: Names of metrics, or functions of one's own of (features, labels, stats): the features (n, d) and
            labels (n,)
            of a batch in the second sweep, with the statistics of the whole training set. A function returns a number
            per
            row, or their mean. The metric, under the function's name, is the mean over all rows, of the training
            batches
            and of the held-out ones.
        classifier: Name of the module whose weight is the classifier's; by default the last `nn.Linear` with
            `n_classes`
            outputs.

    Returns:
        The report. Its statistics are those of `class_stats`.

    Raises:
        TypeError: Batches or metrics of another kind.
        ValueError: Unknown layers or metrics, batches that differ between the sweeps, or outputs of another shape.

    References:
        arXiv:2202.09028; for each metric, its function.

    Examples:
        >>> import torch
        >>> import ncharness as nc
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 2))
        >>> batches = [(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]]), torch.tensor([0, 0, 1, 1]))]
        >>> report = nc.measure_layers(model, batches, layers=["0"], n_classes=2, metrics=["nc1_trace"])
        >>> report.ncc_error, report.metrics
        ({'0': 0.0}, {'nc1_trace': {'0': 0.25}})
    """
    names, wanted = layer_names(model, layers), Wanted.of(metrics)
    check_n_classes(n_classes)
    if isinstance(batches, Iterator):
        raise TypeError("batches: expected something that can be iterated twice, got an iterator")
    weight = None
    if classifier is not None or wanted.needing(Needs.CLASSIFIER, Needs.WEIGHT):
        weight = _classifier_weight(model, classifier, n_classes)
    with evaluating(model):
        stats, unit_stats, first_labels = _sweep_stats(
            model, batches, names, n_classes, unit=bool(wanted.needing(Needs.UNIT_ROWS))
        )
        found = _sweep_scores(model, batches, stats, wanted, argument="batches", gram=bool(wanted.needing(Needs.GRAM)))
        if not torch.equal(first_labels, found.labels):
            raise ValueError("batches: the second sweep gave other labels or another order; do not shuffle or augment")
        for layer_stats in stats.values():
            check_and_warn(layer_stats, None)
        held, held_stats = None, None
        if held_out is not None:
            held_stats = _empty_like(stats)
            held = _sweep_scores(model, held_out, stats, wanted, argument="held_out", gram=False, add_to=held_stats)
    of_layers = {
        name: layer_values(
            wanted,
            of,
            gram=found.gram.get(name),
            directional=found.directional.get(name),
            unit_stats=unit_stats.get(name),
            weight=weight,
        )
        | found.metrics[name]
        for name, of in stats.items()
    }
    network = {} if weight is None else wanted.values(Needs.WEIGHT, weight)
    network |= {spec.name: found.margin for spec in wanted.needing(Needs.OUTPUTS)}
    return LayerReport(
        stats=stats,
        ncc_error=found.ncc_error,
        predicted=found.predicted,
        held_out_stats=held_stats,
        held_out_ncc_error=None if held is None else held.ncc_error,
        held_out_predicted=None if held is None else held.predicted,
        metrics=_by_metric(wanted, of_layers),
        held_out_metrics=None if held is None else _by_metric(wanted, held.metrics),
        network=network,
        gram=found.gram,
        directional=found.directional,
    )


def _cdnv(stats: Mapping[str, ClassStats]) -> dict[str, float]:
    return {name: float(cdnv(of)) for name, of in stats.items()}


def _empty_like(stats: Mapping[str, ClassStats]) -> dict[str, ClassStats]:
    return {name: ClassStats.empty(*of.mean.shape, device=of.mean.device) for name, of in stats.items()}


def _by_metric(wanted: Wanted, of_layers: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """By metric in the order asked for, then by layer."""
    order = (*wanted.names, *(name for name, _ in wanted.functions))
    measured = {name for values in of_layers.values() for name in values}
    return {name: {layer: values[name] for layer, values in of_layers.items()} for name in order if name in measured}


def _classifier_weight(model: nn.Module, name: str | None, n_classes: int) -> Tensor:
    linear = {found: module for found, module in model.named_modules() if isinstance(module, nn.Linear)}
    if name is None:
        fitting = [module for module in linear.values() if module.out_features == n_classes]
        if not fitting:
            raise ValueError(
                f"classifier: expected the model to have an nn.Linear with {n_classes} outputs, found none; name one"
            )
        return fitting[-1].weight.detach()
    if name not in linear or linear[name].out_features != n_classes:
        known = ", ".join(f"{found} ({module.out_features})" for found, module in linear.items()) or "none"
        raise ValueError(
            f"classifier: expected the name of an nn.Linear with {n_classes} outputs, got {name!r}; there are {known}"
        )
    return linear[name].weight.detach()


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return batch[0], batch[1]
    parts = ", ".join(type(part).__name__ for part in batch) if isinstance(batch, tuple | list) else "no pair"
    raise TypeError(f"batches: expected pairs of tensors (inputs, labels), got a {type(batch).__name__} ({parts})")


def _sweep_stats(
    model: nn.Module, batches: Batches, names: Sequence[str], n_classes: int, *, unit: bool
) -> tuple[dict[str, ClassStats], dict[str, ClassStats], Tensor]:
    """Pass 1 over all batches: statistics by layer, with `unit` those of rows at unit length too, and the labels."""
    stats: dict[str, ClassStats] = {}
    unit_stats: dict[str, ClassStats] = {}
    ran: set[str] = set()
    seen_labels: list[Tensor] = []

    def add_to(into: dict[str, ClassStats], name: str, x: Tensor) -> None:
        if name not in into:
            into[name] = ClassStats.empty(n_classes, x.shape[1], device=x.device)
        of = into[name]
        ops.class_update(x, seen_labels[-1], of.count, of.mean, of.scatter)

    def add(name: str, output: Tensor) -> None:
        if name in ran:
            raise ValueError(
                f"layers: {name} ran more than once in one forward pass, so its rows would count twice; name another"
            )
        ran.add(name)
        x = as_features(output.flatten(1))
        add_to(stats, name, x)
        if unit:
            add_to(unit_stats, name, unit_rows(x))

    with hooked(model, names, add):
        for inputs, labels in map(_pair, batches):
            seen_labels.append(labels)
            ran.clear()
            model(inputs)
    if not seen_labels:
        raise ValueError("batches: expected at least one batch, got none")
    if missing := [name for name in names if name not in stats]:
        raise ValueError(f"layers: {missing[0]} did not run in the forward pass")
    return stats, unit_stats, torch.cat(seen_labels)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Result of pass 2 over all batches; by layer, except for predictions, labels and margin."""

    ncc_error: dict[str, float]
    metrics: dict[str, dict[str, float]]  # by layer, then by metric: the means over rows
    gram: dict[str, Tensor]
    directional: dict[str, Tensor]
    predicted: Tensor
    labels: Tensor
    margin: float


class _ScoreSweep:
    """Pass 2 over all batches by the centres of `stats`; the sweep's own rows are added to `add_to`."""

    def __init__(
        self, stats: Mapping[str, ClassStats], wanted: Wanted, *, gram: bool, add_to: Mapping[str, ClassStats]
    ) -> None:
        self.stats, self.wanted, self.add_to = stats, wanted, add_to
        self.scorers = {name: ops.scorer(of.mean, gram) for name, of in stats.items()}
        self.wrong = {name: of.count.new_zeros(()) for name, of in stats.items()}
        self.differing = {name: of.count.new_zeros(()) for name, of in stats.items()}
        self.squares = {name: of.mean.new_zeros((2, of.n_classes, of.n_classes)) for name, of in stats.items() if gram}
        self.sums: dict[str, dict[str, Tensor]] = {name: {} for name in stats}
        self.nearest: dict[str, Tensor] = {}  # of the batch under way
        self.labels: list[Tensor] = []
        self.predicted: list[Tensor] = []
        self.margin = torch.tensor(torch.inf, dtype=torch.float64)

    def score(self, name: str, output: Tensor) -> None:
        """Score a layer's output on the batch under way, whose labels are the last."""
        x = as_features(output.flatten(1))
        y = as_labels(self.labels[-1], x)
        self.nearest[name], *of_batch = self.scorers[name](x, y)
        self.wrong[name] += (self.nearest[name] != y).sum()
        if (own := self.add_to.get(name)) is not None:
            ops.class_update(x, y, own.count, own.mean, own.scatter)
        if name in self.squares:
            self.squares[name] += torch.stack(of_batch)
        if len(x):
            for metric, total in row_sum(self.wanted, x, y, self.nearest[name], self.stats[name]).items():
                self.sums[name][metric] = self.sums[name].get(metric, 0.0) + total

    def finish_batch(self, scores: object) -> None:
        """Take the network's output on the batch under way."""
        if not isinstance(scores, Tensor):
            raise TypeError(f"model: expected a tensor as its output, got a {type(scores).__name__}")
        self.predicted.append(scores.flatten(1).argmax(dim=1))
        if self.wanted.needing(Needs.PREDICTIONS):
            for name, labelled in self.nearest.items():
                self.differing[name] += (labelled != self.predicted[-1].to(labelled.device)).sum()
        if self.wanted.needing(Needs.OUTPUTS) and len(scores):
            least = margins(scores.flatten(1), self.labels[-1]).min()
            self.margin = torch.minimum(self.margin.to(least.device), least)  # which keeps a NaN

    def result(self, argument: str) -> _Scores:
        """Return errors and means over all rows; ValueError, naming the argument, where there were none."""
        labels = torch.cat(self.labels) if self.labels else torch.empty(0)
        if not len(labels):
            raise ValueError(f"{argument}: expected at least one sample, got none")
        n = len(labels)
        means = {name: row_means(self.wanted, self.sums[name], n, of) for name, of in self.stats.items()}
        for spec in self.wanted.needing(Needs.PREDICTIONS):
            means = {name: {spec.name: float(self.differing[name]) / n, **values} for name, values in means.items()}
        return _Scores(
            ncc_error={name: float(count) / n for name, count in self.wrong.items()},
            metrics=means,
            gram={name: both[0] / n for name, both in self.squares.items()},
            directional={name: both[1] / self.stats[name].count[:, None] for name, both in self.squares.items()},
            predicted=torch.cat(self.predicted),
            labels=labels,
            margin=float(self.margin),
        )


def _sweep_scores(
    model: nn.Module,
    batches: Batches,
    stats: dict[str, ClassStats],
    wanted: Wanted,
    *,
    argument: str,
    gram: bool,
    add_to: Mapping[str, ClassStats] = MappingProxyType({}),
) -> _Scores:
    sweep = _ScoreSweep(stats, wanted, gram=gram, add_to=add_to)
    with hooked(model, list(stats), sweep.score):
        for inputs, labels in map(_pair, batches):
            sweep.labels.append(labels)
            sweep.finish_batch(model(inputs))
    return sweep.result(argument)

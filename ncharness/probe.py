"""What the layers of a network hold: capturing their outputs, and measuring them over a whole data set."""

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ncharness import ops
from ncharness.arrays import as_features, as_labels, check_n_classes
from ncharness.depth import effective_depth
from ncharness.metrics import cdnv
from ncharness.stats import ClassStats, warn_of_non_finite

Batches = Iterable[tuple[Tensor, Tensor]]


def layer_names(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """The module names that `layers` selects: names as in `named_modules()`, or globs such as `block*.out`.

    Raises ValueError, with the closest names, for one that selects nothing.
    """
    if isinstance(layers, str):
        raise TypeError(f"layers: expected a sequence of names, got the string {layers!r}")
    known = [name for name, _ in model.named_modules() if name]
    selected: list[str] = []
    for layer in layers:
        found = [layer] if layer in known else fnmatch.filter(known, layer)
        if not found:
            close = difflib.get_close_matches(layer, known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"the model has {', '.join(known[:8])}, ..."
            raise ValueError(f"layers: no module is named {layer!r}; {hint}")
        selected.extend(name for name in found if name not in selected)
    if not selected:
        raise ValueError("layers: expected at least one name, got none")
    return selected


@contextmanager
def _hooked(model: nn.Module, names: Sequence[str], seen: Callable[[str, Tensor], None]) -> Iterator[None]:
    modules = dict(model.named_modules())

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def forward_hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(f"layers: the output of {name} is a {type(output).__name__}, not a tensor")
            seen(name, output.detach())

        return forward_hook

    handles = [modules[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def capture(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collects the outputs of `layers` (names or globs) of every forward pass inside the `with` block.

    Yields a dict from name to output, in the order of execution, that each forward pass refreshes. The outputs are
    detached copies, so a later in-place activation does not change them; a module that runs several times in
    one pass leaves its last output. The hooks are removed however the block ends.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> with capture(model, ["0"]) as outputs:
    ...     _ = model(torch.zeros(2, 4))
    >>> outputs["0"].shape
    torch.Size([2, 3])
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs.pop(name, None)
        outputs[name] = output.clone()

    with _hooked(model, layer_names(model, layers), keep):
        yield outputs


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients; afterwards every module is back in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True, eq=False)
class LayerReport:
    """What `measure_layers` found, by layer in the order of execution.

    `predicted` (n,) is the argmax of the network's own output for each training sample, in the order of the batches;
    `held_out_...` are None without held-out batches. The held-out NCC error uses the training set's class means, the
    held-out CDNV and statistics only the held-out samples.
    """

    stats: dict[str, ClassStats]
    ncc_error: dict[str, float]
    predicted: Tensor
    held_out_stats: dict[str, ClassStats] | None = None
    held_out_ncc_error: dict[str, float] | None = None
    held_out_predicted: Tensor | None = None

    @property
    def layers(self) -> list[str]:
        return list(self.stats)

    @property
    def cdnv(self) -> dict[str, float]:
        """The class-distance normalised variance of each layer on the training batches."""
        return _cdnv(self.stats)

    @property
    def held_out_cdnv(self) -> dict[str, float] | None:
        """That of each layer on the held-out batches; None without them."""
        return None if self.held_out_stats is None else _cdnv(self.held_out_stats)

    def effective_depth(self, *, eps: float) -> int | None:
        """The first of the layers, counted from 1, whose training NCC error is at most `eps`; None if none is."""
        return effective_depth(list(self.ncc_error.values()), eps=eps)


def measure_layers(
    model: nn.Module, batches: Batches, *, layers: Sequence[str], n_classes: int, held_out: Batches | None = None
) -> LayerReport:
    """NCC error and class statistics of several layers over a data set, in two forward sweeps.

    `batches` yields pairs of tensors (inputs, labels) and is iterated twice: a list or a DataLoader that does not
    shuffle or augment. Other labels or another order the second time are an error; other inputs for the same labels,
    as augmentation gives them, are not noticed. Features are flattened to (n, d) and measured
    inside the forward pass, so that one layer's activations are alive at a time. Measured in eval mode without
    gradients; every module's mode is restored. The statistics are those of `class_stats`.
    """
    names = layer_names(model, layers)
    check_n_classes(n_classes)
    if isinstance(batches, Iterator):
        raise TypeError("batches: expected something that can be iterated twice, got an iterator")
    with _evaluating(model):
        stats, first_labels = _sweep_stats(model, batches, names, n_classes)
        errors, predicted, labels = _sweep_scores(model, batches, stats, argument="batches")
        if not torch.equal(first_labels, labels):
            raise ValueError("batches: the second sweep gave other labels or another order; do not shuffle or augment")
        for layer_stats in stats.values():
            warn_of_non_finite(layer_stats)
        if held_out is None:
            return LayerReport(stats=stats, ncc_error=errors, predicted=predicted)
        held_stats = _empty_like(stats)
        held_errors, held_predicted, _ = _sweep_scores(model, held_out, stats, argument="held_out", add_to=held_stats)
    return LayerReport(
        stats=stats,
        ncc_error=errors,
        predicted=predicted,
        held_out_stats=held_stats,
        held_out_ncc_error=held_errors,
        held_out_predicted=held_predicted,
    )


def _cdnv(stats: Mapping[str, ClassStats]) -> dict[str, float]:
    return {name: float(cdnv(of)) for name, of in stats.items()}


def _empty_like(stats: Mapping[str, ClassStats]) -> dict[str, ClassStats]:
    return {name: ClassStats.empty(*of.mean.shape, device=of.mean.device) for name, of in stats.items()}


def _pair(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return batch[0], batch[1]
    parts = ", ".join(type(part).__name__ for part in batch) if isinstance(batch, tuple | list) else "no pair"
    raise TypeError(f"batches: expected pairs of tensors (inputs, labels), got a {type(batch).__name__} ({parts})")


def _sweep_stats(
    model: nn.Module, batches: Batches, names: Sequence[str], n_classes: int
) -> tuple[dict[str, ClassStats], Tensor]:
    stats: dict[str, ClassStats] = {}
    ran: set[str] = set()
    seen_labels: list[Tensor] = []

    def add(name: str, output: Tensor) -> None:
        if name in ran:
            raise ValueError(
                f"layers: {name} ran more than once in one forward pass, so its rows would count twice; name another"
            )
        ran.add(name)
        x = as_features(output.flatten(1))
        if name not in stats:
            stats[name] = ClassStats.empty(n_classes, x.shape[1], device=x.device)
        of = stats[name]
        ops.class_update(x, seen_labels[-1], of.count, of.mean, of.scatter)

    with _hooked(model, names, add):
        for inputs, labels in map(_pair, batches):
            seen_labels.append(labels)
            ran.clear()
            model(inputs)
    if not seen_labels:
        raise ValueError("batches: expected at least one batch, got none")
    if missing := [name for name in names if name not in stats]:
        raise ValueError(f"layers: {missing[0]} did not run in the forward pass")
    return stats, torch.cat(seen_labels)


def _sweep_scores(
    model: nn.Module,
    batches: Batches,
    stats: dict[str, ClassStats],
    *,
    argument: str,
    add_to: Mapping[str, ClassStats] = MappingProxyType({}),
) -> tuple[dict[str, float], Tensor, Tensor]:
    """The NCC errors of a sweep by the centres of `stats`; its own statistics are added to `add_to`."""
    nearest = {name: ops.nearest_centre(of.mean) for name, of in stats.items()}
    wrong = {name: of.count.new_zeros(()) for name, of in stats.items()}
    seen_labels: list[Tensor] = []
    predicted: list[Tensor] = []

    def score(name: str, output: Tensor) -> None:
        x = as_features(output.flatten(1))
        y = as_labels(seen_labels[-1], x)
        wrong[name] += (nearest[name](x) != y).sum()
        if (of := add_to.get(name)) is not None:
            ops.class_update(x, y, of.count, of.mean, of.scatter)

    with _hooked(model, list(stats), score):
        for inputs, labels in map(_pair, batches):
            seen_labels.append(labels)
            scores = model(inputs)
            if not isinstance(scores, Tensor):
                raise TypeError(f"model: expected a tensor as its output, got a {type(scores).__name__}")
            predicted.append(scores.flatten(1).argmax(dim=1))
    labels = torch.cat(seen_labels) if seen_labels else torch.empty(0)
    if not len(labels):
        raise ValueError(f"{argument}: expected at least one sample, got none")
    return {name: float(count) / len(labels) for name, count in wrong.items()}, torch.cat(predicted), labels

"""Figures of collapse: CDNV and NCC accuracy by layer, epoch and width, on training and test data."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncharness.report.style import MARKERS, Drawn, band, blank_panels, epoch_axis, layer_bar, shades
from ncharness.report.traces import Family, FloatArray, Groups, Trace, by, over_epochs, seeds

LABELS = {"ncc_error": "NCC accuracy", "cdnv": "CDNV"}
BANDS = "bands: smallest to largest seed."


def cdnv_by_layer(family: Family) -> Drawn | None:
    """Draw train CDNV of every layer after the last epoch, clean labels, a line per L."""
    groups = by(family.traces, "depth", noise=0.0)
    return _by_layer(family, {f"L = {L}": groups[L] for L in groups}, "CDNV by layer", ["cdnv"], ["train"])


def ncc_and_cdnv_by_layer(family: Family) -> Drawn | None:
    """Draw train NCC accuracy and, below it, CDNV of every layer after the last epoch, clean labels, a line per L."""
    groups = by(family.traces, "depth", noise=0.0)
    lines = {f"L = {L}": groups[L] for L in groups}
    return _by_layer(family, lines, "NCC accuracy and CDNV by layer", ["ncc_error", "cdnv"], ["train"])


def collapse_by_width(family: Family) -> Drawn | None:
    """Draw NCC accuracy and CDNV of every layer on training and test data, a line per width.

    The depth with most widths is shown.
    """
    groups = {L: by(family.traces, "width", depth=L, noise=0.0) for L in by(family.traces, "depth")}
    depth = max(groups, key=lambda L: (len(groups[L]), L))
    lines = {f"H = {H}": traces for H, traces in groups[depth].items()}
    if len(lines) < 2:
        return None
    return _by_layer(family, lines, "Collapse by width", ["ncc_error", "cdnv"], ["train", "test"], f", L = {depth}")


def cdnv_by_epoch(family: Family) -> Drawn | None:
    """Draw train CDNV of every layer over epochs, one panel per L, clean labels."""
    groups = by(family.traces, "depth", noise=0.0)
    if not _known(groups, "cdnv", "train"):
        return None
    figure, axes = blank_panels(len(groups), "epoch", "train CDNV")
    colours = layer_bar(figure, axes, max(groups))
    for ax, (L, traces) in zip(axes, groups.items(), strict=True):
        epochs, values = over_epochs(traces, lambda trace: trace.of("cdnv", "train"))
        for layer in range(L):
            band(ax, epochs, values[:, :, layer], color=colours[layer])
        ax.set(title=f"L = {L}", yscale="log")
        epoch_axis(ax, epochs[-1])
    caption = f"{family.about}; clean labels. Lines: mean over {seeds(groups.values())}, one colour per layer; {BANDS}"
    return Drawn("CDNV of every layer", caption, figure)


def held_out_by_epoch(family: Family) -> Drawn | None:
    """Draw test NCC accuracy and test CDNV of the last layer over epochs, clean labels, a line per L."""
    groups = by(family.traces, "depth", noise=0.0)
    if not _known(groups, "cdnv", "test"):
        return None
    figure, axes = _stack(["ncc_error", "cdnv"], ["test"], "epoch")
    for (metric, split), ax in axes.items():
        for i, (L, colour) in enumerate(zip(groups, shades(len(groups)), strict=True)):
            epochs, values = over_epochs(groups[L], partial(_last_layer, metric, split))
            band(ax, epochs, _shown(metric, values), color=colour, marker=MARKERS[i % len(MARKERS)], label=f"L = {L}")
        epoch_axis(ax, max(trace.epochs[-1] for traces in groups.values() for trace in traces))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    caption = f"{family.about}; clean labels; last layer. Lines: mean over {seeds(groups.values())}; {BANDS}"
    return Drawn("Test NCC accuracy and test CDNV", caption, figure)


def _by_layer(
    family: Family,
    lines: Mapping[str, Sequence[Trace]],
    title: str,
    metrics: Sequence[str],
    splits: Sequence[str],
    more: str = "",
) -> Drawn | None:
    if not all(_known(lines, metric, split) for metric in metrics for split in splits):
        return None
    figure, axes = _stack(metrics, splits, "layer")
    deepest = max(trace.config.depth for traces in lines.values() for trace in traces)
    for (metric, split), ax in axes.items():
        for i, (label, colour) in enumerate(zip(lines, shades(len(lines)), strict=True)):
            values = np.array([trace.of(metric, split)[-1] for trace in lines[label]])
            layers = range(1, values.shape[1] + 1)
            band(ax, layers, _shown(metric, values), color=colour, marker=MARKERS[i % len(MARKERS)], label=label)
        ax.set_xticks(range(1, deepest + 1, 1 if deepest < 12 else 2))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    caption = (
        f"{family.about}{more}; clean labels, last measured epoch. Lines: mean over {seeds(lines.values())}; {BANDS}"
    )
    return Drawn(title, caption, figure)


def _last_layer(metric: str, split: str, trace: Trace) -> FloatArray:
    values: FloatArray = trace.of(metric, split)[:, -1]
    return values


def _known(groups: Groups, metric: str, split: str) -> bool:
    """Return whether there are traces and all of them have the metric at their last epoch."""
    ends = [trace.of(metric, split)[-1] for traces in groups.values() for trace in traces]
    return bool(ends) and all(np.isfinite(end).all() for end in ends)


def _shown(metric: str, values: FloatArray) -> FloatArray:
    return 1.0 - values if metric == "ncc_error" else values


def _stack(metrics: Sequence[str], splits: Sequence[str], x: str) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """Make panels with a row per metric, each with a scale of its own, and a column per split."""
    figure = Figure(figsize=(4.8, 0.9 + (1.7 if len(metrics) > 1 else 2.3) * len(metrics)), layout="constrained")
    table = figure.subplots(len(metrics), len(splits), sharex=True, sharey="row", squeeze=False)
    axes = {}
    for i, metric in enumerate(metrics):
        for j, split in enumerate(splits):
            axes[metric, split] = ax = table[i, j]
            if len(splits) > 1 and i == 0:
                ax.set_title({"train": "training data", "test": "test data"}[split])
            if j == 0:
                ax.set_ylabel(LABELS[metric] if len(splits) > 1 else f"{split} {LABELS[metric]}")
            if metric == "cdnv":
                ax.set_yscale("log")
            if i == len(metrics) - 1:
                ax.set_xlabel(x)
    return figure, axes

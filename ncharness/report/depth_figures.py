"""Figures of effective depth from finished runs, one function per figure. Nothing is trained, measured or judged.

Everything is drawn on `matplotlib.figure.Figure` objects; pyplot and its global state are not used. A figure is drawn
only if its runs exist, and its caption states its content and the number of seeds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ncharness.metrics.effective_depth import EPS_SWEEP, interpolated_depth
from ncharness.report import bound_figures, collapse_figures
from ncharness.report.style import (
    GREY,
    MARKERS,
    STYLE,
    Colour,
    Drawn,
    band,
    blank_panels,
    epoch_axis,
    layer_bar,
    shades,
)
from ncharness.report.traces import (
    Family,
    FloatArray,
    Groups,
    Trace,
    by,
    finals,
    group,
    is_swept,
    over_epochs,
    over_training,
    seeds,
    summary,
    traces_of,
)
from ncharness.store.run import Run

Depths = Mapping[float, Sequence[float | None]]  # by x, of every seed
DOTS = "hollow where they have no depth; bars: mean and 95 % t-interval, only where every seed has one."


def figures(runs: Iterable[Run], *, eps: Sequence[float] = EPS_SWEEP) -> list[Drawn]:
    """Draw every figure that the runs allow; the same figure of all families one after the other.

    The runs of a family differ only in depth, label noise, split and seed. Runs at learning rate 0 are controls: they
    appear dashed in the figure over epochs and nowhere else.
    """
    found = traces_of(runs)
    alike = group(found)
    swept = [family for family in alike if is_swept(family, alike)]
    with rc_context(STYLE):
        drawn = [
            *map(curves_by_depth, swept),
            *map(curves_by_noise, alike),
            *(depth_against_depth(family, eps=eps) for family in alike),
            *(depth_against_epoch(family, eps=eps) for family in swept),
            *(depth_against_noise(family, eps=eps) for family in alike),
            *(depth_against_width(family, eps=eps) for family in group(found, width=1)),
            *map(final_profiles, swept),
        ]
    return [one for one in drawn if one is not None]


def curves_by_depth(family: Family) -> Drawn | None:
    """Draw train NCC accuracy of every layer over epochs, one panel per L, clean labels: the paper's Figure 1."""
    panels = {f"L = {L}": of for L, of in by(family.traces, "depth", noise=0.0).items()}
    return _curves(family, panels, "NCC accuracy of every layer", "clean labels")


def curves_by_noise(family: Family) -> Drawn | None:
    """Draw train NCC accuracy of every layer over epochs, one panel per fraction of corrupted labels.

    The depth with most fractions is shown.
    """
    groups = {L: by(family.traces, "noise", depth=L) for L in by(family.traces, "depth")}
    depth = max(groups, key=lambda L: (len(groups[L]), L))
    panels = {f"noise {noise:g}": of for noise, of in groups[depth].items()}
    setting = f"L = {depth}, training labels corrupted"
    return _curves(family, panels, "NCC accuracy under label noise", setting) if len(panels) > 1 else None


def _curves(family: Family, panels: Mapping[str, Sequence[Trace]], title: str, setting: str) -> Drawn | None:
    if not panels:
        return None
    figure, axes = blank_panels(len(panels), "epoch", "train NCC accuracy")
    layers = max(trace.config.depth for of in panels.values() for trace in of)
    colours = layer_bar(figure, axes, layers)
    for ax, (label, of) in zip(axes, panels.items(), strict=True):
        epochs, errors = over_epochs(of, lambda trace: trace.errors)
        for layer in range(errors.shape[2]):
            band(ax, epochs, 1.0 - errors[:, :, layer], color=colours[layer])
        network = np.ma.masked_invalid(over_epochs(of, lambda trace: trace.accuracy)[1])
        ax.plot(epochs, network.mean(axis=0), color="black", linewidth=1, linestyle=(0, (3, 2)))
        ax.set(title=label, ylim=(0.0, 1.03))
        epoch_axis(ax, epochs[-1])
    return Drawn(
        title,
        f"{family.about}; {setting}. Lines: mean over {seeds(panels.values())}, one colour per layer; bands: smallest "
        "to largest seed; dashed black: training accuracy of the network itself.",
        figure,
    )


def final_profiles(family: Family) -> Drawn | None:
    """Draw train NCC error of every layer after the last epoch, a line per L, clean labels, log axis with a zero."""
    groups = by(family.traces, "depth", noise=0.0)
    if not groups:
        return None
    figure, (ax,) = blank_panels(1, "layer", "train NCC error")
    for i, (L, colour) in enumerate(zip(groups, shades(len(groups)), strict=True)):
        errors = np.array([trace.errors[-1] for trace in groups[L]])
        band(ax, range(1, L + 1), errors, color=colour, marker=MARKERS[i % len(MARKERS)], label=f"L = {L}")
    seen = np.concatenate([trace.errors[-1] for of in groups.values() for trace in of])
    powers = [10.0**k for k in range(math.floor(math.log10(min(seen[seen > 0.0], default=0.1))), 1)]
    ax.set_yscale("symlog", linthresh=powers[0], linscale=0.5)
    ax.set_yticks([0.0, *powers], ["0", *(f"{power:g}" for power in powers)])
    ax.minorticks_off()
    ax.set_ylim(-0.1 * powers[0], 1.0)
    ax.set_xticks(range(1, max(groups) + 1, math.ceil(max(groups) / 12)))
    figure.legend(loc="outside lower center", ncols=4)
    caption = f"{family.about}; clean labels, last measured epoch. Lines: mean over {seeds(groups.values())}; bands: "
    return Drawn("Final NCC error by layer", caption + "smallest to largest seed.", figure)


class Series(NamedTuple):
    """One line of an effective-depth panel: the NCC errors of layers 1..L of every seed, by x."""

    label: str
    colour: Colour | str
    profiles: Mapping[float, Sequence[FloatArray]]
    over_epochs: bool = False
    dashed: bool = False


def depth_against_depth(family: Family, *, eps: Sequence[float]) -> Drawn | None:
    """Draw effective depth against the depth L of the network, clean labels."""
    groups = by(family.traces, "depth", noise=0.0)
    if len(groups) < 2:
        return None
    series = [Series("", shades(1)[0], finals(groups))]
    figure = _depth_panels(series, eps, "network depth L", {L: str(L) for L in groups}, top=max(groups))
    for ax in figure.axes:
        ax.plot([*groups], [*groups], color=GREY, linewidth=1, linestyle=":", zorder=1)
    caption = f"{family.about}; clean labels. {_reading(eps)} Dots: seeds, {seeds(groups.values())} per L, {DOTS}"
    return Drawn("Effective depth against L", f"{caption} Dotted: the last layer, L.", figure)


def depth_against_noise(family: Family, *, eps: Sequence[float]) -> Drawn | None:
    """Draw effective depth against label noise, the fraction of corrupted training labels, a line per L."""
    lines = {L: by(family.traces, "noise", depth=L) for L in by(family.traces, "depth")}
    ticks = {noise: f"{noise:g}" for noise in by(family.traces, "noise")}
    return _against("label noise", family.about, lines, ticks, eps)


def depth_against_width(family: Family, *, eps: Sequence[float]) -> Drawn | None:
    """Draw effective depth against the width H on a log axis, clean labels, a line per L."""
    lines = {L: by(family.traces, "width", depth=L, noise=0.0) for L in by(family.traces, "depth")}
    lines = {L: {math.log2(H): of for H, of in line.items()} for L, line in lines.items()}
    ticks = {math.log2(H): str(H) for H in by(family.traces, "width", noise=0.0)}
    return _against("width H", f"{family.about}; clean labels", lines, ticks, eps)


def _against(
    axis: str, about: str, lines: Mapping[int, Groups], ticks: Mapping[float, str], eps: Sequence[float]
) -> Drawn | None:
    lines = {L: line for L, line in lines.items() if len(line) > 1}
    if not lines:
        return None
    colours = shades(len(lines))
    series = [Series(f"L = {L}", colour, finals(lines[L])) for L, colour in zip(lines, colours, strict=True)]
    count = seeds(of for line in lines.values() for of in line.values())
    caption = f"{about}. {_reading(eps)} Dots: seeds, {count} each, {DOTS}"
    return Drawn(f"Effective depth against {axis}", caption, _depth_panels(series, eps, axis, ticks))


def depth_against_epoch(family: Family, *, eps: Sequence[float]) -> Drawn | None:
    """Draw effective depth over training, clean labels, a line per L; controls at learning rate 0 are dashed."""
    groups, controls = (by(of, "depth", noise=0.0) for of in (family.traces, family.controls))
    if not groups:
        return None
    colours = shades(len(groups))
    series = [Series(f"L = {L}", colours[i], over_training(groups[L]), True) for i, L in enumerate(groups)]
    series += [Series(f"L = {L}, lr 0", GREY, over_training(controls[L]), True, True) for L in controls]
    figure = _depth_panels(series, eps, "epoch", {})
    for ax in figure.axes:
        epoch_axis(ax, max(int(epoch) for line in series for epoch in line.profiles))
    caption = (
        f"{family.about}; clean labels. {_reading(eps)} Lines: mean over {seeds(groups.values())}, bands: smallest to "
        "largest seed, both only where every seed has a depth; else dots, and a ring for those that have none."
    )
    if controls:
        caption += f" Dashed: controls at learning rate 0, {seeds(controls.values())}."
    return Drawn("Effective depth over training", caption, figure)


def _reading(eps: Sequence[float]) -> str:
    listed = ", ".join(f"{threshold:g}" for threshold in sorted(eps))
    return f"First layer with a train NCC error of at most eps = {listed}, interpolated; shaded: none, no such layer."


def _depth_panels(
    series: Sequence[Series], eps: Sequence[float], axis: str, ticks: Mapping[float, str], *, top: int | None = None
) -> Figure:
    figure, axes = blank_panels(len(eps), axis, "effective depth")
    depths = [[_depths(line, threshold) for line in series] for threshold in sorted(eps)]
    if top is None:
        found = [depth for panel in depths for line in panel for at in line.values() for depth in at if depth]
        top = math.ceil(max(found, default=1.0)) + 1
    shelf = (1.08 * top, 1.34 * top)  # where "none" is drawn
    span = max(ticks, default=0.0) - min(ticks, default=0.0)
    for ax, threshold, panel in zip(axes, sorted(eps), depths, strict=True):
        ax.axhspan(*shelf, color="#f0f0f0", linewidth=0, zorder=0)
        for i, line in enumerate(series):
            share = (i + 1) / (len(series) + 1)
            offsets = {"none": np.interp(share, (0, 1), shelf), "shift": 0.06 * (share - 0.5) * span}
            _draw(ax, line, panel[i], MARKERS[i % len(MARKERS)], **offsets, step=0.012 * span)
        whole = range(0, top + 1, math.ceil(top / 5))
        ax.set_yticks([*whole, sum(shelf) / 2], [*map(str, whole), "none"])
        ax.set(title=f"eps = {threshold:g}", ylim=(0.0, shelf[1]))
        ax.set_xticks([*ticks], [*ticks.values()])
    if any(line.label for line in series):
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _depths(line: Series, eps: float) -> Depths:
    return {x: [interpolated_depth([*at], eps=eps) for at in profiles] for x, profiles in line.profiles.items()}


def _draw(ax: Axes, line: Series, depths: Depths, marker: str, *, none: float, shift: float, step: float) -> None:
    """Draw one series of a panel: seeds as dots, hollow and on the shelf if they have no depth, and their means."""
    x = [at + shift for at in depths]
    mean, low, high = np.array([summary(at, over_epochs=line.over_epochs) for at in depths.values()]).T
    style: dict[str, Any] = {"color": line.colour, "linestyle": "--" if line.dashed else "-"}
    ring: dict[str, Any] = {"ms": 3, "mew": 0.8, "mec": line.colour, "mfc": "white"}
    if line.over_epochs:
        ax.plot(x, mean, label=line.label, **style)
        ax.fill_between(x, low, high, color=line.colour, alpha=0.18, linewidth=0)
        ax.plot(x, [none if None in at else math.nan for at in depths.values()], marker, lw=0.8, **style, **ring)
    else:
        ax.errorbar(x, mean, (mean - low, high - mean), marker=marker, capsize=2, label=line.label, zorder=3, **style)
    dots, rings = [], []
    for at, over_seeds in zip(x, depths.values(), strict=True):
        for i, depth in enumerate(over_seeds):
            spot = at + (i - (len(over_seeds) - 1) / 2) * step
            if depth is None and not line.over_epochs:
                rings.append((spot, none))
            elif depth is not None and (None in over_seeds or not line.over_epochs):
                dots.append((spot, depth))
    for spots, look in ((rings, ring), (dots, {"ms": 3, "mew": 0, "color": line.colour, "alpha": 0.5})):
        if spots:
            ax.plot(*zip(*spots, strict=True), marker, **look)


def _of_families(draw: Callable[[Family], Drawn | None], runs: Iterable[Run], **free: Any) -> list[Drawn]:
    """Draw one figure for each family of the runs that has it; `free` are further fields that may differ there."""
    drawn = [draw(family) for family in group(traces_of(runs), **free)]
    return [one for one in drawn if one is not None]


NAMED: Mapping[str, Callable[[Iterable[Run]], list[Drawn]]] = {
    "ncc-by-epoch": partial(_of_families, curves_by_depth),
    "ncc-by-noise": partial(_of_families, curves_by_noise),
    "ncc-by-layer": partial(_of_families, final_profiles),
    "depth-by-depth": partial(_of_families, partial(depth_against_depth, eps=EPS_SWEEP)),
    "depth-by-noise": partial(_of_families, partial(depth_against_noise, eps=EPS_SWEEP)),
    "depth-by-epoch": partial(_of_families, partial(depth_against_epoch, eps=EPS_SWEEP)),
    "cdnv-by-layer": partial(_of_families, collapse_figures.cdnv_by_layer),
    "cdnv-by-epoch": partial(_of_families, collapse_figures.cdnv_by_epoch),
    "ncc-and-cdnv-by-layer": partial(_of_families, collapse_figures.ncc_and_cdnv_by_layer),
    "collapse-by-width": partial(_of_families, collapse_figures.collapse_by_width, width=1),
    "test-by-epoch": partial(_of_families, collapse_figures.held_out_by_epoch),
    "bound-by-depth": bound_figures.bound_by_depth,
}
"""Figures that a claim can name."""


def named(name: str, runs: Iterable[Run]) -> list[Drawn]:
    """Draw the figure of that name, once for each family of the runs that has it. Raises ValueError for others."""
    if name not in NAMED:
        raise ValueError(f"name: expected one of {', '.join(NAMED)}, got {name!r}")
    with rc_context(STYLE):
        return NAMED[name](runs)

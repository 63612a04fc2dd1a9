"""Building blocks of figures: panels for small screens, colours for the colour-blind, lines with bands."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from ncharness.report.traces import FloatArray

Colour = tuple[float, float, float, float]
GREY = "#8a8a8a"
MARKERS = ("o", "s", "D", "^", "v", "P")
STYLE: dict[Any, Any] = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "font.size": 9,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "text.parse_math": False,
}


class Drawn(NamedTuple):
    """A figure with its title and caption."""

    title: str
    caption: str
    figure: Figure


def shades(count: int) -> list[Colour]:
    """Return colours from dark to light that differ in lightness: legible to the colour-blind and in grey."""
    shares = [0.3] if count == 1 else [0.88 * (i / (count - 1)) ** 0.8 for i in range(count)]
    return [colormaps["viridis"](share) for share in shares]


def blank_panels(count: int, x: str, y: str) -> tuple[Figure, list[Axes]]:
    """Make a figure for small screens: `count` panels of one scale, in at most two columns, axes labelled x and y."""
    columns = min(count, 2)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(4.8, 0.9 + (1.7 if count > 1 else 2.3) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
        axes[count - columns].tick_params(labelbottom=True)
    for ax in axes[max(count - columns, 0) : count]:
        ax.set_xlabel(x)
    figure.supylabel(y, fontsize=9)
    return figure, axes[:count]


def epoch_axis(ax: Axes, last: int) -> None:
    """Make x an axis of epochs from 0 to `last`: logarithmic from 1 on, with ticks at powers of ten."""
    powers = [10**k for k in range(len(str(last))) if 10**k <= last / 2]
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks([0, *powers, last], [str(epoch) for epoch in (0, *powers, last)])
    ax.set_xlim(-0.2, last * 1.15)
    ax.minorticks_off()


def band(ax: Axes, x: Sequence[float], values: FloatArray, **line: Any) -> None:
    """Plot the mean over seeds (axis 0) as a line, smallest to largest seed as a band; NaN are left out."""
    known = np.ma.masked_invalid(values)
    ax.plot(x, known.mean(axis=0), **line)
    if len(values) > 1:
        ax.fill_between(x, known.min(axis=0), known.max(axis=0), color=line["color"], alpha=0.18, linewidth=0)


def layer_bar(figure: Figure, axes: Sequence[Axes], layers: int) -> list[Colour]:
    """Draw a key with one colour for each layer below the axes, and return the colours."""
    colours = shades(layers)
    key = ScalarMappable(BoundaryNorm([i + 0.5 for i in range(layers + 1)], layers), ListedColormap(colours))
    bar = figure.colorbar(key, ax=axes, location="bottom", aspect=40, pad=0.03, label="layer")
    bar.set_ticks([*range(1, layers + 1, math.ceil(layers / 12))])
    bar.ax.tick_params(which="both", length=0)
    return colours

"""Figure of the comparative bound: its terms as stacked bars, beside the test error that they should bound."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from ncharness.report.style import GREY, Drawn, blank_panels, shades
from ncharness.store.run import Run
from ncharness.training.config import RunConfig
from ncharness.verdicts.bound import ALPHA, DIRECTION, Bound, sweep

EPS = 0.05
_WIDTH = 0.5  # of a bar; one unit from L to L


def bound_by_depth(runs: Iterable[Run]) -> list[Drawn]:
    """Draw the bound at eps .05 and alpha .1 over L, a panel per p: one figure for each family of networks on S1.

    delta1 is assumed 0, as in the claims. An empty box on top of the bars shows what it would add if it were estimated,
    which needs two initialisations for each split.
    """
    given = [run for run in runs if isinstance(run.config, RunConfig)]
    families: dict[RunConfig, list[Run]] = {}
    for run in given:
        if run.training.part == "first":
            families.setdefault(run.training.replace(split=0, seed=0, depth=1), []).append(run)
    both = [run for run in given if run.training.part == "both"]
    drawn = []
    for config, first in sorted(families.items(), key=lambda family: (family[0].data, family[0].key())):
        classes = _classes(config.data)
        settings: dict[str, Any] = {"eps": EPS, "alphas": [ALPHA], "n_classes": classes or 10}
        estimated: dict[int, float] = {}
        try:
            bounds = sweep([*first, *both], delta1=0.0, **settings)
        except ValueError:  # some split lacks runs
            continue
        if not bounds:
            continue
        at_one = [run for run in both if run.training.noise == bounds[0].p]  # delta1 is the same at every p
        with suppress(ValueError):  # one initialisation a split
            found = sweep([*first, *at_one], delta1=None, **settings)
            estimated = {bound.depth: bound.delta1.value for bound in found}
        drawn.append(_drawn(config, bounds, estimated, known_classes=classes is not None))
    return drawn


def _classes(data: str) -> int | None:
    """Return the number of classes of a data set; None for image folders."""
    name = data.removeprefix("shuffled:")
    if name.startswith("folder:"):
        return None
    return 100 if name == "cifar100" else 10


def _drawn(config: RunConfig, bounds: Sequence[Bound], estimated: dict[int, float], *, known_classes: bool) -> Drawn:
    noises = sorted({bound.p for bound in bounds})
    figure, axes = blank_panels(len(noises), "network depth L", "test error; terms of the bound")
    for ax, p in zip(axes, noises, strict=True):
        here = [bound for bound in bounds if bound.p == p]
        _stack(ax, here, [estimated.get(bound.depth, 0.0) for bound in here])
        if known_classes:
            ax.axhline(here[0].trivial, color=GREY, linewidth=1, linestyle=":", label="error of a constant guess")
        assumed = "" if here[0].delta2.how == "estimated" else ", delta2 assumed 0"
        ax.set(title=f"p = {p:g}{assumed}")
        ax.yaxis.set_major_locator(MultipleLocator(0.5))
        ax.set_xticks(range(len(here)), [str(bound.depth) for bound in here])
        ax.set_xlim(-0.6, len(here) - 0.4)
        ax.grid(visible=False, axis="x")
    axes[0].set_ylim(0.0, 1.04 * max(ax.dataLim.y1 for ax in axes))  # of all, which share it
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    one = bounds[0]
    caption = (
        f"{config.data}, {config.arch.upper()}-L-{config.width}, m = {one.m}, n = {len(one.per_split)} splits, eps = "
        f"{EPS:g}, alpha = {ALPHA:g}. Bars: the terms, added up; whiskers: 95 % interval of their sum; diamonds: "
        "mean test error and its 95 % interval. delta1 is assumed 0 and so has no bar; the empty boxes are what it "
        f"adds if it is estimated. Every sum is {DIRECTION}."
    )
    return Drawn("The comparative bound beside the test error", caption, figure)


def _stack(ax: Axes, bounds: Sequence[Bound], delta1: Sequence[float]) -> None:
    """Draw the bars of a panel, with the interval of their sum in the middle and the test error to the right."""
    places = range(len(bounds))
    parts = {
        "(1 + alpha) p, exact": [bound.penalty.value for bound in bounds],
        "first term, estimated": [bound.first.value for bound in bounds],
        f"delta2, {'estimated' if bounds[0].delta2.how == 'estimated' else 'assumed'}": [
            bound.delta2.value for bound in bounds
        ],
    }
    bottom = [0.0] * len(bounds)
    for (label, heights), colour in zip(parts.items(), reversed(shades(len(parts))), strict=True):
        ax.bar(places, heights, _WIDTH, bottom=bottom, color=colour, label=label, zorder=2)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    if any(delta1):
        box: dict[str, Any] = {"facecolor": "none", "edgecolor": GREY, "linestyle": "--", "linewidth": 0.8}
        ax.bar(places, delta1, _WIDTH, bottom=bottom, label="delta1, if estimated", zorder=2, **box)
    values = [bound.value for bound in bounds]
    ends = [[max(0.0, bound.value - bound.low) for bound in bounds], [bound.high - bound.value for bound in bounds]]
    look: dict[str, Any] = {"linestyle": "none", "capsize": 2, "zorder": 3}
    ax.errorbar(places, values, ends, color="black", marker="_", label="the bound, delta1 = 0", **look)
    tests = [bound.test_error for bound in bounds]
    spread = [[test.value - test.low for test in tests], [test.high - test.value for test in tests]]
    beside = [place + 0.36 for place in places]
    error: dict[str, Any] = {"color": "#c8102e", "marker": "D", "markersize": 3.5, "label": "measured test error"}
    ax.errorbar(beside, [test.value for test in tests], spread, **error, **look)

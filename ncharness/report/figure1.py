"""Figure 1 of arXiv:2202.09028 drawn from the user's runs, with the published levels at its right edge."""

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.ticker import MaxNLocator

from ncharness.report.figure1_readings import NETWORK, READINGS, document, parse_reading, scale
from ncharness.report.style import STYLE, Drawn, band, blank_panels, layer_bar
from ncharness.report.traces import Family, by, group, over_epochs, seeds, trace, traces_of
from ncharness.store.run import Run
from ncharness.training.config import RunConfig


def figure_one(family: Family) -> Drawn | None:
    """Draw train NCC accuracy of every layer over epochs, a panel for each published L, clean labels.

    The first line states the scale of the runs. Triangles at the right edge are the published levels of the same
    layers, the black one that of the network. Returns None if the family has no run of a published L.
    """
    groups = {L: traces for L, traces in by(family.traces, "depth", noise=0.0).items() if L in READINGS}
    if not groups:
        return None
    label = scale(next(iter(groups.values()))[0].config)
    with rc_context(STYLE):
        figure, axes = blank_panels(len(groups), "epoch", "train NCC accuracy")
        lines = textwrap.wrap(label, 84)
        figure.suptitle("\n".join(lines), fontsize=7.5, x=0.02, ha="left")
        figure.set_figheight(figure.get_figheight() + 0.6 + 0.13 * len(lines))  # for title and key
        colours = layer_bar(figure, axes, max(groups))
        for ax, (L, traces) in zip(axes, groups.items(), strict=True):
            epochs, errors = over_epochs(traces, lambda trace: trace.errors)
            edge = 1.04 * epochs[-1]
            for layer, text in enumerate(READINGS[L]):
                band(ax, epochs, 1.0 - errors[:, :, layer], color=colours[layer])
                level = parse_reading(text)
                ax.plot(edge, (level.low + level.high) / 2, "<", color=colours[layer], markersize=4, clip_on=False)
            accuracy = np.ma.masked_invalid(over_epochs(traces, lambda trace: trace.accuracy)[1])
            ax.plot(epochs, accuracy.mean(axis=0), color="black", linewidth=1, linestyle=(0, (3, 2)))
            ax.plot(edge, parse_reading(NETWORK[L]).low, "<", color="black", markersize=2.5, clip_on=False, zorder=3)
            ax.set(title=f"L = {L}", ylim=(0.0, 1.03), xlim=(0, 1.06 * epochs[-1]), yticks=[0.0, 0.5, 1.0])
            ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    caption = (
        f"{label}. {family.about}; clean labels. Lines: mean over {seeds(groups.values())}, one colour per layer; "
        "bands: smallest to largest seed; dashed black: training accuracy of the network. Triangles: where Figure 1 of "
        "the published README ends (CONV-L-400 on CIFAR-10), by layer in the same colours, black the network."
    )
    return Drawn("Figure 1 of arXiv:2202.09028", caption, figure)


def write(runs: Iterable[Run], folder: Path, *, data: str, width: int | None = None) -> list[Path]:
    """Write Figure 1 as PNG and SVG and its table as Markdown, for every family of CONV runs of a data set.

    Returns the paths of the files, three for each family. Runs are left out if they have label noise, learning rate 0,
    an L that was not published, or other capture points than the published figure.
    """
    chosen = {run.config.key(): run for run in runs if _belongs(run) and run.training.data == data}
    of_width = [run for run in chosen.values() if width in (None, run.training.width)]
    written = []
    for family in group(traces_of(of_width)):
        drawn = figure_one(family)
        assert drawn is not None  # because every run was selected by _belongs
        config = family.traces[0].config
        key = config.replace(depth=1, seed=0).key()
        name = re.sub(r"[^\w.]+", "-", f"figure1-H{config.width}-{Path(data).name}-{key}")
        folder.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "svg"):
            written.append(folder / f"{name}.{kind}")
            drawn.figure.savefig(written[-1], dpi=200, metadata={"Date": None} if kind == "svg" else None)
        text = document([chosen[trace.config.key()] for trace in family.traces])
        written.append(folder / f"{name}.md")
        written[-1].write_text(f"# {drawn.title}\n\n{text}\n{drawn.caption}\n", encoding="utf-8")
    return written


def _belongs(run: Run) -> bool:
    config = run.config
    return (
        isinstance(config, RunConfig)
        and (config.arch, config.part, config.noise, config.points) == ("conv", "all", 0.0, ("paper",))
        and config.lr > 0.0
        and config.depth in READINGS
        and trace(run, "pre_bn") is not None
    )

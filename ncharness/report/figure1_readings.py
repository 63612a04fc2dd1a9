"""Readings of the published Figure 1, and the deviations of runs from them. Nothing is drawn here.

The numbers are the train NCC accuracies at the last plotted point of Figure 1 in the README of the code published with
arXiv:2202.09028 (CONV-L-400 on CIFAR-10), read off the image by colour. Their precision is .005; .0005 if an `i`
follows (from an inset of the figure); a `~` before a number means approximately. The last point is the state after 490
of 500 epochs. Neither a table of these numbers nor their seeds are public in the sources at hand.
"""

from collections.abc import Sequence
from pathlib import PurePath
from statistics import fmean
from typing import NamedTuple

from ncharness.store.run import Run
from ncharness.training.config import RunConfig

SOURCE = "images/fig.png, Figure 1 in the README of lianegalanti/NC at 0e43d77, digitised by colour"
READINGS: dict[int, tuple[str, ...]] = {
    3: (".36", ".415", ".84"),
    5: (".367", ".465", ".575", ".706", ".998i"),
    8: (".365", ".455", ".56", ".72", ".93", ".972i", ".952", "~.998"),
    12: (".365", ".46", ".58", ".76", ".93", ".974i", ".984i", "~.993i", *[".993-.997"] * 4),
    16: (".364", ".46", ".57", ".75", ".925", "~.971i", ".992i", ".994i", *[".995-.998"] * 8),
    20: (".363", ".45", ".58", ".77", ".92", "~.972i", ".991i", ".994i", *[".996-.998"] * 12),
}
"""Train NCC accuracy of layers 1..L as read, by L; for the layers above 8 only their range is known."""
NETWORK = {3: ".994i", 5: ".9995i", 8: ".9975i", 12: ".9965i", 16: ".998i", 20: ".998i"}
"""Training accuracy of the network itself, by L."""
SETTINGS = {
    "arch": "conv",
    "width": 400,
    "data": "cifar10",
    "n_train": None,
    "noise": 0.0,
    "epochs": 500,
    "batch_size": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "code",
    "augment": "code",
    "precision": "float32",
}
"""Settings of the published figure, as fields of a configuration.

The schedule is the one that the steps of the figure show. Single precision is that of the published code's
measurements.
"""
_NAMES = {"n_train": "training samples", "lr": "learning rate", "augment": "augmentation"}
_SINGLE = 8  # layers with a column of their own


class Reading(NamedTuple):
    """Least and greatest value of a reading; equal unless it is a range."""

    low: float
    high: float

    def deviation(self, value: float) -> float:
        """Return how far a value is above (positive) or below (negative) the reading; 0 inside a range."""
        return value - min(max(value, self.low), self.high)


class Cell(NamedTuple):
    """Published and measured accuracy of a layer, the latter as the mean over runs; layer 0 is the network itself."""

    depth: int
    layer: int
    published: str
    measured: float

    @property
    def deviation(self) -> float:
        """Deviation of the measured accuracy from the published one."""
        return parse_reading(self.published).deviation(self.measured)


def parse_reading(text: str) -> Reading:
    """Parse a number in the notation of READINGS.

    >>> parse_reading("~.972i"), parse_reading(".993-.997")
    (Reading(low=0.972, high=0.972), Reading(low=0.993, high=0.997))
    """
    low, _, high = text.strip("~i").partition("-")
    return Reading(float(low), float(high or low))


def differences(config: RunConfig) -> list[str]:
    """List the settings of a run that differ from the published ones, in words, except L and the seed."""
    own = {"augment": "none", "precision": "float32", **config.to_dict()}
    return [
        f"{_NAMES.get(name, name.replace('_', ' '))} {_word(own[name])} instead of {_word(value)}"
        for name, value in SETTINGS.items()
        if own[name] != value
    ]


def _word(value: object) -> str:
    if isinstance(value, str) and value.startswith("folder:"):
        return f"folder {PurePath(value).name}"
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def scale(config: RunConfig) -> str:
    """Return the label of the runs' scale, which is shown with all of their numbers."""
    found = differences(config)
    return f"Reduced scale: {', '.join(found)}" if found else "The published settings"


def compare(runs: Sequence[Run]) -> list[Cell]:
    """Compare runs on clean labels, after their last epoch, with the published table. Returns cells, L ascending.

    `runs` must differ in depth and seed only, otherwise ValueError is raised. Runs of an L that was not published are
    left out.
    """
    if len(kinds := {run.training.replace(depth=1, seed=0) for run in runs}) > 1:
        raise ValueError(f"runs: expected runs that differ in depth and seed alone, got {len(kinds)} kinds")
    cells = []
    for depth, readings in READINGS.items():
        here = [run for run in runs if run.training.depth == depth]
        if not here:
            continue
        accuracy = [1.0 - fmean(errors) for errors in zip(*(run.profile() for run in here), strict=True)]
        cells += [Cell(depth, i, *pair) for i, pair in enumerate(zip(readings, accuracy, strict=True), 1)]
        cells.append(Cell(depth, 0, NETWORK[depth], 1.0 - fmean(run.scalar() for run in here)))
    return cells


def largest(cells: Sequence[Cell]) -> dict[int, Cell]:
    """Return the cell with the largest absolute deviation for every layer; 0 is the network, 9 all layers above 8."""
    found: dict[int, Cell] = {}
    for cell in cells:
        column = min(cell.layer, _SINGLE + 1)
        if column not in found or abs(cell.deviation) > abs(found[column].deviation):
            found[column] = cell
    return dict(sorted(found.items()))


def deviation_table(cells: Sequence[Cell]) -> str:
    """Render a Markdown table: a published and a measured row for every L, and the largest deviations below."""
    columns = [*sorted({min(cell.layer, _SINGLE + 1) for cell in cells} - {0}), 0]
    names = {0: "network", _SINGLE + 1: f"> {_SINGLE}"}
    lines = [["L", "", *(names.get(column, str(column)) for column in columns)], ["---"] * (len(columns) + 2)]
    for depth in sorted({cell.depth for cell in cells}):
        by_column: dict[int, list[Cell]] = {}
        for cell in cells:
            if cell.depth == depth:
                by_column.setdefault(min(cell.layer, _SINGLE + 1), []).append(cell)
        published = [by_column[column][0].published if column in by_column else "" for column in columns]
        lines.append([str(depth), "published", *published])
        lines.append(["", "measured", *(_measured(by_column.get(column, [])) for column in columns)])
    worst = largest(cells)
    lines.append(["", "largest deviation", *(f"{_signed(worst[c].deviation)} (L = {worst[c].depth})" for c in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _measured(cells: Sequence[Cell]) -> str:
    values = sorted({_short(cell.measured) for cell in cells})
    return "-".join(dict.fromkeys((values[0], values[-1]))) if values else ""


def _short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


def _signed(value: float) -> str:
    return ("-" if value < 0 else "+") + _short(abs(value))


def document(runs: Sequence[Run]) -> str:
    """Render the table with its explanation: the runs, the source of the published numbers, and their notation."""
    config, seeds = runs[0].training, sorted({run.training.seed for run in runs})
    counted = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'} ({', '.join(map(str, seeds))})"
    about = (
        "Train NCC accuracy of every layer after the last epoch, as published and as measured here, mean over "
        f"{counted}. A deviation is measured minus published, 0 inside a range"
    )
    about += ": here, of one setting from another." if differences(config) else "."
    reading = (
        f"Published: {SOURCE}; CONV-L-400 on CIFAR-10, after 490 of 500 epochs; read within .005, `i` within .0005 "
        "(an inset), `~` about; of the layers above 8 the range over them."
    )
    return f"{scale(config)}.\n\n{about}\n\n{deviation_table(compare(runs))}\n{reading}\n"


def recipe() -> str:
    """Return the command that trains the runs of the figure."""
    defaults = RunConfig().to_dict()
    unlike = {name: value for name, value in SETTINGS.items() if name in defaults and value != defaults[name]}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in unlike.items())
    return f"ncharness train{options} --depth {','.join(map(str, READINGS))}"

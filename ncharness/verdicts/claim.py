"""The vocabulary of a claim: what it declares before any run, in which settings, and tables of per-seed numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ncharness.store.run import Configuration, Run
from ncharness.studies.study import Study

FITTED = 0.01
"""A network has fitted its training labels when its training error is at most this."""

SUITES = {
    "headline": ("headline",),
    "paper": ("headline", "paper"),
    "literature": ("literature",),
    "all": ("headline", "paper", "literature"),
}
"""The suites to ask for, and whose claims each has: minutes, all of arXiv:2202.09028, the wider literature."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A hypothesis and the design of its test; all of it is fixed before any run."""

    id: str  # such as c2-depth-constant
    title: str
    statement: str
    source: str  # paper, version, section
    quantity: str  # what is computed for each seed, with its unit
    test: str  # superiority, equivalence or trend
    margin: float
    alpha: float
    power: float  # at the effect and spread named in the claim's file
    precondition: str
    suite: str = "paper"  # headline, paper (of arXiv:2202.09028) or literature
    figure: str = ""  # the figure that people know it by, one of figures.NAMED


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a claim is tested: a name, the threshold that decides, the runs it needs and those of its control."""

    name: str
    eps: float | None  # None: no threshold enters, and there is nothing to sweep over
    runs: Sequence[Configuration]
    control_runs: Sequence[Configuration] = ()  # only what the claim itself does not need

    def __str__(self) -> str:
        return self.name


def pivot(
    runs: Iterable[Run], axis: str, quantity: Callable[[Run], float | None]
) -> tuple[list[float], list[list[float | None]]]:
    """A table of `quantity` with a row per seed and a column per value of `axis`, a field of the configuration or a
    setting of the study.

    Returns the ascending levels of the axis and the rows, seeds ascending. Raises ValueError where a seed lacks
    a level or has one twice, because a paired test cannot do without.
    """
    cells: dict[tuple[int, Any], float | None] = {}
    for run in runs:
        config = run.config
        level = config.settings[axis] if isinstance(config, Study) else getattr(config, axis)
        cell = (config.seed, level)
        if cell in cells:
            raise ValueError(f"runs: two runs have seed {cell[0]} and {axis} {cell[1]}")
        cells[cell] = quantity(run)
    levels = sorted({level for _, level in cells})
    seeds = sorted({seed for seed, _ in cells})
    if missing := [(seed, level) for seed in seeds for level in levels if (seed, level) not in cells]:
        raise ValueError(f"runs: there is none with seed {missing[0][0]} and {axis} {missing[0][1]}")
    return levels, [[cells[seed, level] for level in levels] for seed in seeds]


def unfitted(runs: Sequence[Run], *, tolerance: float = FITTED) -> str:
    """Why these runs cannot speak for a claim about trained networks: the worst training error, or an empty string.

    The error is on the labels that were trained on, noisy ones included.
    """
    worst = max(runs, key=lambda run: _nan_is_worst(run.scalar("error")))
    error = worst.scalar("error")
    if error <= tolerance:
        return ""
    return f"{worst.config.name()} did not fit its training labels: error {error:.3f}, above {tolerance:g}"


def unfinished(runs: Sequence[Run], **limits: float) -> str:
    """Why these searches for a minimum cannot speak for a claim about minimisers, or an empty string.

    Names the first number, such as `gradient=1e-8`, that a run has above its limit; NaN is.
    """
    for run in runs:
        for name, limit in limits.items():
            if not (value := run.scalar(name)) <= limit:
                return f"{run.config.name()} did not reach a minimum: {name} {value:.2g}, above {limit:g}"
    return ""


def digits_of_agreement(*errors: float) -> float:
    """-log10 of the largest error in size, from 16 for none down to -16, which is also that of an error of NaN."""
    worst = max(_nan_is_worst(abs(error)) for error in errors)
    return -math.log10(min(max(worst, 1e-16), 1e16))


def _nan_is_worst(error: float) -> float:
    return float("inf") if error != error else error

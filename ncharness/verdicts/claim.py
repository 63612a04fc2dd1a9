"""Claims: the declaration of a hypothesis, the settings of its test, and tables of per-seed numbers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from numpy.typing import ArrayLike

from ncharness.store.run import Configuration, Run
from ncharness.studies.study import Study
from ncharness.training.config import RunConfig
from ncharness.verdicts.p_values import TESTS, check_alpha
from ncharness.verdicts.power import fewest_seeds, power
from ncharness.verdicts.verdict import Verdict, equivalence, superiority, trend

FITTED = 0.01
"""A network has fitted its training labels when its training error is at most this."""

SUITES = {
    "headline": ("headline",),
    "paper": ("headline", "paper"),
    "literature": ("literature",),
    "all": ("headline", "paper", "literature"),
}
"""The suites to ask for, and whose claims each has: minutes, all of arXiv:2202.09028, the wider literature."""


class Check(Protocol):
    """Type of the fixtures `supported` and `control`, which judge a claim and assert on the verdict."""

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Judge the claim, record its row, and assert."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """Effect and spread over seeds for which the number of seeds of a claim was planned.

    A claim of several parts, which must all hold, plans each of them. `test`, `margin` and `levels` are the claim's
    unless a part has its own.

    Attributes:
        effect: Mean of the per-seed numbers that is expected; for a trend, of the rise from first to last level.
        sd: Standard deviation of these numbers over seeds.
        times: Number of parts that are planned alike.
        test: Test of the part, if it is not the claim's.
        margin: Margin of the part, if it is not the claim's.
        levels: Number of levels of a trend, where the claim does not declare the levels themselves.

    Examples:
        >>> from ncharness import Planned
        >>> Planned(effect=6.0, sd=0.5)
        Planned(effect=6.0, sd=0.5, times=1, test='', margin=None, levels=3)
    """

    effect: float
    sd: float
    times: int = 1
    test: str = ""
    margin: float | None = None
    levels: int = 3


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A hypothesis and the design of its test; all of it is fixed before any run.

    The test of the verdict, the power and the row of the table follow from what is declared here.

    Attributes:
        id: Short form, a hyphen and words, such as `c2-depth-constant`.
        title: Title in the tables.
        statement: The claim in one sentence, with its margin.
        source: Paper, version and section.
        quantity: Number that is computed for each seed, with its unit.
        test: `superiority`, `equivalence` or `trend`.
        margin: Margin of the test, in the unit of the quantity; for a trend, the least rise.
        alpha: Significance level.
        seeds: Seeds of the runs, those of pilots not among them; for the comparative bound, the splits.
        planned: Effect and spread that the number of seeds was planned for, one entry for each part of the claim; or
            the power itself where it was computed otherwise.
        levels: Ascending levels of a trend, where they are the same in every setting.
        max_difference: Largest difference that an equivalence claim allows to any seed.
        precondition: Condition under which the claim says anything.
        suite: `headline`, `paper` (arXiv:2202.09028) or `literature`.
        figure: Figure that shows the claim, if there is one.

    Raises:
        ValueError: An entry that the test cannot take; the message names it.

    Examples:
        >>> from ncharness import Claim, Planned
        >>> claim = Claim(
        ...     id="e1-example",
        ...     title="An example",
        ...     statement="The difference is above 0.5.",
        ...     source="this page",
        ...     quantity="per seed, a difference",
        ...     test="superiority",
        ...     margin=0.5,
        ...     alpha=0.05,
        ...     seeds=range(1000, 1005),
        ...     planned=Planned(effect=2.0, sd=0.5),
        ...     precondition="none",
        ... )
        >>> round(claim.power, 2)
        0.99
        >>> print(claim.judge([2.0, 1.5, 2.5, 1.0, 3.0]).outcome)
        SUPPORTED
    """

    id: str
    title: str
    statement: str
    source: str
    quantity: str
    test: str
    margin: float
    alpha: float
    seeds: Sequence[int]
    planned: Planned | Sequence[Planned] | float
    precondition: str
    levels: Sequence[float] = ()
    max_difference: float | None = None
    suite: str = "paper"
    figure: str = ""

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise ValueError(f"test: expected one of {', '.join(TESTS)}, got {self.test!r}")
        check_alpha(self.alpha)
        for name in ("seeds", "levels"):  # a frozen claim has a hash
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not isinstance(self.planned, Planned | int | float):
            object.__setattr__(self, "planned", tuple(self.planned))
        seeds = list(self.seeds)
        if len(set(seeds)) != len(seeds) or len(seeds) < fewest_seeds(self.alpha):
            least = f"at least {fewest_seeds(self.alpha)} different seeds, which alpha {self.alpha:g} needs"
            raise ValueError(f"seeds: expected {least}, got {seeds!r}")
        if self.levels and self.test != "trend":
            raise ValueError(f"levels: expected none for the test {self.test}, got {tuple(self.levels)!r}")
        if self.levels and (len(self.levels) < 3 or sorted(set(self.levels)) != list(self.levels)):
            raise ValueError(f"levels: expected at least 3 ascending numbers, got {tuple(self.levels)!r}")
        if self.max_difference is not None and self.test != "equivalence":
            raise ValueError(f"max_difference: expected None for the test {self.test}, got {self.max_difference!r}")

    @cached_property
    def power(self) -> float:
        """Probability of SUPPORTED at the planned effect and spread; for several parts, a lower bound (Bonferroni)."""
        if isinstance(self.planned, int | float):
            return float(self.planned)
        if isinstance(self.planned, Planned) and self.planned.times == 1:
            return self._power(self.planned)
        parts = [self.planned] if isinstance(self.planned, Planned) else self.planned
        return 1.0 - sum(part.times * (1.0 - self._power(part)) for part in parts)

    def _power(self, part: Planned) -> float:
        return power(
            part.test or self.test,
            effect=part.effect,
            sd=part.sd,
            n=len(self.seeds),
            margin=self.margin if part.margin is None else part.margin,
            alpha=self.alpha,
            max_difference=self.max_difference,
            n_levels=len(self.levels) or part.levels,
        )

    def judge(self, values: ArrayLike, *, levels: Sequence[float] = ()) -> Verdict:
        """Return the verdict of the declared test on per-seed numbers.

        Args:
            values: Numbers `(n_seeds,)`, one for each seed; for a trend, a table `(n_seeds, n_levels)`.
            levels: Ascending levels of the columns, where a trend's claim does not declare them.

        Returns:
            The verdict at the claim's margin and alpha.

        Raises:
            ValueError: Numbers or levels that the test cannot take.
        """
        if self.test == "trend":
            return trend(
                values, levels=levels if len(levels) else self.levels, min_effect=self.margin, alpha=self.alpha
            )
        if len(levels):
            raise ValueError(f"levels: expected none for the test {self.test}, got {tuple(levels)!r}")
        if self.test == "equivalence":
            return equivalence(values, margin=self.margin, alpha=self.alpha, max_difference=self.max_difference)
        return superiority(values, margin=self.margin, alpha=self.alpha)

    def check_seeds(self, setting: "Setting") -> None:
        """Raise ValueError unless the runs of a setting, and of its control, have the declared seeds and no others.

        Args:
            setting: Setting of this claim.
        """
        for name, runs in (("runs", setting.runs), ("control_runs", setting.control_runs)):
            units = {_unit(config) for config in runs}
            if runs and units != set(self.seeds):
                odd = ", ".join(map(str, sorted(units ^ set(self.seeds))))
                raise ValueError(
                    f"{name}: expected the seeds that {self.id} declares, got others in {setting.name!r}: {odd}"
                )


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Setting in which a claim is tested.

    Attributes:
        name: Name in tables and node ids.
        eps: Threshold that decides; None where no threshold enters, and there is nothing to sweep over.
        runs: Configurations that the claim needs.
        control_runs: Configurations that only the control needs; empty where it takes those of the claim.

    Examples:
        >>> import ncharness as nc
        >>> setting = nc.Setting(name="digits", eps=0.01, runs=nc.grid(nc.RunConfig(), seed=range(1000, 1005)))
        >>> str(setting), len(setting.runs)
        ('digits', 5)
    """

    name: str
    eps: float | None  # None: no threshold enters, and there is nothing to sweep over
    runs: Sequence[Configuration]
    control_runs: Sequence[Configuration] = ()  # only what the claim itself does not need

    def __str__(self) -> str:
        return self.name


def _unit(config: Configuration) -> int:
    """The number by which runs are paired: the split for halves of the comparative bound, else the seed."""
    return config.split if isinstance(config, RunConfig) and config.part != "all" else config.seed


def pivot(
    runs: Iterable[Run], axis: str, quantity: Callable[[Run], float | None]
) -> tuple[list[float], list[list[float | None]]]:
    """Return a table of a quantity with a row per seed and a column per level, for paired tests.

    Args:
        runs: Runs with every level for every seed.
        axis: Field of the configuration, or setting of the study, whose values are the levels.
        quantity: Function from a run to a number, or None.

    Returns:
        The ascending levels, and the rows with seeds ascending.

    Raises:
        ValueError: A seed lacks a level or has one twice, which a paired test cannot do with.

    Examples:
        >>> import ncharness as nc
        >>> runs = [nc.Run(nc.RunConfig(depth=L, seed=seed), ()) for L in (4, 8) for seed in (0, 1)]
        >>> nc.pivot(runs, "depth", lambda run: 10 * run.config.depth + run.config.seed)
        ([4, 8], [[40, 80], [41, 81]])
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
    """Return the reason why runs cannot speak for a claim about trained networks, or an empty string.

    The error is on the labels that were trained on, noisy ones included.

    Args:
        runs: Runs whose training error was recorded.
        tolerance: Largest training error of a network that has fitted its labels.

    Returns:
        A sentence with the worst training error.

    Examples:
        >>> import ncharness as nc
        >>> rows = (nc.Row(1, "network", "train", "error", 0.2),)
        >>> nc.unfitted([nc.Run(nc.RunConfig(), rows)])
        'mlp-L08-H256-digits-p0.00-s0 did not fit its training labels: error 0.200, above 0.01'
    """
    worst = max(runs, key=lambda run: _nan_is_worst(run.scalar("error")))
    error = worst.scalar("error")
    if error <= tolerance:
        return ""
    return f"{worst.config.name()} did not fit its training labels: error {error:.3f}, above {tolerance:g}"


def unfinished(runs: Sequence[Run], **limits: float) -> str:
    """Return the reason why searches for a minimum cannot speak for a claim about minimisers, or an empty string.

    Args:
        runs: Finished studies.
        **limits: Largest value of a number that a run has, such as `gradient=1e-8`; NaN is above every limit.

    Returns:
        A sentence that names the first number at fault.

    Examples:
        >>> import ncharness as nc
        >>> rows = (nc.Row(0, "network", "train", "gradient", 1e-3),)
        >>> study = nc.Study(experiment="unconstrained.minimum")
        >>> nc.unfinished([nc.Run(study, rows)], gradient=1e-8).partition("did")[2]
        ' not reach a minimum: gradient 0.001, above 1e-08'
    """
    for run in runs:
        for name, limit in limits.items():
            if not (value := run.scalar(name)) <= limit:
                return f"{run.config.name()} did not reach a minimum: {name} {value:.2g}, above {limit:g}"
    return ""


def digits_of_agreement(*errors: float) -> float:
    """Return -log10 of the largest error in size, between -16 and 16.

    Args:
        *errors: Errors; NaN counts as the largest.

    Returns:
        16 where all errors are 0, -16 for NaN.

    Examples:
        >>> import ncharness as nc
        >>> nc.digits_of_agreement(1e-3, -1e-5), nc.digits_of_agreement(float("nan"))
        (3.0, -16.0)
    """
    worst = max(_nan_is_worst(abs(error)) for error in errors)
    return -math.log10(min(max(worst, 1e-16), 1e16))


def _nan_is_worst(error: float) -> float:
    return float("inf") if error != error else error

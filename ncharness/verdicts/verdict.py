"""Verdicts on paired per-seed numbers: superiority, equivalence, trend, and the design of such tests.

A verdict needs two tests to agree: a one-sided t test on the mean, and an exact sign test on the share of
seeds on the right side of the margin; p is the larger of the two. Effective depth is an integer, and a t test
alone calls five equal integers a certainty. What the pair guarantees:

- The median lies on the claimed side of the margin: wrong with probability at most alpha, whatever the
  distribution, since the sign test is exact and a tie with the margin counts for neither side.
- The mean lies there too: the same, if the distribution is symmetric. For a skewed one there is a limit that no test
  on n seeds can pass: what happens in fewer than `detectable_share(n)` of the seeds may well not be seen at all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ncharness.verdicts.p_values import (
    MOST_SEEDS,
    Floats,
    check_alpha,
    check_number,
    is_beyond,
    p_for_and_against,
    page_p,
)
from ncharness.verdicts.power import fewest_seeds, seeds_needed


class Outcome(str, Enum):
    """Outcome of a test: SUPPORTED, REFUTED, INCONCLUSIVE or NOT APPLICABLE.

    Examples:
        >>> import ncharness as nc
        >>> str(nc.NOT_APPLICABLE)
        'NOT APPLICABLE'
    """

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT APPLICABLE"

    def __str__(self) -> str:
        return self.value


SUPPORTED = Outcome.SUPPORTED
REFUTED = Outcome.REFUTED
INCONCLUSIVE = Outcome.INCONCLUSIVE
NOT_APPLICABLE = Outcome.NOT_APPLICABLE


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """Outcome with the numbers behind it, in plain Python types; None where there is no such number.

    `verdict == SUPPORTED` compares the outcome, so that a claim can assert it. Two verdicts are equal if all their
    fields are.
    The hash is the outcome's, as both kinds of equality require.

    Attributes:
        outcome: Outcome.
        test: `superiority`, `equivalence`, `trend` or `none`.
        reason: Result in one sentence.
        n: Number of seeds.
        effect: Mean difference over the seeds; for a trend, mean rise from the first level to the last.
        low: Lower end of the 1 - 2 alpha t interval of the effect, whose ends the t tests compare with the margin.
        high: Upper end of the interval.
        margin: Margin.
        alpha: Significance level.
        p: p-value of the claim, also where it is refuted.
        values: Numbers that were tested, one per seed; for a trend, the rises.
        seeds_needed: If inconclusive, the seeds for power .8 at the effect and spread seen, if any number does.

    Examples:
        >>> import ncharness as nc
        >>> verdict = nc.superiority([2, 1, 2, 3, 1], margin=0.5)
        >>> str(verdict.outcome), verdict.effect
        ('SUPPORTED', 1.8)
    """

    outcome: Outcome
    test: str  # superiority, equivalence, trend, or none
    reason: str  # one sentence
    n: int  # seeds
    effect: float | None = None  # mean difference over the seeds; trend: mean rise from first to last level
    low: float | None = None  # the 1 - 2 alpha t interval of the effect, the one whose ends the t tests compare
    high: float | None = None
    margin: float | None = None
    alpha: float | None = None
    p: float | None = None  # of the claim, also where it is refuted
    values: tuple[float, ...] = ()  # the numbers tested, one per seed; trend: the rises
    seeds_needed: int | None = None  # if inconclusive: for power .8 at the effect and spread seen, if any number does

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Outcome):
            return self.outcome is other
        if isinstance(other, Verdict):
            return astuple(self) == astuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.outcome)

    def __str__(self) -> str:
        return f"{self.outcome}: {self.reason}"


def superiority(differences: ArrayLike, *, margin: float = 0.0, alpha: float = 0.05) -> Verdict:
    """Test whether the mean of paired per-seed differences exceeds a margin.

    A one-sided t test and an exact sign test must agree. REFUTED means shown to lie below the margin by the mirrored
    pair of
    tests. A tie counts against either side: were it counted as "not above", symmetric differences of -1, 0, 1 with
    probabilities .4, .2, .4 around the margin would be refuted by five seeds with probability .061.

    Args:
        differences: Numbers (n_seeds,).
        margin: Margin, in their unit.
        alpha: Significance level.

    Returns:
        The verdict: SUPPORTED, REFUTED, or INCONCLUSIVE with the number of seeds that might do.

    Raises:
        ValueError: Numbers of another shape or not finite; the message names the entry.

    Examples:
        >>> superiority([2, 1, 2, 3, 1], margin=0.5) == SUPPORTED
        True
    """
    check_number("margin", margin)
    check_alpha(alpha)
    x = _numbers("differences", differences, ndim=1)
    p_values = p_for_and_against("superiority", x, margin)
    return _decide("superiority", x, p_values, margin, alpha, subject="mean difference", sides=_sides(margin))


def equivalence(
    differences: ArrayLike, *, margin: float, alpha: float = 0.05, max_difference: float | None = None
) -> Verdict:
    """Test whether the mean of paired per-seed differences lies inside (-margin, margin).

    Two one-sided tests (TOST), each by the pair of t test and sign test. Unless a seed contradicts the claim, REFUTED
    means
    that the mean is shown to lie beyond one of the margins; as there are two to go beyond, that t test is two-sided.
    The sign
    test stays one-sided, for twice .5**5 exceeds .05 and five seeds could refute nothing: where no seed falls between
    the
    margins and both sides are equally likely, five seeds wrongly refute with probability .0625.

    Args:
        differences: Numbers (n_seeds,).
        margin: Margin above 0, in their unit.
        alpha: Significance level.
        max_difference: Largest difference that the claim allows to any seed; one that is larger refutes it.

    Returns:
        The verdict: SUPPORTED, REFUTED, or INCONCLUSIVE with the number of seeds that might do.

    Raises:
        ValueError: Numbers of another shape or not finite; the message names the entry.

    Examples:
        >>> equivalence([0, 1, 0, 0, -1], margin=1.5, max_difference=2) == SUPPORTED
        True
    """
    check_number("margin", margin, positive=True)
    check_alpha(alpha)
    x = _numbers("differences", differences, ndim=1)
    note = contradiction = ""
    if max_difference is not None:
        check_number("max_difference", max_difference, positive=True)
        note = f"no seed differs by more than {max_difference:.3g}"
        worst = int(np.abs(x).argmax())
        if is_beyond(x[worst], max_difference):
            contradiction = (
                f"does not matter: the claim allows no seed to differ by more than {max_difference:.3g}, "
                f"and that at index {worst} differs by {x[worst]:.3g}"
            )
    return _decide(
        "equivalence",
        x,
        p_for_and_against("equivalence", x, margin, max_difference),
        margin,
        alpha,
        subject="mean difference",
        sides=(f"inside ±{margin:.3g}", f"outside ±{margin:.3g}"),
        note=note,
        contradiction=contradiction,
        max_difference=max_difference,
    )


def trend(table: ArrayLike, *, levels: Sequence[float], min_effect: float = 0.0, alpha: float = 0.05) -> Verdict:
    """Test whether values rise along ordered levels, paired by seed.

    SUPPORTED if Page's trend test rejects "no order" and the rise from the first level to the last is superior to
    `min_effect`. REFUTED if that rise is shown to lie below it. The values need not rise at every step.

    Args:
        table: Numbers (n_seeds, n_levels).
        levels: At least 3 ascending levels.
        min_effect: Least rise, of at least 0.
        alpha: Significance level.

    Returns:
        The verdict: SUPPORTED, REFUTED, or INCONCLUSIVE with the number of seeds that might do.

    Raises:
        ValueError: Numbers of another shape or not finite; the message names the entry.

    Examples:
        >>> trend([[3, 4, 6], [3, 3, 5], [4, 5, 7], [2, 4, 5], [3, 4, 4]], levels=(0.0, 0.2, 0.4)) == SUPPORTED
        True
    """
    check_number("min_effect", min_effect)
    if min_effect < 0:
        raise ValueError(f"min_effect: expected at least 0, got {min_effect!r}")
    check_alpha(alpha)
    x = _numbers("table", table, ndim=2)
    steps = [float(level) for level in levels]
    if len(steps) < 3 or not all(a < b for a, b in pairwise(steps)):
        raise ValueError(f"levels: expected at least 3 ascending numbers, got {tuple(steps)!r}")
    if x.shape[1] != len(steps):
        raise ValueError(f"table: expected a column for each of {len(steps)} levels, got shape {x.shape}")
    return _decide(
        "trend",
        x[:, -1] - x[:, 0],
        p_for_and_against("trend", x, min_effect),
        min_effect,
        alpha,
        subject="mean rise",
        sides=_sides(min_effect),
        note=f"Page's p = {float(page_p(x)):.2g} for the order of levels {steps[0]:g} to {steps[-1]:g}",
        n_levels=len(steps),
    )


def not_applicable(reason: str, *, n: int = 0) -> Verdict:
    """Return the verdict on a claim whose precondition is unmet.

    Args:
        reason: Sentence with the measured value.
        n: Number of seeds.

    Returns:
        A verdict NOT APPLICABLE.

    Examples:
        >>> str(not_applicable("training error 0.3").outcome)
        'NOT APPLICABLE'
    """
    return Verdict(outcome=NOT_APPLICABLE, test="none", reason=reason, n=int(n))


def weakest(parts: Mapping[str, Verdict]) -> Verdict:
    """Return the verdict on a claim of several parts that must all hold: that of its weakest part.

    A part that is REFUTED comes first, then NOT APPLICABLE, INCONCLUSIVE and SUPPORTED; among equals, the largest p,
    then the
    first. SUPPORTED needs every part (an intersection-union test), so that it is wrong with at most the alpha of one
    part and
    asks for no correction. With k parts that hold, REFUTED is wrong with at most k alpha.

    Args:
        parts: Verdicts by the names of the parts.

    Returns:
        The verdict of the weakest part; its reason names all of them.

    Raises:
        ValueError: No parts.

    Examples:
        >>> parts = {"one": superiority([2, 1, 2, 3, 1]), "two": not_applicable("nothing was fitted")}
        >>> str(weakest(parts).outcome)
        'NOT APPLICABLE'
    """
    if not parts:
        raise ValueError("parts: expected at least one verdict, got none")
    order = (REFUTED, NOT_APPLICABLE, INCONCLUSIVE, SUPPORTED)
    name = min(parts, key=lambda name: (order.index(parts[name].outcome), -(parts[name].p or 0.0)))
    others = [f"{other}: {part.outcome}" for other, part in parts.items() if other != name]
    return replace(parts[name], reason="; ".join([f"{name}: {parts[name].reason}", *others]))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values by Holm's method.

    The j-th smallest of m is multiplied by m - j + 1, made monotone and capped at 1.

    Args:
        p_values: p-values; None (not applicable) stays None and does not count as a test.

    Returns:
        Adjusted p-values in the given order.

    Raises:
        ValueError: A number outside [0, 1].

    Examples:
        >>> holm([0.01, None, 0.04, 0.02])
        [0.03, None, 0.04, 0.04]
    """
    present = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    running = 0.0
    for rank, (p, i) in enumerate(present):
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p_values[{i}]: expected a number in [0, 1] or None, got {p!r}")
        running = max(running, min(1.0, float(p) * (len(present) - rank)))
        adjusted[i] = running
    return adjusted


def _sides(margin: float) -> tuple[str, str]:
    return f"above {margin:.3g}", f"below {margin:.3g}"


def _decide(
    test: str,
    x: Floats,
    p_values: tuple[Floats, Floats],
    margin: float,
    alpha: float,
    *,
    subject: str,
    sides: tuple[str, str],
    note: str = "",
    contradiction: str = "",
    **design: Any,
) -> Verdict:
    """The verdict from both p-values, and its sentence; `design` is what else `power` has to know."""
    p, against = (float(value) for value in p_values)
    n, effect, sd = len(x), float(x.mean()), float(x.std(ddof=1))
    half = float(special.stdtrit(n - 1, 1.0 - alpha)) * sd / math.sqrt(n)
    needed = None
    if contradiction:
        outcome, finding = REFUTED, contradiction
    elif p <= alpha:
        outcome, finding = SUPPORTED, f"is {sides[0]}, p = {p:.2g}"
    elif against <= alpha:
        outcome, finding = REFUTED, f"is {sides[1]}, p = {against:.2g} against the claim"
    else:
        needed = seeds_needed(test, effect=effect, sd=sd, margin=margin, alpha=alpha, **design)
        needed = max(needed, n + 1) if needed else None
        advice = f"about {needed} seeds" if needed else f"no number of seeds up to {MOST_SEEDS}"
        if n < fewest_seeds(alpha):
            advice = f"{n} seeds can show nothing at alpha {alpha:g}, as .5**{n} exceeds it; {advice}"
        outcome = INCONCLUSIVE
        finding = f"is shown neither {sides[0]} nor {sides[1]}, p = {p:.2g}; {advice} would at this effect and spread"
    interval = f"{100 * (1 - 2 * alpha):g} % interval {effect - half:.3g} to {effect + half:.3g}"
    tail = f"; {note}" if note and not contradiction else ""
    return Verdict(
        outcome=outcome,
        test=test,
        reason=f"{subject} {effect:.3g} ({interval}, n = {n}) {finding}{tail}",
        n=n,
        effect=effect,
        low=effect - half,
        high=effect + half,
        margin=float(margin),
        alpha=float(alpha),
        p=p,
        values=tuple(x.tolist()),
        seeds_needed=needed,
    )


def _numbers(name: str, values: ArrayLike, *, ndim: int) -> Floats:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != ndim or x.shape[0] < 2:
        shape = "(n_seeds,)" if ndim == 1 else "(n_seeds, n_levels)"
        raise ValueError(f"{name}: expected shape {shape} with at least 2 seeds, got {x.shape}")
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        index = tuple(wrong[0].tolist())
        raise ValueError(f"{name}[{', '.join(map(str, index))}]: expected a finite number, got {x[index]}")
    return x

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
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_TESTS = ("superiority", "equivalence", "trend")
_DRAWS = 4_000  # simulated experiments behind a power: its standard error is at most .0079
_MOST_SEEDS = 200  # the search for a number of seeds ends here
_ROUNDING = 1e-9  # relative; 0.93 - 0.92 is a tie with the margin 0.01, not above it


class Outcome(str, Enum):
    """What became of a claim."""

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
    """An outcome with the numbers behind it, in plain Python types; None where there is no such number.

    `verdict == SUPPORTED` compares the outcome, so that a claim can assert it; two verdicts are equal if all
    their fields are. The hash is the outcome's, as both kinds of equality require.
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
    """Whether the mean of the paired per-seed differences `(n_seeds,)` exceeds `margin`.

    REFUTED means shown to lie below the margin by the mirrored pair of tests. A tie counts against either side:
    were it counted as "not above", symmetric differences of -1, 0, 1 with probabilities .4, .2, .4 around the
    margin would be refuted by five seeds with probability .061.

    >>> superiority([2, 1, 2, 3, 1], margin=0.5) == SUPPORTED
    True
    """
    _check("margin", margin)
    _check_alpha(alpha)
    x = _numbers("differences", differences, ndim=1)
    p_values = _p_values("superiority", x, margin)
    return _decide("superiority", x, p_values, margin, alpha, subject="mean difference", sides=_sides(margin))


def equivalence(
    differences: ArrayLike, *, margin: float, alpha: float = 0.05, max_difference: float | None = None
) -> Verdict:
    """Whether the mean of the paired per-seed differences `(n_seeds,)` lies inside (-margin, margin).

    Two one-sided tests (TOST), each by the pair of tests. With `max_difference` the claim also says that no seed
    differs by more than that: one that does refutes it. Otherwise REFUTED means that the mean is shown to lie
    beyond one of the margins; as there are two to go beyond, that t test is two-sided. The sign test stays
    one-sided, for twice .5**5 exceeds .05 and five seeds could refute nothing: where no seed falls between the
    margins and both sides are equally likely, five seeds wrongly refute with probability .0625.

    >>> equivalence([0, 1, 0, 0, -1], margin=1.5, max_difference=2) == SUPPORTED
    True
    """
    _check("margin", margin, positive=True)
    _check_alpha(alpha)
    x = _numbers("differences", differences, ndim=1)
    note = contradiction = ""
    if max_difference is not None:
        _check("max_difference", max_difference, positive=True)
        note = f"no seed differs by more than {max_difference:.3g}"
        worst = int(np.abs(x).argmax())
        if _beyond(x[worst], max_difference):
            contradiction = (
                f"does not matter: the claim allows no seed to differ by more than {max_difference:.3g}, "
                f"and that at index {worst} differs by {x[worst]:.3g}"
            )
    return _decide(
        "equivalence",
        x,
        _p_values("equivalence", x, margin, max_difference),
        margin,
        alpha,
        subject="mean difference",
        sides=(f"inside ±{margin:.3g}", f"outside ±{margin:.3g}"),
        note=note,
        contradiction=contradiction,
        max_difference=max_difference,
    )


def trend(table: ArrayLike, *, levels: Sequence[float], min_effect: float = 0.0, alpha: float = 0.05) -> Verdict:
    """Whether the values of `table` `(n_seeds, n_levels)` rise along `levels`, paired by seed.

    SUPPORTED if Page's trend test rejects "no order" and the rise from the first level to the last is superior to
    `min_effect`; REFUTED if that rise is shown to lie below it. The values need not rise at every step.

    >>> trend([[3, 4, 6], [3, 3, 5], [4, 5, 7], [2, 4, 5], [3, 4, 4]], levels=(0.0, 0.2, 0.4)) == SUPPORTED
    True
    """
    _check("min_effect", min_effect)
    if min_effect < 0:
        raise ValueError(f"min_effect: expected at least 0, got {min_effect!r}")
    _check_alpha(alpha)
    x = _numbers("table", table, ndim=2)
    steps = [float(level) for level in levels]
    if len(steps) < 3 or not all(a < b for a, b in pairwise(steps)):
        raise ValueError(f"levels: expected at least 3 ascending numbers, got {tuple(steps)!r}")
    if x.shape[1] != len(steps):
        raise ValueError(f"table: expected a column for each of {len(steps)} levels, got shape {x.shape}")
    return _decide(
        "trend",
        x[:, -1] - x[:, 0],
        _p_values("trend", x, min_effect),
        min_effect,
        alpha,
        subject="mean rise",
        sides=_sides(min_effect),
        note=f"Page's p = {float(_page_p(x)):.2g} for the order of levels {steps[0]:g} to {steps[-1]:g}",
        n_levels=len(steps),
    )


def not_applicable(reason: str, *, n: int = 0) -> Verdict:
    """The verdict on a claim whose precondition is unmet; `reason` gives the measured value."""
    return Verdict(outcome=NOT_APPLICABLE, test="none", reason=reason, n=int(n))


def weakest(parts: Mapping[str, Verdict]) -> Verdict:
    """The verdict on a claim of several parts that must all hold: that of its weakest part, with all of them named.

    A part that is REFUTED comes first, then NOT APPLICABLE, INCONCLUSIVE and SUPPORTED; among equals, the largest p,
    then the first. SUPPORTED needs every part (an intersection-union test), so it is wrong with at most the alpha of
    one part and asks for no correction; with k parts that hold, REFUTED is wrong with at most k alpha.
    """
    if not parts:
        raise ValueError("parts: expected at least one verdict, got none")
    order = (REFUTED, NOT_APPLICABLE, INCONCLUSIVE, SUPPORTED)
    name = min(parts, key=lambda name: (order.index(parts[name].outcome), -(parts[name].p or 0.0)))
    others = [f"{other}: {part.outcome}" for other, part in parts.items() if other != name]
    return replace(parts[name], reason="; ".join([f"{name}: {parts[name].reason}", *others]))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p in the given order; None (not applicable) stays None and does not count as a test.

    The j-th smallest of m is multiplied by m - j + 1, made monotone and capped at 1.

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


def power(
    test: str,
    *,
    effect: float,
    sd: float,
    n: int,
    margin: float = 0.0,
    alpha: float = 0.05,
    max_difference: float | None = None,
    n_levels: int = 3,
) -> float:
    """The probability that `test` on n seeds gives SUPPORTED, for normal differences of mean `effect`.

    `sd` is the spread over the seeds of the difference; for a trend, of the rise from the first level to the
    last, with a straight line between and independent noise at every level. `margin` is a trend's `min_effect`.
    Simulated through the tests themselves with a fixed seed; good to .024 (three standard errors).
    Fewer than log2(1/alpha) seeds, that is 4 or fewer at .05, have power 0: even if all agree, .5**n > alpha.
    """
    _check_design(test, effect, sd, margin, alpha, max_difference, n_levels)
    if n < 2:
        raise ValueError(f"n: expected at least 2 seeds, got {n!r}")
    if n < _fewest_seeds(alpha):
        return 0.0
    generator = np.random.default_rng(0)
    if test == "trend":
        # Each end of the rise carries half of its variance.
        noise = generator.standard_normal((_DRAWS, n, n_levels)) * (sd / math.sqrt(2.0))
        data = effect * np.linspace(0.0, 1.0, n_levels) + noise
    else:
        data = effect + sd * generator.standard_normal((_DRAWS, n))
    p, _ = _p_values(test, data, margin, max_difference)
    return float((p <= alpha).mean())


def seeds_needed(
    test: str,
    *,
    effect: float,
    sd: float,
    margin: float = 0.0,
    alpha: float = 0.05,
    target: float = 0.8,
    max_difference: float | None = None,
    n_levels: int = 3,
) -> int | None:
    """The smallest number of seeds whose `power` reaches `target`, above 20 to within 5 %; None if 200 do not.

    Never below log2(1/alpha), 5 seeds at .05. Power is a sawtooth in n, as the sign test's level is: with 8 seeds
    one may disagree, with 7 none, so one seed more than the number given can have a little less power.
    """
    _check_design(test, effect, sd, margin, alpha, max_difference, n_levels)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target: expected a power in (0, 1), got {target!r}")
    distance = margin - abs(effect) if test == "equivalence" else effect - margin
    if distance <= 0.0:
        return None
    # The sign test's own power and the chance of no seed beyond `max_difference` are exact, quick, and upper bounds:
    # only where they suffice is there need to simulate.
    from scipy import stats  # half a second, which no process that only trains should pay

    normal = stats.norm(effect, max(sd, 1e-12 * distance))
    sizes = np.arange(_MOST_SEEDS + 1)
    bound = stats.binom.sf(stats.binom.isf(alpha, sizes, 0.5), sizes, normal.cdf(effect + distance))
    if max_difference is not None:
        limit = max_difference * (1.0 + _ROUNDING)
        bound = np.minimum(bound, (normal.cdf(limit) - normal.cdf(-limit)) ** sizes)
    n = _fewest_seeds(alpha)
    while n <= _MOST_SEEDS:
        if bound[n] >= target:
            reached = power(
                test,
                effect=effect,
                sd=sd,
                n=n,
                margin=margin,
                alpha=alpha,
                max_difference=max_difference,
                n_levels=n_levels,
            )
            if reached >= target:
                return n
        n += max(1, n // 20)
    return None


def detectable_share(n: int, alpha: float = 0.05) -> float:
    """The smallest share of deviant seeds of which n seeds show at least one with probability 1 - alpha.

    1 - alpha**(1/n): .45 for 5 seeds, .26 for 10. A jump that befalls a smaller share of all seeds can stay
    unseen with probability above alpha, and what was not seen, no test on these seeds can exclude.
    """
    _check_alpha(alpha)
    if n < 1:
        raise ValueError(f"n: expected at least 1 seed, got {n!r}")
    return float(1.0 - alpha ** (1.0 / n))


def _p_values(test: str, data: Floats, margin: float, max_difference: float | None = None) -> tuple[Floats, Floats]:
    """(p of the claim, p against it) of every experiment `data[...]`; seeds last, or seeds and levels for a trend."""
    if test == "equivalence":
        p = np.maximum(_p_above(data, -margin), _p_above(-data, -margin))
        against = np.minimum(_p_above(data, margin, tails=2), _p_above(-data, margin, tails=2))
        if max_difference is not None:
            # A part of the claim is contradicted outright: its p is 1, the other parts' do not matter.
            contradicted = _beyond(data, max_difference).any(axis=-1)
            p, against = np.where(contradicted, 1.0, p), np.where(contradicted, 0.0, against)
        return p, against
    x = data[..., -1] - data[..., 0] if test == "trend" else data
    p, against = _p_above(x, margin), _p_above(-x, -margin)
    return (np.maximum(p, _page_p(data)) if test == "trend" else p), against


def _p_above(x: Floats, margin: float, tails: int = 1) -> Floats:
    """p of "x lies above margin" along the last axis: the larger of a t test's and a sign test's."""
    n = x.shape[-1]
    centred = x - margin
    mean = centred.mean(axis=-1, keepdims=True)
    error = centred.std(axis=-1, ddof=1, keepdims=True) / math.sqrt(n)
    # Equal values have no t; they leave the decision, ties with the margin included, to the sign test.
    t = np.divide(mean, error, out=np.copysign(np.full_like(mean, np.inf), mean), where=error > 0)
    above = (centred > _ROUNDING * np.maximum(np.abs(x), abs(margin))).sum(axis=-1)
    t_p = np.minimum(1.0, tails * special.stdtr(n - 1, -t[..., 0]))
    result: Floats = np.maximum(t_p, special.bdtr(n - above, n, 0.5))
    return result


def _page_p(tables: Floats) -> Floats:
    """p of Page's trend test of every table `(..., n_seeds, n_levels)`.

    Ties get midranks, and scipy compares Page's L, rounded down, with its distribution without ties, which is
    wider: enumerating every pattern of ties (3 levels to 8 seeds, 4 to 5, 5 to 3) gave no size above alpha at
    .01, .02, .05 or .1. Above 8 levels or 20 seeds (12 from 4 levels on) scipy uses a normal approximation, of
    exact size up to .057 at .05 (3 levels, 22 seeds). A trend verdict inherits no such excess: without a trend
    the sign test on the rise rejects with probability at most alpha by itself, and p is the larger of the two.
    """
    k = tables.shape[-1]
    from scipy import stats

    flat = tables.reshape(-1, *tables.shape[-2:])
    ranks = (k + 1) / 2 + 0.5 * sum(np.sign(flat - flat[..., [j]]) for j in range(k))
    statistic = ranks.sum(axis=1) @ np.arange(1, k + 1)
    # p depends on the table through this alone: ask scipy once for each value.
    _, first, which = np.unique(statistic, return_index=True, return_inverse=True)
    p = np.array([stats.page_trend_test(ranks[i], ranked=True).pvalue for i in first])
    result: Floats = np.minimum(1.0, p)[which].reshape(tables.shape[:-2])
    return result


def _beyond(x: Floats, max_difference: float) -> NDArray[np.bool_]:
    return np.abs(x) > max_difference * (1.0 + _ROUNDING)


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
        advice = f"about {needed} seeds" if needed else f"no number of seeds up to {_MOST_SEEDS}"
        if n < _fewest_seeds(alpha):
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


def _fewest_seeds(alpha: float) -> int:
    return math.ceil(-math.log2(alpha))


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


def _check(name: str, value: float, *, positive: bool = False) -> None:
    if not math.isfinite(value) or (positive and value <= 0):
        raise ValueError(f"{name}: expected a finite number{' above 0' if positive else ''}, got {value!r}")


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha <= 0.1:
        raise ValueError(f"alpha: expected an error rate in (0, 0.1], got {alpha!r}")


def _check_design(
    test: str,
    effect: float,
    sd: float,
    margin: float,
    alpha: float,
    max_difference: float | None,
    n_levels: int,
) -> None:
    if test not in _TESTS:
        raise ValueError(f"test: expected one of {', '.join(_TESTS)}, got {test!r}")
    _check("effect", effect)
    _check("margin", margin, positive=test == "equivalence")
    _check_alpha(alpha)
    if not (math.isfinite(sd) and sd >= 0.0):
        raise ValueError(f"sd: expected a finite number of at least 0, got {sd!r}")
    if max_difference is not None:
        _check("max_difference", max_difference, positive=True)
    if n_levels < 3:
        raise ValueError(f"n_levels: expected at least 3, got {n_levels!r}")

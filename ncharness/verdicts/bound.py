"""The comparative generalisation bound, estimated from two families of runs. It is an estimate, not a certified bound.

Proposition 1 of "Comparative Generalization Bounds for Deep Neural Networks" (TMLR 2023; arXiv:2202.09028 from v7
on), as public notes on it record it. For balanced samples S1, S2 of size m, p in (0, 1/2), alpha and eps in (0, 1),

    E[err_P(h_S1)] <= P[ E_gamma d_eps(h_S1^gamma) >= d_min_eps(S1 u S2~) ] + (1 + alpha) p + delta1 + delta2

where gamma is the initialisation, d_eps the effective depth on S1, S2~ is S2 with exactly p m wrong labels, and
d_min_eps(S) is the least depth at which any network of the architecture NCC-separates S up to an error of eps. delta1
is the share of (S1, S2) for which the mistakes of h_S1^gamma on S2 are not uniformly distributed over gamma; delta2
the share for which p m wrong labels need more depth than q m do on average, for some q >= (1 + alpha) p.

What an estimate can and cannot say: d_min is a minimum over all weights, and training finds some of them. So the depth
found by training is at least d_min, the event is seen too seldom, and the first term is **under**-estimated: the
value is below what the right-hand side is, by nobody knows how much. How the paper chooses p, alpha, eps and the
numbers of splits and initialisations, and what it does about the deltas, is not public in the sources at hand.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from ncharness.metrics.effective_depth import effective_depth
from ncharness.store.run import Run
from ncharness.training.config import RunConfig

DIRECTION = "an under-estimate: training finds d_min or more, never less"
"""The direction of the error of the first term, and through it of the value; it goes wherever the number goes."""
ALPHA = 0.1
"""The alpha of the bound unless another is named; not that of a test."""
LEVEL = 0.05
"""At this level a split's mistakes are said not to be uniform."""
_SHARED = ("data", "n_train", "arch", "width", "points")  # what both families must have in common
_ROUNDING = 1e-9
_DRAWS = 999  # of uniform mistakes: the smallest p is .001


@dataclass(frozen=True)
class Term:
    """Term of the bound: its value, an interval, and its origin.

    Attributes:
        value: The value.
        low: Lower end of the interval; the value where there is none.
        high: Upper end.
        how: `estimated` (a share of splits, with an exact binomial interval), `assumed` or `exact`.

    Examples:
        >>> print(Term(0.5, 0.2, 0.8, "estimated"))
        0.50 [0.20, 0.80] estimated
    """

    value: float
    low: float
    high: float
    how: str

    def __str__(self) -> str:
        interval = f" [{self.low:.2f}, {self.high:.2f}]" if self.how == "estimated" else ""
        return f"{self.value:.2f}{interval} {self.how}"


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The four terms of the comparative bound at one p, alpha, eps and L, beside the measured test error.

    `value` is their sum, which can exceed 1. `low` and `high` add up the ends of the terms' intervals, which hold
    together with
    the confidence asked for. They say how far the splits that were drawn may mislead. They say nothing about the
    direction of
    the estimation error, which no number of splits makes smaller.

    Attributes:
        data: Data set.
        depth: Depth L of the networks trained on S1.
        m: Number of samples in S1, and as many in S2.
        p: Share of wrong labels in S2.
        alpha: Slack of the bound.
        eps: Threshold of every depth.
        first: First term, the share of splits in which the effective depth on S1 reaches d_min.
        penalty: (1 + alpha) p.
        delta1: Third term.
        delta2: Fourth term.
        test_error: Mean over the splits, with a t interval over them; the test set is the same for all.
        trivial: Error of a constant guess, 1 - 1 / n_classes.
        per_split: Contribution of each split: 1 for every event that occurred there, and all that is not counted over
            splits;
            the mean is the value.
        depths: Mean effective depth on S1 by split, ascending; inf where a network has no separable layer.
        minimal: d_min found by training on S1 and S2 by split, ascending.
        direction: Direction of the estimation error.

    Examples:
        >>> assumed = Term(0.0, 0.0, 0.0, "assumed")
        >>> penalty, first = Term(0.22, 0.22, 0.22, "exact"), Term(0.5, 0.1, 0.9, "estimated")
        >>> bound = Bound(
        ...     data="digits", depth=4, m=500, p=0.2, alpha=0.1, eps=0.05, first=first, penalty=penalty,
        ...     delta1=assumed, delta2=assumed, test_error=assumed, trivial=0.9, per_split=(0.22, 1.22),
        ...     depths=(2.0, 3.0), minimal=(3, 3),
        ... )
        >>> bound.value, bound.is_trivial
        (0.72, False)
    """

    data: str
    depth: int  # L of the networks trained on S1
    m: int  # samples in S1, and as many in S2
    p: float
    alpha: float
    eps: float
    first: Term
    penalty: Term  # (1 + alpha) p
    delta1: Term
    delta2: Term
    test_error: Term  # mean over the splits, t interval over them; the test set is the same for all
    trivial: float  # the error of a constant guess, 1 - 1 / n_classes
    per_split: tuple[float, ...]
    depths: tuple[float, ...]  # E_gamma d_eps on S1; inf where a network has no separable layer
    minimal: tuple[int, ...]  # d_min found by training on S1 u S2~
    direction: str = DIRECTION

    @property
    def terms(self) -> tuple[Term, Term, Term, Term]:
        """The four terms in their order."""
        return self.first, self.penalty, self.delta1, self.delta2

    @property
    def value(self) -> float:
        """Sum of the terms."""
        return sum(term.value for term in self.terms)

    @property
    def low(self) -> float:
        """Sum of the lower ends of the terms' intervals."""
        return sum(term.low for term in self.terms)

    @property
    def high(self) -> float:
        """Sum of the upper ends of the terms' intervals."""
        return sum(term.high for term in self.terms)

    @property
    def first_if_one_less(self) -> float:
        """First term if d_min were one layer less in every split than training found."""
        return float(np.mean([depth >= needed - 1 for depth, needed in zip(self.depths, self.minimal, strict=True)]))

    @property
    def is_trivial(self) -> bool:
        """Whether the value is no better than a constant guess."""
        return self.value >= self.trivial

    def __str__(self) -> str:
        of = f"{self.data}, L = {self.depth}, m = {self.m}, {len(self.per_split)} splits"
        lines = {
            "first term": f"{self.first}; {self.first_if_one_less:.2f} if d_min were one layer less than found",
            "(1 + alpha) p": self.penalty,
            "delta1": self.delta1,
            "delta2": self.delta2,
            "value": f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}], {self.direction}",
            "test error": f"{self.test_error}; of a constant guess {self.trivial:.2f}",
        }
        title = f"comparative bound, {of}, p = {self.p:g}, alpha = {self.alpha:g}, eps = {self.eps:g}"
        return "\n".join([title, *(f"  {name:14} {line}" for name, line in lines.items())])


def minimal_depth(runs: Iterable[Run], *, eps: float) -> int | None:
    """Estimate d_min, the least depth that NCC-separates a training set up to an error of `eps`.

    d_min_eps(G, S) = min {L : g_1, ..., g_L in G exist with err_S(h) <= eps}, h the NCC classifier of g_L o ... o g_1.
    The
    estimate is the least effective depth of the runs, since the first i layers of a deeper network are a network of
    depth i. It
    is never below d_min, and above it where training finds no such weights.

    Args:
        runs: Runs on one training set, of any depth L and any initialisation.
        eps: Threshold.

    Returns:
        The depth; None where no layer of any run qualifies.

    Raises:
        ValueError: No runs, or different training sets.

    Examples:
        >>> from ncharness import Row, Run, RunConfig
        >>> def run(errors: list[float], seed: int = 0) -> Run:
        ...     rows = (Row(1, f"block{i:02d}.out", "train", "ncc_error", e) for i, e in enumerate(errors, 1))
        ...     return Run(RunConfig(depth=len(errors), n_train=100, seed=seed), tuple(rows))
        >>> minimal_depth([run([0.4, 0.01]), run([0.3, 0.2, 0.0])], eps=0.05)
        2
    """
    given = list(runs)
    if not given:
        raise ValueError("runs: expected at least one, got none")
    if len(sets := {_training_set(run.training) for run in given}) > 1:
        raise ValueError(f"runs: expected one training set, got {len(sets)}: {sorted(sets)[:2]}")
    found = [effective_depth(run.profile(), eps=eps) for run in given]
    return min((depth for depth in found if depth is not None), default=None)


def mean_depth(runs: Iterable[Run], *, eps: float) -> float:
    """Mean effective depth E_gamma[d_eps(h^gamma)] over runs that differ in their initialisation.

    The literature assigns a value to "no separable layer" without saying which. inf makes the event of the first term
    certain,
    so that a network that separates nothing cannot make the bound smaller.

    Args:
        runs: Runs of one depth.
        eps: Threshold.

    Returns:
        The mean in layers; inf if a run has no separable layer.

    Raises:
        ValueError: No runs.

    Examples:
        >>> from ncharness import Row, Run, RunConfig
        >>> def run(errors: list[float], seed: int = 0) -> Run:
        ...     rows = (Row(1, f"block{i:02d}.out", "train", "ncc_error", e) for i, e in enumerate(errors, 1))
        ...     return Run(RunConfig(depth=len(errors), n_train=100, seed=seed), tuple(rows))
        >>> mean_depth([run([0.4, 0.01]), run([0.0, 0.0], seed=1)], eps=0.05)
        1.5
    """
    found = [effective_depth(run.profile(), eps=eps) for run in runs]
    if not found:
        raise ValueError("runs: expected at least one, got none")
    return float(np.mean([math.inf if depth is None else depth for depth in found]))


def share(events: Sequence[bool], *, confidence: float = 0.95) -> Term:
    """Share of independent splits in which an event occurred, with its Clopper-Pearson interval.

    The interval covers the probability at least as often as `confidence` says, whatever the number of splits.

    Examples:
        >>> print(share([False] * 10))
        0.00 [0.00, 0.31] estimated
    """
    n, k = len(events), sum(map(bool, events))
    if not n:
        raise ValueError("events: expected at least one split, got none")
    _check_open("confidence", confidence)
    tail = (1.0 - confidence) / 2.0
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
    return Term(k / n, low, high, "estimated")


def uniformity(runs: Sequence[Run], *, n_second: int) -> float:
    """p of "the mistakes on S2 (n_second samples) are uniformly distributed over the initialisation", from runs on S1.

    Given how many samples each run gets wrong, the mistaken sets should be independent uniform draws of that size. Two
    runs then share few; the statistic is the number of samples that a pair shares, summed over the pairs, and p the
    share of 999 simulated draws (and the data themselves) that share at least as many. It does not look at the wrong
    labels, and few runs or few mistakes show little: a small p speaks against assumption 1 of the bound, a large one
    hardly for it. ValueError for fewer than two runs, and for a run whose mistakes on S2 were not kept.
    """
    wrong = [_mistaken(run) for run in runs]
    if len(wrong) < 2:
        raise ValueError(f"runs: expected at least two initialisations, got {len(wrong)}")
    if any(index >= n_second for mistaken in wrong for index in mistaken):
        raise ValueError(f"n_second: expected more than every index of a mistake, got {n_second}")
    together = np.array([index for mistaken in wrong for index in mistaken], dtype=np.int64)
    hits = np.bincount(together, minlength=n_second)
    observed = int((hits * (hits - 1)).sum())  # twice the pairs that share a sample, summed over the samples
    generator = np.random.default_rng(0)
    drawn = np.zeros((_DRAWS, n_second), dtype=np.int64)
    for mistaken in wrong:
        drawn += generator.permuted(np.tile(np.arange(n_second) < len(mistaken), (_DRAWS, 1)), axis=1)
    as_many = int(((drawn * (drawn - 1)).sum(axis=1) >= observed).sum())
    return (1 + as_many) / (1 + _DRAWS)


def comparative_bound(
    first: Iterable[Run],
    both: Iterable[Run],
    *,
    p: float,
    eps: float,
    alpha: float = ALPHA,
    delta1: float | None = None,
    delta2: float | None = None,
    n_classes: int,
    confidence: float = 0.95,
) -> Bound:
    """Estimate the comparative bound from runs on S1 and on S1 with a partly wrong S2.

    Runs are matched by `split`. Runs of other p are ignored, so that one list serves a sweep. The bound is meant for
    eps below p / 2: from there on, getting the correct labels right is enough to separate S1 u S2~, and the wrong
    ones ask for no depth.

    - First term: the share of splits in which `mean_depth` on S1 is at least `minimal_depth` on S1 u S2~. Where no
      layer of any run qualifies, d_min is taken as one more than the deepest L that was tried, the least it is left
      to be as far as training can tell. DIRECTION says why that is still an under-estimate of the term.
    - delta1: the share of splits in which `uniformity` is rejected at LEVEL. The estimate is crude: with no split
      rejected it is not shown to be small. It needs two seeds in every split.
    - delta2: the share of splits in which d_min at p exceeds d_min at some q >= (1 + alpha) p that was trained. One
      draw of the wrong labels, nested in that of p, stands for the expectation over draws, and the q at hand for all
      q.

    The intervals of the estimated terms are exact and hold together with `confidence` (Bonferroni). They take the
    splits for independent draws from the population, which they are from the pool of training samples.

    Args:
        first: Runs on S1 (`part="first"`) of one depth L, with one or more seeds (gamma) a split.
        both: Runs on S1 and S2 (`part="both"`) of several depths and seeds: those with `noise` p for the first term,
            and those with `noise` q >= (1 + alpha) p for delta2.
        p: Share of wrong labels in S2.
        eps: Threshold of every depth.
        alpha: Slack of the bound.
        delta1: Third term, if it is assumed; None to estimate it.
        delta2: Fourth term, if it is assumed; None to estimate it.
        n_classes: Number of classes.
        confidence: Confidence of the intervals together.

    Returns:
        The bound.

    Raises:
        ValueError: Runs that do not match (naming the split), differing S1 settings, or a p at which nothing was
            trained.
    """
    _check_settings(p, alpha, eps, delta1, delta2)
    _check_open("confidence", confidence)
    matched = _matched(list(first), list(both), p=p, eps=eps)
    each = 1.0 - (1.0 - confidence) / (1 + (delta1 is None) + (delta2 is None))  # Bonferroni
    first_term = _estimated(matched.events, each)
    first_delta = _assumed(delta1) if delta1 is not None else _estimated(_not_uniform(matched), each)
    second_delta = _assumed(delta2) if delta2 is not None else _estimated(_more_depth(matched, p, alpha, eps), each)
    penalty = (1.0 + alpha) * p
    return Bound(
        data=matched.data,
        depth=matched.depth,
        m=matched.m,
        p=p,
        alpha=alpha,
        eps=eps,
        first=first_term.term,
        penalty=Term(penalty, penalty, penalty, "exact"),
        delta1=first_delta.term,
        delta2=second_delta.term,
        test_error=_test_error(matched, confidence),
        trivial=1.0 - 1.0 / n_classes,
        per_split=_per_split(penalty, (first_term, first_delta, second_delta)),
        depths=tuple(matched.depths.values()),
        minimal=tuple(matched.needed.values()),
    )


class _Matched(NamedTuple):
    """Runs on S1 and on S1 with S2, matched by split, and the two sides of the first term's event."""

    data: str
    depth: int  # L of the networks trained on S1
    m: int
    first: dict[int, list[Run]]  # by split, ascending: the initialisations on S1
    both: list[Run]
    depths: dict[int, float]  # by split: E_gamma d_eps on S1
    needed: dict[int, int]  # by split: d_min found by training on S1 u S2~ with noise p

    @property
    def events(self) -> list[bool]:
        """Whether the event of the first term occurred, by split."""
        return [self.depths[split] >= self.needed[split] for split in self.first]


def _matched(first: list[Run], both: list[Run], *, p: float, eps: float) -> _Matched:
    """Match the runs by split. Raises ValueError if they do not belong together or if nothing was trained at p."""
    depth, m, data = _one_family(first, both)
    noises = [run.training.noise for run in both if math.isclose(run.training.noise, p)]
    if not noises:
        raise ValueError(f"both: there is no run with noise {p:g}")
    splits = sorted({run.training.split for run in first})
    of_split = {split: [run for run in first if run.training.split == split] for split in splits}
    needed = {split: _searched_depth(both, split, noises[0], eps) for split in splits}
    depths = {split: mean_depth(runs, eps=eps) for split, runs in of_split.items()}
    return _Matched(data, depth, m, of_split, both, depths, needed)


def _searched_depth(both: Sequence[Run], split: int, q: float, eps: float) -> int:
    """Return the d_min that training found on one training set; if it found none, one more than the deepest L tried."""
    here = [run for run in both if run.training.split == split and run.training.noise == q]
    if not here:
        raise ValueError(f"both: there is no run with split {split} and noise {q:g}")
    found = minimal_depth(here, eps=eps)
    return 1 + max(run.training.depth for run in here) if found is None else found


class _Counted(NamedTuple):
    """A term, and whether its event occurred, by split; an assumed term has no events."""

    term: Term
    events: list[bool]


def _estimated(events: list[bool], confidence: float) -> _Counted:
    """Estimate a term by the share of splits in which its event occurred."""
    return _Counted(share(events, confidence=confidence), events)


def _assumed(value: float) -> _Counted:
    return _Counted(Term(value, value, value, "assumed"), [])


def _not_uniform(matched: _Matched) -> list[bool]:
    """Return the events of delta1: whether uniform mistakes are rejected, by split."""
    return [uniformity(runs, n_second=matched.m) <= LEVEL for runs in matched.first.values()]


def _more_depth(matched: _Matched, p: float, alpha: float, eps: float) -> list[bool]:
    """Return the events of delta2: whether d_min at p exceeds that at some q >= (1 + alpha) p, by split."""
    noises = {run.training.noise for run in matched.both}
    beyond = sorted(noise for noise in noises if noise >= (1.0 + alpha) * p - _ROUNDING)
    if not beyond:
        raise ValueError(f"delta2: to estimate it needs runs with noise of at least {(1 + alpha) * p:g}, got none")
    return [
        any(needed > _searched_depth(matched.both, split, q, eps) for q in beyond)
        for split, needed in matched.needed.items()
    ]


def _test_error(matched: _Matched, confidence: float) -> Term:
    """Return the mean test error of the networks on S1, with its t interval over the splits."""
    splits = matched.first.values()
    return _mean([float(np.mean([run.scalar("error", split="test") for run in runs])) for runs in splits], confidence)


def _per_split(penalty: float, terms: Sequence[_Counted]) -> tuple[float, ...]:
    """Return the sum of each split: 1 for every event that occurred there, and all terms that are not counted."""
    fixed = penalty + sum(each.term.value for each in terms if each.term.how == "assumed")
    counted = [each.events for each in terms if each.term.how == "estimated"]
    return tuple(fixed + sum(map(float, of_split)) for of_split in zip(*counted, strict=True))


def sweep(
    runs: Iterable[Run],
    *,
    eps: float,
    alphas: Sequence[float] = (0.05, 0.1, 0.5),
    delta1: float | None = 0.0,
    n_classes: int,
    confidence: float = 0.95,
) -> list[Bound]:
    """Estimate the bound for every family of runs on S1, every p that was trained with it, and every alpha.

    Ascending by data, L, p and alpha; other runs are ignored. delta2 is estimated where some q of at least
    (1 + alpha) p was trained, and assumed 0 elsewhere, as each Bound says. The smallest of all these numbers is no
    estimate of anything: choose p, alpha and eps before looking.
    """
    given = [run for run in runs if isinstance(run.config, RunConfig)]
    families: dict[RunConfig, list[Run]] = {}
    for run in given:
        if run.training.part == "first":
            families.setdefault(run.training.replace(split=0, seed=0), []).append(run)
    found = []
    for config, first in families.items():
        both = [run for run in given if run.training.part == "both" and _same_architecture(run.training, config)]
        noises = sorted({run.training.noise for run in both})
        for p, alpha in itertools.product([noise for noise in noises if 0.0 < noise < 0.5], alphas):
            known = any(noise >= (1.0 + alpha) * p - _ROUNDING for noise in noises)
            found.append(
                comparative_bound(
                    first,
                    both,
                    p=p,
                    eps=eps,
                    alpha=alpha,
                    delta1=delta1,
                    delta2=None if known else 0.0,
                    n_classes=n_classes,
                    confidence=confidence,
                )
            )
    return sorted(found, key=lambda bound: (bound.data, bound.depth, bound.p, bound.alpha))


def _mean(values: Sequence[float], confidence: float) -> Term:
    """A mean over the splits with its t interval; of one split, from 0 to 1."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Term(mean, 0.0, 1.0, "estimated")
    half = float(special.stdtrit(n - 1, (1.0 + confidence) / 2.0) * np.std(values, ddof=1)) / math.sqrt(n)
    return Term(mean, max(0.0, mean - half), min(1.0, mean + half), "estimated")


def _training_set(config: RunConfig) -> str:
    """Return the fields that runs share if their depths are those of one training set and one architecture G."""
    width, size = f"{config.arch}, width {config.width}, {config.points}", f"n_train {config.n_train}"
    return f"{config.data}, {size}, {config.part} {config.data_seed()}, noise {config.noise:g}, {width}"


def _mistaken(run: Run) -> list[int]:
    """Return the indices in S2 of the samples that the network gets wrong."""
    run.scalar("error", split="second")  # KeyError where they were not kept
    rows = [row for row in run.rows if row.split == "second" and row.metric.startswith("mistake ")]
    return [int(row.metric.removeprefix("mistake ")) for row in rows]


def _one_family(first: Sequence[Run], both: Sequence[Run]) -> tuple[int, int, str]:
    """(L, m, data) of runs that belong together; ValueError otherwise."""
    for name, runs, part in (("first", first, "first"), ("both", both, "both")):
        if not runs:
            raise ValueError(f"{name}: expected runs, got none")
        if odd := [run.training.name() for run in runs if run.training.part != part]:
            raise ValueError(f"{name}: expected runs with part {part}, got {odd[0]}")
    like = first[0].training
    # gamma is all that the networks on S1 may differ in, from split to split.
    if odd := [run.training.name() for run in first if run.training.replace(split=like.split, seed=like.seed) != like]:
        raise ValueError(f"first: expected runs that differ in split and seed only, got {like.name()} and {odd[0]}")
    for run in both:
        for field in _SHARED:
            if getattr(run.config, field) != getattr(like, field):
                raise ValueError(
                    f"both: expected {field} as in first, {getattr(like, field)!r}, in {run.training.name()}"
                )
    if like.n_train is None:
        raise ValueError("first: expected runs with n_train, twice the size m of a half, got None")
    return like.depth, like.n_train // 2, like.data


def _same_architecture(config: RunConfig, other: RunConfig) -> bool:
    return all(getattr(config, field) == getattr(other, field) for field in _SHARED)


def _check_settings(p: float, alpha: float, eps: float, delta1: float | None, delta2: float | None) -> None:
    if not 0.0 < p < 0.5:
        raise ValueError(f"p: expected a fraction in (0, 1/2), got {p!r}")
    _check_open("alpha", alpha)
    _check_open("eps", eps)
    for name, value in (("delta1", delta1), ("delta2", delta2)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(
                f"{name}: expected an assumed probability in [0, 1], or None to estimate it, got {value!r}"
            )


def _check_open(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: expected a number in (0, 1), got {value!r}")

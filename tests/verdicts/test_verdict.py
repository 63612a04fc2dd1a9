"""Verdicts: error rates at the edge of every claim, power, properties, and sentences.

Error rates are simulated through `p_for_and_against`, which every verdict and every power rests on (a test below holds
the public functions to it). A rate is compared with alpha by a binomial bound: if the true rate is at most alpha, the
check fails once in a million generators. The generators are fixed, so it fails never or always.
"""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from ncharness.verdicts import p_values
from ncharness.verdicts import verdict as verdicts
from ncharness.verdicts.power import detectable_share, power, seeds_needed
from ncharness.verdicts.verdict import (
    INCONCLUSIVE,
    NOT_APPLICABLE,
    REFUTED,
    SUPPORTED,
    Outcome,
    equivalence,
    holm,
    not_applicable,
    superiority,
    trend,
    weakest,
)

ALPHA = 0.05
DRAWS = 20_000


def most(draws, rate=ALPHA):
    """The count of events at or above which the rate is not `rate` or less; false-failure rate 1e-6."""
    return stats.binom.isf(1e-6, draws, rate)


def generator(*purpose):
    return np.random.default_rng([11, *purpose])


def rounded(mean, sd):
    return lambda draw, shape: np.round(draw.normal(mean, sd, shape))


def two_values(low, high, share=0.5):
    return lambda draw, shape: np.where(draw.random(shape) < share, high, low).astype(float)


def one_of(values, shares):
    return lambda draw, shape: draw.choice(np.array(values, dtype=float), p=shares, size=shape)


# Every distribution is symmetric about its margin, so that its mean and its median lie there.
AT_THE_MARGIN = {
    "normal": (0.3, lambda draw, shape: draw.normal(0.3, 1.0, shape)),
    "heavy-tailed": (0.0, lambda draw, shape: draw.standard_t(2, shape)),
    "integers-half-margin": (0.5, rounded(0.5, 0.6)),
    "integers-with-ties": (0.0, rounded(0.0, 0.6)),
    "half-1-2": (1.5, two_values(1, 2)),
    "ties-and-two-sides": (0.0, one_of((-1, 0, 1), (0.4, 0.2, 0.4))),
    "zero-variance": (1.0, lambda _, shape: np.full(shape, 1.0)),
    "zero-variance-rounding": (0.01, lambda _, shape: np.full(shape, 0.93 - 0.92)),
}


@pytest.mark.parametrize("n", [5, 7, 10])
@pytest.mark.parametrize(("margin", "draw"), AT_THE_MARGIN.values(), ids=AT_THE_MARGIN)
class TestErrorRatesAtTheMargin:
    def test_superiority(self, margin, draw, n):
        p, against = verdicts.p_for_and_against("superiority", draw(generator(1, n), (DRAWS, n)), margin)
        assert (p <= ALPHA).sum() <= most(DRAWS)
        assert (against <= ALPHA).sum() <= most(DRAWS)

    @pytest.mark.parametrize("side", [1, -1], ids=["upper", "lower"])
    def test_equivalence(self, margin, draw, n, side):
        x = draw(generator(2, n), (DRAWS, n))
        if margin == 0.0:  # a margin of equivalence is positive
            x, margin = x + 2.5, 2.5
        p, against = verdicts.p_for_and_against("equivalence", side * x, margin)
        assert (p <= ALPHA).sum() <= most(DRAWS)
        assert (against <= ALPHA).sum() <= most(DRAWS)


def test_t_test_alone_fails_the_same_check():
    x = two_values(1, 2)(generator(3), (DRAWS, 7))
    t = (1.5 - x.mean(axis=1)) / np.maximum(x.std(axis=1, ddof=1) / math.sqrt(7), 1e-12)
    assert (special.stdtr(6, -t) <= ALPHA).sum() > most(DRAWS)


def test_ties_that_counted_as_not_above_would_refute_too_often():
    # All 3**5 experiments of the docstring of `superiority`, so the rates are exact.
    x = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=5)))
    share = np.prod(np.where(x == 0, 0.2, 0.4), axis=1)
    _, against = verdicts.p_for_and_against("superiority", x, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = x.mean(axis=1) / (x.std(axis=1, ddof=1) / math.sqrt(5))
    lenient = (special.stdtr(4, t) <= ALPHA) & ((x <= 0).sum(axis=1) == 5)
    assert share[lenient].sum() == pytest.approx(0.06144)
    assert share[against <= ALPHA].sum() <= ALPHA


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize(("margin", "mean"), [(1e-6, 0.0), (0.1, 0.1)])
def test_equivalence_with_a_spread_far_above_the_margin_is_not_refuted_too_often(n, margin, mean):
    # Both sides can refute here: with one-sided t tests, five seeds would do so with probability .057.
    draws = 60_000  # enough to tell .057 from .05
    _, against = verdicts.p_for_and_against("equivalence", generator(4, n).normal(mean, 1.0, (draws, n)), margin)
    assert (against <= ALPHA).sum() <= most(draws)


def test_equivalence_worst_case_of_five_seeds_is_as_documented():
    x = np.array(list(itertools.product((-1.0, 1.0), repeat=5)))
    _, against = verdicts.p_for_and_against("equivalence", x, 0.5)
    assert (against <= ALPHA).mean() == 0.0625  # all 32 experiments, equally likely
    x = np.array(list(itertools.product((-1.0, 1.0), repeat=6)))
    _, against = verdicts.p_for_and_against("equivalence", x, 0.5)
    assert (against <= ALPHA).mean() <= ALPHA


NO_TREND = {
    "continuous": lambda draw, shape: draw.normal(size=shape),
    "seed-offsets": lambda draw, shape: draw.normal(size=shape) + 5 * draw.normal(size=(*shape[:-1], 1)),
    "integers": rounded(4.0, 1.0),
    "saturated": lambda draw, shape: np.minimum(np.round(draw.normal(5.0, 1.0, shape)), 5.0),
    "nearly-constant": two_values(0, 1, share=0.05),
    "constant": lambda _, shape: np.full(shape, 3.0),
}


@pytest.mark.parametrize("n", [5, 7, 10])
@pytest.mark.parametrize("draw", NO_TREND.values(), ids=NO_TREND)
def test_trend_where_there_is_none(draw, n):
    draws = 8_000
    table = draw(generator(5, n), (draws, n, 5))
    p, against = verdicts.p_for_and_against("trend", table, 0.0)
    assert (p <= ALPHA).sum() <= most(draws)
    assert (against <= ALPHA).sum() <= most(draws)
    page = verdicts.page_p(table)  # also by itself, ties or not
    assert (page <= ALPHA).sum() <= most(draws)


@pytest.mark.parametrize("n", [5, 7, 10])
@pytest.mark.parametrize("integer", [False, True], ids=["continuous", "integers"])
def test_trend_that_rises_exactly_by_the_minimum(n, integer):
    draws = 8_000
    rise = generator(6, n).normal(0.5, 0.5, (draws, n))
    rise = np.round(rise) if integer else rise  # symmetric about .5 either way
    table = rise[..., None] * np.array([0.0, 0.5, 0.75, 1.0])
    p, against = verdicts.p_for_and_against("trend", table, 0.5)
    assert (p <= ALPHA).sum() <= most(draws)
    assert (against <= ALPHA).sum() <= most(draws)


def test_page_on_rows_of_ties_is_far_from_small():
    assert float(verdicts.page_p(np.full((5, 4), 2.0))) > 0.5


@pytest.mark.parametrize("k", [3, 4])
def test_page_is_exact_or_conservative_for_every_pattern_of_ties(k):
    # Every table whose rows are rearrangements of one row each is equally likely where nothing rises.
    patterns = {tuple(stats.rankdata(row)) for row in itertools.product(range(k), repeat=k)}
    patterns = sorted({tuple(sorted(pattern)) for pattern in patterns})
    rows = {pattern: sorted(set(itertools.permutations(pattern))) for pattern in patterns}
    for pair in itertools.combinations_with_replacement(patterns, 2):
        tables = np.array(list(itertools.product(rows[pair[0]], rows[pair[1]])))
        p = verdicts.page_p(tables)
        for level in np.unique(p[p <= 0.1]):
            assert (p <= level + 1e-12).mean() <= level + 1e-9, pair


def test_page_of_many_tables_is_scipys_of_each():
    tables = generator(7).integers(0, 4, (30, 6, 5)).astype(float)
    expected = [stats.page_trend_test(table).pvalue for table in tables]
    np.testing.assert_allclose(verdicts.page_p(tables), np.minimum(expected, 1.0), rtol=1e-12)


class TestRareJump:
    """0 with probability .7, 5 with .3: the mean is 1.5, and five seeds see no jump with probability .168."""

    MARGIN, LARGEST = 1.5, 2.0

    @pytest.mark.parametrize("n", [5, 7, 10])
    def test_seen_is_refuted_and_unseen_cannot_be_excluded(self, n):
        x = two_values(0, 5, share=0.3)(generator(8, n), (DRAWS, n))
        seen = (x == 5).any(axis=1)
        p, against = verdicts.p_for_and_against("equivalence", x, self.MARGIN, self.LARGEST)
        assert (against[seen] <= ALPHA).all()
        assert (p[seen] > ALPHA).all()
        assert (p[~seen] <= ALPHA).all()  # n zeros are n zeros
        assert (p <= ALPHA).sum() <= most(DRAWS, 0.7**n)

    def test_verdict_names_the_seed(self):
        verdict = equivalence([0, 0, 5, 0, 0, 0, 0], margin=self.MARGIN, max_difference=self.LARGEST)
        assert verdict == REFUTED
        assert verdict.p == 1.0
        assert "more than 2, and that at index 2 differs by 5" in verdict.reason

    def test_without_the_condition_one_jump_in_ten_is_supported(self):
        values = [0, 0, 0, 0, 3, 0, 0, 0, 0, 0]
        assert equivalence(values, margin=self.MARGIN) == SUPPORTED
        assert equivalence(values, margin=self.MARGIN, max_difference=2) == REFUTED

    def test_seeds_that_would_show_it(self):
        assert detectable_share(5) == pytest.approx(0.4507, abs=1e-4)
        assert detectable_share(8) > 0.3 > detectable_share(9)  # .7**8 = .058, .7**9 = .040
        assert (1 - detectable_share(12, 0.01)) ** 12 == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("test", "design"),
    [
        ("superiority", {"effect": 1.2, "sd": 0.8, "n": 7}),
        ("superiority", {"effect": 1.0, "sd": 0.7, "n": 10, "margin": 0.3, "alpha": 0.1}),
        ("equivalence", {"effect": 0.1, "sd": 0.5, "n": 5, "margin": 1.0}),
        ("equivalence", {"effect": 0.0, "sd": 0.8, "n": 10, "margin": 1.0, "max_difference": 1.8}),
        ("trend", {"effect": 1.5, "sd": 0.9, "n": 6, "n_levels": 4}),
        ("trend", {"effect": 2.0, "sd": 0.9, "n": 10, "margin": 1.0, "n_levels": 3}),
    ],
)
def test_power_agrees_with_the_verdicts(test, design):
    draw, n, k = generator(9), design["n"], design.get("n_levels", 3)
    margin, alpha = design.get("margin", 0.0), design.get("alpha", ALPHA)
    limit = design.get("max_difference")
    if test == "trend":  # a seed's level noise has variance sd**2 / 2, so the rise has sd
        x = draw.normal(0.0, design["sd"] / math.sqrt(2), (DRAWS // 4, n, k))
        x += np.linspace(0.0, design["effect"], k)
    else:
        x = draw.normal(design["effect"], design["sd"], (DRAWS // 4, n))
    p, against = verdicts.p_for_and_against(test, x, margin, limit)
    claimed = power(test, **design)
    assert 0.3 < claimed < 0.99  # the cases are chosen to tell
    # Two simulated shares; 5 standard errors of their difference: false-failure rate 6e-7.
    error = math.sqrt(claimed * (1 - claimed) * (1 / p_values.DRAWS + 1 / len(x)))
    assert (p <= alpha).mean() == pytest.approx(claimed, abs=5 * error)

    # The public functions decide as the simulated core does.
    for data, one_p, one_against in zip(x[:25], p, against, strict=False):
        if test == "superiority":
            verdict = superiority(data, margin=margin, alpha=alpha)
        elif test == "equivalence":
            verdict = equivalence(data, margin=margin, alpha=alpha, max_difference=limit)
        else:
            verdict = trend(data, levels=range(k), min_effect=margin, alpha=alpha)
        expected = SUPPORTED if one_p <= alpha else REFUTED if one_against <= alpha else INCONCLUSIVE
        assert verdict == expected
        assert verdict.p == pytest.approx(one_p)


class TestDesign:
    @pytest.mark.parametrize("test", ["superiority", "equivalence", "trend"])
    def test_below_five_seeds_power_is_zero_and_every_verdict_open(self, test):
        assert power(test, effect=0.0 if test == "equivalence" else 9.0, sd=0.0, n=4, margin=0.5) == 0.0
        assert power(test, effect=0.0 if test == "equivalence" else 9.0, sd=0.0, n=5, margin=0.5) == 1.0
        verdict = {
            "superiority": lambda n: superiority([9] * n),
            "equivalence": lambda n: equivalence([0] * n, margin=0.5),
            "trend": lambda n: trend([[1, 5, 9]] * n, levels=(0, 1, 2)),
        }[test]
        assert verdict(4) == INCONCLUSIVE
        assert "4 seeds can show nothing at alpha 0.05" in verdict(4).reason
        assert verdict(4).seeds_needed == 5
        assert verdict(5) == SUPPORTED

    @pytest.mark.parametrize(
        "design",
        [
            {"test": "superiority", "effect": 1.0, "sd": 0.8},
            {"test": "equivalence", "effect": 0.2, "sd": 0.6, "margin": 1.0},
            {"test": "trend", "effect": 1.0, "sd": 0.8, "n_levels": 4},
        ],
        ids=lambda design: design["test"],
    )
    def test_seeds_needed_is_the_smallest_number(self, design):
        n = seeds_needed(**design)
        assert 5 <= n <= 20
        assert power(n=n, **design) >= 0.8
        # A power short of .8 by little may be simulated above it: 5 standard errors, false-failure rate 3e-7 each.
        assert all(power(n=fewer, **design) < 0.8 + 5 * math.sqrt(0.16 / p_values.DRAWS) for fewer in range(5, n))

    def test_seeds_needed_is_none_where_no_number_helps(self):
        assert seeds_needed("superiority", effect=0.5, sd=0.0, margin=0.5) is None
        assert seeds_needed("equivalence", effect=-1.0, sd=0.1, margin=1.0) is None
        assert seeds_needed("superiority", effect=0.01, sd=1.0) is None  # more than 200
        # More seeds only make it likelier that one of them differs by too much.
        assert seeds_needed("equivalence", effect=0.0, sd=0.8, margin=1.0, max_difference=1.8) is None
        assert seeds_needed("equivalence", effect=2.0, sd=0.0, margin=2.5, max_difference=2.0) == 5

    def test_an_inconclusive_verdict_asks_for_more_seeds_than_it_had(self):
        # Five seeds of this mean and spread would mostly do; these seven did not.
        verdict = superiority([-0.1, 1.0, 1.0, 1.1, 1.0, 1.0, 1.0])
        assert verdict == INCONCLUSIVE
        assert seeds_needed("superiority", effect=verdict.effect, sd=float(np.std(verdict.values, ddof=1))) == 5
        assert verdict.seeds_needed == 8

    def test_seeds_needed_depends_on_alpha_and_target(self):
        assert seeds_needed("superiority", effect=1.0, sd=0.0, alpha=0.1) == 4
        few = seeds_needed("superiority", effect=1.0, sd=1.0, target=0.5)
        assert few < seeds_needed("superiority", effect=1.0, sd=1.0, target=0.9)

    def test_power_is_bounded_by_the_sign_tests_exact_power(self):
        # All of 7 seeds must be above: Phi(1)**7; 5 standard errors, false-failure rate below 1e-6.
        exact = special.ndtr(1.0) ** 7
        assert power("superiority", effect=1.0, sd=1.0, n=7) <= exact + 5 * math.sqrt(
            exact * (1 - exact) / p_values.DRAWS
        )


class TestVerdict:
    def test_compares_with_outcomes_and_verdicts(self):
        verdict = superiority([1, 2, 1, 2, 1])
        assert verdict == SUPPORTED
        assert SUPPORTED == verdict  # noqa: SIM300 - the other order is what is tested
        assert verdict != REFUTED
        assert verdict == superiority([1, 2, 1, 2, 1])
        assert verdict != superiority([1, 2, 1, 2, 2])
        assert verdict != 1
        assert hash(verdict) == hash(SUPPORTED)
        assert len({verdict, superiority([1, 2, 1, 2, 1])}) == 1

    def test_outcomes_print_as_words(self):
        assert [f"{outcome}" for outcome in Outcome] == ["SUPPORTED", "REFUTED", "INCONCLUSIVE", "NOT APPLICABLE"]

    @pytest.mark.parametrize(
        "verdict",
        [
            superiority(np.float32([1, 2, 1, 2, 1]), margin=np.float64(0.5), alpha=np.float64(0.05)),
            superiority(np.arange(6) - 2),
            equivalence(np.ones(5), margin=np.float32(1.5), max_difference=np.float32(0.5)),
            trend(np.arange(15.0).reshape(5, 3), levels=np.arange(3), min_effect=np.float64(0)),
            not_applicable("training error .2 > .01", n=np.int64(3)),
        ],
        ids=lambda verdict: verdict.outcome.value.lower().replace(" ", "-") + "-" + verdict.test,
    )
    def test_holds_plain_python_types_only(self, verdict):
        fields = {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
        assert type(fields.pop("outcome")) is Outcome
        assert {type(value) for value in fields.values()} <= {str, int, float, tuple, type(None)}
        assert {type(value) for value in verdict.values} <= {float}
        json.dumps(fields)

    def test_interval_is_the_t_interval_of_the_decision(self):
        x = [0.3, 1.1, 0.8, 1.9, 0.6, 1.2]
        verdict = superiority(x, margin=0.2)
        low, high = stats.t.interval(0.9, 5, np.mean(x), stats.sem(x))
        assert (verdict.low, verdict.high) == pytest.approx((low, high))
        assert verdict.effect == pytest.approx(np.mean(x))
        assert verdict.values == tuple(x)
        assert verdict.p == pytest.approx(stats.binomtest(6, 6).pvalue / 2)

    def test_p_is_the_t_tests_where_that_is_the_larger(self):
        x = [0.1, 0.2, 0.1, 5.0, 0.3, 0.2, 0.1]
        assert superiority(x).p == pytest.approx(stats.ttest_1samp(x, 0.0, alternative="greater").pvalue)

    def test_p_of_equivalence_is_the_largest_of_four(self):
        x = [0.4, -0.2, 0.7, 0.1, 0.9, 0.3, 0.0]
        t = stats.ttest_1samp(x, 0.8, alternative="less").pvalue
        sign = stats.binomtest(6, 7, alternative="greater").pvalue
        assert equivalence(x, margin=0.8).p == pytest.approx(max(t, sign))

    @pytest.mark.parametrize(
        ("verdict", "outcome", "words"),
        [
            (superiority([2, 1, 2, 3, 1], margin=0.5), SUPPORTED, "mean difference 1.8 (90 % interval"),
            (superiority([-2, -1, -2, -3, -1]), REFUTED, "is below 0, p = 0.031 against the claim"),
            (superiority([0, 0, 0, 0, 0]), INCONCLUSIVE, "no number of seeds up to 200 would"),
            (superiority([0, 1, 1, 1, 2]), INCONCLUSIVE, "about 8 seeds would"),
            (equivalence([0, 1, 0, 0, -1], margin=1.5, max_difference=2), SUPPORTED, "no seed differs by more than 2"),
            (equivalence([3, 3, 2, 3, 4], margin=1.5), REFUTED, "is outside ±1.5"),
            (equivalence([-3, -3, -2, -3, -4], margin=1.5), REFUTED, "is outside ±1.5"),
            (equivalence([0, 1, 2, 1, 2], margin=1.5), INCONCLUSIVE, "neither inside ±1.5 nor outside ±1.5"),
            (equivalence([1, 1, 1, 1, 1], margin=1.0), INCONCLUSIVE, "no number of seeds"),
            (trend([[1, 2, 3]] * 5, levels=(0, 0.2, 0.4)), SUPPORTED, "Page's p = 0.00013"),
            (trend([[3, 2, 1]] * 5, levels=(0, 0.2, 0.4)), REFUTED, "mean rise -2"),
            (trend([[1, 2, 3]] * 5, levels=(0, 0.2, 0.4), min_effect=2.5), REFUTED, "is below 2.5"),
            (trend([[1, 2, 3]] * 5, levels=(0, 0.2, 0.4), min_effect=2.0), INCONCLUSIVE, "nor below 2"),
            (trend([[1, 1, 1]] * 7, levels=(0, 0.2, 0.4)), INCONCLUSIVE, "Page's p = 0.55"),
            (trend([[0, 5, 1]] * 5, levels=(0, 0.2, 0.4)), INCONCLUSIVE, "levels 0 to 0.4"),
            (not_applicable("training error .2 > .01"), NOT_APPLICABLE, "training error .2 > .01"),
        ],
    )
    def test_every_outcome_says_why(self, verdict, outcome, words):
        assert verdict == outcome
        assert words in verdict.reason
        assert "\n" not in verdict.reason
        assert str(verdict) == f"{outcome}: {verdict.reason}"

    def test_not_applicable_has_no_numbers(self):
        verdict = not_applicable("did not fit", n=4)
        assert (verdict.test, verdict.n, verdict.p, verdict.effect, verdict.values) == ("none", 4, None, None, ())


integers = st.lists(st.integers(-6, 6), min_size=5, max_size=12).map(lambda values: np.array(values, dtype=float))
halves = st.integers(-5, 5).map(lambda value: value + 0.5)


class TestProperties:
    """In numbers that add without rounding, so that most of these hold to the last bit."""

    @given(integers, halves, st.integers(-9, 9))
    def test_superiority_moves_with_a_shift(self, x, margin, shift):
        assert verdicts.p_for_and_against("superiority", x, margin) == verdicts.p_for_and_against(
            "superiority", x + shift, margin + shift
        )

    @given(integers, halves)
    def test_superiority_mirrored_swaps_for_and_against(self, x, margin):
        assert (
            verdicts.p_for_and_against("superiority", -x, -margin)
            == verdicts.p_for_and_against("superiority", x, margin)[::-1]
        )

    @given(integers, st.integers(1, 6), st.none() | st.integers(1, 6))
    def test_equivalence_is_blind_to_the_sign(self, x, margin, limit):
        assert verdicts.p_for_and_against("equivalence", -x, margin, limit) == verdicts.p_for_and_against(
            "equivalence", x, margin, limit
        )

    @given(integers, st.integers(1, 6), st.randoms())
    def test_order_of_the_seeds_is_irrelevant(self, x, margin, random):
        order = random.sample(range(len(x)), len(x))
        for test in ("superiority", "equivalence"):
            expected = verdicts.p_for_and_against(test, x, margin)
            assert verdicts.p_for_and_against(test, x[order], margin) == pytest.approx(expected, rel=1e-9)

    @given(integers, st.integers(1, 6), st.integers(-30, 30))
    def test_unit_is_irrelevant(self, x, margin, exponent):
        for test in ("superiority", "equivalence"):
            scaled = verdicts.p_for_and_against(test, x * 2.0**exponent, margin * 2.0**exponent)
            assert scaled == pytest.approx(verdicts.p_for_and_against(test, x, margin), rel=1e-9)

    @given(integers, st.integers(1, 6), st.integers(1, 6))
    def test_wider_margin_is_easier(self, x, margin, more):
        narrow, narrow_against = verdicts.p_for_and_against("equivalence", x, margin)
        wide, wide_against = verdicts.p_for_and_against("equivalence", x, margin + more)
        assert wide <= narrow + 1e-12
        assert wide_against >= narrow_against - 1e-12

    @given(integers, st.integers(1, 6))
    def test_no_claim_is_supported_and_refuted(self, x, margin):
        for test in ("superiority", "equivalence"):
            p, against = verdicts.p_for_and_against(test, x, margin)
            assert max(p, against) > 0.1

    @given(st.lists(st.lists(st.integers(-4, 4), min_size=4, max_size=4), min_size=5, max_size=8), st.randoms())
    @settings(max_examples=40)
    def test_trend_ignores_seed_offsets_and_order(self, rows, random):
        table = np.array(rows, dtype=float)
        offsets = np.array([[random.randint(-50, 50)] for _ in rows])
        order = random.sample(range(len(rows)), len(rows))
        expected = verdicts.p_for_and_against("trend", table, 0.5)
        assert verdicts.p_for_and_against("trend", (table + offsets)[order], 0.5) == pytest.approx(expected, rel=1e-9)

    @given(st.lists(st.none() | st.floats(0.0, 1.0), max_size=12))
    def test_holm_never_lowers_p_and_keeps_the_order(self, p_values):
        adjusted = holm(p_values)
        pairs = sorted((p, q) for p, q in zip(p_values, adjusted, strict=True) if p is not None)
        assert [q is None for q in adjusted] == [p is None for p in p_values]
        assert all(p <= q <= min(1.0, p * len(pairs)) for p, q in pairs)
        assert [q for _, q in pairs] == sorted(q for _, q in pairs)


def test_the_weakest_part_decides_and_the_others_are_named():
    refuted, unmet = superiority([-1.0] * 5), not_applicable("nothing was fitted")
    open_, good = superiority([1.0, -1.0, 2.0, -1.0, 1.0]), superiority([1.0] * 5)
    parts = {"a": good, "b": open_, "c": unmet, "d": refuted}
    assert (refuted, open_, good) == (REFUTED, INCONCLUSIVE, SUPPORTED)
    for weaker in ("d", "c", "b", "a"):
        found = weakest(parts)
        assert found == dataclasses.replace(parts[weaker], reason=found.reason)
        others = "".join(f"; {name}: {part.outcome}" for name, part in parts.items() if name != weaker)
        assert found.reason == f"{weaker}: {parts.pop(weaker).reason}{others}"
    with pytest.raises(ValueError, match="parts: expected at least one verdict, got none"):
        weakest(parts)


def test_among_equal_outcomes_the_largest_p_is_the_weakest():
    strong, weak = superiority([1.0] * 8), superiority([1.0] * 5)
    assert strong.p < weak.p
    for parts in ({"strong": strong, "weak": weak}, {"weak": weak, "strong": strong}):
        assert weakest(parts).p == weak.p
    same = dataclasses.replace(weak, effect=7.0)
    assert weakest({"first": same, "second": weak}).effect == 7.0, "the first of equals"


@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_a_claim_of_two_parts_is_wrongly_supported_no_more_often_than_one(rho):
    """One part lies at its margin, the other beyond it, with independent or alike seeds; both must be supported."""
    common, own = np.random.default_rng(7).standard_normal((2, DRAWS, 5))
    null, true = common, 2.0 + rho * common + (1 - rho**2) ** 0.5 * own
    p = [verdicts.p_for_and_against("superiority", part, 0.0)[0] for part in (null, true)]
    assert (np.maximum(*p) <= ALPHA).sum() < most(DRAWS)


def test_holm_on_a_worked_example():
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])
    assert holm([]) == []
    assert holm([None]) == [None]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


FIVE = [1.0, 2.0, 1.0, 2.0, 1.0]
ROWS = [[1.0, 2.0, 3.0]] * 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: superiority([1.0]), r"differences: expected shape \(n_seeds,\) with at least 2 seeds, got \(1,\)"),
        (lambda: superiority(3.0), r"differences: .* got \(\)"),
        (lambda: superiority(ROWS), r"differences: .* got \(5, 3\)"),
        (lambda: superiority([1.0, 2.0, math.nan]), r"differences\[2\]: expected a finite number, got nan"),
        (lambda: superiority([1.0, None]), r"differences\[1\]: expected a finite number, got nan"),
        (lambda: equivalence([math.inf, 1.0], margin=1), r"differences\[0\]: expected a finite number, got inf"),
        (lambda: trend([[1, 2, 3], [1, math.nan, 3]], levels=(0, 1, 2)), r"table\[1, 1\]: .* got nan"),
        (lambda: trend(FIVE, levels=(0, 1, 2)), r"table: expected shape \(n_seeds, n_levels\) .* got \(5,\)"),
        (
            lambda: trend(ROWS, levels=(0, 1, 2, 3)),
            r"table: expected a column for each of 4 levels, got shape \(5, 3\)",
        ),
        (
            lambda: trend([[1, 2]] * 5, levels=(0, 1)),
            r"levels: expected at least 3 ascending numbers, got \(0.0, 1.0\)",
        ),
        (lambda: trend(ROWS, levels=(0, 2, 2)), r"levels: expected at least 3 ascending"),
        (lambda: trend(ROWS, levels=(0, 1, 2), min_effect=-1.0), r"min_effect: expected at least 0, got -1.0"),
        (lambda: superiority(FIVE, alpha=0.0), r"alpha: expected an error rate in \(0, 0.1\], got 0.0"),
        (lambda: superiority(FIVE, alpha=0.11), r"alpha: .* got 0.11"),
        (lambda: superiority(FIVE, alpha=math.nan), r"alpha: .* got nan"),
        (lambda: superiority(FIVE, margin=math.inf), r"margin: expected a finite number, got inf"),
        (lambda: equivalence(FIVE, margin=0.0), r"margin: expected a finite number above 0, got 0.0"),
        (lambda: equivalence(FIVE, margin=1, max_difference=0), r"max_difference: .* above 0, got 0"),
        (lambda: power("slope", effect=1, sd=1, n=5), r"test: expected one of superiority, .* got 'slope'"),
        (lambda: power("superiority", effect=1, sd=-1, n=5), r"sd: expected a finite number of at least 0, got -1"),
        (lambda: power("superiority", effect=1, sd=1, n=1), r"n: expected at least 2 seeds, got 1"),
        (lambda: power("equivalence", effect=0, sd=1, n=5), r"margin: expected a finite number above 0"),
        (lambda: power("trend", effect=1, sd=1, n=5, n_levels=2), r"n_levels: expected at least 3, got 2"),
        (lambda: power("equivalence", effect=0, sd=1, n=5, margin=1, max_difference=-1), r"max_difference: .* got -1"),
        (lambda: seeds_needed("superiority", effect=1, sd=1, target=1.0), r"target: expected a power in \(0, 1\)"),
        (lambda: detectable_share(0), r"n: expected at least 1 seed, got 0"),
        (lambda: holm([0.1, 1.5]), r"p_values\[1\]: expected a number in \[0, 1\] or None, got 1.5"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()

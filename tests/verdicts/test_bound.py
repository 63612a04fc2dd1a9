"""The comparative bound on families of runs in which everything is known."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import ncharness as nc
from ncharness import Bound, Row, Run, RunConfig, Store, comparative_bound, mean_depth, minimal_depth
from ncharness.verdicts.bound import LEVEL, share, sweep, uniformity

EPS, P = 0.05, 0.2
FIRST = RunConfig(part="first", depth=6, width=20, n_train=400)
BOTH = FIRST.replace(part="both", epochs=300)


def made(config: RunConfig, depth: int | None, *, test: float = 0.1, mistakes: Sequence[int] | None = None) -> Run:
    """A run whose layers separate from `depth` on (None: no layer does), at every eps."""
    errors = [0.0 if depth is not None and layer >= depth else 0.9 for layer in range(1, config.depth + 1)]
    rows = [Row(1, f"block{i:02d}.pre_bn", "train", "ncc_error", error) for i, error in enumerate(errors, start=1)]
    rows.append(Row(1, "network", "test", "error", test))
    if mistakes is not None:
        rows.append(Row(1, "network", "second", "error", len(mistakes) / 200))
        rows += [Row(1, "network", "second", f"mistake {i}", 3.0) for i in mistakes]
    return Run(config, tuple(rows))


def on_first(table: Sequence[Sequence[int | None]], **changes: object) -> list[Run]:
    """By split, the effective depth of every initialisation."""
    return [
        made(FIRST.replace(split=split, seed=seed), depth, **changes)
        for split, depths in enumerate(table)
        for seed, depth in enumerate(depths)
    ]


def on_both(minimal: Sequence[int | None], *, noise: float = P, depth: int = 4) -> list[Run]:
    """By split, the d_min that training finds; the second seed finds none."""
    found = [made(BOTH.replace(split=s, depth=depth, noise=noise), d) for s, d in enumerate(minimal)]
    return found + [made(BOTH.replace(split=s, depth=depth, noise=noise, seed=1), None) for s in range(len(minimal))]


def bound(first: Sequence[Run], both: Sequence[Run], **changes: object) -> Bound:
    return comparative_bound(
        first, both, **{"p": P, "eps": EPS, "delta1": 0.0, "delta2": 0.0, "n_classes": 10, **changes}
    )


# The first term


def test_the_first_term_is_the_share_of_splits_in_which_the_depth_reaches_d_min() -> None:
    found = bound(on_first([[2, 2], [3, 3], [4, 4], [1, 1]]), on_both([3, 3, 3, 3]))
    assert found.first.value == 0.5, "a depth equal to d_min counts"
    assert found.depths == (2.0, 3.0, 4.0, 1.0)
    assert found.minimal == (3, 3, 3, 3)
    assert found.per_split == pytest.approx((0.22, 1.22, 1.22, 0.22))
    assert found.value == pytest.approx(0.72)
    assert np.mean(found.per_split) == pytest.approx(found.value)
    assert found.first_if_one_less == 0.75
    assert "0.75 if d_min were one layer less than found" in str(found)


def test_the_depth_on_s1_is_a_mean_over_the_initialisations() -> None:
    assert mean_depth(on_first([[1, 2]]), eps=EPS) == 1.5
    assert bound(on_first([[1, 2]]), on_both([2])).first.value == 0
    assert bound(on_first([[1, 3]]), on_both([2])).first.value == 1


def test_a_network_that_separates_nothing_makes_the_event_certain() -> None:
    assert mean_depth(on_first([[1, None]]), eps=EPS) == math.inf
    assert bound(on_first([[1, None]]), on_both([None])).first.value == 1


def test_where_training_finds_no_d_min_it_is_one_more_than_was_tried() -> None:
    found = bound(on_first([[4], [5]]), on_both([None, None], depth=4))
    assert found.minimal == (5, 5)
    assert found.first.value == 0.5


def test_the_threshold_decides_on_both_sides() -> None:
    profile = [0.5, 0.2, 0.08, 0.01]

    def run(config: RunConfig) -> Run:
        rows = [Row(1, f"block{i:02d}.pre_bn", "train", "ncc_error", error) for i, error in enumerate(profile, start=1)]
        return Run(config, (*rows, Row(1, "network", "test", "error", 0.1)))

    for eps, depth in ((0.01, 4), (0.1, 3), (0.2, 2)):
        found = bound([run(FIRST)], [run(BOTH.replace(noise=P))], eps=eps)
        assert (found.depths, found.minimal, found.eps) == ((depth,), (depth,), eps)


def test_d_min_is_the_least_depth_of_any_run_whatever_its_length() -> None:
    runs = [made(BOTH.replace(depth=2), None), made(BOTH.replace(depth=5, seed=1), 3), made(BOTH.replace(depth=4), 4)]
    assert minimal_depth(runs, eps=EPS) == 3
    assert minimal_depth(runs[:1], eps=EPS) is None
    for other in (BOTH.replace(split=1), BOTH.replace(noise=0.1), BOTH.replace(width=64), BOTH.replace(data="mnist1d")):
        with pytest.raises(ValueError, match=r"^runs: expected one training set, got 2"):
            minimal_depth([*runs, made(other, 1)], eps=EPS)
    for empty in (minimal_depth, mean_depth):
        with pytest.raises(ValueError, match=r"^runs: expected at least one, got none"):
            empty([], eps=EPS)


def test_a_worse_search_for_d_min_can_only_lower_the_first_term() -> None:
    """The direction of the estimation error: what training misses makes the estimate smaller."""
    generator = np.random.default_rng(0)
    for _ in range(30):
        first = on_first(generator.integers(1, 5, size=(6, 2)).tolist())
        searches = [
            made(BOTH.replace(split=split, noise=P, seed=seed, depth=4), int(depth))
            for (split, seed), depth in np.ndenumerate(generator.integers(1, 5, size=(6, 3)))
        ]
        worse = [run for run in searches if run.config.seed == 0]
        assert bound(first, worse).first.value <= bound(first, searches).first.value
    assert "under-estimate" in bound(first, worse).direction
    assert "under-estimate" in str(bound(first, worse))


# Its interval


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975])
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(confidence: float) -> None:
    for n in (1, 2, 7, 20):
        for k in range(n + 1):
            term = share([i < k for i in range(n)], confidence=confidence)
            expected = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
            assert (term.value, term.low, term.high) == pytest.approx((k / n, expected.low, expected.high))
            assert term.how == "estimated"


def drawn(generator: np.random.Generator, n_splits: int) -> tuple[list[Run], list[Run]]:
    """Depths 1, 2, 3 of two initialisations with probabilities .5, .3, .2, and d_min 2 or 3 with .6 and .4."""
    depths = generator.choice([1, 2, 3], p=[0.5, 0.3, 0.2], size=(n_splits, 2)).tolist()
    return on_first(depths), on_both(generator.choice([2, 3], p=[0.6, 0.4], size=n_splits).tolist())


def test_the_estimate_is_right_on_average_and_its_interval_covers_as_said() -> None:
    law, needed = {1: 0.5, 2: 0.3, 3: 0.2}, {2: 0.6, 3: 0.4}
    truth = sum(law[a] * law[b] * needed[d] for a, b, d in itertools.product(law, law, needed) if (a + b) / 2 >= d)
    n, repeats, generator = 8, 400, np.random.default_rng(1)
    found = [bound(*drawn(generator, n)) for _ in range(repeats)]
    values = np.array([each.first.value for each in found])
    spread = math.sqrt(truth * (1 - truth) / n / repeats)
    assert abs(values.mean() - truth) < 4 * spread
    assert values.var() == pytest.approx(truth * (1 - truth) / n, rel=0.25)
    covered = np.mean([each.first.low <= truth <= each.first.high for each in found])
    # What the coverage of the exact interval is at this truth: at least what was asked for, and not 1.
    k = np.arange(n + 1)
    inside = [term.low <= truth <= term.high for term in (share([i < hits for i in range(n)]) for hits in k)]
    exact = stats.binom.pmf(k, n, truth)[inside].sum()
    assert 0.95 <= exact < 1
    assert abs(covered - exact) < 4 * math.sqrt(exact * (1 - exact) / repeats)


@pytest.mark.parametrize("n", [5, 6, 10])
def test_the_interval_covers_every_probability(n: int) -> None:
    k = np.arange(n + 1)
    terms = [share([i < hits for i in range(n)]) for hits in k]
    for truth in np.linspace(0, 1, 101):
        inside = [term.low <= truth <= term.high for term in terms]
        assert stats.binom.pmf(k, n, truth)[inside].sum() >= 0.95 - 1e-12


def test_intervals_of_several_estimated_terms_hold_together() -> None:
    first, both = on_first([[1]] * 8), on_both([3] * 8) + on_both([3] * 8, noise=0.3)
    alone, two = bound(first, both), bound(first, both, delta2=None)
    assert alone.first.high == pytest.approx(1 - 0.025 ** (1 / 8))
    assert two.first.high == two.delta2.high == pytest.approx(1 - 0.0125 ** (1 / 8))
    assert two.high == pytest.approx(2 * two.first.high + 0.22)
    assert two.low == two.value == pytest.approx(0.22)
    assert bound(first, both, confidence=0.9).first.high == pytest.approx(1 - 0.05 ** (1 / 8))


# delta 1


def test_uniform_mistakes_are_rejected_as_seldom_as_they_should_be() -> None:
    generator, n, repeats = np.random.default_rng(2), 200, 200
    found = []
    for _ in range(repeats):
        draws = [generator.choice(n, size=size, replace=False).tolist() for size in (20, 30, 25)]
        found.append(uniformity([made(FIRST, 1, mistakes=mistakes) for mistakes in draws], n_second=n))
    rejected = np.mean(np.array(found) <= LEVEL)
    assert rejected <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / repeats)
    assert 0.4 < np.mean(found) < 0.75  # the statistic is a count: ties make p larger than uniform


def test_two_runs_share_mistakes_as_the_hypergeometric_law_says() -> None:
    n = 200
    for common in (2, 4, 6, 9):
        runs = [made(FIRST, 1, mistakes=range(20)), made(FIRST, 1, mistakes=range(20 - common, 50 - common))]
        exact = stats.hypergeom.sf(common - 1, n, 20, 30)
        assert uniformity(runs, n_second=n) == pytest.approx(
            exact, abs=0.001 + 4 * math.sqrt(exact * (1 - exact) / 999)
        )


def test_mistakes_on_the_same_hard_samples_are_not_uniform() -> None:
    generator = np.random.default_rng(3)
    hard = [generator.choice(40, size=15, replace=False).tolist() for _ in range(2)]
    assert uniformity([made(FIRST, 1, mistakes=mistakes) for mistakes in hard], n_second=200) <= 0.01
    assert uniformity([made(FIRST, 1, mistakes=range(30))] * 2, n_second=200) == 0.001, "the least there is, not 0"
    assert uniformity([made(FIRST, 1, mistakes=[]), made(FIRST, 1, mistakes=[3])], n_second=200) == 1.0


def test_delta1_is_the_share_of_splits_whose_mistakes_are_not_uniform() -> None:
    same, apart = (range(20), range(20)), (range(20), range(100, 120))
    first = [
        made(FIRST.replace(split=split, seed=seed), 1, mistakes=mistakes)
        for split, pair in enumerate((same, apart, same, same))
        for seed, mistakes in enumerate(pair)
    ]
    found = bound(first, on_both([3] * 4), delta1=None)
    assert (found.delta1.value, found.delta1.how) == (0.75, "estimated")
    assert found.per_split == pytest.approx((1.22, 0.22, 1.22, 1.22))
    assert found.value == pytest.approx(0.97)
    with pytest.raises(ValueError, match=r"^runs: expected at least two initialisations, got 1"):
        bound(first[:1], on_both([3]), delta1=None)
    with pytest.raises(ValueError, match=r"^n_second: expected more than every index of a mistake, got 100"):
        uniformity([made(FIRST, 1, mistakes=[100]), made(FIRST, 1, mistakes=[1])], n_second=100)
    with pytest.raises(KeyError, match="no error of split second"):
        bound(on_first([[1, 1]]), on_both([3]), delta1=None)


def test_an_assumed_delta_is_added_and_named_as_such() -> None:
    found = bound(on_first([[1]] * 3), on_both([3] * 3), delta1=0.25, delta2=0.125)
    assert found.value == pytest.approx(0.22 + 0.375)
    assert found.per_split == pytest.approx((0.595,) * 3)
    assert str(found.delta1) == "0.25 assumed"
    assert (found.delta2.low, found.delta2.high, found.delta2.how) == (0.125, 0.125, "assumed")


# delta 2


def test_delta2_is_the_share_of_splits_in_which_fewer_wrong_labels_need_more_depth() -> None:
    first = on_first([[1]] * 4)
    both = on_both([3, 3, 3, None]) + on_both([3, 2, 4, 4], noise=0.3) + on_both([3, 3, 2, 4], noise=0.4)
    found = bound(first, both, delta2=None)
    assert found.delta2.value == 0.75, "at any q; at None, one more than was tried"
    assert found.per_split == pytest.approx((0.22, 1.22, 1.22, 1.22))
    assert bound(first, both, delta2=None, alpha=0.75).delta2.value == 0.5, "q = .3 lies below (1 + alpha) p"
    assert bound(first, both, delta2=None, alpha=0.5).delta2.value == 0.75, "q = .3 is (1 + alpha) p"
    with pytest.raises(ValueError, match=r"^delta2: to estimate it needs runs with noise of at least 0\.44, got none"):
        bound(first, both, p=0.4, delta2=None)
    with pytest.raises(ValueError, match=r"^both: there is no run with split 3 and noise 0\.3"):
        bound(first, [run for run in both if (run.config.split, run.config.noise) != (3, 0.3)], delta2=None)


# The whole


def test_what_does_not_belong_to_p_is_left_out() -> None:
    both = on_both([3, 3]) + on_both([1, 1], noise=0.1)
    assert bound(on_first([[1], [1]]), both).first.value == 0
    assert bound(on_first([[1], [1]]), both, p=0.1).first.value == 1


@pytest.mark.parametrize(("p", "alpha"), [(0.1, 0.1), (0.2, 0.5), (0.45, 0.9)])
def test_the_penalty_is_one_plus_alpha_times_p(p: float, alpha: float) -> None:
    found = bound(on_first([[1], [1]]), on_both([3, 3], noise=p), p=p, alpha=alpha)
    assert found.penalty.value == found.value == pytest.approx(p + alpha * p)
    assert found.penalty.how == "exact"


def test_the_test_error_is_a_mean_over_splits_with_a_t_interval() -> None:
    errors = [[0.1, 0.2], [0.3, 0.3], [0.1, 0.1]]
    first = [
        made(FIRST.replace(split=split, seed=seed), 1, test=error)
        for split, pair in enumerate(errors)
        for seed, error in enumerate(pair)
    ]
    found = bound(first, on_both([3] * 3)).test_error
    means = [0.15, 0.3, 0.1]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(means), max(0, low), high))
    assert bound(first[:2], on_both([3])).test_error.high == 1.0


def test_trivial_is_no_better_than_a_constant_guess() -> None:
    assert bound(on_first([[3]]), on_both([3])).is_trivial
    assert not bound(on_first([[1]]), on_both([3])).is_trivial
    found = bound(on_first([[1]]), on_both([3], noise=0.45), p=0.45, alpha=0.5, n_classes=2)
    assert found.trivial == 0.5
    assert found.is_trivial


def test_the_text_names_every_term_and_where_it_is_from() -> None:
    text = str(bound(on_first([[1]] * 3), on_both([3] * 3)))
    for part in ("digits, L = 6, m = 200, 3 splits, p = 0.2, alpha = 0.1, eps = 0.05", "0.00 assumed", "0.22 exact"):
        assert part in text
    assert "value          0.22 [0.22, 0.93], an under-estimate: training finds d_min or more, never less" in text
    assert "constant guess 0.90" in text


def test_a_sweep_has_every_family_p_and_alpha_and_says_what_it_assumes() -> None:
    longer = [made(FIRST.replace(depth=8, split=split), 3) for split in range(2)]
    other = [made(FIRST.replace(width=64), 1), made(BOTH.replace(width=64, noise=0.1), 2)]
    runs = [
        *on_first([[1], [1]]),
        *longer,
        *on_both([3, 3]),
        *on_both([4, 4], noise=0.3),
        *on_both([3, 3], noise=0.5),
        *other,
    ]
    runs.append(made(RunConfig(depth=2), 1))
    found = sweep(runs, eps=EPS, alphas=(0.5, 0.1), n_classes=10)
    assert [(each.depth, each.p, each.alpha) for each in found if each.p > 0.1] == list(
        itertools.product((6, 8), (0.2, 0.3), (0.1, 0.5))
    )
    assert [(each.depth, each.p, each.depths) for each in found if each.p == 0.1] == [(6, 0.1, (1.0,))] * 2
    assert {each.delta1.how for each in found} == {"assumed"}
    assert [each.delta2.how for each in found] == ["assumed"] * 2 + ["estimated"] * 8
    assert {each.first.value for each in found if each.depth == 8 and each.p == 0.2} == {1.0}
    wide = sweep(runs, eps=EPS, alphas=(0.9,), n_classes=10)[1:3]
    assert [each.delta2.how for each in wide] == ["estimated", "assumed"], "q = .5 lies beyond .38, none beyond .57"
    assert sweep([], eps=EPS, n_classes=10) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p": 0.0}, r"^p: expected a fraction in \(0, 1/2\), got 0.0"),
        ({"p": 0.5}, r"^p: expected a fraction in \(0, 1/2\), got 0.5"),
        ({"p": 0.3}, r"^both: there is no run with noise 0.3"),
        ({"alpha": 0.0}, r"^alpha: expected a number in \(0, 1\), got 0.0"),
        ({"alpha": 1.0}, r"^alpha: expected a number in \(0, 1\), got 1.0"),
        ({"eps": 0.0}, r"^eps: expected a number in \(0, 1\), got 0.0"),
        ({"eps": float("nan")}, r"^eps: expected a number"),
        ({"confidence": 1.0}, r"^confidence: expected a number in \(0, 1\), got 1.0"),
        ({"delta1": -0.1}, r"^delta1: expected an assumed probability in \[0, 1\]"),
        ({"delta2": 1.1}, r"^delta2: expected an assumed probability in \[0, 1\]"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bound(on_first([[1]]), on_both([3]), **changes)


def test_runs_that_do_not_belong_together_are_refused() -> None:
    first, both = on_first([[1], [1]]), on_both([3, 3])
    for arguments, message in (
        (([], both), "^first: expected runs, got none"),
        ((first, []), "^both: expected runs, got none"),
        ((both, both), "^first: expected runs with part first, got mlp-L04"),
        ((first, first), "^both: expected runs with part both, got mlp-L06"),
        (([*first, made(FIRST.replace(depth=8), 1)], both), "^first: expected runs that differ in split and seed only"),
        ((first, both[:1]), r"^both: there is no run with split 1 and noise 0\.2"),
        (
            (first, [*both, made(BOTH.replace(width=21, noise=P), 3)]),
            "^both: expected width as in first, 20, in mlp-L06-H21",
        ),
        ((first, [*both, made(BOTH.replace(n_train=200, noise=P), 3)]), "^both: expected n_train as in first, 400"),
        (
            ([made(FIRST.replace(n_train=None), 1)], [made(BOTH.replace(n_train=None, noise=P), 3)]),
            "^first: expected runs with n_train, twice the size m of a half, got None",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            bound(*arguments)
    with pytest.raises(ValueError, match=r"^events: expected at least one split, got none"):
        share([])


def test_runs_of_the_store_serve_as_they_are(tmp_path: Path) -> None:
    store = Store(tmp_path)
    base = RunConfig(n_train=200, width=16, depth=2, epochs=3, measurements=2, part="first")
    first = [store.train(base.replace(seed=seed, split=1)) for seed in range(2)]
    both = [store.train(base.replace(part="both", split=1, noise=p)) for p in (0.2, 0.4)]
    assert None not in (*first, *both)
    found = nc.comparative_bound(first, both, p=0.2, eps=0.05, n_classes=10)
    assert (found.m, found.depth, len(found.per_split)) == (100, 2, 1)
    assert {term.how for term in (found.first, found.delta1, found.delta2)} == {"estimated"}
    assert found.value == pytest.approx(found.per_split[0])

"""NC2: exact values on frames, invariances, and every convention against loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from literature import cosines, example, few, moments, orthogonal, seeds, simplex

from ncharness import (
    class_stats,
    discrimination,
    equiangularity,
    equinorm,
    etf_distance,
    etf_distance_floor,
    frame_distance,
    minority_cosine,
    minority_spread,
)

EVERY = {
    "etf_distance": etf_distance,
    "frame_distance": frame_distance,
    "general frame": lambda of, **about: frame_distance(of, unit=True, **about),
    "equinorm": equinorm,
    "equinorm, biased": lambda of, **about: equinorm(of, spread="biased", **about),
    "equinorm, log": lambda of, **about: equinorm(of, spread="log", **about),
    "equiangularity": equiangularity,
    "equiangularity, std": lambda of, **about: equiangularity(of, over="std", **about),
    "equiangularity, signed": lambda of, **about: equiangularity(of, over="signed", **about),
    "equiangularity, max": lambda of, **about: equiangularity(of, over="max", **about),
    "discrimination": discrimination,
}


def naive(name, rows):
    """Each by its definition, of rows that are centred already."""
    n, gram, cos = len(rows), rows @ rows.T, cosines(rows)
    norms = np.array([np.linalg.norm(row) for row in rows])
    etf, unit = np.eye(n) - np.ones((n, n)) / n, rows / norms[:, None]
    ideal = -1 / (n - 1)
    logs = [abs(math.log(a / b)) for a, b in itertools.combinations(norms, 2)]
    return {
        "etf_distance": lambda: np.linalg.norm(gram / np.linalg.norm(gram) - etf / math.sqrt(n - 1)),
        "frame_distance": lambda: np.linalg.norm(gram / np.linalg.norm(gram) - np.eye(n) / math.sqrt(n)),
        "general frame": lambda: np.linalg.norm(unit @ unit.T / np.linalg.norm(unit @ unit.T) - np.eye(n) / n**0.5),
        "equinorm": lambda: np.std(norms, ddof=1) / norms.mean(),
        "equinorm, biased": lambda: np.std(norms) / norms.mean(),
        "equinorm, log": lambda: np.mean(logs),
        "equiangularity": lambda: np.mean([abs(c - ideal) for c in cos]),
        "equiangularity, std": lambda: math.sqrt(np.mean([(c - cos.mean()) ** 2 for c in cos])),
        "equiangularity, signed": lambda: cos.mean() - ideal,
        "equiangularity, max": lambda: max(cos) - ideal,
        "discrimination": lambda: 1 - max(cos),
    }[name]()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("centre", ["classes", "samples", "none"])
def test_every_metric_matches_its_definition_under_every_global_mean(name, centre):
    x, y = example()
    means = moments(x, y)[0]
    middle = {"classes": means.mean(axis=0), "samples": x.numpy().mean(axis=0), "none": 0.0}[centre]
    value = EVERY[name](class_stats(x, 2 * y, 10), centre=centre)  # every other class is empty
    assert float(value) == pytest.approx(naive(name, means - middle), rel=1e-10)
    if centre != "samples":
        assert float(EVERY[name](means, centre=centre)) == pytest.approx(float(value), rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_centred_unless_said_is_what_the_literature_centres(name):
    rows = np.random.default_rng(0).standard_normal((6, 9))
    centre = "none" if name in ("frame_distance", "general frame", "discrimination") else "classes"
    assert EVERY[name](rows) == EVERY[name](rows, centre=centre)


@pytest.mark.parametrize("n", [3, 4, 10, 100])
@pytest.mark.parametrize("extra", [-1, 0, 7])
def test_a_simplex_scores_zero_and_a_disturbed_one_does_not(n, extra):
    rows = simplex(n, n + extra, scale=3.0) + 5.0  # anywhere, where it is centred first
    for name in ("etf_distance", "equinorm", "equinorm, log", "equiangularity", "equiangularity, std"):
        assert float(EVERY[name](rows)) == pytest.approx(0, abs=1e-12)
        disturbed = rows + 0.01 * np.random.default_rng(0).standard_normal(rows.shape)
        assert EVERY[name](disturbed) > 1e-3
    assert float(discrimination(simplex(n, n + extra))) == pytest.approx(1 + 1 / (n - 1), rel=1e-12)


@pytest.mark.parametrize(("n", "value"), [(2, 0.7654), (4, 0.5176), (10, 0.3204), (100, 0.1001)])
def test_an_orthogonal_frame_has_the_published_distance_and_centred_is_a_simplex(n, value):
    rows = 2.5 * orthogonal(n + 3)[:n]
    assert float(etf_distance(rows, centre="none")) == pytest.approx(math.sqrt(2 - 2 * math.sqrt((n - 1) / n)), 1e-12)
    assert float(etf_distance(rows, centre="none")) == pytest.approx(value, abs=5e-5)
    assert float(etf_distance(rows)) == pytest.approx(0, abs=1e-12)
    assert float(frame_distance(rows)) == pytest.approx(0, abs=1e-12)
    assert float(frame_distance(rows, centre="classes")) == pytest.approx(value, abs=5e-5)
    assert float(discrimination(rows)) == pytest.approx(1, abs=1e-12)


def test_a_general_orthogonal_frame_may_have_any_norms():
    rows = orthogonal(8)[:5] * np.array([0.1, 1, 2, 5, 9])[:, None]
    assert float(frame_distance(rows, unit=True)) == pytest.approx(0, abs=1e-12)
    assert frame_distance(rows) > 0.3


def test_a_regular_decagon_is_equiangular_only_by_the_signed_average():
    turns = 2 * np.pi * np.arange(10) / 10
    rows = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    assert abs(float(equiangularity(rows, over="signed"))) < 1e-15
    assert float(equiangularity(rows)) == pytest.approx(0.596, abs=5e-4)
    assert float(etf_distance(rows)) == pytest.approx(1.03, abs=5e-3)


@pytest.mark.parametrize("n", [2, 10])
def test_the_unbiased_spread_is_larger_by_its_factor(n):
    rows = np.random.default_rng(0).standard_normal((n, 4))
    ratio = float(equinorm(rows, centre="none") / equinorm(rows, centre="none", spread="biased"))
    assert ratio == pytest.approx(math.sqrt(n / (n - 1)))


@few
@given(seed=seeds, n=st.integers(3, 12), d=st.integers(1, 12))
def test_nothing_comes_nearer_to_a_simplex_than_its_dimension_allows(seed, n, d):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    floor = etf_distance_floor(n, d)
    for centre in ("classes", "none"):
        assert floor - 1e-12 <= float(etf_distance(rows, centre=centre)) <= 2
    assert (floor == 0) == (d >= n - 1)
    if d < n - 1:  # attained by a simplex that is cut to d directions of equal weight
        best = np.linalg.svd(simplex(n))[0][:, :d]
        assert float(etf_distance(best)) == pytest.approx(floor, abs=1e-12)


def test_the_floor_bounds_the_published_minimisers():
    for d, published in ((2, 0.965), (3, 0.84), (4, 0.70), (6, 0.485)):
        assert published - 0.11 < etf_distance_floor(8, d) < published + 5e-4


@pytest.mark.parametrize("name", EVERY)
@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10), order=st.permutations(range(6)))
def test_invariances(name, seed, scale, shift, order):
    rows = np.random.default_rng(seed).standard_normal((6, 8)) + 0.3
    metric, expected = EVERY[name], float(EVERY[name](rows))
    for moved in (scale * rows, rows @ orthogonal(8, seed), rows[list(order)]):
        assert float(metric(moved)) == pytest.approx(expected, rel=1e-8, abs=1e-12)
    if name in ("frame_distance", "general frame", "discrimination"):  # of means that are not centred
        if abs(shift) > 0.1:
            assert abs(float(metric(rows + shift)) - expected) > 1e-6
    else:
        assert float(metric(rows + shift)) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@few
@given(seed=seeds, n=st.integers(3, 9))
def test_ranges(seed, n):
    rows = np.random.default_rng(seed).standard_normal((n, 5))
    assert abs(float(equiangularity(rows, over="signed"))) <= float(equiangularity(rows)) + 1e-15 <= 2
    assert float(equiangularity(rows)) <= 1 + 1 / (n - 1)
    assert float(equiangularity(rows, over="max")) >= -1e-12  # no n directions of zero sum are further apart
    assert 0 <= float(discrimination(rows)) <= 2
    assert 0 <= float(frame_distance(rows)) <= 2


@pytest.mark.parametrize("name", EVERY)
def test_fewer_than_two_rows_and_rows_that_are_not_finite_give_nan(name):
    metric = EVERY[name]
    for rows in (np.ones((1, 3)), np.array([[1.0, np.nan], [0.0, 1.0]]), np.array([[1.0, np.inf], [0.0, 1.0]])):
        assert metric(rows).isnan()
    x, y = example()
    assert metric(class_stats(x, y * 0, 4)).isnan()


def test_coinciding_means_have_no_geometry():
    same = np.ones((4, 3))
    for metric in (etf_distance, equinorm, equiangularity):
        assert metric(same).isnan()
    assert float(discrimination(same)) == pytest.approx(0, abs=1e-12)


def test_two_centred_rows_are_always_a_simplex():
    rows = np.random.default_rng(0).standard_normal((2, 5))
    assert float(etf_distance(rows)) == pytest.approx(0, abs=1e-12)
    assert float(equiangularity(rows)) == pytest.approx(0, abs=1e-12)


def test_weights_and_parameters_are_taken_as_they_are():
    head = torch.nn.Linear(6, 4)
    assert etf_distance(head.weight) == etf_distance(head.weight.detach().double())
    assert not etf_distance(head.weight).requires_grad


@few
@given(seed=seeds)
def test_minority_angles_are_those_of_the_rows_named(seed):
    rows = np.random.default_rng(seed).standard_normal((6, 4))
    few_rows = rows[[1, 2, 5]]
    assert float(minority_cosine(rows, [5, 1, 2])) == pytest.approx(cosines(few_rows).mean(), abs=1e-12)
    spread = np.linalg.norm(few_rows - few_rows.mean(axis=0)) / np.linalg.norm(rows)
    assert float(minority_spread(rows, (1, 2, 5))) == pytest.approx(spread, rel=1e-12)
    turned = 3 * rows @ orthogonal(4, seed % 1000)
    for metric in (minority_cosine, minority_spread):
        assert float(metric(turned, [5, 1, 2])) == pytest.approx(float(metric(rows, [5, 1, 2])), abs=1e-12)


def test_minority_angles_of_a_simplex_and_of_collapsed_classes():
    rows = simplex(10, 12)
    assert float(minority_cosine(rows, range(5, 10))) == pytest.approx(-1 / 9)
    rows[5:] = rows[5] * np.array([[1], [2], [1], [3], [1]])
    assert float(minority_cosine(rows, range(5, 10))) == pytest.approx(1)
    assert minority_spread(rows, range(5, 10)) > 0.1, "at one direction, not at one point"
    rows[5:] = rows[5]
    assert float(minority_spread(rows, range(5, 10))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [4, 40])
def test_minority_rows_that_vanish_have_no_angles(n):
    rows = np.random.default_rng(0).standard_normal((n, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[0] *= 3e-4
    assert not minority_cosine(rows, [0, 1]).isnan()
    assert minority_cosine(rows, [0, 1], floor=1e-3).isnan()
    rows[0] *= 1e-1
    assert minority_cosine(rows, [0, 1]).isnan()
    assert not minority_cosine(rows, [1, 2]).isnan(), "of the rows that are asked about"
    rows[0] *= np.linalg.norm(rows[1]) / np.linalg.norm(rows[0])
    rows[:2] *= 1e-9  # both alike, of rows that are not
    assert minority_cosine(rows, [0, 1]).isnan()
    assert minority_spread(rows, [0, 1]) < 1e-8
    assert minority_cosine(np.zeros((3, 2)), [0, 1]).isnan()
    assert minority_spread(np.full((3, 2), np.nan), [0, 1]).isnan()


@pytest.mark.parametrize("minority", [[0], [], [1, 1], [0, 3], [-1, 0]])
def test_minority_classes_that_are_none_are_refused(minority):
    for metric in (minority_cosine, minority_spread):
        with pytest.raises(ValueError, match=r"^minority: expected .*, got \["):
            metric(np.eye(3), minority)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "^centre: expected classes or none .* matrix", lambda r: etf_distance(r, centre="samples")),
        (ValueError, "^centre: expected one of .*, got 'mean'", lambda r: equinorm(r, centre="mean")),
        (ValueError, "^spread: expected one of unbiased, biased, log, got 'std'", lambda r: equinorm(r, spread="std")),
        (ValueError, "^over: expected one of .*, got 'mean'", lambda r: equiangularity(r, over="mean")),
        (ValueError, r"^means: expected shape \(C, d\), .* got \(3,\)", lambda r: etf_distance(r[0])),
        (TypeError, "^means: expected float64, .* got torch.int64", lambda r: discrimination(r.astype(int))),
        (TypeError, "^means: expected a numpy array or a torch tensor, got list", lambda r: frame_distance(r.tolist())),
        (ValueError, "^n_classes, n_features: expected at least 2 and 1", lambda _: etf_distance_floor(1, 4)),
    ],
)
def test_bad_arguments_are_named(error, message, call):
    with pytest.raises(error, match=message):
        call(np.eye(3))


@pytest.mark.parametrize("minority", [[3.9, 5.0], 2, None, "ab"])
def test_minority_classes_are_integers(minority: object) -> None:
    with pytest.raises(TypeError, match="minority: expected a sequence of integers, the classes, got"):
        minority_cosine(np.eye(6), minority)  # type: ignore[arg-type]  # wrong on purpose


def test_minority_classes_may_be_a_tensor() -> None:
    assert float(minority_cosine(np.eye(6), torch.tensor([4, 5]))) == 0.0  # type: ignore[arg-type]  # as any iterable may be

"""NC3, NC4 and margins: exact values, invariances, conventions against loops."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from literature import example, few, moments, orthogonal, seeds, simplex

from ncharness import (
    class_stats,
    linear_predictions,
    margins,
    measure,
    ncc_agreement,
    ncc_mismatch,
    normalised_margin,
    product_duality,
    self_duality,
    unconstrained_margin,
)


def weight_of(seed=0, n=5, d=7):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)) + 0.2)


# --- NC3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", ["classes", "samples", "none"])
@pytest.mark.parametrize("centre_weight", [False, True])
def test_both_forms_match_their_definitions(centre, centre_weight):
    x, y = example()
    W, means = weight_of().numpy(), moments(x, y)[0]
    M = means - {"classes": means.mean(axis=0), "samples": x.numpy().mean(axis=0), "none": 0.0}[centre]
    V = W - W.mean(axis=0) if centre_weight else W
    apart = ((V / np.sqrt((V**2).sum()) - M / np.sqrt((M**2).sum())) ** 2).sum()
    product = V @ M.T
    target = (np.eye(5) - 1 / 5) / 2
    about = {"centre": centre, "centre_weight": centre_weight}
    stats = class_stats(x, y, 5)
    assert float(self_duality(W, stats, **about)) == pytest.approx(apart, rel=1e-12)
    assert float(self_duality(W, stats, squared=False, **about)) == pytest.approx(math.sqrt(apart), rel=1e-12)
    expected = np.sqrt(((product / np.sqrt((product**2).sum()) - target) ** 2).sum())
    assert float(product_duality(W, stats, **about)) == pytest.approx(expected, rel=1e-12)


def test_rows_of_empty_classes_are_left_out_of_both():
    x, y = example()
    W = weight_of()
    spaced = torch.full((10, 7), 1e3, dtype=torch.float64)
    spaced[::2] = W
    for form in (self_duality, product_duality):
        for centre_weight in (False, True):
            expected = form(W, class_stats(x, y, 5), centre_weight=centre_weight)
            value = form(spaced, class_stats(x, 2 * y, 10), centre_weight=centre_weight)
            assert float(value) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_extremes_are_exact(n):
    means = simplex(n, n + 2, scale=3.0)
    assert float(self_duality(0.1 * means, means)) == pytest.approx(0, abs=1e-12)
    assert float(product_duality(0.1 * means, means)) == pytest.approx(0, abs=1e-12)
    assert float(self_duality(-means, means)) == pytest.approx(4, rel=1e-12)
    assert float(self_duality(-means, means, squared=False)) == pytest.approx(2, rel=1e-12)
    assert float(product_duality(-means, means)) == pytest.approx(2, rel=1e-12)
    common = means + 1.0  # the part of W that all classes share
    assert self_duality(common, means) > 0.1
    for form in (self_duality, product_duality):
        assert float(form(common, means + 7.0, centre_weight=True)) == pytest.approx(0, abs=1e-12)


@few
@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10))
def test_duality_is_invariant_to_scale_joint_rotation_and_a_shift_of_the_features(seed, scale, shift):
    W, M = weight_of(seed), weight_of(seed + 1)
    turn = torch.from_numpy(orthogonal(7, seed))
    for form in (self_duality, product_duality):
        expected = float(form(W, M))
        for moved in (form(scale * W, M), form(W, scale * M), form(W @ turn, M @ turn), form(W, M + shift)):
            assert float(moved) == pytest.approx(expected, rel=1e-7)
        assert 0 <= expected <= (4 if form is self_duality else 2)
        assert float(form(W @ turn, M)) != pytest.approx(expected, rel=1e-6)


def test_fewer_than_two_classes_have_no_duality():
    x, y = example()
    for form in (self_duality, product_duality):
        assert form(weight_of(), class_stats(x, y * 0, 5)).isnan()
        assert form(weight_of() * torch.nan, class_stats(x, y, 5)).isnan()


# --- NC4 --------------------------------------------------------------------------------------------------------------


def test_mismatch_counts_rows_that_network_and_nearest_centre_label_differently():
    x, y = example(noise=2.0)
    stats, W = class_stats(x, y, 5), weight_of()
    bias = torch.tensor([3.0, 0, -3, 0, 1])
    means = moments(x, y)[0]
    network = [max(range(5), key=lambda c: float(W[c] @ row + bias[c])) for row in x]
    nearest = [min(range(5), key=lambda c: float(((row.numpy() - means[c]) ** 2).sum())) for row in x]
    predicted = linear_predictions(x, W, bias)
    assert predicted.tolist() == network
    expected = np.mean([a != b for a, b in zip(network, nearest, strict=True)])
    assert float(ncc_mismatch(x, predicted, stats)) == pytest.approx(expected)
    assert float(ncc_agreement(x, predicted, stats)) == pytest.approx(1 - expected)
    without = linear_predictions(x, W)
    assert without.tolist() == [max(range(5), key=lambda c: float(W[c] @ row)) for row in x]
    assert ncc_mismatch(x, without, stats) != ncc_mismatch(x, predicted, stats)  # the bias matters


def test_the_ncc_as_a_classifier_never_mismatches_itself_and_its_error_is_another_quantity():
    x, y = example(noise=2.0)
    found = measure(x, y, 5)
    assert ncc_mismatch(x, found.nearest, found.stats) == 0
    M = found.stats.mean
    linear = linear_predictions(x, M, -M.square().sum(dim=1) / 2)  # argmin of distances, written as a linear layer
    assert ncc_mismatch(x, linear, found.stats) == 0
    assert found.ncc_accuracy < 1


def test_a_row_that_is_not_finite_differs_from_any_network():
    x, y = example()
    found = measure(x, y, 5)
    bad = x.clone()
    bad[0, 0] = torch.nan
    assert float(ncc_mismatch(bad, found.nearest, found.stats)) == pytest.approx(1 / 80)


# --- margins ----------------------------------------------------------------------------------------------------------


@few
@given(seed=seeds, n_classes=st.integers(2, 6))
def test_margins_match_a_loop(seed, n_classes):
    rng = np.random.default_rng(seed)
    scores, labels = rng.standard_normal((20, n_classes)), rng.integers(0, n_classes, 20)
    naive = [z[y] - max(z[j] for j in range(n_classes) if j != y) for z, y in zip(scores, labels, strict=True)]
    found = margins(scores, labels)
    assert found.tolist() == pytest.approx(naive)
    assert ((found > 0).numpy() == (scores.argmax(axis=1) == labels)).all()
    first, second = torch.from_numpy(rng.standard_normal((3, 4))), torch.from_numpy(rng.standard_normal((2, 3)))
    norm = math.sqrt(float((first**2).sum() + (second**2).sum()))
    product = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    assert float(normalised_margin(scores, labels, [first, second])) == pytest.approx(min(naive) / norm**2)
    assert float(normalised_margin(scores, labels, [first, second], by="layers")) == pytest.approx(min(naive) / product)


@few
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_the_normalised_margin_does_not_change_with_the_scale_of_a_homogeneous_network(seed, scale):
    rng = np.random.default_rng(seed)
    x, y = torch.from_numpy(rng.standard_normal((30, 4))), torch.from_numpy(rng.integers(0, 3, 30))
    layers = [torch.from_numpy(rng.standard_normal(shape)) for shape in ((6, 4), (5, 6), (3, 5))]

    def margin(weights, by):
        hidden = torch.relu(torch.relu(x @ weights[0].T) @ weights[1].T)
        return float(normalised_margin(hidden @ weights[2].T, y, weights, by=by))

    for by in ("norm", "layers"):
        assert margin([scale * w for w in layers], by) == pytest.approx(margin(layers, by), rel=1e-9)
    one = [scale * layers[0], *layers[1:]]
    assert margin(one, "layers") == pytest.approx(margin(layers, "layers"), rel=1e-9)
    assert abs(margin(layers, "layers")) >= 3**1.5 * abs(margin(layers, "norm")) * (1 - 1e-12)


@pytest.mark.parametrize(("n_classes", "n"), [(2, 3), (4, 5), (10, 2)])
def test_the_unconstrained_margin_of_collapsed_features_is_at_its_limit_and_of_others_below(n_classes, n):
    means = simplex(n_classes, n_classes + 1)
    x, y = np.repeat(means, n, axis=0) / n**0.25, np.repeat(np.arange(n_classes), n)
    W = means * n**0.25  # balanced: ||W|| = ||H||
    limit = 1 / ((n_classes - 1) * math.sqrt(n))
    assert float(unconstrained_margin(x, W, y)) == pytest.approx(limit, rel=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = x + 0.1 * rng.standard_normal(x.shape), W * rng.uniform(0.5, 2)
        assert unconstrained_margin(*other, y) < limit


@pytest.mark.parametrize(
    ("message", "call"),
    [
        (
            r"^weight: expected shape \(5, 7\) as the class means, got \(5, 6\)",
            lambda a: self_duality(a.W[:, :6], a.stats),
        ),
        (r"^weight: expected shape \(5, 7\) .* got \(4, 7\)", lambda a: product_duality(a.W[:4], a.stats)),
        (r"^weight: expected 7 columns as features, got 6", lambda a: linear_predictions(a.x, a.W[:, :6])),
        (r"^bias: expected shape \(5,\) as weight, got \(4,\)", lambda a: linear_predictions(a.x, a.W, a.W[:4, 0])),
        (r"^labels: expected shape \(80,\)", lambda a: ncc_mismatch(a.x, torch.arange(3), a.stats)),
        (r"^scores: expected at least two columns", lambda a: margins(a.x[:, :1], torch.zeros(80).long())),
        (r"^labels: .* got 7 at index 1", lambda a: margins(a.x[:2], torch.tensor([0, 7]))),
        ("^weights: expected at least one", lambda a: normalised_margin(a.x, torch.zeros(80).long(), [])),
        ("^by: expected one of norm, layers", lambda a: normalised_margin(a.x, torch.zeros(80).long(), [a.W], by="")),
        (r"^weight: expected 7 columns", lambda a: unconstrained_margin(a.x, a.W[:, :6], torch.zeros(80).long())),
    ],
)
def test_bad_arguments_are_named(message, call):
    x, y = example()
    with pytest.raises(ValueError, match=message):
        call(SimpleNamespace(x=x, stats=class_stats(x, y, 5), W=weight_of()))

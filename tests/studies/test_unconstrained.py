"""Studies of unconstrained features, against closed forms, gradients by autograd, and each other."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ncharness import Study
from ncharness.studies import (
    central_path,
    initial_scale,
    layer_peeled,
    losses,
    max_margin,
    squared_error_features,
    unconstrained,
)
from ncharness.studies.study import carry_out
from ncharness.training.loop import seeded


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread, as the worker processes do: the operations are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def numbers(experiment: str, *, seed: int = 0, epoch: int = 0, **settings: Any) -> dict[str, float]:
    rows = carry_out(Study(experiment=experiment, settings=settings, seed=seed))
    return {row.metric: row.value for row in rows if row.epoch == epoch}


def simplex(classes: int) -> Tensor:
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


@pytest.mark.parametrize(("classes", "samples", "a", "b"), [(3, 2, 0.01, 0.03), (5, 4, 0.02, 0.001), (4, 5, 0.2, 0.2)])
def test_the_least_cross_entropy_is_that_of_the_best_scaled_simplex(
    classes: int, samples: int, a: float, b: float
) -> None:
    leads = torch.linspace(0, 12, 120_001, dtype=torch.float64)
    nuclear = torch.linalg.svdvals(simplex(classes).repeat_interleave(samples, 1)).sum()
    values = torch.log1p((classes - 1) * (-leads).exp()) + math.sqrt(a * b) * nuclear * leads
    least, lead = unconstrained.least_cross_entropy(classes, samples, a, b)
    assert least == pytest.approx(float(values.min()), abs=1e-8)
    assert lead == pytest.approx(float(leads[values.argmin()]), abs=1e-4)


def test_minimisers_reach_the_least_cross_entropy_from_any_scale() -> None:
    for scale in (0.1, 0.4):
        found = numbers("unconstrained.minimum", classes=3, samples=2, dim=4, weight_decay=0.02, scale=scale)
        assert abs(found["gap"]) < 1e-12
        assert max(found["etf_distance"], found["nc1_trace"], found["product_duality"]) < 1e-6
        assert found["balance"] == pytest.approx(1.0, abs=1e-6)
    assert numbers("unconstrained.minimum", classes=4, samples=2, dim=2)["gap"] > 1e-3


def test_random_labels_are_those_that_collapse() -> None:
    found = numbers("unconstrained.random_labels", seed=1, classes=3, samples=3, dim=4)
    assert max(found["nc1_trace"], found["etf_distance"], found["difference"]) < 1e-6
    assert found["true_nc1_trace"] > 0.1


def test_features_take_the_shape_of_a_fixed_classifier() -> None:
    etf = numbers("unconstrained.fixed_classifier", classes=4, samples=3, dim=5)
    gaussian = numbers("unconstrained.fixed_classifier", classes=4, samples=3, dim=5, rows="gaussian")
    assert max(etf["nc1_trace"], etf["etf_distance"], gaussian["nc1_trace"]) < 1e-7
    assert gaussian["etf_distance"] > 0.05
    # Rows of length 1, so a feature of length t leads by t (1 + 1/3).
    lengths = torch.linspace(0, 8, 80_001, dtype=torch.float64)
    values = torch.log1p(3 * (-lengths * 4 / 3).exp()) + 0.5 * 5e-3 * 12 * lengths.square()
    assert etf["loss"] == pytest.approx(float(values.min()), abs=1e-7)
    with pytest.raises(ValueError, match="rows: expected etf or gaussian, got 'cube'"):
        unconstrained.fixed_classifier(rows="cube")
    with pytest.raises(ValueError, match="dim: expected at least 5 as there are classes, got 4"):
        unconstrained.fixed_classifier(dim=4)


@pytest.mark.parametrize(("share", "imbalance"), [(0.5, 1.0), (0.8, 4.0), (1.2, 0.5)])
def test_the_origin_has_the_eigenvalue_and_the_minimiser_of_the_closed_form(share: float, imbalance: float) -> None:
    found = numbers("landscape.origin", classes=3, samples=2, dim=3, threshold_share=share, imbalance=imbalance)
    assert found["eigenvalue"] == pytest.approx(found["expected_eigenvalue"], abs=1e-12)
    assert (found["eigenvalue"] < 0) == (share < 1)
    assert found["norm"] == pytest.approx(found["expected_norm"], abs=1e-5)
    assert (found["expected_norm"] > 0.1) == (share < 1)


def test_descents_from_many_starts_are_told_by_the_worst() -> None:
    tiny = {"classes": 3, "samples": 2, "dim": 4, "count": 3, "decay": 0.05}
    begun, done = (numbers("landscape.starts", steps=steps, **tiny) for steps in (0, 800))
    assert begun["largest_gap"] > begun["least_gap"] > 1e-3
    assert begun["gradient"] > 1e-3
    assert max(abs(done["largest_gap"]), abs(done["least_gap"]), done["gradient"]) < 1e-12


def test_focal_loss_without_focus_is_cross_entropy_and_with_it_weighs_by_the_miss() -> None:
    scores, labels = torch.randn(6, 3, dtype=torch.float64), torch.arange(6) % 3
    assert float(losses.focal(scores, labels, 0.0)) == pytest.approx(float(functional.cross_entropy(scores, labels)))
    p = scores.softmax(1)[range(6), labels]
    assert float(losses.focal(scores, labels, 2.0)) == pytest.approx(float((-((1 - p) ** 2) * p.log()).mean()))


def test_contrastive_loss_is_the_definition_written_out() -> None:
    rows = functional.normalize(torch.randn(6, 3, dtype=torch.float64))
    labels, heat = torch.tensor([0, 0, 1, 1, 2, 2]), 0.3
    total = 0.0
    for i in range(6):
        others = [j for j in range(6) if j != i]
        below = sum(math.exp(float(rows[i] @ rows[j]) / heat) for j in others)
        alike = [j for j in others if labels[j] == labels[i]]
        total -= sum(math.log(math.exp(float(rows[i] @ rows[j]) / heat) / below) for j in alike) / len(alike)
    assert float(losses.contrastive(rows, labels, heat)) == pytest.approx(total / 6)


@pytest.mark.parametrize("loss", ["smoothed", "focal", "sphere", "contrastive"])
def test_every_loss_collapses_to_its_least_value(loss: str) -> None:
    found = numbers("losses.minimum", loss=loss, classes=3, samples=3, dim=4)
    assert max(found["nc1_trace"], found["etf_distance"], abs(found["gap"])) < 1e-6


def test_without_smoothing_and_without_focus_the_least_value_is_that_of_cross_entropy() -> None:
    tiny = {"classes": 3, "samples": 3, "dim": 4, "decay": 0.01}
    least, _ = unconstrained.least_cross_entropy(3, 3, 0.01, 0.01)
    assert numbers("losses.minimum", loss="smoothed", smoothing=0.0, **tiny)["loss"] == pytest.approx(least)
    assert numbers("losses.minimum", loss="focal", focus=0.0, **tiny)["loss"] == pytest.approx(least)
    assert numbers("losses.minimum", loss="smoothed", **tiny)["loss"] > least + 0.01
    assert numbers("losses.minimum", loss="focal", **tiny)["loss"] < least - 0.01


def test_the_least_value_on_the_sphere_is_out_of_reach_of_too_few_dimensions() -> None:
    assert numbers("losses.minimum", loss="sphere", dim=2)["gap"] > 1e-2
    assert numbers("losses.minimum", loss="contrastive", dim=2)["gap"] > 1e-2
    with pytest.raises(ValueError, match="loss: expected one of smoothed, focal, sphere, contrastive, got 'hinge'"):
        losses.minimum(loss="hinge")


def test_the_least_squared_error_of_two_factors_is_a_soft_threshold() -> None:
    classes, samples, a, b = 4, 9, 0.01, 0.002
    drop = math.sqrt(a * b) * classes * samples
    expected = classes * (drop**2 / (2 * classes * samples) + math.sqrt(a * b) * (3 - drop))
    least = squared_error_features.least_squared_error
    assert least(classes, samples, (a, b)) == pytest.approx(expected, rel=1e-12)
    assert least(classes, samples, (a, b), free_bias=True) == pytest.approx(expected * 3 / 4, rel=1e-12)
    assert least(classes, samples, (5.0, 5.0)) == pytest.approx(0.5), "zero beyond the threshold"
    assert least(classes, samples, (5.0, 5.0, 5.0)) == pytest.approx(0.5)


SQUARED = {"classes": 3, "samples": 2, "dim": 4, "weight_decay": 0.2, "feature_decay": 0.1}


def test_squared_error_frames() -> None:
    bare = numbers("squared_error_features.minimum", **SQUARED)
    names = ("nc1_trace", "frame_distance", "etf_distance", "duality", "norm_error", "gap", "first_frame_distance")
    assert max(abs(bare[name]) for name in names) < 1e-5
    assert bare["uncentred_etf_distance"] > 0.3
    assert bare["reached"] == 1.0
    free = numbers("squared_error_features.minimum", bias="trained", **SQUARED)
    names = ("nc1_trace", "uncentred_etf_distance", "centred_duality", "bias_error", "gap")
    assert max(abs(free[name]) for name in names) < 1e-5
    decayed = numbers("squared_error_features.minimum", bias="trained", bias_decay=0.5, **SQUARED)
    assert free["loss"] + 1e-4 < decayed["loss"] < bare["loss"]
    assert decayed["bias_error"] > 0.01


def test_squared_error_with_a_further_layer() -> None:
    linear = numbers("squared_error_features.minimum", further="linear", **SQUARED)
    names = ("frame_distance", "first_frame_distance", "nc1_trace", "first_nc1_trace", "duality", "gap")
    assert max(abs(linear[name]) for name in names) < 1e-5
    relu = numbers("squared_error_features.minimum", further="relu", starts=6, **SQUARED)
    assert relu["gap"] == pytest.approx(0.0, abs=1e-9)
    assert relu["frame_distance"] < 1e-5
    assert relu["first_frame_distance"] > 1e-2
    assert relu["reached"] * 6 == pytest.approx(round(relu["reached"] * 6))


def test_squared_error_is_shrunk_to_zero_by_decay() -> None:
    found = numbers("squared_error_features.minimum", **{**SQUARED, "weight_decay": 1.5, "feature_decay": 1.5})
    assert found["size"] < 1e-6
    for wrong in ({"bias": "free"}, {"further": "tanh"}):
        with pytest.raises(ValueError, match=r"expected none, .*got '(free|tanh)'"):
            squared_error_features.minimum(**wrong)  # type: ignore[arg-type]


def test_a_share_of_starts_is_of_those_at_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = iter([(0.3, 0.0), (0.2, 0.0), (0.2 + 1e-9, 0.0), (0.2 + 1e-5, 0.0)])
    monkeypatch.setattr(squared_error_features, "minimise", lambda *_: next(ends))
    found = {row.metric: row.value for row in squared_error_features.minimum(starts=4)}
    assert found["reached"] == 0.5
    assert found["loss"] == 0.2


def test_descents_by_scale_are_those_of_autograd() -> None:
    settings: dict[str, Any] = {"classes": 3, "samples": 2, "dim": 4, "lr": 0.05}
    with seeded(1):
        found = {row.metric: row.value for row in initial_scale.descents(steps=3, **settings)}
    with seeded(1):
        weight, features, bias = (torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4), (6, 4), (1, 3)))
    labels = torch.arange(3).repeat_interleave(2)
    for one in (weight, features, bias):
        one.mul_(0.3).requires_grad_()

    def loss() -> Tensor:
        return 0.5 * (features @ weight.T + bias - functional.one_hot(labels)).square().sum()

    for _ in range(3):
        for one, gradient in zip(
            (weight, features, bias), torch.autograd.grad(loss(), (weight, features, bias)), strict=True
        ):
            one.data -= 0.05 * gradient
    assert found["loss 0.3"] == pytest.approx(float(loss().detach()))
    apart = weight @ weight.T - math.sqrt(2) * simplex(3)
    assert found["classifier 0.3"] == pytest.approx(float(apart.detach().norm()))
    assert found["features 0.3"] == pytest.approx(float((features - weight[labels] / math.sqrt(2)).detach().norm()))
    assert found["bias 0.3"] == pytest.approx(float((bias - 1 / 3).detach().norm()))


def test_descent_from_near_zero_ends_at_strong_collapse() -> None:
    found = numbers("initial_scale.descents", classes=3, samples=2, dim=5, lr=0.05, steps=3000)
    assert max(found[f"{name} 0.0001"] for name in ("classifier", "features", "bias")) < 1e-2
    assert found["features 1"] > 0.1


@pytest.mark.parametrize("adapt", [False, True])
def test_the_descent_on_cross_entropy_is_that_of_autograd(adapt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(max_margin, "CHECKPOINTS", (1, 3))
    with seeded(2):
        rows = max_margin.descent(classes=3, samples=2, dim=4, scale=0.7, lr=0.3, adapt=adapt)
    with seeded(2):
        weight, features = (0.7 * torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4), (6, 4)))
    labels = torch.arange(3).repeat_interleave(2)
    for _ in range(3):
        weight.requires_grad_()
        features.requires_grad_()
        loss = functional.cross_entropy(features @ weight.T, labels)
        gradients = torch.autograd.grad(loss, (weight, features))
        weight, features, value = weight.detach(), features.detach(), float(loss.detach())
        rate = 0.3 / (value * float(weight.square().sum() + features.square().sum())) if adapt else 0.3
        weight, features = weight - rate * gradients[0], features - rate * gradients[1]
    found = {row.metric: row.value for row in rows if row.epoch == 3}
    assert sorted({row.epoch for row in rows}) == [0, 1, 3]
    assert found["loss"] == pytest.approx(float(functional.cross_entropy(features @ weight.T, labels)))
    assert found["classifier_norm"] == pytest.approx(float(weight.square().sum()))
    assert found["feature_norm"] == pytest.approx(float(features.square().sum()))
    z = features @ weight.T
    least = min(float(z[i, labels[i]] - z[i, j]) for i, j in itertools.product(range(6), range(3)) if j != labels[i])
    half = (found["classifier_norm"] + found["feature_norm"]) / 2
    assert found["margin_share"] == pytest.approx(least / half * 2 * math.sqrt(2))


def test_equal_classes_give_a_simplex_in_the_layer_peeled_model() -> None:
    found = numbers("layer_peeled.minimum", majority=2, minority=2, feature_level=3.0, classifier_level=2.0)
    own, other = math.sqrt(6.0), -math.sqrt(6.0) / 3
    assert found["loss"] == pytest.approx(math.log1p(3 * math.exp(other - own)))
    assert found["etf_distance"] < 1e-6
    assert found["norm_ratio"] == pytest.approx(math.sqrt(0.5))
    assert found["cosine"] == pytest.approx(-1 / 3)
    assert found["spread"] == pytest.approx(math.sqrt((2 - 2 * (1 - 1 / 3) / 2) / 4))
    assert found["slack"] == 0.0


def test_a_rare_class_merges_with_the_others_of_its_kind() -> None:
    found = numbers("layer_peeled.minimum", majority=2, minority=2, ratio=500.0)
    assert found["spread"] < 1e-6
    assert found["disagreement"] < 1e-9
    assert found["gradient"] < 1e-8
    with pytest.raises(ValueError, match="majority, minority: expected at least 1 and 2 classes, got 3 and 1"):
        layer_peeled.minimum(majority=3, minority=1)


def test_the_parts_of_the_squared_error_are_those_of_the_definition() -> None:
    with seeded(3):
        labels = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2])
        features, weight, bias = (torch.randn(*s, dtype=torch.float64) for s in ((9, 4), (3, 4), (3,)))
    parts, decay = central_path.split(features, labels, weight, bias, 0.05), 0.05
    targets = functional.one_hot(labels).double()

    def loss_of(w: Tensor, b: Tensor) -> Tensor:
        return (features @ w.T + b - targets).square().sum() / 18 + decay / 2 * (w.square().sum() + b.square().sum())

    assert float(parts.loss) == pytest.approx(float(loss_of(weight, bias)))
    best = [torch.zeros_like(weight).requires_grad_(), torch.zeros_like(bias).requires_grad_()]
    least, _ = unconstrained.minimise(lambda: loss_of(*best), best)
    assert float(parts.least_squares) == pytest.approx(least)
    assert float(parts.perpendicular) == pytest.approx(float(parts.loss) - least)
    assert float(parts.within + parts.between) == pytest.approx(least)


def test_only_the_split_by_class_needs_balance() -> None:
    for balanced in (True, False):
        found = numbers("central_path.decomposition", balanced=balanced)
        assert found["least_squares"] + found["perpendicular"] == pytest.approx(found["loss"], rel=1e-12)
        exact = found["within"] + found["between"] == pytest.approx(found["least_squares"], rel=1e-10)
        assert exact == balanced


def test_the_signal_to_noise_spectrum_is_that_of_the_definition() -> None:
    with seeded(4):
        labels, features = torch.arange(60) % 3, torch.randn(60, 4, dtype=torch.float64)
    means = torch.stack([features[labels == c].mean(0) for c in range(3)])
    covariance = torch.cov((features - means[labels]).T, correction=0)
    values, vectors = torch.linalg.eigh(covariance)
    signals = (vectors / values.sqrt() @ vectors.T) @ (means - means.mean(0)).T
    expected = torch.linalg.svdvals(signals)[:2]
    torch.testing.assert_close(central_path._signals(features, labels, 3), expected)
    found = numbers("central_path.signal_to_noise")
    assert found["change"] < 1e-10
    assert found["nc1_change"] > 1e-3


def test_the_networks_loss_is_split_by_what_its_classifier_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = []

    def spy(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, decay: float) -> central_path.Split:
        wrong = (features @ weight.T + bias).argmax(1) != labels
        splits.append((float(wrong.double().mean()), decay, features.shape))
        return split(features, labels, weight, bias, decay)

    split = central_path.split
    monkeypatch.setattr(central_path, "split", spy)
    monkeypatch.setattr(central_path, "EPOCHS", (0, 3))
    with seeded(5):
        rows = central_path.network(width=16, depth=2, decay=2e-3)
    assert [row.value for row in rows if row.metric == "error"] == pytest.approx([error for error, *_ in splits])
    assert splits[1][0] < 0.4 < splits[0][0]
    assert [one[1:] for one in splits] == [(2e-3, (1400, 16))] * 2
    assert {row.epoch for row in rows} == {0, 3}
    assert {row.metric for row in rows} == {"error", "least_squares", "perpendicular"}


def test_behind_batch_norm_the_least_objective_is_that_of_free_relu_features() -> None:
    tiny = {"classes": 3, "samples": 3, "dim": 6, "decay": 0.3}
    free = numbers("batch_norm_features.minimum", normalise=False, **tiny)
    normed = numbers("batch_norm_features.minimum", rounds=1, **tiny)
    assert abs(free["gap"]) < 1e-6
    assert abs(normed["gap"]) < 1e-5
    assert normed["etf_distance"] < 1e-2
    assert normed["uncentred_etf_distance"] > 0.3

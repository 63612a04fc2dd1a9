"""Experiments on local elasticity against closed forms: the LE-SDE and LE-ODE, and networks of one linear layer."""

import math

import pytest
import torch
from studying import carried_out
from torch import nn
from torch.nn import functional

from ncharness.studies import elastic_dynamics, local_elasticity
from ncharness.training.config import seed_for
from ncharness.training.loop import seeded


def test_classes_are_separated_when_each_two_lie_apart_along_the_line_of_their_means() -> None:
    one = torch.tensor([[0.0, 5.0], [1.0, -5.0]])
    apart = torch.stack([one, one + torch.tensor([2.0, 0.0])])
    touching = torch.stack([one, one + torch.tensor([0.5, 0.0])])
    third = torch.cat([apart, one[None] + torch.tensor([2.2, 0.0])])
    assert elastic_dynamics.separated(torch.stack([apart, touching])).tolist() == [True, False]
    assert not elastic_dynamics.separated(third), "the last class overlaps the second"
    assert elastic_dynamics.separated(torch.cat([apart, one[None] + torch.tensor([4.0, 0.0])]))


def test_without_noise_the_means_of_the_i_model_follow_the_matrix_exponential() -> None:
    settings = {"paths": 100, "classes": 3, "samples": 4, "dim": 2, "alpha": 1.0, "beta": 0.2, "time": 6.0}
    found = carried_out("elastic_dynamics.separation", noise=0.0, steps=2000, **settings)
    with seeded(seed_for(0, "study")):
        features = torch.randn(100, 3, 4, 2, dtype=torch.float64)
    means = features.mean(2, keepdim=True)
    grown = torch.matrix_exp(elastic_dynamics.elasticity(3, 1.0, 0.2) * 6.0 / 3)
    ended = features - means + torch.einsum("kl,plnd->pknd", grown, means)
    expected = float(elastic_dynamics.separated(ended).double().mean())
    assert 0.2 < expected < 0.9
    assert found.scalar("separated") == pytest.approx(expected, abs=0.03)
    assert found.scalar("separated_at_start") == float(elastic_dynamics.separated(features).double().mean())


def test_classes_separate_above_the_threshold_and_noise_delays_it() -> None:
    shares = {beta: carried_out("elastic_dynamics.separation", beta=beta).scalar("separated") for beta in (0.3, 1.2)}
    assert shares[0.3] > 0.9
    assert shares[1.2] < 0.1
    quiet, noisy = (
        carried_out("elastic_dynamics.separation", beta=0.8, noise=noise, paths=100) for noise in (0.0, 1.0)
    )
    assert quiet.scalar("separated") > noisy.scalar("separated") + 0.2


@pytest.mark.parametrize("reading", ["own", "cross"])
def test_the_drift_of_the_l_model_is_that_of_its_definition(reading: str) -> None:
    classes, alpha, beta = 4, 1.0, 0.4
    residual = torch.eye(classes, dtype=torch.float64) - 1 / classes
    residual = residual / residual.norm(dim=1, keepdim=True)
    means = torch.randn(classes, classes, dtype=torch.float64)
    expected = torch.zeros_like(means)
    for k in range(classes):
        for m in range(classes):
            impact = alpha if k == m else beta
            along = residual[k] if reading == "own" else residual[m]
            expected[k] += impact / classes * residual[k] * (along @ means[m])
    drift = elastic_dynamics.drift(classes, alpha, beta, reading)
    torch.testing.assert_close(torch.einsum("kalb,lb->ka", drift, means), expected)
    rate = (alpha - beta) / classes if reading == "own" else (alpha + (classes - 1) * beta) / classes
    torch.testing.assert_close(torch.einsum("kalb,lb->ka", drift, residual), rate * residual)


@pytest.mark.parametrize(
    ("reading", "beta", "ends"),
    [("own", -0.3, True), ("own", 0.3, False), ("cross", -0.3, False), ("cross", 0.3, True)],
)
def test_the_l_model_ends_in_a_simplex_for_one_sign_of_beta(reading: str, beta: float, ends: bool) -> None:
    settings = {"reading": reading, "beta": beta}
    distance = carried_out("elastic_dynamics.residual_drift", classes=5, **settings).scalar("etf_distance")
    assert (distance < 1e-10) == ends
    assert ends or distance > 0.3
    degenerate = carried_out("elastic_dynamics.residual_drift", classes=3, **settings)
    assert degenerate.scalar("etf_distance") < 1e-10
    assert degenerate.scalar("etf_distance_at_start") > 0.1


def test_a_reading_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="reading: expected own or cross, got 'both'"):
        elastic_dynamics.drift(3, 1.0, 0.5, "both")


def test_a_step_changes_a_linear_model_by_inner_products_and_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 1).double()
    before = network.weight.clone()
    x, y, others = (torch.randn(*shape, dtype=torch.float64) for shape in ((1, 3), (1, 1), (5, 3)))
    change = local_elasticity.changes(network, x, y, others, loss=functional.mse_loss, lr=0.01)
    expected = 0.01 * 2 * (network(x) - y) * (others @ x.T + 1)
    torch.testing.assert_close(change, expected.detach().abs()[:, 0])
    assert torch.equal(network.weight, before)
    assert network.weight.grad is None


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_curves_lie_on_a_torus_and_wind_around_it_four_times(side: float) -> None:
    angles = torch.linspace(-math.pi, math.pi, 33, dtype=torch.float64)
    points = local_elasticity.curve(angles, side)
    radius = points[:, :2].norm(dim=1)
    torch.testing.assert_close((radius - 8).square() + points[:, 2].square(), torch.ones_like(radius))
    torch.testing.assert_close(points[:, 2], side * torch.cos(4 * angles))
    torch.testing.assert_close(local_elasticity.curve(angles, -side)[:, 2], -points[:, 2])


def test_on_the_torus_a_relu_network_is_elastic_and_a_linear_one_is_not() -> None:
    relu, linear = (
        carried_out("local_elasticity.torus", width=256, samples=25, steps=60, lr=3e-3, linear=linear)
        for linear in (False, True)
    )
    assert relu.scalar("correlation") < -0.8
    assert abs(linear.scalar("correlation")) < 0.3
    assert relu.scalar("far_over_near") < 0.2 < 0.6 < linear.scalar("far_over_near")
    assert min(one.scalar("least_change") for one in (relu, linear)) > 0


def test_the_ratio_of_impacts_is_that_of_inner_products_in_a_linear_model() -> None:
    labels = torch.arange(12) % 3
    inputs = torch.cat([math.sqrt(0.5) * functional.one_hot(labels), math.sqrt(0.3) * torch.eye(12)], dim=1)
    inputs = torch.cat([inputs, torch.full((12, 1), math.sqrt(0.2))], dim=1)
    torch.manual_seed(0)
    network = nn.Linear(16, 3, bias=False)
    ratio = local_elasticity.impact_ratio(network, inputs, labels, torch.arange(6), lr=1e-3)
    assert ratio == pytest.approx(3.5, rel=1e-4), "inner products .7 within a class, 1 with itself, .2 across"
    assert local_elasticity.impact_ratio(network, inputs, torch.arange(12) // 4, torch.arange(6), lr=1e-3) < 1.5


def test_impacts_are_measured_at_the_start_early_and_at_the_end() -> None:
    clean = carried_out("local_elasticity.impacts", width=64, epochs=3)
    assert clean.epochs == [0, 1, 2, 3]
    assert clean.scalar("error") < 0.05 < 0.4 < clean.scalar("error", epoch=0)
    random = carried_out("local_elasticity.impacts", width=64, epochs=2, noise=2 / 3)
    assert random.epochs == [0, 1, 2]
    assert random.scalar("error") > 0.4
    assert clean.scalar("ratio", epoch=2) > 1.3 > 1.15 > random.scalar("ratio") > 0.85

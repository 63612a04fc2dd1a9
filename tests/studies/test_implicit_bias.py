"""Experiments on margins and on the noise of batches against definitions written out."""

import math

import pytest
import torch
from studying import carried_out
from torch.nn import functional

from ncharness import normalised_margin
from ncharness.studies import implicit_bias as subject
from ncharness.training.datasets import load


def test_the_network_is_homogeneous_and_its_margin_does_not_feel_the_scale() -> None:
    torch.manual_seed(0)
    network, x, y = subject.Homogeneous(5, 7, 3).double(), torch.randn(9, 5).double(), torch.arange(9) % 3
    outputs, margin = network(x), subject.normalised(network, x, y)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3.0)
    torch.testing.assert_close(network(x), 9.0 * outputs)
    assert subject.normalised(network, x, y) == pytest.approx(margin)
    with torch.no_grad():
        network.first.bias.zero_()
    weights = [network.first.weight, network.second.weight]
    assert subject.normalised(network, x, y) == pytest.approx(float(normalised_margin(network(x).detach(), y, weights)))


def test_the_margin_is_told_of_since_the_loss_fell_below_the_threshold() -> None:
    found = carried_out("implicit_bias.margin", samples=10, width=16, steps=300, lr=0.1, every=20)
    assert found.epochs == list(range(0, 301, 20))
    below = [e for e in found.epochs if found.scalar("loss", epoch=e) < math.log(2) / 30]
    assert found.scalar("first_separated") == below[0] > 0
    margins = [found.scalar("margin", epoch=epoch) for epoch in below]
    assert margins == sorted(margins)
    assert margins[0] > 0
    assert carried_out("implicit_bias.margin", samples=10, width=16, steps=40, lr=1e-4).scalar("first_separated") == -1


def test_decay_of_the_weights_is_passed_on() -> None:
    assert carried_out("implicit_bias.margin", samples=10, width=16, steps=200, weight_decay=2.0).scalar(
        "loss"
    ) == pytest.approx(math.log(3), abs=1e-3)


@pytest.mark.parametrize("amplification", [1, 2, 4, 8, 16])
def test_the_coefficients_keep_the_mean_and_amplify_the_covariance(amplification: int) -> None:
    first, second = subject.coefficients(amplification)
    assert first + second == pytest.approx(1.0, abs=1e-12)
    assert first**2 + second**2 == pytest.approx(amplification, abs=1e-12)


def test_the_gradient_is_that_of_the_batches_cross_entropy() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3
    weights = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([[0, 1, 1], [7, 2, 5]])
    loss = sum(functional.cross_entropy(x[rows] @ w, y[rows]) for w, rows in zip(weights, chosen, strict=True))
    (expected,) = torch.autograd.grad(loss, weights)
    found = subject.logistic_gradient(weights.detach(), x, functional.one_hot(y, 3).double(), chosen)
    torch.testing.assert_close(found, expected)


def test_without_noise_it_is_gradient_descent_and_svag_runs_as_long() -> None:
    small = {"samples": 40, "steps": 12, "lr": 0.3, "decay": 0.1}
    data = load("digits", n_train=40)
    x = torch.cat([data.train_x.flatten(1).double(), torch.ones(40, 1, dtype=torch.float64)], dim=1)
    weights = torch.zeros(65, 10, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        return functional.cross_entropy(x @ weights, data.train_y) + 0.05 * weights.square().sum()

    for _ in range(12):
        (gradient,) = torch.autograd.grad(loss(), weights)
        weights.data -= 0.3 * gradient
    found = carried_out("implicit_bias.amplified_noise", full_batch=True, replicas=2, amplification=4, **small)
    assert found.scalar("loss") == pytest.approx(float(loss().detach()), rel=1e-10)
    assert found.scalar("standard_error") == pytest.approx(0.0, abs=1e-12)
    for amplification in (1, 4):
        noisy = carried_out(
            "implicit_bias.amplified_noise", amplification=amplification, batch_size=4000, replicas=4, **small
        )
        assert noisy.scalar("loss") == pytest.approx(float(loss().detach()), rel=0.03), (
            "large batches: hardly any noise"
        )
        assert noisy.scalar("standard_error") > 0


def test_noise_raises_the_loss() -> None:
    noisy, quiet = (
        carried_out("implicit_bias.amplified_noise", lr=0.5, full_batch=full, steps=200, replicas=4)
        for full in (False, True)
    )
    assert noisy.scalar("loss") > 1.02 * quiet.scalar("loss")

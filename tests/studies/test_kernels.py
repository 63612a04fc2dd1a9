"""Kernels in closed form against networks of large width, and frames against their definitions."""

import pytest
import torch
from studying import carried_out

from ncharness.studies import kernels, thresholding


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_the_kernels_are_those_of_a_very_wide_network(activation: str) -> None:
    torch.manual_seed(0)
    x = torch.tensor([[1.0, 2.0], [-1.5, 0.5], [0.3, -2.0]], dtype=torch.float64)
    u = (x @ torch.randn(2, 400_000, dtype=torch.float64) / 2**0.5).requires_grad_()
    phi = torch.relu(u) if activation == "relu" else torch.erf(u)
    (slope,) = torch.autograd.grad(phi.sum(), u)
    hidden = (phi @ phi.T / u.shape[1]).detach()
    tangent = hidden + (x @ x.T / 2) * (slope @ slope.T / u.shape[1])
    found = kernels.infinite_width_kernels(x, activation)
    torch.testing.assert_close(found[0], hidden, atol=0.02, rtol=0.01)
    torch.testing.assert_close(found[1], tangent, atol=0.03, rtol=0.01)


def test_an_activation_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="activation: expected relu or erf, got 'tanh'"):
        kernels.infinite_width_kernels(torch.ones(2, 2), "tanh")


def test_relu_kernels_are_proportional_in_one_dimension() -> None:
    found = carried_out("kernels.gaussians", dim=1, samples=40)
    assert found.scalar("relu_ntk") == pytest.approx(found.scalar("relu_nngp"), rel=1e-6)
    assert found.scalar("erf_ntk") > 1.5 * found.scalar("erf_nngp")


def test_classes_without_spread_are_collapsed_and_a_wider_one_is_less() -> None:
    point = carried_out("kernels.gaussians", samples=20, spread=0.0)
    assert max(abs(row.value) for row in point.rows) < 1e-9
    tight, spread_out = (carried_out("kernels.gaussians", samples=40, spread=spread) for spread in (0.3, 0.9))
    assert all(a.value < b.value for a, b in zip(tight.rows, spread_out.rows, strict=True))


def test_for_means_on_one_side_the_order_of_the_error_functions_kernels_turns_round() -> None:
    symmetric, shifted = carried_out("kernels.gaussians"), carried_out("kernels.gaussians", first=2.0, second=6.0)
    assert symmetric.scalar("erf_ntk") > symmetric.scalar("erf_nngp")
    assert shifted.scalar("erf_ntk") < shifted.scalar("erf_nngp")


def test_a_frame_is_parseval_and_a_soft_threshold_shrinks() -> None:
    torch.manual_seed(0)
    frame = thresholding.parseval(12, 5)
    torch.testing.assert_close(frame.T @ frame, torch.eye(5, dtype=torch.float64))
    u = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
    assert thresholding.soft(u, 1.0).tolist() == [-2.0, 0.0, 0.0, 0.0, 2.0]


def test_the_fisher_ratio_is_that_of_explicit_covariances_and_feels_no_linear_map() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    x = torch.randn(60, 4, dtype=torch.float64) + 2.0 * torch.randn(3, 4, dtype=torch.float64)[labels]
    means = torch.stack([x[labels == c].mean(0) for c in range(3)])
    within = sum(torch.outer(r - means[c], r - means[c]) for r, c in zip(x, labels.tolist(), strict=True)) / 60
    middle = means.mean(0)
    between = sum(torch.outer(m - middle, m - middle) for m in means) / 3
    expected = float((torch.linalg.inv(within) @ between).trace()) / 3
    assert thresholding.fisher_ratio_of_units(x, labels, 3) == pytest.approx(expected)
    assert thresholding.fisher_ratio_of_units(x @ torch.randn(4, 4, dtype=torch.float64), labels, 3) == pytest.approx(
        expected
    )


def test_the_linear_discriminant_is_the_nearest_mean_after_whitening() -> None:
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    skew = torch.randn(4, 4, dtype=torch.float64)
    centres = torch.randn(3, 4, dtype=torch.float64) @ skew
    train, test = (centres[labels] + torch.randn(300, 4, dtype=torch.float64) @ skew for _ in range(2))
    means = torch.stack([train[labels == c].mean(0) for c in range(3)])
    within = (train - means[labels]).T @ (train - means[labels]) / 300
    root = torch.linalg.cholesky(torch.linalg.inv(within))
    nearest = torch.cdist(test @ root, means @ root).argmin(1)
    expected = float((nearest == labels).double().mean())
    assert 0.5 < expected < 1.0
    assert thresholding.linear_accuracy(train, labels, test, labels, 3) == pytest.approx(expected)


def test_a_threshold_of_nothing_changes_nothing_and_signs_hide_the_means() -> None:
    small = {"classes": 4, "dim": 12, "atoms": 24, "samples": 100}
    found = carried_out("thresholding.mixture", threshold=0.0, back=True, **small)
    assert found.scalar("fisher_soft") == pytest.approx(found.scalar("fisher_raw"))
    assert found.scalar("accuracy_soft", split="test") == found.scalar("accuracy_raw", split="test") > 0.8
    hidden = carried_out("thresholding.mixture", symmetric=True, **small)
    assert hidden.scalar("fisher_raw") < 0.1 < 5 * hidden.scalar("fisher_raw") < hidden.scalar("fisher_abs")
    assert hidden.scalar("accuracy_raw", split="test") < 0.5 < hidden.scalar("accuracy_abs", split="test")


def test_soft_thresholding_concentrates_until_it_takes_the_means_along() -> None:
    ratios = [
        found.scalar("fisher_soft") / found.scalar("fisher_raw")
        for found in (carried_out("thresholding.mixture", threshold=t, back=True) for t in (0.5, 2.0))
    ]
    assert ratios[0] > 1.05
    assert ratios[1] < 0.7

"""Non-linearities in a tight frame and the Fisher ratio (Zarka, Guth & Mallat, arXiv:2012.10424).

Mixtures of Gaussians whose class means are sparse in a random Parseval frame; no training.
"""

import torch
from torch import Tensor

from ncharness.metrics.class_stats import class_stats
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"mixture": 0.1}


def parseval(atoms: int, dim: int) -> Tensor:
    """Return F (p, d) float64 with F^T F = I: the analysis operator of a random tight frame of p >= d vectors."""
    frame: Tensor = torch.linalg.qr(torch.randn(atoms, dim, dtype=torch.float64))[0]
    return frame


def soft(u: Tensor, threshold: float) -> Tensor:
    """Apply soft thresholding: move each number towards 0 by the threshold, and set smaller ones to 0."""
    return torch.relu(u - threshold) - torch.relu(-u - threshold)


def fisher_ratio_of_units(features: Tensor, labels: Tensor, classes: int) -> float:
    """Return (1/C) tr(Sigma_W^-1 Sigma_B), large for concentrated classes; features (n, p), Sigma_W of full rank."""
    means = class_stats(features, labels, classes).mean
    within = features - means[labels]
    between = means - means.mean(0)
    return float((between @ torch.linalg.solve(within.T @ within / len(labels), between.T)).trace() / classes**2)


def linear_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, classes: int) -> float:
    """Return the test accuracy of the linear discriminant: nearest class mean in the within-class covariance metric."""
    means = class_stats(train, labels, classes).mean
    within = train - means[labels]
    rows = torch.linalg.solve(within.T @ within / len(labels), means.T).T
    scores = test @ rows.T - 0.5 * (rows * means).sum(1)
    return float((scores.argmax(1) == test_labels).double().mean())


def mixture(
    *,
    classes: int = 10,
    dim: int = 64,
    atoms: int = 128,
    sparsity: int = 4,
    noise: float = 0.9,
    samples: int = 400,
    threshold: float = 0.5,
    symmetric: bool = False,
    back: bool = False,
) -> list[Row]:
    """Measure the Fisher ratio and the held-out accuracy of a linear discriminant, raw and after non-linearities.

    These are soft thresholding, ReLU and absolute value of the frame's coefficients F x. A class mean is F^T times a
    code of `sparsity` entries +-c, at c = 3; `noise` is the standard deviation of x about it, `samples` the number in
    each class. `symmetric`: the sign of a sample's mean is random, so that all class means are 0. `back`: features are
    F^T rho(F x), in the dimension of x, in place of rho(F x).
    """
    frame = parseval(atoms, dim)
    codes = torch.zeros(classes, atoms, dtype=torch.float64)
    for code in codes:
        code[torch.randperm(atoms)[:sparsity]] = 3.0 * (2.0 * torch.randint(2, (sparsity,)).double() - 1)
    labels = torch.arange(classes).repeat_interleave(samples)

    def drawn() -> Tensor:
        signs = 2.0 * torch.randint(2, (len(labels), 1)).double() - 1 if symmetric else 1.0
        return signs * (codes @ frame)[labels] + noise * torch.randn(len(labels), dim, dtype=torch.float64)

    train, test = drawn(), drawn()
    kinds = {"soft": lambda u: soft(u, threshold), "relu": torch.relu, "abs": torch.abs}
    rows = network_rows(fisher_raw=fisher_ratio_of_units(train, labels, classes))
    rows += network_rows(split="test", accuracy_raw=linear_accuracy(train, labels, test, labels, classes))
    for name, kind in kinds.items():
        ours, theirs = (kind(x @ frame.T) @ (frame if back else torch.eye(atoms).double()) for x in (train, test))
        accuracy = linear_accuracy(ours, labels, theirs, labels, classes)
        rows.append(Row(0, "network", "train", f"fisher_{name}", fisher_ratio_of_units(ours, labels, classes)))
        rows.append(Row(0, "network", "test", f"accuracy_{name}", accuracy))
    return rows

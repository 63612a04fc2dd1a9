"""Transfer of features to classes that were not trained on: collapse, few-shot accuracy, linear probes.

`family`: Galanti, György & Hutter, ICLR 2022 (arXiv:2112.15121), with an unlimited family of classes. A class is a
centre in 8 dimensions; a sample is its centre and 24 dimensions of its own, mapped by a fixed random network. `losses`:
Kornblith et al., NeurIPS 2021 (arXiv:2010.16402), on digits. `few_shot`: the bound of Luthra et al.
(arXiv:2603.03530) on clouds whose moments are known.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.cdnv import cdnv
from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import class_separation, unit_rows
from ncharness.studies.fitting import Loss, fit, mlp, optimiser, squared_error
from ncharness.studies.unconstrained import minimise
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"family": 2.0, "losses": 3.0, "few_shot": 0.2}

CENTRE, NUISANCE, INPUTS = 8, 24, 64
TARGETS, PER_TARGET, EPISODES, WAYS, SHOTS = 60, 100, 100, 5, 5
BATCH = 100


class Family:
    """Distribution of classes: random centres, and samples mapped by one random tanh network."""

    def __init__(self) -> None:
        self.first = torch.randn(CENTRE + NUISANCE, 128) / math.sqrt(CENTRE + NUISANCE)
        self.second = torch.randn(128, INPUTS) / math.sqrt(128)

    def draw(self, centres: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Draw `samples` inputs for every centre (classes, 8); return inputs (classes * samples, 64) and labels."""
        labels = torch.arange(len(centres)).repeat_interleave(samples)
        latent = torch.cat([centres[labels], 2.0 * torch.randn(len(labels), NUISANCE)], dim=1)
        return torch.tanh(latent @ self.first) @ self.second, labels


def family(
    *, classes: int = 10, samples: int = 30, steps: int = 1500, lr: float = 0.05, shuffled: bool = False
) -> list[Row]:
    """Train on `classes` source classes of `samples` each; measure the CDNV there and on 60 unseen target classes.

    The rows are from before training (epoch 0) and after it (epoch 1). `target_accuracy` is that of 5-way 5-shot
    nearest centres. `shuffled` permutes the source labels.
    """
    world = Family()
    target_x, target_y = world.draw(torch.randn(TARGETS, CENTRE), PER_TARGET)
    episodes = torch.stack([torch.randperm(TARGETS)[:WAYS] for _ in range(EPISODES)])
    shots = torch.rand(TARGETS, PER_TARGET).argsort(1)[:, :SHOTS]
    centres = torch.randn(classes, CENTRE)
    x, y = world.draw(centres, samples)
    test_x, test_y = world.draw(centres, samples)  # as many, since fewer samples have a lower CDNV
    y = y[torch.randperm(len(y))] if shuffled else y
    network = mlp((INPUTS, 128, 128, classes))

    @torch.no_grad()
    def measured(epoch: int) -> list[Row]:
        network.eval()
        source, held_out, unseen = (network[:-1](inputs) for inputs in (x, test_x, target_x))
        return [
            *network_rows(
                epoch,
                error=(network(x).argmax(1) != y).double().mean(),
                cdnv=cdnv(class_stats(source, y, classes)),
            ),
            *network_rows(
                epoch,
                "test",
                cdnv=cdnv(class_stats(held_out, test_y, classes)),
                target_cdnv=cdnv(class_stats(unseen, target_y, TARGETS)),
                target_accuracy=few_shot_accuracy(unseen.view(TARGETS, PER_TARGET, -1), episodes, shots),
            ),
        ]

    rows = measured(0)
    epochs = max(1, round(steps / math.ceil(len(y) / BATCH)))
    optimizer = optimiser("sgd", network.parameters(), lr=lr, weight_decay=5e-4)
    fit(network, x, y, optimizer, epochs=epochs, batch_size=BATCH)
    return rows + measured(1)


def few_shot_accuracy(features: Tensor, episodes: Tensor, shots: Tensor) -> float:
    """Return the mean accuracy of the nearest centre over episodes (e, ways) of classes.

    features (classes, samples, d). Centres are the means of the samples in `shots` (classes, k); the other samples of
    the classes of an episode are classified.
    """
    classes, samples, _ = features.shape
    held_out = torch.ones(classes, samples, dtype=torch.bool).scatter(1, shots, False)
    centres = features.gather(1, shots[..., None].expand(-1, -1, features.shape[2])).mean(1)
    queries = features[held_out].view(classes, samples - shots.shape[1], -1)
    right = []
    for ways in episodes:
        nearest = torch.cdist(queries[ways], centres[ways]).argmin(2)
        right.append((nearest == torch.arange(len(ways))[:, None]).double().mean())
    return float(torch.stack(right).mean())


def losses(*, loss: str = "cross_entropy", steps: int = 1500, lr: float = 0.05) -> list[Row]:
    """Train on 5 randomly drawn digits by one of LOSSES, and fit a linear probe of the other 5 on the features.

    The rows are training error, class separation R^2 on the source classes and probe accuracy (5 draws of 10 samples
    per class), before training and after a twentieth, a quarter and all of it.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}")
    data = load("digits")
    roles = torch.randperm(10)
    source = torch.isin(data.train_y, roles[:5])
    x, y = data.train_x[source], roles.argsort()[data.train_y[source]]
    every_x, every_y = torch.cat([data.train_x, data.test_x]), roles.argsort()[torch.cat([data.train_y, data.test_y])]
    target_x, target_y = every_x[every_y >= 5], every_y[every_y >= 5] - 5
    draws = [_draw(target_y, 10) for _ in range(5)]
    network = mlp((64, 128, 128, 5))
    if loss == "cosine":
        network.classifier = CosineClassifier(128, 5)
    epochs = max(4, round(steps / math.ceil(len(y) / BATCH)))
    rows: list[Row] = []

    def after(epoch: int) -> None:
        if epoch in (0, round(0.05 * epochs), round(0.25 * epochs), epochs):
            network.eval()
            with torch.no_grad():
                features, unseen = network[:-1](x), network[:-1](target_x)
                error = (network(x).argmax(1) != y).double().mean()
            separation = class_separation(class_stats(unit_rows(features), y, 5))
            probes = [probe_accuracy(unseen, target_y, chosen) for chosen in draws]
            rows.extend(network_rows(epoch, error=error, separation=separation))
            rows.extend(network_rows(epoch, "test", probe=sum(probes) / len(probes)))

    optimizer = optimiser("sgd", network.parameters(), lr=lr, weight_decay=5e-4)
    fit(network, x, y, optimizer, epochs=epochs, batch_size=BATCH, loss=LOSSES[loss], after=after)
    return rows


def _smoothed(scores: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(scores, labels, label_smoothing=0.1)


def _penalised(scores: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(scores, labels) + 6e-4 / 2 * scores.square().sum(1).mean()


def _sigmoid(scores: Tensor, labels: Tensor) -> Tensor:
    one_hot = functional.one_hot(labels, scores.shape[1]).to(scores.dtype)
    return functional.binary_cross_entropy_with_logits(scores, one_hot)


LOSSES: dict[str, Loss] = {
    "cross_entropy": functional.cross_entropy,
    "label_smoothing": _smoothed,
    "logit_penalty": _penalised,
    "sigmoid": _sigmoid,
    "cosine": functional.cross_entropy,  # of scores by CosineClassifier
    "squared_error": squared_error,
}
"""Six of the nine losses of Kornblith et al., with their strengths; the others are more penalties on cross-entropy."""


class CosineClassifier(nn.Module):
    """Classifier with scores cos(w_c, h) / .05: cosine softmax, with the temperature of Kornblith et al."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dim) / math.sqrt(dim))

    def forward(self, features: Tensor) -> Tensor:
        return functional.linear(functional.normalize(features), functional.normalize(self.weight)) / 0.05


def probe_accuracy(features: Tensor, labels: Tensor, chosen: Tensor) -> float:
    """Fit logistic regression on the rows `chosen` (n,) of features (N, d) and return its accuracy on the other rows.

    Features are centred and scaled by one number, so that neither their offset nor their scale affects the decay.
    """
    x = features.double()
    x = x - x[chosen].mean(0)
    x = x / x[chosen].square().sum(1).mean().sqrt()
    weight = torch.zeros(int(labels.max()) + 1, x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)

    def objective() -> Tensor:
        return functional.cross_entropy(x[chosen] @ weight.T, labels[chosen]) + 0.5e-3 * weight.square().sum()

    minimise(objective, [weight], rounds=1)
    others = torch.ones(len(x), dtype=torch.bool)
    others[chosen] = False
    return float(((x[others] @ weight.detach().T).argmax(1) == labels[others]).double().mean())


def _draw(labels: Tensor, each: int) -> Tensor:
    """Draw `each` random rows of every class and return their indices."""
    ticket = torch.rand(len(labels))
    members = [torch.nonzero(labels == c)[:, 0] for c in range(int(labels.max()) + 1)]
    return torch.cat([rows[ticket[rows].argsort()][:each] for rows in members])


def few_shot(
    *,
    noise: str = "isotropic",
    classes: int = 2,
    shots: int = 100,
    variance: float = 0.1,
    dim: int = 8,
    repeats: int = 200,
) -> list[Row]:
    """Measure the nearest-centre error with `shots` samples per class, and compute its bound from exact moments.

    `variance` is the CDNV of two classes at the mean squared distance. `noise` is Gaussian and isotropic, Gaussian
    with nine tenths of its variance in the span of the differences of means (aligned), or isotropic of Student's t
    with 5 degrees of freedom (heavy). `tail_bound` is the bound without its leading term 4 V_dir.
    """
    if noise not in ("isotropic", "aligned", "heavy"):
        raise ValueError(f"noise: expected isotropic, aligned or heavy, got {noise!r}")
    means = torch.randn(classes, dim, dtype=torch.float64)
    total = variance * torch.pdist(means).square().mean()
    mixing = torch.eye(dim, dtype=torch.float64) * (total / dim).sqrt()
    if noise == "aligned":
        span, _ = torch.linalg.qr((means - means.mean(0))[:-1].T)
        inside = span @ span.T
        outside = torch.eye(dim, dtype=torch.float64) - inside
        inner, outer = 0.9 * total / (classes - 1), 0.1 * total / (dim + 1 - classes)
        mixing = inner.sqrt() * inside + outer.sqrt() * outside
    kurtosis = 9.0 if noise == "heavy" else 3.0
    covariance = mixing @ mixing.T

    def drawn(samples: int) -> Tensor:
        z = torch.randn(classes, samples, dim, dtype=torch.float64)
        if noise == "heavy":  # Student's t with 5 degrees of freedom, at variance 1
            z = z / torch.randn(5, classes, samples, dim, dtype=torch.float64).square().sum(0).div(3).sqrt()
        return means[:, None] + z @ mixing.T

    errors = []
    labels = torch.arange(classes).repeat_interleave(100)
    for _ in range(repeats):
        nearest = torch.cdist(drawn(100).flatten(0, 1), drawn(shots).mean(1)).argmin(1)
        errors.append((nearest != labels).double().mean())
    error = torch.stack(errors)
    fourth = fourth_moment(mixing, kurtosis)
    return network_rows(
        error=error.mean(),
        standard_error=error.std() / math.sqrt(repeats),
        bound=few_shot_bound(means, covariance, fourth, shots),
        tail_bound=few_shot_bound(means, 0 * covariance, fourth, shots, trace=covariance.trace()),
    )


def fourth_moment(mixing: Tensor, kurtosis: float) -> Tensor:
    """Return E |A z|^4 for independent z of variance 1 and this kurtosis."""
    covariance = mixing @ mixing.T
    columns = mixing.square().sum(0)
    return covariance.trace() ** 2 + 2 * covariance.square().sum() + (kurtosis - 3) * columns.square().sum()


def few_shot_bound(
    means: Tensor, covariance: Tensor, fourth: Tensor, shots: int, *, trace: Tensor | None = None
) -> Tensor:
    """Return the bound of Luthra et al. on the few-shot error of classes that share a covariance (d, d), means (C, d).

    For each ordered pair the bound is {4 V_dir + (sqrt A_T + sqrt A_S + sqrt A_Q)^2} / (1 + (v_j - v_i) / (m d^2))^2,
    summed over j and averaged over i: V_dir = u^T Sigma u / d^2, V = (v_i + v_j) / d^2, A_T = (4/m)(V^2 + V/4), A_S =
    V/m, A_Q = (Theta + 2(m - 1) V^2) / m^3, Theta = (E|x - mu_i|^4 + E|x - mu_j|^4) / d^4. With one covariance v_j =
    v_i. `trace` is that of the covariance if another than `covariance` is given for V_dir.
    """
    variance = covariance.trace() if trace is None else trace
    off_diagonal = ~torch.eye(len(means), dtype=torch.bool)
    between = (means[:, None] - means)[off_diagonal]  # (pairs, d)
    sq_distance = between.square().sum(1)
    directional = (between @ covariance * between).sum(1) / sq_distance.square()
    v = 2 * variance / sq_distance
    kept = 4 / shots * (v.square() + v / 4)
    theta = 2 * fourth / sq_distance.square()
    quadratic = (theta + 2 * (shots - 1) * v.square()) / shots**3
    pairs = 4 * directional + (kept.sqrt() + (v / shots).sqrt() + quadratic.sqrt()).square()
    return pairs.sum() / len(means)

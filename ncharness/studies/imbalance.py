"""Class imbalance: networks trained on digits with few samples in some classes, with a learned or a fixed classifier.

Fang et al., PNAS 2021 (arXiv:2101.12699): under step imbalance the angles between the classifiers of the minority
classes shrink. Yang et al., NeurIPS 2022 (arXiv:2203.09081): under a long tail they do not for a classifier fixed at a
simplex ETF. The small classes, and the samples of them that are kept, are drawn at random. For one seed, the samples of
a smaller class are among those of a larger one. Every network takes the same number of steps.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.studies.fitting import Loss, fit, mlp, optimiser
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"step": 1.7, "long_tail": 1.7}

CLASSES, LARGEST = 10, 140  # of digits: samples per class
WIDTHS = (64, 128, 128, CLASSES)
BATCH = 100  # with 1400, 770 or 710 samples no last batch is so small that batch norm fails on it


def step(
    *,
    ratio: int = 10,
    majority: int = 5,
    oversampled: bool = False,
    steps: int = 1500,
    lr: float = 0.05,
    weight_decay: float = 5e-4,
) -> list[Row]:
    """Train with step imbalance and measure the angles between classifier rows.

    There are 140 samples in each of `majority` classes and 140 / ratio in the others. `oversampled` repeats the samples
    of the minority `ratio` times, so that every class has about the same share of a batch.
    """
    x, y, order = _digits()
    minority = order[majority:]
    counts = torch.full((CLASSES,), LARGEST)
    counts[minority] = max(1, round(LARGEST / ratio))
    kept = nested(y, counts)
    used = torch.cat([kept, *[kept[torch.isin(y[kept], minority)]] * (ratio - 1)]) if oversampled else kept
    network = mlp(WIDTHS)
    _train(network, x[used], y[used], functional.cross_entropy, steps, lr, weight_decay)
    weight = network.get_parameter("classifier.weight").detach().double()
    few, many = weight[minority], weight[order[:majority]]
    test_errors = _test_errors(network)
    return [
        *network_rows(
            error=_error(network, x[kept], y[kept]),
            minority_cosine=mean_cosine(few),
            majority_cosine=mean_cosine(many),
            norm_ratio=few.norm(dim=1).mean() / many.norm(dim=1).mean(),
            spread=(few - few.mean(0)).norm() / weight.norm(),
        ),
        *network_rows(split="test", error=test_errors.mean(), minority_error=test_errors[minority].mean()),
    ]


def long_tail(
    *, ratio: int = 20, head: str = "learned", steps: int = 1500, lr: float = 0.05, weight_decay: float = 5e-4
) -> list[Row]:
    """Train with 140 ratio^(-k/9) samples in the k-th class, with one of three classifiers.

    `head` is learned, etf (fixed at an ETF), or dot (an ETF with dot regression). Test errors are means over classes,
    so that all count alike; `tail_error` is that of the three smallest.
    """
    if head not in ("learned", "etf", "dot"):
        raise ValueError(f"head: expected learned, etf or dot, got {head!r}")
    x, y, order = _digits()
    counts = torch.empty(CLASSES, dtype=torch.int64)
    counts[order] = tail_counts(ratio)
    kept = nested(y, counts)
    network = mlp(WIDTHS)
    if head != "learned":
        network.classifier = FixedClassifier(simplex(CLASSES, WIDTHS[-2]), unit=head == "dot")
    loss = dot_regression if head == "dot" else functional.cross_entropy
    _train(network, x[kept], y[kept], loss, steps, lr, weight_decay)
    test_errors = _test_errors(network)
    trainable = sum(one.numel() for one in network.parameters() if one.requires_grad)
    return [
        *network_rows(error=_error(network, x[kept], y[kept]), trainable=trainable),
        *network_rows(split="test", error=test_errors.mean(), tail_error=test_errors[order[-3:]].mean()),
    ]


class FixedClassifier(nn.Module):
    """Classifier with scores w_c . h and rows w_c (C, d) that are not trained; with `unit`, h is scaled to length 1.

    A batch norm comes first, as in the code of Yang et al.: features after a ReLU have no negative entries, and could
    not align with the negative half of the rows' entries.
    """

    weight: Tensor

    def __init__(self, rows: Tensor, *, unit: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(rows.shape[1])
        self.register_buffer("weight", rows)
        self.unit = unit

    def forward(self, features: Tensor) -> Tensor:
        signed: Tensor = self.norm(features)
        return functional.linear(functional.normalize(signed) if self.unit else signed, self.weight)


def simplex(classes: int, dim: int) -> Tensor:
    """Return a simplex ETF with rows (C, d) of length 1 and a random orientation; d at least C."""
    turn, _ = torch.linalg.qr(torch.randn(dim, classes, dtype=torch.float64))
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    rows: Tensor = math.sqrt(classes / (classes - 1)) * centred @ turn.T
    return rows.float()


def dot_regression(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over samples of (w_y . h - 1)^2 / 2: Yang et al., with features and classifier of length 1."""
    return 0.5 * (scores.gather(1, labels[:, None]) - 1).square().mean()


def tail_counts(ratio: int) -> Tensor:
    """Return the numbers of samples (10,) of the classes from the largest to the smallest; rounded, at least 1."""
    sizes = LARGEST * torch.tensor(float(ratio)).pow(-torch.arange(CLASSES) / (CLASSES - 1))
    return sizes.round().long().clamp_min(1)


def nested(labels: Tensor, counts: Tensor) -> Tensor:
    """Draw counts[c] samples of every class c and return their indices, ascending.

    A smaller draw is a subset of a larger one.
    """
    ticket = torch.rand(len(labels))
    chosen = [torch.nonzero(labels == c)[:, 0] for c in range(len(counts))]
    first = [members[ticket[members].argsort()][: int(n)] for members, n in zip(chosen, counts, strict=True)]
    return torch.cat(first).sort().values


def mean_cosine(rows: Tensor) -> Tensor:
    """Return the mean cosine over all pairs of rows (n, d)."""
    unit = functional.normalize(rows)
    n = len(rows)
    mean: Tensor = ((unit @ unit.T).sum() - unit.square().sum()) / (n * (n - 1))
    return mean


def _digits() -> tuple[Tensor, Tensor, Tensor]:
    data = load("digits")
    return data.train_x, data.train_y, torch.randperm(CLASSES)


def _train(network: nn.Module, x: Tensor, y: Tensor, loss: Loss, steps: int, lr: float, weight_decay: float) -> None:
    trained = [one for one in network.parameters() if one.requires_grad]
    epochs = max(1, round(steps / math.ceil(len(y) / BATCH)))
    optimizer = optimiser("sgd", trained, lr=lr, weight_decay=weight_decay)
    fit(network, x, y, optimizer, epochs=epochs, batch_size=BATCH, loss=loss)
    network.eval()


@torch.no_grad()
def _error(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    wrong: Tensor = network(x).argmax(1) != y
    return wrong.double().mean()


def _test_errors(network: nn.Module) -> Tensor:
    """Return the test error (C,) of every class."""
    data = load("digits")
    return torch.stack(
        [_error(network, data.test_x[data.test_y == c], data.test_y[data.test_y == c]) for c in range(10)]
    )

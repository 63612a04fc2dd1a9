"""Networks trained on digits of which some classes have few samples: angles of the classifier, and a fixed one.

Fang et al., PNAS 2021 (arXiv:2101.12699): under step imbalance the minority classes' classifiers close up. Yang et
al., NeurIPS 2022 (arXiv:2203.09081): under a long tail, a classifier fixed at a simplex ETF does not. Which classes
are the small ones, and which of their samples are kept, is drawn; of one seed, smaller classes are parts of larger
ones, and every network takes the same number of steps.
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
BATCH = 100  # 1400, 770 and 710 samples leave no last batch of a few, on which batch norm would stumble


def step(
    *,
    ratio: int = 10,
    majority: int = 5,
    oversampled: bool = False,
    steps: int = 1500,
    lr: float = 0.05,
    weight_decay: float = 5e-4,
) -> list[Row]:
    """140 samples in each of `majority` classes and 140 / ratio in the others; the angles between classifier rows.

    `oversampled` repeats the samples of the minority `ratio` times, so that every class has a like share of a batch.
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
    """140 ratio^(-k/9) samples in the k-th class; a classifier that is learned, an ETF, or an ETF with dot regression.

    Test errors are means over classes, so that each counts alike; `tail` is that of the three smallest.
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
    """Scores w_c . h with rows (C, d) that are not trained; with `unit`, of h brought to length 1.

    As in the code of Yang et al. a batch norm stands before it: features after a ReLU have no negative parts, and
    half of the rows' would be out of their reach.
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
    """A simplex ETF of rows (C, d) of length 1, turned at random; d at least C."""
    turn, _ = torch.linalg.qr(torch.randn(dim, classes, dtype=torch.float64))
    centred = torch.eye(classes, dtype=torch.float64) - 1 / classes
    rows: Tensor = math.sqrt(classes / (classes - 1)) * centred @ turn.T
    return rows.float()


def dot_regression(scores: Tensor, labels: Tensor) -> Tensor:
    """(w_y . h - 1)^2 / 2, mean over samples: Yang et al., with features and classifier of length 1."""
    return 0.5 * (scores.gather(1, labels[:, None]) - 1).square().mean()


def tail_counts(ratio: int) -> Tensor:
    """(10,) samples of the classes from the largest to the smallest; rounded, at least 1."""
    sizes = LARGEST * torch.tensor(float(ratio)).pow(-torch.arange(CLASSES) / (CLASSES - 1))
    return sizes.round().long().clamp_min(1)


def nested(labels: Tensor, counts: Tensor) -> Tensor:
    """The indices, ascending, of counts[c] samples of every class c, drawn so that fewer are a part of more."""
    ticket = torch.rand(len(labels))
    chosen = [torch.nonzero(labels == c)[:, 0] for c in range(len(counts))]
    first = [members[ticket[members].argsort()][: int(n)] for members, n in zip(chosen, counts, strict=True)]
    return torch.cat(first).sort().values


def mean_cosine(rows: Tensor) -> Tensor:
    """The mean of the cosines of all pairs of rows (n, d)."""
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
    """(C,) of every class of the test set."""
    data = load("digits")
    return torch.stack(
        [_error(network, data.test_x[data.test_y == c], data.test_y[data.test_y == c]) for c in range(10)]
    )

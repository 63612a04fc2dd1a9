"""Terminal phase of training: networks trained past zero training error, and their collapse.

Papyan, Han & Donoho, PNAS 2020 (arXiv:2008.08186): the phase begins when the training error first reaches 0. A
multi-layer perceptron of three hidden layers with batch norm, on 100 samples a class; the learning rate is
multiplied by .1 after a third and after two thirds of the epochs, as in the paper.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.measure import measure
from ncharness.metrics.nc1 import nc1_trace, strong_collapse, weak_collapse
from ncharness.metrics.nc2 import equiangularity, equinorm, etf_distance
from ncharness.metrics.nc3_nc4 import margins, ncc_mismatch, product_duality, self_duality
from ncharness.studies.fitting import Loss, fit, fit_whole, mlp, optimiser, squared_error
from ncharness.training.datasets import Dataset, load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"trained": 4.0}
WIDTH = 128
LOSSES: dict[str, Loss] = {"cross_entropy": functional.cross_entropy, "squared_error": squared_error}
RATES = {"sgd": 0.05, "adam": 1e-3, "adamw": 1e-3}
"""Learning rate of each optimiser that takes random batches."""


def simplex_classifier(width: int, classes: int) -> nn.Linear:
    """Build a fixed last layer without bias: a simplex ETF with rows of length 1 (Zhu et al. 2021).

    Its orientation is random.
    """
    if width < classes:
        raise ValueError(f"width: expected at least {classes} as there are classes, got {width}")
    frame, _ = torch.linalg.qr(torch.randn(width, classes))
    layer = nn.Linear(width, classes, bias=False)
    layer.weight = nn.Parameter(
        sqrt(classes / (classes - 1)) * (torch.eye(classes) - 1 / classes) @ frame.T, requires_grad=False
    )
    return layer


def trainable(network: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


@torch.no_grad()
def collapse(network: nn.Sequential, inputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Measure NC1 to NC4 of the features before the last layer, in evaluation mode."""
    network.eval()
    features = network[:-1](inputs)
    scores, weight = network[-1](features), network.get_parameter("classifier.weight")
    found = measure(features, labels, classes, gram=True)
    return {
        "nc1": found.nc1,
        "nc1_trace": nc1_trace(found.stats),
        "equinorm": equinorm(found.stats),
        "equiangularity": equiangularity(found.stats),
        "etf_distance": etf_distance(found.stats),
        "classifier_equinorm": equinorm(weight, centre="none"),
        "classifier_equiangularity": equiangularity(weight, centre="none"),
        "classifier_etf_distance": etf_distance(weight, centre="none"),
        "self_duality": self_duality(weight, found.stats),
        "product_duality": product_duality(weight, found.stats),
        "ncc_mismatch": ncc_mismatch(features, scores.argmax(1), found.stats),
        "margin": margins(scores, labels).min(),
    }


@torch.no_grad()
def held_out(network: nn.Sequential, data: Dataset, labels: Tensor) -> dict[str, Tensor]:
    """Measure the test error, and the collapse of test features to the class means of the training features."""
    network.eval()
    stats = measure(network[:-1](data.train_x), labels, data.n_classes).stats
    features = network[:-1](data.test_x)
    return {
        "error": (network[-1](features).argmax(1) != data.test_y).double().mean(),
        "strong_collapse": strong_collapse(features, data.test_y, stats),
        "weak_collapse": weak_collapse(features, stats),
    }


def trained(
    *,
    data: str = "digits",
    labels: str = "true",
    loss: str = "cross_entropy",
    optimizer: str = "sgd",
    weight_decay: float = 5e-4,
    classifier: str = "learned",
    epochs: int = 200,
    samples: int = 1000,
) -> list[Row]:
    """Train a network and measure the last layer's features, as rows of the whole network.

    After every epoch there is the training `error`. After epoch 0, every tenth of the epochs, the onset of the terminal
    phase and the middle between it and the end, there are also the results of `collapse` and `held_out`, and those of
    `collapse` for one random permutation of the labels, `shuffled_nc1` and so on, as a baseline without information. At
    the end there is the number of `trainable` scalars. `labels` true or permuted (among the samples, so that their
    numbers stay); `loss` cross_entropy or squared_error; `optimizer` sgd, adam, adamw or lbfgs (of the whole training
    set); `classifier` learned or simplex (fixed).
    """
    for name, value, known in (
        ("labels", labels, ("true", "permuted")),
        ("loss", loss, tuple(LOSSES)),
        ("optimizer", optimizer, (*RATES, "lbfgs")),
        ("classifier", classifier, ("learned", "simplex")),
    ):
        if value not in known:
            raise ValueError(f"{name}: expected {' or '.join(known)}, got {value!r}")
    found = load(data, n_train=samples)
    inputs, classes = found.train_x, found.n_classes
    network = mlp([inputs[0].numel(), WIDTH, WIDTH, WIDTH, classes])
    order, other = torch.randperm(len(inputs)), torch.randperm(len(inputs))
    fixed = simplex_classifier(WIDTH, classes)
    if classifier == "simplex":
        network.classifier = fixed
    given = found.train_y[order] if labels == "permuted" else found.train_y
    rows: list[Row] = []
    onset = epochs

    def after(epoch: int) -> None:
        nonlocal onset
        network.eval()
        with torch.no_grad():
            error = float((network(inputs).argmax(1) != given).double().mean())
        rows.extend(network_rows(epoch, error=error))
        if error == 0:
            onset = min(onset, epoch)
        if epoch in (onset, middle(onset, epochs)) or epoch % max(1, epochs // 10) == 0 or epoch == epochs:
            shuffled = collapse(network, inputs, given[other], classes)
            rows.extend(network_rows(epoch, "train", **collapse(network, inputs, given, classes)))
            rows.extend(network_rows(epoch, "train", **{f"shuffled_{name}": value for name, value in shuffled.items()}))
            rows.extend(network_rows(epoch, "test", **held_out(network, found, given)))

    moved = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if optimizer == "lbfgs":
        fit_whole(network, inputs, given, epochs=epochs, loss=LOSSES[loss], weight_decay=weight_decay, after=after)
    else:
        solver = optimiser(optimizer, moved, lr=RATES[optimizer], weight_decay=weight_decay)
        fit(network, inputs, given, solver, epochs=epochs, batch_size=100, loss=LOSSES[loss], after=after)
    return [*rows, *network_rows(epochs, trainable=trainable(network))]


def middle(onset: int, end: int) -> int:
    """Return the epoch half-way through the terminal phase."""
    return (onset + end) // 2

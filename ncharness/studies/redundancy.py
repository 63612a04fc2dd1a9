"""Redundancy of the neurons in a last hidden layer of large width (Doimo et al., arXiv:2106.03485)."""

import torch
from torch import Tensor, nn

from ncharness.studies.fitting import fit, layer_outputs, mlp, optimiser
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"chunks": 1.0}


def chunk_accuracy(features: Tensor, labels: Tensor, classifier: nn.Linear, *, count: int, draws: int = 20) -> float:
    """Return the mean accuracy with only `count` random features of (n, d), without fitting again.

    The logits are d / count times the contribution of these features, plus the bias.
    """
    width = features.shape[1]
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    total = 0.0
    for _ in range(draws):
        kept = torch.randperm(width)[:count]
        logits = width / count * features[:, kept] @ weight[:, kept].T + bias
        total += float((logits.argmax(1) == labels).double().mean())
    return total / draws


def chunks(
    *, width: int = 512, samples: int = 1000, epochs: int = 60, early: int = 3, lr: float = 1e-3, count: int = 64
) -> list[Row]:
    """Train an MLP on digits with two hidden layers, the last of this width, and measure accuracy on random neurons.

    Test accuracy is measured with all neurons of the last hidden layer, with random eighths of them, and with `count`
    of them, after `early` epochs and at the end (Adam), together with the training error.
    """
    data = load("digits", n_train=samples)
    network = mlp([64, 256, width, data.n_classes], batch_norm=False)
    rows: list[Row] = []

    def after(epoch: int) -> None:
        if epoch not in (early, epochs):
            return
        test, train = layer_outputs(network, data.test_x), layer_outputs(network, data.train_x)
        features, classifier = test["layer2"], network.get_submodule("classifier")
        assert isinstance(classifier, nn.Linear)
        rows.extend(network_rows(epoch, error=(train["classifier"].argmax(1) != data.train_y).double().mean()))
        rows.extend(
            network_rows(
                epoch,
                "test",
                accuracy=(test["classifier"].argmax(1) == data.test_y).double().mean(),
                eighth=chunk_accuracy(features, data.test_y, classifier, count=width // 8),
                counted=chunk_accuracy(features, data.test_y, classifier, count=min(count, width)),
            )
        )

    optimizer = optimiser("adam", network.parameters(), lr=lr, weight_decay=0.0)
    fit(network, data.train_x, data.train_y, optimizer, epochs=epochs, milestones=(), after=after)
    return rows

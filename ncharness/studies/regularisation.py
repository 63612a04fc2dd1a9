"""Effect of penalties on the collapse of a network.

The penalties are on the variability within classes of every layer (Ben-Shaul & Dekel, arXiv:2201.08924), and weight
decay of the feature layers apart from that of the last (Tirer, Huang & Niles-Weed 2023).
"""

import torch
from torch import Tensor
from torch.nn import functional

from ncharness.metrics.class_stats import class_stats
from ncharness.metrics.nc1 import nc1_trace
from ncharness.metrics.nc3_nc4 import ncc_mismatch
from ncharness.studies.fitting import fit, hidden, layer_outputs, mlp, optimiser, squared_error
from ncharness.training.datasets import load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"variability_penalty": 1.3, "layer_decay": 0.9}


def within_batch(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return (1/C) sum_c mean |g - mean_c|^2 with the class means of the batch (n, d); an absent class adds 0."""
    member = functional.one_hot(labels, classes).to(features.dtype)
    count = member.sum(0).clamp_min(1.0)
    means = member.T @ features / count[:, None]
    squares = (features - means[labels]).square().sum(1)
    return (member.T @ squares / count).mean()


def variability_penalty(
    *, strength: float = 0.0, width: int = 128, depth: int = 4, samples: int = 700, epochs: int = 40, lr: float = 1e-3
) -> list[Row]:
    """Train an MLP on digits (Adam) with a penalty: strength / L times the sum over hidden layers of `within_batch`.

    Rows of a layer, block01.out and so on: the fraction of test samples whose label by the network differs from the
    nearest class centre of the training set (nc4_mismatch). Rows of the network: test accuracy and training error.
    """
    data = load("digits", n_train=samples)
    network = mlp([64, *[width] * depth, data.n_classes], batch_norm=False)
    seen: list[Tensor] = []
    hooks = [
        network.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        for name in hidden(network)
    ]

    def penalised(outputs: Tensor, labels: Tensor) -> Tensor:
        variability = torch.stack([within_batch(layer, labels, data.n_classes) for layer in seen]).mean()
        seen.clear()
        return functional.cross_entropy(outputs, labels) + strength * variability

    optimizer = optimiser("adam", network.parameters(), lr=lr, weight_decay=0.0)
    fit(network, data.train_x, data.train_y, optimizer, epochs=epochs, batch_size=100, loss=penalised)
    for hook in hooks:
        hook.remove()
    train, test = layer_outputs(network, data.train_x), layer_outputs(network, data.test_x)
    predicted = test["classifier"].argmax(1)
    rows = network_rows(error=(train["classifier"].argmax(1) != data.train_y).double().mean())
    rows += network_rows(split="test", accuracy=(predicted == data.test_y).double().mean())
    for index, name in enumerate(hidden(network), start=1):
        stats = class_stats(train[name], data.train_y, data.n_classes)
        mismatch = float(ncc_mismatch(test[name], predicted, stats))
        rows.append(Row(0, f"block{index:02d}.out", "test", "nc4_mismatch", mismatch))
    return rows


def layer_decay(
    *,
    feature_decay: float = 1e-3,
    last_decay: float = 1e-3,
    width: int = 256,
    depth: int = 3,
    samples: int = 1000,
    epochs: int = 80,
    lr: float = 0.05,
) -> list[Row]:
    """Train an MLP with different weight decays of the hidden layers and of the last layer.

    The MLP has batch norm and is trained on digits under squared error (SGD with momentum). The rows are NC1 (trace
    form) of the last hidden layer and the training error.
    """
    data = load("digits", n_train=samples)
    network = mlp([64, *[width] * depth, data.n_classes])
    last = list(network.get_submodule("classifier").parameters())
    features = [p for name in hidden(network) for p in network.get_submodule(name).parameters()]
    optimizer = torch.optim.SGD(
        [{"params": features, "weight_decay": feature_decay}, {"params": last, "weight_decay": last_decay}],
        lr=lr,
        momentum=0.9,
    )
    fit(network, data.train_x, data.train_y, optimizer, epochs=epochs, batch_size=100, loss=squared_error)
    train = layer_outputs(network, data.train_x)
    return network_rows(
        error=(train["classifier"].argmax(1) != data.train_y).double().mean(),
        nc1_trace=nc1_trace(class_stats(train[f"layer{depth}"], data.train_y, data.n_classes)),
    )

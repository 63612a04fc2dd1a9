"""Layer-wise measurements of a multi-layer perceptron, before and after training.

For Parker et al. (arXiv:2308.02760), He & Su (arXiv:2210.17020), Rangamani et al. (ICML 2023), Feng et al.
(arXiv:2206.06072) and Cohen, Sapiro & Giryes (arXiv:1805.06822). Features are the outputs of a layer's activation, in
eval mode, on the training samples in their fixed order.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ncharness.metrics.capture import capture
from ncharness.metrics.layers import LayerReport, measure_layers
from ncharness.metrics.rank import classification_dimension, numerical_rank, subspace_alignment
from ncharness.studies.fitting import fit, hidden, mlp, optimiser, squared_error
from ncharness.training.datasets import Dataset, load
from ncharness.training.rows import Row, network_rows

VERSION = 1
SECONDS = {"trained": 4.0}
METRICS = ("fuzziness", "nc1_trace", "equiangularity")
NEIGHBOURS = 10
POINTS = 10
"""Number of training samples at which Jacobians are taken."""
RTOL = torch.finfo(torch.float32).eps
"""Relative tolerance of the rank of a Jacobian: singular values below it, times the larger side, are rounding."""


def trained(
    *,
    data: str = "digits",
    samples: int = 1000,
    pixel_noise: float = 0.0,
    depth: int = 8,
    width: int = 100,
    batch_norm: bool = True,
    start: str = "default",
    linear: bool = False,
    loss: str = "cross_entropy",
    method: str = "sgd",
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    epochs: int = 60,
) -> list[Row]:
    """Train a network and measure every hidden layer and the inputs, at epoch 0 and at the end.

    The layers are `layer01.out` and so on, the inputs `layer00.in`. `pixel_noise` is the standard deviation of Gaussian
    noise on inputs; `start` is default, torch's, or he, with weights of variance 2 / fan-in and no biases; `loss` is
    cross_entropy or squared. Rows of a layer: `METRICS`, the NCC error, `alignment` of class means with the top right
    singular vectors of the next weights, `dimension` (principal directions that hold .95 of the variance),
    `jacobian_rank` (mean over POINTS training samples, of the layer by the inputs), `agreement` of the layer's nearest
    neighbours with the network on test samples; at the end also `classification_dimension`. Rows of the network:
    `error` on the training and the test samples, and `chance`, the alignment of random subspaces.
    """
    set_ = load(data, n_train=samples)
    x, test_x = (inputs + pixel_noise * torch.randn_like(inputs) for inputs in (set_.train_x, set_.test_x))
    network = mlp(
        [x[0].numel(), *[width] * depth, set_.n_classes],
        batch_norm=batch_norm,
        activation=None if linear else nn.ReLU,
    )
    if start == "he":
        he(network)
    elif start != "default":
        raise ValueError(f"start: expected default or he, got {start!r}")
    if loss not in ("cross_entropy", "squared"):
        raise ValueError(f"loss: expected cross_entropy or squared, got {loss!r}")
    before = measured(network, set_, x, test_x, epoch=0)
    fit(
        network,
        x,
        set_.train_y,
        optimiser(method, network.parameters(), lr=lr, weight_decay=weight_decay),
        epochs=epochs,
        loss=squared_error if loss == "squared" else functional.cross_entropy,
    )
    after = measured(network, set_, x, test_x, epoch=epochs)
    return [*before, *after, *network_rows(epochs, chance=chance(width, set_.n_classes))]


def he(network: nn.Module) -> None:
    """Apply He initialisation to every linear map: weights of variance 2 / fan-in, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)


def measured(network: nn.Sequential, set_: Dataset, x: Tensor, test_x: Tensor, *, epoch: int) -> list[Row]:
    """Return the rows of one epoch. x and test_x are the inputs of `set_` after the addition of noise."""
    names = hidden(network)
    report = measure_layers(
        network, [(x, set_.train_y)], layers=["flatten", *names], n_classes=set_.n_classes, metrics=METRICS
    )
    network.eval()
    with torch.no_grad(), capture(network, ["flatten", *names]) as train:
        network(x)
    with torch.no_grad(), capture(network, ["flatten", *names]) as test:
        predicted = network(test_x).argmax(1)
    ranks, aligned = jacobian_ranks(network, x[:POINTS]), alignments(network, report)
    rows = []
    for index, name in [*enumerate(names, start=1), (0, "flatten")]:
        values = {metric: of[name] for metric, of in report.metrics.items()} | {
            "ncc_error": report.ncc_error[name],
            "dimension": dimension(train[name]),
            "agreement": float((neighbours_vote(train[name], set_.train_y, test[name]) == predicted).double().mean()),
        }
        if index:
            values |= {"jacobian_rank": ranks[index - 1], "alignment": aligned[index - 1]}
        if epoch and index:
            values["classification_dimension"] = classified(network, names[index:], train[name], set_.train_y)
        layer = f"layer{index:02d}.{'out' if index else 'in'}"
        rows += [Row(epoch, layer, "train", metric, float(value)) for metric, value in values.items()]
    errors = {
        "train": float((report.predicted != set_.train_y).double().mean()),
        "test": float((predicted != set_.test_y).double().mean()),
    }
    return [*rows, *(row for split, error in errors.items() for row in network_rows(epoch, split, error=error))]


def alignments(network: nn.Sequential, report: LayerReport) -> list[float]:
    """Return the alignment of every hidden layer's class means with the weight of the next linear map."""
    maps = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    layers = hidden(network)
    return [
        float(subspace_alignment(weight.detach(), report.stats[name]))
        for name, weight in zip(layers, maps[1:], strict=True)
    ]


def chance(width: int, n_classes: int, *, draws: int = 20) -> float:
    """Return the mean alignment of Gaussian weights (width, width) with Gaussian class means (C, width)."""
    drawn = [subspace_alignment(torch.randn(width, width), torch.randn(n_classes, width)) for _ in range(draws)]
    return float(torch.stack(drawn).mean())


def dimension(features: Tensor, *, share: float = 0.95) -> int:
    """Return the least number of principal directions that hold this share of the variance of features (n, d)."""
    centred = features.double() - features.double().mean(dim=0)
    variance = torch.linalg.svdvals(centred).square()
    held = variance.cumsum(dim=0)
    return int((held < share * held[-1]).sum()) + 1


def jacobian_ranks(network: nn.Sequential, points: Tensor) -> list[float]:
    """Return for every hidden layer the mean numerical rank over points (n, ...) of its Jacobian by the inputs.

    In float64.
    """
    x, found = points.flatten(1).double(), []
    jacobians = torch.eye(x.shape[1], dtype=torch.float64).expand(len(x), -1, -1)
    for name in hidden(network):
        layer = copy.deepcopy(network.get_submodule(name)).double().eval()
        jacobians = torch.func.vmap(torch.func.jacrev(lambda one, of=layer: of(one[None])[0]))(x) @ jacobians
        ranks = [numerical_rank(one, rtol=RTOL * max(one.shape)) for one in jacobians.detach()]
        found.append(float(torch.stack(ranks).mean()))
        x = layer(x).detach()
    return found


def neighbours_vote(features: Tensor, labels: Tensor, queries: Tensor) -> Tensor:
    """Return the most frequent label (m,) among the features (n, d) nearest to a query (m, d), the lower in a tie."""
    nearest = torch.cdist(queries, features).topk(min(NEIGHBOURS, len(features)), largest=False).indices
    return functional.one_hot(labels)[nearest].sum(dim=1).argmax(dim=1)


def classified(network: nn.Sequential, later: Sequence[str], features: Tensor, labels: Tensor) -> float:
    """Return the `classification_dimension` of a layer that is followed by the layers `later` and the classifier.

    It is the number of all directions if, because of rounding, no smaller number reaches the accuracy.
    """
    rest = nn.Sequential(*(network.get_submodule(name) for name in (*later, "classifier"))).eval()
    with torch.no_grad():
        found = classification_dimension(features, labels, lambda given: rest(given).argmax(1))
    return float(min(features.shape) if found is None else found)

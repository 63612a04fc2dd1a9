"""Experiments on redundant neurons, on a penalty on variability and on the decay of layers, at small sizes."""

import pytest
import torch
from studying import carried_out
from torch import nn

from ncharness.studies import redundancy, regularisation
from ncharness.studies.fitting import layer_outputs, mlp


def test_the_outputs_of_layers_are_those_in_eval_mode() -> None:
    torch.manual_seed(0)
    network, x = mlp([6, 5, 4, 3]), torch.randn(8, 6)
    network(x)
    outputs = layer_outputs(network, x)
    assert list(outputs) == ["layer1", "layer2", "classifier"]
    network.eval()
    torch.testing.assert_close(outputs["layer1"], network.layer1(x))
    torch.testing.assert_close(outputs["classifier"], network(x))
    torch.testing.assert_close(outputs["classifier"], network.classifier(outputs["layer2"]))


def test_of_copies_any_few_do_what_all_do_and_of_others_not() -> None:
    torch.manual_seed(0)
    classifier = nn.Linear(16, 3)
    with torch.no_grad():
        classifier.weight.copy_(torch.randn(3, 1).expand(3, 16))
        classifier.bias.copy_(torch.tensor([6.0, 0.0, -6.0]))
    copies = torch.randn(50, 1).expand(50, 16)
    labels = classifier(copies).argmax(1)
    assert len(labels.unique()) > 1
    for count in (1, 4, 16):
        assert redundancy.chunk_accuracy(copies, labels, classifier, count=count) == 1.0
    features = torch.randn(50, 16)
    nn.init.normal_(classifier.weight)
    labels = classifier(features).argmax(1)
    assert redundancy.chunk_accuracy(features, labels, classifier, count=16) == 1.0
    assert redundancy.chunk_accuracy(features, labels, classifier, count=2) < 0.8


def test_chunks_are_told_of_early_and_at_the_end() -> None:
    found = carried_out("redundancy.chunks", width=32, samples=300, epochs=10, early=2, count=16)
    assert found.epochs == [2, 10]
    assert found.scalar("error") < found.scalar("error", epoch=2)
    accuracy, half, eighth = (found.scalar(name, split="test") for name in ("accuracy", "counted", "eighth"))
    assert accuracy > half > eighth > 0.1, "16 of 32 neurons, 4 of 32"
    more = carried_out("redundancy.chunks", width=32, samples=300, epochs=10, early=2, count=64)
    assert more.scalar("counted", split="test") == more.scalar("accuracy", split="test"), "there are only 32"


def test_variability_in_a_batch_is_the_mean_over_classes_of_the_mean_over_samples() -> None:
    torch.manual_seed(0)
    features, labels = torch.randn(7, 3), torch.tensor([0, 0, 0, 0, 2, 2, 3])
    expected = 0.0
    for label in (0, 2, 3):
        own = features[labels == label]
        expected += float((own - own.mean(0)).square().sum(1).mean())
    assert float(regularisation.within_batch(features, labels, 5)) == pytest.approx(expected / 5)
    assert float(regularisation.within_batch(torch.ones(4, 2), torch.arange(4) % 2, 2)) == 0.0


def test_a_penalty_lowers_the_mismatch_of_every_layer() -> None:
    small = {"samples": 500, "width": 64, "depth": 3, "epochs": 40, "lr": 4e-3}
    without, penalised = (carried_out("regularisation.variability_penalty", strength=s, **small) for s in (0.0, 0.1))
    before, after = (found.profile("nc4_mismatch", split="test") for found in (without, penalised))
    assert len(before) == len(after) == 3
    assert all(0 <= b < a <= 1 for a, b in zip(before, after, strict=True))
    assert without.scalar("accuracy", split="test") > 0.7


def test_each_decay_goes_to_its_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = []
    optimiser = torch.optim.SGD

    def noted(parameters: list[dict[str, object]], **more: float) -> torch.optim.Optimizer:
        groups.extend([([tuple(p.shape) for p in group["params"]], group["weight_decay"]) for group in parameters])
        return optimiser(parameters, **more)

    monkeypatch.setattr(torch.optim, "SGD", noted)
    found = carried_out(
        "regularisation.layer_decay", feature_decay=0.01, last_decay=0.02, width=8, depth=2, samples=100, epochs=2
    )
    features, last = groups
    assert features == ([(8, 64), (8,), (8,), (8,), (8, 8), (8,), (8,), (8,)], 0.01)
    assert last == ([(10, 8), (10,)], 0.02)
    assert found.scalar("nc1_trace") > 0


def test_decay_of_the_feature_layers_brings_collapse() -> None:
    small = {"width": 64, "depth": 2, "samples": 300, "epochs": 60}
    base, decayed = (
        carried_out("regularisation.layer_decay", feature_decay=decay, last_decay=1e-3, **small)
        for decay in (1e-3, 3e-2)
    )
    assert decayed.scalar("error") == 0
    assert decayed.scalar("nc1_trace") < 0.8 * base.scalar("nc1_trace")

"""Metrics by name over the layers of a network: each is what its function gives of the whole, at two sweeps."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ncharness as nc
from ncharness.kernels import ops
from ncharness.metrics import registry
from ncharness.metrics.registry import METRICS, MetricSpec, Needs
from ncharness.metrics.specs import by_name

NAMES = registry.names()

LAYERS = ["0", "2", "3"]


@pytest.fixture(autouse=True)
def _own_random_state():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 5), nn.Linear(5, 4)).double()


def samples(n=60, seed=0, n_classes=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), (n_classes * rng.random(n - n_classes) ** 2).astype(int)])
    inputs = rng.standard_normal((n_classes, 6))[labels] + 0.7 * rng.standard_normal((n, 6))
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def split(inputs, labels, *sizes):
    return list(zip(inputs.split(list(sizes)), labels.split(list(sizes)), strict=True))


def outputs_of(model, inputs):
    model.eval()
    with torch.no_grad(), nc.capture(model, ["*"]) as outputs:
        model(inputs)
    return outputs


def direct(model, inputs, labels, layer):
    """Every metric of a layer's training rows from the features at once, by the public functions."""
    outputs = outputs_of(model, inputs)
    x, logits = outputs[layer], outputs["4"]
    found = nc.measure(x, labels, 4, gram=True)
    stats, W, predicted = found.stats, model[4].weight, logits.argmax(dim=1)
    values = {
        "nc1": found.nc1,
        "nc1_top": nc.nc1(stats, found.gram, rank=3),
        "nc1_trace": nc.nc1_trace(stats),
        "fuzziness": nc.fuzziness(stats, found.gram),
        "cdnv_unbiased": nc.cdnv(stats, unbiased=True),
        "directional_cdnv": found.directional_cdnv,
        "class_separation": nc.class_separation(nc.class_stats(nc.unit_rows(x), labels, 4)),
        "between_rank": nc.between_rank(stats),
        "between_stable_rank": nc.stable_rank(stats.mean, centre=True),
        "etf_distance": nc.etf_distance(stats),
        "frame_distance": nc.frame_distance(stats),
        "equinorm": nc.equinorm(stats),
        "equiangularity": nc.equiangularity(stats),
        "equiangularity_std": nc.equiangularity(stats, over="std"),
        "discrimination": nc.discrimination(stats),
        "strong_collapse": nc.strong_collapse(x, labels, stats),
        "weak_collapse": nc.weak_collapse(x, stats),
        "ncc_mismatch": nc.ncc_mismatch(x, predicted, stats),
        "classifier_etf_distance": nc.etf_distance(W, centre="none"),
        "classifier_etf_distance_centred": nc.etf_distance(W),
        "classifier_equinorm": nc.equinorm(W, centre="none"),
        "classifier_equiangularity": nc.equiangularity(W, centre="none"),
        "classifier_stable_rank": nc.stable_rank(W),
        "margin": nc.margins(logits, labels).min(),
    }
    if layer == "3":  # which alone feeds the classifier
        values |= {
            "self_duality": nc.self_duality(W, stats),
            "self_duality_centred": nc.self_duality(W, stats, centre_weight=True),
            "product_duality": nc.product_duality(W, stats),
            "product_duality_centred": nc.product_duality(W, stats, centre_weight=True),
            "subspace_alignment": nc.subspace_alignment(W, stats),
        }
    return {name: float(value) for name, value in values.items()}


@pytest.mark.parametrize("sizes", [(60,), (25, 0, 30, 5), (1,) * 60], ids=["whole", "batches", "single rows"])
def test_every_name_is_what_its_function_gives_of_the_whole(sizes):
    model, (inputs, labels) = network(), samples()
    report = nc.measure_layers(model, split(inputs, labels, *sizes), layers=LAYERS, n_classes=4, metrics=NAMES)
    assert {*report.metrics, *report.network} == set(NAMES)
    assert list(report.metrics) == [name for name in NAMES if name in report.metrics]
    for layer in LAYERS:
        for name, expected in direct(model, inputs, labels, layer).items():
            value = report.network[name] if name in report.network else report.metrics[name][layer]
            assert value == pytest.approx(expected, rel=1e-8, abs=1e-12), (name, layer)
        found = nc.measure(outputs_of(model, inputs)[layer], labels, 4, gram=True)
        torch.testing.assert_close(report.gram[layer], found.gram, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(report.directional[layer], found.directional, rtol=1e-10, atol=1e-13)
    for name in registry.names(Needs.CLASSIFIER):  # of another width than the classifier takes
        assert math.isnan(report.metrics[name]["0"])
        assert math.isnan(report.metrics[name]["2"])


def test_held_out_rows_are_measured_about_the_training_means():
    model, (inputs, labels), (others, truth) = network(), samples(), samples(40, seed=1)
    names = ["weak_collapse", "nc1", "strong_collapse", "ncc_mismatch"]
    report = nc.measure_layers(
        model,
        split(inputs, labels, 30, 30),
        layers=LAYERS,
        n_classes=4,
        held_out=split(others, truth, 33, 7),
        metrics=names,
    )
    assert list(report.held_out_metrics) == ["weak_collapse", "strong_collapse", "ncc_mismatch"]
    seen = outputs_of(model, others)
    for layer in LAYERS:
        stats = report.stats[layer]
        expected = {
            "strong_collapse": nc.strong_collapse(seen[layer], truth, stats),
            "weak_collapse": nc.weak_collapse(seen[layer], stats),
            "ncc_mismatch": nc.ncc_mismatch(seen[layer], seen["4"].argmax(dim=1), stats),
        }
        for name, value in expected.items():
            assert report.held_out_metrics[name][layer] == pytest.approx(float(value), rel=1e-9)
            assert report.held_out_metrics[name][layer] != pytest.approx(report.metrics[name][layer], rel=1e-6)


def test_functions_of_ones_own_are_means_over_all_rows_with_the_statistics_of_all():
    calls = []

    def length(features, labels, stats):
        calls.append((len(features), int(stats.count.sum())))
        assert features.shape[1] == stats.n_features
        assert labels.shape == (len(features),)
        return features.norm(dim=1)

    def first_class(features, labels, stats):  # noqa: ARG001 (the arguments are given)
        return (labels == 0).double().mean()  # of the batch

    def constant(features, labels, stats):  # noqa: ARG001
        return 2.5

    model, (inputs, labels), (others, truth) = network(), samples(), samples(40, seed=1)
    report = nc.measure_layers(
        model,
        split(inputs, labels, 50, 0, 10),
        layers=["0"],
        n_classes=4,
        held_out=[(others, truth)],
        metrics=[length, "nc1", first_class, constant],
    )
    assert calls == [(50, 60), (10, 60), (40, 60)]
    assert list(report.metrics) == ["nc1", "length", "first_class", "constant"]
    expected = outputs_of(model, inputs)["0"].norm(dim=1).mean()
    assert report.metrics["length"]["0"] == pytest.approx(float(expected), rel=1e-12)
    assert report.metrics["first_class"]["0"] == pytest.approx(float((labels == 0).double().mean()), rel=1e-12)
    assert report.held_out_metrics["first_class"]["0"] == pytest.approx(float((truth == 0).double().mean()), rel=1e-12)
    assert report.metrics["constant"] == {"0": 2.5}


@pytest.mark.parametrize("metrics", [(), NAMES], ids=["none", "all"])
def test_metrics_cost_no_sweep_and_change_nothing_else(metrics):
    model, (inputs, labels) = network(), samples()
    forwards = []
    model.register_forward_hook(lambda *_: forwards.append(1))
    batches = split(inputs, labels, 30, 30)
    report = nc.measure_layers(model, batches, layers=LAYERS, n_classes=4, held_out=batches, metrics=metrics)
    assert len(forwards) == 2 * 2 + 2
    plain = nc.measure_layers(model, batches, layers=LAYERS, n_classes=4)
    assert report.ncc_error == plain.ncc_error
    assert report.cdnv == plain.cdnv
    assert (plain.metrics, plain.network, plain.gram, plain.directional) == ({}, {}, {}, {})
    assert plain.held_out_metrics is None


def test_the_gram_is_gathered_only_where_a_metric_needs_it(monkeypatch):
    asked = []
    scorer = ops.scorer
    monkeypatch.setattr(ops, "scorer", lambda means, gram=False: asked.append(gram) or scorer(means, gram))
    model, batches = network(), [samples()]
    for metrics, expected in ((["etf_distance", "class_separation"], False), (["nc1"], True)):
        asked.clear()
        nc.measure_layers(model, batches, layers=["0"], n_classes=4, held_out=batches, metrics=metrics)
        assert asked == [expected, False]  # never of held-out rows


def test_the_reference_gives_the_same_where_there_are_no_kernels(monkeypatch):
    model, batches = network(), split(*samples(), 25, 35)
    native = nc.measure_layers(model, batches, layers=LAYERS, n_classes=4, metrics=NAMES)
    monkeypatch.setattr(ops, "_kernels", lambda _: ops.reference)
    plain = nc.measure_layers(model, batches, layers=LAYERS, n_classes=4, metrics=NAMES)
    for name in plain.metrics:
        assert plain.metrics[name] == pytest.approx(native.metrics[name], rel=1e-8, nan_ok=True)


def test_the_classifier_is_the_last_linear_of_the_classes_or_the_one_named():
    model, batches = network(), [samples()]
    model.append(nn.Linear(4, 4).double())
    names = ["classifier_stable_rank", "self_duality"]
    last = nc.measure_layers(model, batches, layers=["3", "4"], n_classes=4, metrics=names)
    assert last.network["classifier_stable_rank"] == pytest.approx(float(nc.stable_rank(model[5].weight)))
    assert math.isnan(last.metrics["self_duality"]["3"])
    other = nc.measure_layers(model, batches, layers=["3", "4"], n_classes=4, metrics=names, classifier="4")
    assert other.network["classifier_stable_rank"] == pytest.approx(float(nc.stable_rank(model[4].weight)))
    assert math.isnan(other.metrics["self_duality"]["4"])
    with pytest.raises(ValueError, match=r"^classifier: .* 4 outputs, got '2'; there are 0 \(8\), 3 \(5\), 4 \(4\)"):
        nc.measure_layers(model, batches, layers=["3"], n_classes=4, classifier="2")
    with pytest.raises(ValueError, match=r"^classifier: .* 4 outputs, got '0'"):
        nc.measure_layers(model, batches, layers=["3"], n_classes=4, classifier="0")
    with pytest.raises(ValueError, match=r"^classifier: .* an nn.Linear with 7 outputs, found none"):
        nc.measure_layers(model, batches, layers=["3"], n_classes=7, metrics=["self_duality"])


def test_a_class_without_rows_and_a_row_of_zeros_are_left_out_or_nan():
    model, (inputs, labels) = nn.Sequential(nn.Identity(), nn.Linear(6, 4)).double(), samples()
    inputs[7] = 0
    missing = labels.where(labels != 3, torch.tensor(1))
    report = nc.measure_layers(model, [(inputs, missing)], layers=["0"], n_classes=4, metrics=NAMES)
    assert math.isnan(report.metrics["class_separation"].pop("0"))
    report.metrics.pop("class_separation")
    assert {name for name, values in report.metrics.items() if not math.isfinite(values["0"])} == set()
    assert report.metrics["between_rank"] == {"0": 2}


def function(returned):
    def own(features, labels, stats):  # noqa: ARG001
        return returned

    return own


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (["nc1", "etf_distanc"], ValueError, "^metrics: .* got 'etf_distanc'; did you mean etf_distance"),
        (["zzzz"], ValueError, "^metrics: .* got 'zzzz'; there are nc1_trace, "),
        (["cdnv"], ValueError, "^metrics: cdnv is measured of every layer anyway"),
        (["nc1", "nc1"], ValueError, "^metrics: nc1 is named twice"),
        ("nc1", TypeError, "^metrics: expected a sequence of names and functions, got the string 'nc1'"),
        ([3], TypeError, "^metrics: expected names and functions, got a int"),
        ([nc.nc1_trace], ValueError, "^metrics: nc1_trace is a metric of ncharness; ask for it by its name"),
        ([function(1), function(2)], ValueError, "^metrics: two functions are called own"),
        ([function(torch.zeros(3))], ValueError, r"^metrics: expected own to return .* \(60,\).* got shape \(3,\)"),
        ([function(torch.zeros(60, 1))], ValueError, r"^metrics: expected own .* got shape \(60, 1\)"),
    ],
)
def test_bad_metrics_are_refused_by_name(metrics, error, message):
    with pytest.raises(error, match=message):
        nc.measure_layers(network(), [samples()], layers=["0"], n_classes=4, metrics=metrics)


def test_the_table_of_the_documentation_is_that_of_the_specs():
    page = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text()
    assert registry.markdown_table() in page
    assert registry.markdown_aliases() in page


def test_specs_say_where_a_metric_is_measured():
    model, batches = network(), [samples()]
    report = nc.measure_layers(model, batches, layers=LAYERS, n_classes=4, held_out=batches, metrics=NAMES)
    assert set(report.network) == {name for name in NAMES if METRICS[name].needs.scope == "network"}
    assert set(report.metrics) == {name for name in NAMES if METRICS[name].needs.scope == "layer"}
    assert set(report.held_out_metrics) == {name for name in NAMES if METRICS[name].needs.held_out}


def test_every_metric_has_an_oracle_here_and_every_need_a_metric():
    model, (inputs, labels) = network(), samples()
    assert set(direct(model, inputs, labels, "3")) == set(NAMES)
    assert {spec.needs for spec in METRICS.values()} == set(Needs)
    assert all(name == spec.name and spec.convention for name, spec in METRICS.items())


@pytest.mark.parametrize(("needs", "function"), [(Needs.STATS, None), (Needs.OUTPUTS, nc.nc1_trace)])
def test_a_spec_has_a_function_unless_the_sweep_computes_it(needs, function):
    with pytest.raises(ValueError, match=r"^function: expected .* for some, got "):
        MetricSpec(name="some", needs=needs, function=function, convention="some")


def test_two_specs_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"^specs: expected a name for each, got 'nc1' twice"):
        by_name([METRICS["nc1"], METRICS["margin"], METRICS["nc1"]])


def test_no_word_of_the_metrics_is_lost_in_the_tables():
    """Every name, convention, keyword, source and name elsewhere of the specs is in a table."""
    table, aliases = registry.markdown_table(), registry.markdown_aliases()
    for spec in METRICS.values():
        for words in (f"`{spec.name}`", spec.convention, spec.otherwise, spec.source, spec.needs.scope):
            assert words.replace("|", "\\|") in table, spec.name
        assert spec.elsewhere in aliases

"""Layer-wise measurements: every measure against a closed form or a loop, and the judgements of the claims."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ncharness import Row, Run, Study, Verdict, capture, fuzziness, measure, measure_layers, nc1_trace, study_grid
from ncharness.studies import fitting
from ncharness.studies import layers as subject
from ncharness.studies.study import carry_out
from ncharness.training.rows import network_rows
from ncharness.verdicts.verdict import INCONCLUSIVE, NOT_APPLICABLE, REFUTED, SUPPORTED

FOLDER = Path(__file__).parents[2] / "claims" / "intermediate_layers"
TINY = {"samples": 200, "depth": 2, "width": 12, "epochs": 5}
SEEDS = range(1000, 1005)


def tiny(**settings):
    study = Study(experiment="layers.trained", settings={**TINY, **settings})
    return Run(study, carry_out(study))


def toy(n=60, d=6, n_classes=3, seed=0):
    """Draw inputs (n, d) in well separated classes, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(n_classes, (n,), generator=generator)
    return 4 * torch.eye(n_classes, d)[labels] + torch.randn(n, d, generator=generator), labels


@pytest.fixture(scope="module")
def run():
    return tiny()


def test_every_layer_is_measured_before_and_after(run):
    assert run.epochs == [0, 5]
    for metric in ("ncc_error", "alignment", "dimension", "jacobian_rank", "agreement", *subject.METRICS):
        for epoch in run.epochs:
            assert len(run.profile(metric, epoch=epoch, point="out")) == 2
            if metric not in ("alignment", "jacobian_rank"):  # the inputs have none
                assert len(run.profile(metric, epoch=epoch, point="in")) == 1
    assert len(run.profile("classification_dimension", point="out")) == 2
    assert run.points == ["out", "in"]
    assert run.scalar("error") < run.scalar("error", epoch=0)
    assert 0 < run.scalar("error", split="test") < 1
    assert run.profile("dimension", point="out") != run.profile("dimension", point="out", epoch=0)


def test_studies_of_one_seed_begin_alike_and_differ_as_asked(run):
    before = [row for row in run.rows if row.epoch == 0]
    assert [row for row in tiny(loss="squared").rows if row.epoch == 0] == before
    assert [row for row in tiny(start="he").rows if row.epoch == 0] != before
    kinds = ({"loss": "squared"}, {"method": "adam"}, {"lr": 0.01}, {"weight_decay": 0.1}, {"linear": True})
    after = [tiny(**kind).profile("nc1_trace", point="out") for kind in kinds]
    assert len({tuple(values) for values in [run.profile("nc1_trace", point="out"), *after]}) == 6
    for other in ({"pixel_noise": 1.0}, {"data": "shuffled:digits"}):
        assert tiny(**other).profile("nc1_trace", point="in")[0] > 1.5 * run.profile("nc1_trace", point="in")[0]


def test_a_linear_network_loses_no_rank_to_its_activations():
    linear, bent = (
        tiny(linear=one, batch_norm=False).profile("jacobian_rank", epoch=0, point="out") for one in (True, False)
    )
    assert linear == [12, 12]
    assert max(bent) < 12


def test_the_loss_is_the_one_that_is_named(monkeypatch):
    def refuse(*_):
        raise ArithmeticError

    monkeypatch.setattr(subject, "squared_error", refuse)
    tiny()
    with pytest.raises(ArithmeticError):
        tiny(loss="squared")


def test_what_there_is_not_is_refused():
    with pytest.raises(ValueError, match="start: expected default or he, got 'orthogonal'"):
        tiny(start="orthogonal")
    with pytest.raises(ValueError, match="loss: expected cross_entropy or squared, got 'hinge'"):
        tiny(loss="hinge")


def test_he_initialisation():
    torch.manual_seed(0)
    network = fitting.mlp([200, 300, 5])
    subject.he(network)
    assert float(network.layer1[0].weight.detach().var() * 200) == pytest.approx(2, rel=0.05)
    assert not network.layer1[0].bias.any()
    assert not network.classifier.bias.any()


def test_rows_are_those_of_each_layers_own_features_and_labels():
    torch.manual_seed(0)
    x, y = toy()
    test_x, test_y = toy(n=4, seed=1)
    network = fitting.mlp([6, 8, 7, 3]).eval()
    given = subject.Dataset("toy", x, y, y, torch.zeros(60, dtype=torch.bool), test_x, test_y, 3)
    run = Run(Study(experiment="layers.trained"), tuple(subject.measured(network, given, x, test_x, epoch=1)))
    with torch.no_grad(), capture(network, ["flatten", "layer1", "layer2"]) as train:
        network(x)
    with torch.no_grad(), capture(network, ["flatten", "layer1", "layer2"]) as test:
        predicted = network(test_x).argmax(1)
    for point, index, name in (("in", 0, "flatten"), ("out", 0, "layer1"), ("out", 1, "layer2")):
        found = measure(train[name], y, 3, gram=True)
        value = {m: run.profile(m, point=point)[index] for m in (*subject.METRICS, "ncc_error", "agreement")}
        assert value["fuzziness"] == pytest.approx(float(fuzziness(found.stats, found.gram)), rel=1e-5)
        assert value["nc1_trace"] == pytest.approx(float(nc1_trace(found.stats)), rel=1e-6)
        assert value["ncc_error"] == pytest.approx(1 - float(found.ncc_accuracy))
        votes = []
        for query in test[name]:
            order = (train[name] - query).square().sum(1).argsort()
            votes.append(int(torch.bincount(y[order[: subject.NEIGHBOURS]], minlength=3).argmax()))
        assert value["agreement"] == pytest.approx(float(np.mean(np.array(votes) == predicted.numpy())))
        assert run.profile("dimension", point=point)[index] == subject.dimension(train[name])
    ranks = subject.jacobian_ranks(network, x[: subject.POINTS])
    assert run.profile("jacobian_rank", point="out") == ranks
    assert ranks != subject.jacobian_ranks(network, x[:1])
    assert subject.dimension(train["flatten"]) != subject.dimension(test["flatten"])
    assert run.scalar() == pytest.approx(float((network(x).argmax(1) != y).double().mean()))
    assert run.scalar(split="test") == pytest.approx(float((predicted != test_y).double().mean()))


def test_the_dimension_is_that_of_most_of_the_variance():
    torch.manual_seed(0)
    left = torch.randn(50, 4, dtype=torch.float64)
    left = torch.linalg.qr(left - left.mean(0))[0]
    for variances, expected in (((94, 2, 2, 2), 2), ((96, 2, 1, 1), 1), ((25, 25, 25, 25), 4), ((50, 44, 3, 3), 3)):
        features = left @ torch.diag(torch.tensor(variances, dtype=torch.float64).sqrt()) + 100.0
        assert subject.dimension(features) == expected


def test_jacobians_have_the_rank_of_what_came_before():
    torch.manual_seed(0)
    linear = fitting.mlp([6, 4, 2, 5, 3], batch_norm=False, activation=None)
    assert subject.jacobian_ranks(linear, torch.randn(3, 6)) == [4, 2, 2]
    dead = fitting.mlp([6, 6, 6, 3], batch_norm=False)
    with torch.no_grad():
        for layer in (dead.layer1, dead.layer2):
            layer[0].bias.fill_(100.0)
        dead.layer1[0].bias[:2] = -100.0
    assert subject.jacobian_ranks(dead, torch.randn(3, 6)) == [4, 4]
    with torch.no_grad():
        linear.layer1[0].weight[0] *= 1e-9  # under float32 rounding, though not under float64's
    assert subject.jacobian_ranks(linear, torch.randn(3, 6)) == [3, 2, 2]


def test_class_means_are_aligned_with_the_weights_that_come_next():
    torch.manual_seed(0)
    x, y = toy()
    network = fitting.mlp([6, 12, 12, 3], batch_norm=False)

    def found():
        report = measure_layers(network, [(x, y)], layers=fitting.hidden(network), n_classes=3)
        return report, subject.alignments(network, report)

    report, before = found()
    assert max(before) < 0.9
    with torch.no_grad():
        network.classifier.weight.copy_(report.stats["layer2"].mean)
    _, after = found()
    assert after[0] == before[0]
    assert after[1] == pytest.approx(1.0)
    with torch.no_grad():
        network.layer2[0].weight.zero_()
        network.layer2[0].weight[:3] = report.stats["layer1"].mean.float()
    assert found()[1][0] == pytest.approx(1.0, abs=1e-5)


def test_chance_is_that_of_random_subspaces():
    torch.manual_seed(0)
    assert subject.chance(4, 4) == pytest.approx(1.0)
    assert 0.7 * math.sqrt(10 / 100) < subject.chance(100, 10) < math.sqrt(10 / 100)
    assert subject.chance(100, 5) < subject.chance(100, 10)


def test_the_classification_dimension_counts_the_directions_that_later_layers_use():
    torch.manual_seed(0)
    labels = torch.arange(80) % 4
    features = 0.05 * torch.randn(80, 8)
    features[:, 0] += 6 * (labels % 2 * 2 - 1)  # the first principal direction, then one of noise, then the second bit
    features[:, 1] += 4 * torch.randn(80)
    features[:, 2] += labels // 2 * 2 - 1
    network = nn.Sequential()
    network.add_module("layer1", nn.Identity())
    network.add_module("layer2", nn.Identity())
    weight = torch.zeros(4, 8)
    weight[:, 0], weight[:, 2] = torch.tensor([-1.0, 1, -1, 1]), torch.tensor([-1.0, -1, 1, 1])
    network.add_module("classifier", nn.Linear(8, 4, bias=False))
    with torch.no_grad():
        network.classifier.weight.copy_(weight)
    assert subject.classified(network, ["layer2"], features, labels) == 3


def test_neighbours_vote_for_the_most_frequent_label():
    features = torch.arange(24.0)[:, None]
    labels = torch.tensor([2] * 12 + [0] * 12)
    votes = subject.neighbours_vote(features, labels, torch.tensor([[0.0], [9.0], [23.0], [11.5]]))
    assert votes.tolist() == [2, 2, 0, 0], "in a tie, the lower"


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"test_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(name, *networks, error=0.0, arguments=(), **settings):
    """Return the verdict on five seeds of each network.

    Networks are given as the values of layers 0..L before training and after it, by metric. A metric given as a pair of
    lists is (before, after), as one list it is the same at both. From seed to seed values differ by a thousandth of
    themselves.
    """
    found = []
    for network in networks:
        for seed in SEEDS:
            rows = network_rows(9, error=error)
            for metric, values in network.items():
                if metric == "chance":
                    rows += network_rows(9, chance=values)
                    continue
                before, after = values if isinstance(values, tuple) else (values, values)
                for epoch, of in ((0, before), (9, after)):
                    rows += [
                        Row(epoch, f"layer{i:02d}.{'out' if i else 'in'}", "train", metric, v * (1 + 1e-3 * (seed % 5)))
                        for i, v in [*enumerate(of[1:], start=1), (0, of[0])]
                    ]
            study = Study(experiment="layers.trained", settings=settings, seed=seed)
            found.append(Run(study, tuple(rows)))
    result = load(name).judge(found, *arguments)
    assert isinstance(result, Verdict)
    return result


UP, DOWN, FLAT = [0.1, 0.2, 0.4, 0.8, 1.6], [1.6, 0.8, 0.4, 0.2, 0.1], [0.2, 0.4, 0.1, 0.4, 0.2]


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("collapse_by_layer", "fuzziness"),
        ("angles_by_layer", "equiangularity"),
        ("covariance_ratio", "nc1_trace"),
        ("separation_law", "fuzziness"),
    ],
)
def test_what_falls_along_the_layers_after_training(name, metric):
    assert judged(name, {metric: (UP, DOWN)}) == SUPPORTED
    assert judged(name, {metric: (UP, DOWN)}).effect == pytest.approx(1.0)
    assert judged(name, {metric: (DOWN, UP)}) == REFUTED
    assert judged(name, {metric: (DOWN, FLAT)}) != SUPPORTED
    assert judged(name, {metric: (UP, DOWN)}, error=0.2) == NOT_APPLICABLE


def test_trends_over_layers_leave_the_inputs_out_but_the_law_does_not():
    first_low = [0.01, *DOWN[1:]]
    assert judged("collapse_by_layer", {"fuzziness": first_low}) == SUPPORTED
    assert judged("angles_by_layer", {"equiangularity": first_low}) == SUPPORTED
    assert judged("covariance_ratio", {"nc1_trace": first_low}) == SUPPORTED
    assert judged("separation_law", {"fuzziness": first_low}) == REFUTED


def test_the_law_is_of_logarithms():
    assert judged("separation_law", {"fuzziness": [10.0, 8.0, 6.0, 4.0, 0.001]}) == REFUTED, "that is linear but once"
    assert judged("separation_law", {"fuzziness": [10.0 * 0.03**k for k in range(5)]}) == SUPPORTED


def test_the_first_half_of_the_layers_on_either_scale():
    even = {"fuzziness": DOWN}
    assert judged("shallow_linear_scale", even).effect == pytest.approx((1.6 - 0.4) / (1.6 - 0.1))
    assert judged("shallow_linear_scale", even) == SUPPORTED
    assert judged("shallow_linear_scale", even, arguments=(False,)) == REFUTED
    assert judged("shallow_log_scale", even).effect == pytest.approx(0.5)
    assert judged("shallow_log_scale", even) == REFUTED
    assert judged("shallow_log_scale", {"fuzziness": [1.6, 0.4, 0.12, 0.11, 0.1]}) == SUPPORTED
    for name in ("shallow_linear_scale", "shallow_log_scale"):
        assert judged(name, even, error=0.2) == NOT_APPLICABLE


def test_the_law_emerges_if_it_was_not_there():
    assert judged("law_emerges", {"fuzziness": (UP, DOWN)}) == SUPPORTED
    assert judged("law_emerges", {"fuzziness": (UP, DOWN)}, arguments=(True,)) == REFUTED
    assert judged("law_emerges", {"fuzziness": (DOWN, DOWN)}) == REFUTED
    assert judged("law_emerges", {"fuzziness": (UP, UP)}) == REFUTED
    assert judged("law_emerges", {"fuzziness": (UP, DOWN)}, error=0.2) == NOT_APPLICABLE


def test_the_law_needs_normalisation_if_it_fails_without():
    up, down = {"fuzziness": UP}, {"fuzziness": DOWN}
    assert judged("law_needs_normalisation", up, down) == SUPPORTED
    assert judged("law_needs_normalisation", up, down).effect == pytest.approx(2.0)
    assert judged("law_needs_normalisation", down, down) == REFUTED
    assert judged("law_needs_normalisation", up, up) == REFUTED
    assert judged("law_needs_normalisation", up, down, error=0.2) == NOT_APPLICABLE


def test_simple_data_are_separable_layers_earlier():
    easy, hard = {"ncc_error": [0.9, 0.5, 0.0, 0.0, 0.0]}, {"ncc_error": [0.9, 0.5, 0.4, 0.3, 0.0]}
    never = {"ncc_error": [0.9, 0.5, 0.4, 0.3, 0.2]}
    assert judged("easy_data", easy, hard) == SUPPORTED
    assert judged("easy_data", easy, hard).effect == pytest.approx((3 + 0.29 / 0.3) - (1 + 0.49 / 0.5), abs=1e-3)
    assert judged("easy_data", easy, never).effect == pytest.approx(4 - (1 + 0.49 / 0.5), abs=1e-3)
    assert judged("easy_data", hard, easy) == REFUTED
    assert judged("easy_data", easy, easy) == REFUTED
    assert judged("easy_data", easy, hard, error=0.2) == NOT_APPLICABLE


def test_alignment_is_above_chance_and_above_the_start_in_the_deeper_half():
    before = [0.5, 0.2, 0.2, 0.2, 0.2]
    aligned = {"alignment": (before, [0.5, 0.2, 0.2, 0.7, 0.5]), "chance": 0.25}
    assert judged("subspace_alignment", aligned) == SUPPORTED
    assert judged("subspace_alignment", aligned).effect == pytest.approx(0.25, abs=2e-3)
    assert judged("subspace_alignment", aligned, arguments=(0,)) == REFUTED
    assert judged("subspace_alignment", {**aligned, "chance": 0.45}) == REFUTED
    started = {**aligned, "alignment": ([0.5, 0.2, 0.2, 0.2, 0.49], aligned["alignment"][1])}
    assert judged("subspace_alignment", started) == REFUTED
    shallow = {**aligned, "alignment": (before, [0.5, 0.7, 0.7, 0.25, 0.7])}
    assert judged("subspace_alignment", shallow) == REFUTED
    assert judged("subspace_alignment", aligned, error=0.2) == NOT_APPLICABLE


def test_ranks_fall_and_do_not_rise():
    ranks = {"jacobian_rank": [math.nan, 50.0, 45.0, 45.5, 30.0]}
    assert judged("jacobian_rank", ranks) == SUPPORTED
    assert judged("jacobian_rank", ranks, arguments=(slice(None, None, -1),)) == REFUTED
    assert judged("jacobian_rank", {"jacobian_rank": [math.nan, 50.0, 40.0, 44.0, 30.0]}).reason.startswith("no rise: ")
    assert judged("jacobian_rank", {"jacobian_rank": [math.nan, 50.0, 49.5, 49.0, 48.5]}).reason.startswith("fall: ")
    assert judged("jacobian_rank", {"jacobian_rank": [math.nan, 50.0, 49.5, 49.0, 48.5]}) == REFUTED
    assert judged("jacobian_rank", ranks, error=0.2) == NOT_APPLICABLE


def test_the_dimension_falls_from_where_the_setting_begins():
    rising_first = {"dimension": [20.0, 50.0, 52.0, 30.0, 10.0]}
    assert judged("feature_dimension", rising_first, arguments=("from layer 1",)) == SUPPORTED
    assert judged("feature_dimension", rising_first, arguments=("from the inputs",)) == REFUTED
    assert judged("feature_dimension", rising_first, arguments=("from layer 1", slice(None, None, -1))) == REFUTED
    flat = {"dimension": [20.0, 50.0, 50.0, 50.0, 49.0]}
    assert judged("feature_dimension", flat, arguments=("from layer 1",)).reason.startswith("fall: ")
    assert judged("feature_dimension", flat, arguments=("from layer 1",), error=0.2) == NOT_APPLICABLE


def test_few_directions_are_a_small_share_of_the_width():
    few, many = (
        {"classification_dimension": [9.0, 30.0, 9.0, 9.0]},
        {"classification_dimension": [9.0, 30.0, 9.0, 70.0]},
    )
    assert judged("classification_dimension", few, width=100) == SUPPORTED
    assert judged("classification_dimension", few, width=100).effect == pytest.approx(0.7, abs=1e-3)
    assert judged("classification_dimension", few, width=40) == REFUTED
    assert judged("classification_dimension", many, width=100) == REFUTED
    assert judged("classification_dimension", few, width=100, error=0.2) == NOT_APPLICABLE


def test_memorisation_is_late_if_only_random_labels_wait():
    true, late = {"agreement": [0.9, 0.95, 0.97, 0.99]}, {"agreement": [0.1, 0.2, 0.3, 0.9]}
    assert judged("memorisation_is_late", true, late) == SUPPORTED
    assert judged("memorisation_is_late", true, late).effect == pytest.approx(0.7, abs=2e-3)
    assert judged("memorisation_is_late", true, {"agreement": [0.1, 0.2, 0.3, 0.3]}) == REFUTED
    assert judged("memorisation_is_late", true, {"agreement": [0.1, 0.9, 0.9, 0.9]}) == REFUTED
    assert judged("memorisation_is_late", late, true) == REFUTED
    assert judged("memorisation_is_late", true, late, error=0.2) == NOT_APPLICABLE


def test_a_spread_over_seeds_leaves_it_open():
    mixed = [
        Run(
            Study(experiment="layers.trained", seed=seed),
            (
                *network_rows(9, error=0.0),
                *(Row(9, f"layer{i:02d}.out", "train", "fuzziness", v) for i, v in enumerate(values, start=1)),
            ),
        )
        for seed, values in zip(SEEDS, (UP, DOWN, DOWN, UP, FLAT), strict=True)
    ]
    assert load("collapse_by_layer").judge(mixed) == INCONCLUSIVE


def test_the_claims_share_their_networks():
    """Check that claims share studies: without sharing, more than half of the folder's would be trained again."""
    modules = [load(file.stem.removeprefix("test_")) for file in sorted(FOLDER.glob("test_*.py"))]
    settings = [setting for module in modules for setting in module.SETTINGS["small"]]
    asked = [study for setting in settings for study in (*setting.runs, *setting.control_runs)]
    assert len(modules) == 17
    assert sum(study.seconds for study in set(asked)) < 900
    assert {study.seed for study in asked} == set(SEEDS)
    assert study_grid("layers.trained", seed=SEEDS)[0] in asked
    assert 2 * len(set(asked)) < len(asked)

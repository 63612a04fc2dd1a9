"""Studies and claims on transfer: measurements on unseen classes, a bound in closed form, and verdicts."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats as scipy_stats
from test_claim_files import load as claim_file
from torch.nn import functional

from ncharness import Run, Study, cdnv, class_stats
from ncharness.studies import transfer as subject
from ncharness.studies.study import carry_out
from ncharness.training.datasets import load
from ncharness.training.rows import network_rows
from ncharness.verdicts.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED


def study(name="family", seed=0, **settings):
    return Study(experiment=f"transfer.{name}", settings=settings, seed=seed)


def value(rows, metric, split="train", epoch=None):
    (found,) = [r.value for r in rows if (r.split, r.metric) == (split, metric) and epoch in (None, r.epoch)]
    return found


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, as the worker processes do: small networks are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def untrained(monkeypatch):
    """Record the arguments of the training of an experiment, without training."""
    seen = SimpleNamespace()

    def fit(network, x, y, _, **settings):
        seen.__dict__.update(network=network, x=x, y=y, **settings)
        settings.get("after", lambda _: None)(settings["epochs"])

    monkeypatch.setattr(subject, "fit", fit)
    return seen


def test_samples_of_a_class_lie_about_a_centre_of_their_own():
    torch.manual_seed(0)
    world, centres = subject.Family(), 3 * torch.randn(4, 8)
    means = []
    for _ in range(2):
        x, y = world.draw(centres, 500)
        assert x.shape == (2000, 64)
        assert torch.bincount(y).tolist() == [500] * 4
        means.append(class_stats(x, y, 4).mean)
    assert (means[0] - means[1]).norm(dim=1).max() < 0.3 * torch.pdist(means[0]).min()


def test_few_shot_accuracy_is_that_of_loops_over_episodes():
    torch.manual_seed(0)
    x, shots = torch.randn(6, 9, 3), torch.rand(6, 9).argsort(1)[:, :2]
    episodes = torch.tensor([[0, 2, 5], [4, 3, 1]])
    right = []
    for ways in episodes.tolist():
        centres = [x[c][shots[c]].mean(0) for c in ways]
        for place, c in enumerate(ways):
            for i in set(range(9)) - set(shots[c].tolist()):
                distances = [float((x[c, i] - centre).norm()) for centre in centres]
                right.append(distances.index(min(distances)) == place)
    assert subject.few_shot_accuracy(x, episodes, shots) == pytest.approx(sum(right) / len(right))


def test_a_family_is_measured_on_the_samples_others_of_their_classes_and_unseen_classes(untrained, monkeypatch):
    measured = []

    def seen(stats):
        measured.append(stats)
        return cdnv(stats)

    monkeypatch.setattr(subject, "cdnv", seen)
    rows = carry_out(study(classes=4, samples=30))
    assert [stats.count.tolist() for stats in measured[:3]] == [[30] * 4, [30] * 4, [100] * 60]
    features = untrained.network[:-1](untrained.x)
    assert value(rows, "cdnv", epoch=0) == pytest.approx(float(cdnv(class_stats(features, untrained.y, 4))))
    assert value(rows, "cdnv", "test", 0) == pytest.approx(float(cdnv(measured[1])))
    assert value(rows, "cdnv", "test", 0) != value(rows, "cdnv", epoch=0)
    assert value(rows, "target_cdnv", "test", 0) == pytest.approx(float(cdnv(measured[2])))
    wrong = (untrained.network(untrained.x).argmax(1) != untrained.y).double().mean()
    assert value(rows, "error", epoch=0) == pytest.approx(float(wrong))
    assert 0.2 < value(rows, "target_accuracy", "test", 0) < 0.6
    assert untrained.epochs == 750
    assert [row.value for row in rows if row.epoch == 0] == [row.value for row in rows if row.epoch == 1]


def test_shuffled_labels_are_those_of_a_permutation(untrained):
    carry_out(study(classes=4, samples=30, shuffled=True))
    shuffled, x = untrained.y, untrained.x
    carry_out(study(classes=4, samples=30))
    assert torch.equal(untrained.x, x)
    assert torch.bincount(shuffled).tolist() == [30] * 4
    assert (shuffled == untrained.y).double().mean() < 0.5


def test_the_losses_are_what_their_papers_say():
    z, y = torch.randn(6, 5), torch.arange(6) % 5
    log = functional.log_softmax(z, dim=1)
    entropy = -log[torch.arange(6), y].mean()
    found = {name: float(loss(z, y)) for name, loss in subject.LOSSES.items()}
    assert found["cross_entropy"] == found["cosine"] == pytest.approx(float(entropy))
    assert found["label_smoothing"] == pytest.approx(float(0.9 * entropy - 0.1 * log.mean()), rel=1e-5)
    assert found["logit_penalty"] == pytest.approx(float(entropy + 3e-4 * z.square().sum() / 6), rel=1e-5)
    one_hot = functional.one_hot(y, 5)
    binary = -(one_hot * torch.sigmoid(z).log() + (1 - one_hot) * torch.sigmoid(-z).log()).mean()
    assert found["sigmoid"] == pytest.approx(float(binary), rel=1e-5)
    assert found["squared_error"] == pytest.approx(float((z - one_hot).square().sum() / 12), rel=1e-5)


def test_a_cosine_classifier_knows_angles_alone():
    classifier, x = subject.CosineClassifier(7, 3), torch.randn(4, 7)
    scores = classifier(x)
    torch.testing.assert_close(classifier(5 * x), scores)
    by_hand = functional.cosine_similarity(x[:, None], classifier.weight[None], dim=2) / 0.05
    torch.testing.assert_close(scores, by_hand)


def test_a_probe_is_fitted_on_the_chosen_rows_and_judged_on_the_others():
    torch.manual_seed(0)
    labels = torch.arange(90) % 3
    x = 6 * functional.one_hot(labels, 3) + torch.randn(90, 3)
    chosen = torch.arange(30)
    assert subject.probe_accuracy(x, labels, chosen) > 0.95
    assert subject.probe_accuracy(100 + 7 * x, labels, chosen) == pytest.approx(
        subject.probe_accuracy(x, labels, chosen)
    )
    swapped = labels.clone()
    swapped[:30] = (labels[:30] + 1) % 3
    assert subject.probe_accuracy(x, swapped, chosen) < 0.05


def test_the_source_and_the_target_have_no_class_in_common(untrained, monkeypatch):
    probed = []

    def probe(features, labels, chosen):
        probed.append((features, labels, chosen))
        return len(probed) / 10

    monkeypatch.setattr(subject, "probe_accuracy", probe)
    rows = carry_out(study("losses", loss="cosine"))
    assert torch.bincount(untrained.y).tolist() == [140] * 5
    assert untrained.loss is subject.LOSSES["cosine"]
    assert isinstance(untrained.network.classifier, subject.CosineClassifier)
    data = load("digits")
    known = {tuple(image.flatten().tolist()) for image in untrained.x}
    of_source = [tuple(image.flatten().tolist()) in known for image in data.train_x]
    source = set(data.train_y[torch.tensor(of_source)].tolist())
    assert len(source) == 5
    features, labels, chosen = probed[0]
    unseen = sum(int((y != c).all()) for y in (*data.train_y, *data.test_y) for c in [torch.tensor(sorted(source))])
    assert len(features) == len(labels) == unseen
    assert torch.bincount(labels[chosen]).tolist() == [10] * 5
    assert features.shape[1] == 128
    assert len(probed) == 5
    assert value(rows, "probe", "test") == pytest.approx(0.3)
    unit = functional.normalize(untrained.network[:-1](untrained.x).detach().double())
    cosine = 1 - unit @ unit.T
    same = untrained.y[:, None] == untrained.y
    assert value(rows, "separation") == pytest.approx(1 - float(cosine[same].mean() / cosine.mean()), abs=1e-6)
    with pytest.raises(ValueError, match=r"loss: expected one of cross_entropy, .*, got 'hinge'"):
        carry_out(study("losses", loss="hinge"))


def test_losses_are_measured_along_the_training():
    rows = carry_out(study("losses", steps=40))
    assert sorted({row.epoch for row in rows}) == [0, 2, 6]
    assert value(rows, "error", epoch=6) < value(rows, "error", epoch=0)


def test_the_fourth_moment_in_closed_form():
    eye = torch.eye(6, dtype=torch.float64)
    assert float(subject.fourth_moment(eye, 3.0)) == 6 * 8
    assert float(subject.fourth_moment(eye, 9.0)) == 6 * 5 + 6 * 9
    torch.manual_seed(0)
    mixing = torch.randn(4, 4, dtype=torch.float64)
    uniform = (torch.rand(400_000, 4, dtype=torch.float64) - 0.5) * math.sqrt(12)  # of kurtosis 1.8
    drawn = (uniform @ mixing.T).square().sum(1).square().mean()
    assert float(subject.fourth_moment(mixing, 1.8)) == pytest.approx(float(drawn), rel=0.01)


def test_the_bound_is_that_of_loops_over_pairs():
    torch.manual_seed(0)
    means, half = torch.randn(3, 4, dtype=torch.float64), torch.randn(4, 4, dtype=torch.float64)
    covariance, fourth, m = half @ half.T, torch.tensor(40.0, dtype=torch.float64), 20
    total = 0.0
    for i, j in itertools.permutations(range(3), 2):
        d2 = float((means[j] - means[i]).square().sum())
        u = (means[j] - means[i]) / math.sqrt(d2)
        directional = float(u @ covariance @ u) / d2
        v = 2 * float(covariance.trace()) / d2
        theta = 2 * float(fourth) / d2**2
        terms = [4 / m * (v * v + v / 4), v / m, (theta + 2 * (m - 1) * v * v) / m**3]
        total += 4 * directional + sum(map(math.sqrt, terms)) ** 2
    assert float(subject.few_shot_bound(means, covariance, fourth, m)) == pytest.approx(total / 3)
    larger = subject.few_shot_bound(3 * means, 9 * covariance, 81 * fourth, m)
    assert float(larger) == pytest.approx(total / 3)


@pytest.mark.parametrize(
    ("settings", "exact"),
    [
        ({"noise": "isotropic", "variance": 0.4}, scipy_stats.norm.sf(0.5 / math.sqrt(0.4 / 8))),
        ({"noise": "aligned", "variance": 0.4}, scipy_stats.norm.sf(0.5 / math.sqrt(0.9 * 0.4))),
        ({"noise": "heavy", "variance": 0.4, "dim": 1}, scipy_stats.t.sf(0.5 / math.sqrt(0.4 * 3 / 5), 5)),
    ],
)
def test_errors_of_two_classes_at_many_shots_are_those_of_known_centres(settings, exact):
    rows = carry_out(study("few_shot", classes=2, shots=1000, **settings))
    assert value(rows, "error") == pytest.approx(exact, abs=5 * value(rows, "standard_error") + 0.002)
    along = {"isotropic": 1 / 8, "aligned": 0.9, "heavy": 1.0}[settings["noise"]]
    assert value(rows, "bound") - value(rows, "tail_bound") == pytest.approx(4 * along * 0.4)


def test_few_shots_err_more_and_noise_has_a_name():
    few, many = (value(carry_out(study("few_shot", shots=m, variance=0.4)), "error") for m in (2, 100))
    assert few > 1.2 * many
    with pytest.raises(ValueError, match="noise: expected isotropic, aligned or heavy, got 'pink'"):
        carry_out(study("few_shot", noise="pink"))


def family(target, accuracy, *, classes=(3, 10, 30, 100), before=10.0, held_out=3.0, error=0.0):
    """Return runs by number of source classes and seed, with these target CDNVs and accuracies after training."""
    return [
        Run(
            study(seed=seed, classes=c),
            (
                *network_rows(0, error=0.9, cdnv=before),
                *network_rows(0, "test", cdnv=before, target_cdnv=before, target_accuracy=0.3),
                *network_rows(1, error=error, cdnv=0.3 * 1.01**seed),
                *network_rows(
                    1, "test", cdnv=0.3 * held_out, target_cdnv=on * 1.01**seed, target_accuracy=right + 0.001 * seed
                ),
            ),
        )
        for c, on, right in zip(classes, target, accuracy, strict=True)
        for seed in range(6)
    ]


RISING, FALLING = [0.4, 0.6, 0.8, 0.9], [6.0, 2.0, 1.1, 0.9]


def test_target_collapse_and_accuracy_are_judged_along_the_number_of_classes():
    collapse, accuracy = claim_file("test_target_cdnv").judge, claim_file("test_target_accuracy").judge
    assert collapse(family(FALLING, RISING)) == SUPPORTED
    assert collapse(family(FALLING[::-1], RISING)) == REFUTED
    assert collapse(family([1.6, 1.4, 1.2, 0.9], RISING)) == REFUTED
    assert accuracy(family(FALLING, RISING)) == SUPPORTED
    assert accuracy(family(FALLING, RISING[::-1])) == REFUTED
    assert accuracy(family(FALLING, [0.8, 0.85, 0.88, 0.9])) == REFUTED
    for judge in (collapse, accuracy):
        assert judge(family(FALLING, [0.15, 0.6, 0.8, 0.9])) == NOT_APPLICABLE


def test_of_a_fixed_total_both_sides_are_judged():
    module = claim_file("test_target_cdnv_total")
    three = {"classes": (3, 30, 100), "accuracy": RISING[:3]}
    assert module.judge(family([6.0, 2.0, 1.0], **three)) == SUPPORTED
    valley = module.judge(family([6.0, 0.7, 0.9], **three))
    assert valley == REFUTED
    assert valley.reason.startswith("from 30 to 100")
    assert module.judge(family([1.0, 2.0, 0.9], **three)) == REFUTED
    assert module.judge(family([6.0, 2.0, 1.0], **three), 0) != SUPPORTED
    assert module.judge(family([6.0, 2.0, 1.0], classes=(3, 30, 100), accuracy=[0.1] * 3)) == NOT_APPLICABLE
    for run in module.SETTINGS["small"][0].runs:
        assert abs(run.settings["classes"] * run.settings["samples"] - 3000) < 100


def test_collapse_must_reach_all_three():
    judge = claim_file("test_collapse_generalises").judge
    one = {"classes": [30], "accuracy": [0.8]}
    assert judge(family([1.0], **one)) == SUPPORTED
    for settings, name in (({"target": [9.0]}, "unseen classes"), ({"target": [1.0], "held_out": 25.0}, "held-out")):
        verdict = judge(family(**one, **settings))
        assert verdict == REFUTED
        assert verdict.reason.startswith(name)
    assert judge(family([0.1], before=0.5, held_out=0.1, **one)).reason.startswith("source samples")
    assert judge(family([1.0], error=0.1, **one)) == NOT_APPLICABLE


@pytest.mark.parametrize(
    ("name", "held_out", "verdict"),
    [
        ("test_held_out_cdnv", 2.0, SUPPORTED),
        ("test_held_out_cdnv", 1.1, REFUTED),
        ("test_held_out_cdnv", 0.5, REFUTED),
        ("test_held_out_order", 10.0, SUPPORTED),
        ("test_held_out_order", 2.0, REFUTED),
        ("test_held_out_order", 50.0, REFUTED),
    ],
)
def test_held_out_collapse_is_judged_by_its_ratio_to_training(name, held_out, verdict):
    judge = claim_file(name).judge
    made = family([1.0], [0.8], classes=[30], held_out=held_out)
    assert judge(made) == verdict
    assert judge(made, 0) != SUPPORTED
    assert judge(family([1.0], [0.8], classes=[30], held_out=held_out, error=0.1)) == NOT_APPLICABLE


def by_loss(separations, probes, *, error=0.0):
    return [
        Run(
            study("losses", seed=seed, loss=loss),
            (*network_rows(4, error=error, separation=r2 + 0.001 * seed), *network_rows(4, "test", probe=probe)),
        )
        for loss, r2, probe in zip(subject.LOSSES, separations, probes, strict=True)
        for seed in range(8)
    ]


SEPARATIONS = [0.78, 0.6, 0.7, 0.83, 0.72, 0.42]


def test_separation_against_transfer_is_judged_by_rank():
    judge = claim_file("test_separation_against_transfer").judge
    worse = [1.5 - r2 for r2 in SEPARATIONS]
    assert judge(by_loss(SEPARATIONS, worse)) == SUPPORTED
    assert judge(by_loss(SEPARATIONS, SEPARATIONS)) == REFUTED
    assert judge(by_loss(SEPARATIONS, worse), 2) != SUPPORTED
    assert judge(by_loss(SEPARATIONS, worse, error=0.1)) == NOT_APPLICABLE
    assert judge(by_loss(SEPARATIONS, [0.2, *worse[1:]])) == NOT_APPLICABLE


def test_separating_least_is_judged_against_the_least_of_the_others():
    module = claim_file("test_cross_entropy_separates_least")
    assert set(module.LOSSES) == set(subject.LOSSES) == set(claim_file("test_separation_against_transfer").LOSSES)
    assert module.judge(by_loss([0.4, 0.6, 0.7, 0.8, 0.7, 0.5], [0.9] * 6)) == SUPPORTED
    assert module.judge(by_loss(SEPARATIONS, [0.9] * 6)) == REFUTED
    assert module.judge(by_loss([0.45, 0.6, 0.7, 0.8, 0.7, 0.42], [0.9] * 6)) == REFUTED
    assert module.judge(by_loss([0.4, 0.6, 0.7, 0.8, 0.7, 0.5], [0.9] * 6), "sigmoid") == REFUTED
    assert module.judge(by_loss(SEPARATIONS, [0.9] * 6, error=0.1)) == NOT_APPLICABLE


def cells(error, bounds, *, tail=0.0):
    return [
        Run(
            study("few_shot", seed=seed, shots=10 + place),
            tuple(network_rows(error=error, standard_error=0.001, bound=bound + 1e-4 * seed, tail_bound=tail)),
        )
        for place, bound in enumerate(bounds)
        for seed in range(6)
    ]


def test_the_bound_is_judged_where_it_says_something():
    judge = claim_file("test_few_shot_bound").judge
    assert judge(cells(0.05, [0.1, 0.3])) == SUPPORTED
    assert judge(cells(0.05, [0.04, 0.3])) == REFUTED
    assert judge(cells(0.05, [0.052, 0.3])) == REFUTED, "three standard errors count"
    assert judge(cells(0.05, [0.1, 0.3], tail=0.01), "tail_bound") == REFUTED
    assert judge(cells(0.6, [0.9, 0.7])) == NOT_APPLICABLE
    assert judge(cells(0.001, [0.1, 0.3])) == NOT_APPLICABLE


def trained_on(early, late, *, error=0.0, separation=0.8):
    return [
        Run(
            study("losses", seed=seed),
            tuple(
                row
                for epoch, wrong, r2, probe in (
                    (0, 0.8, 0.3, 0.9),
                    (11, error, 0.7, early),
                    (214, 0.0, separation, late),
                )
                for row in (
                    *network_rows(epoch, error=wrong, separation=r2),
                    *network_rows(epoch, "test", probe=probe + 0.0001 * seed * (epoch == 11)),
                )
            ),
        )
        for seed in range(8)
    ]


def test_longer_training_is_judged_by_what_the_probe_loses_after_the_fit():
    judge = claim_file("test_longer_training").judge
    assert judge(trained_on(0.92, 0.90)) == SUPPORTED
    assert judge(trained_on(0.92, 0.90), reverse=True) == REFUTED
    assert judge(trained_on(0.90, 0.90)) == REFUTED
    assert judge(trained_on(0.92, 0.90, error=0.05)) == NOT_APPLICABLE
    assert judge(trained_on(0.92, 0.90, separation=0.6)) == NOT_APPLICABLE

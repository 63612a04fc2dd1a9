"""Studies and claims on imbalanced classes: samples, measurements, and verdicts of the claims."""

from types import SimpleNamespace

import pytest
import torch
from literature import cosines
from test_claim_files import load as claim_file
from torch.nn import functional

from ncharness import Run, Study, etf_distance
from ncharness.studies import imbalance as subject
from ncharness.studies.study import carry_out
from ncharness.training.datasets import load
from ncharness.training.rows import network_rows
from ncharness.verdicts.verdict import INCONCLUSIVE, NOT_APPLICABLE, REFUTED, SUPPORTED

SEEDS = range(8)


def test_a_smaller_class_is_part_of_a_larger_one_and_of_its_own_samples():
    labels = torch.arange(30) % 3
    drawn = []
    for counts in ([10, 4, 1], [10, 2, 3]):
        torch.manual_seed(5)
        kept = subject.nested(labels, torch.tensor(counts))
        assert torch.bincount(labels[kept]).tolist() == counts
        drawn.append({c: {int(i) for i in kept if labels[i] == c} for c in range(3)})
    assert drawn[0][1] > drawn[1][1]
    assert drawn[0][2] < drawn[1][2]
    torch.manual_seed(6)
    assert subject.nested(labels, torch.tensor([10, 4, 1])).tolist() != kept.tolist()


@pytest.mark.parametrize(("ratio", "least"), [(1, 140), (20, 7), (100, 1)])
def test_the_tail_falls_evenly_on_the_log_scale(ratio, least):
    counts = subject.tail_counts(ratio)
    assert counts[0] == 140
    assert counts[-1] == least
    assert (counts.diff() <= 0).all()
    steps = counts[:5].double().log().diff()
    assert steps.std() < 0.02
    assert float(steps.mean()) == pytest.approx(-torch.tensor(float(ratio)).log().item() / 9, abs=0.02)


def test_cosines_and_the_simplex():
    rows = torch.randn(5, 4, dtype=torch.float64)
    assert float(subject.mean_cosine(rows)) == pytest.approx(cosines(rows.numpy()).mean())
    etf = subject.simplex(10, 64)
    assert etf.shape == (10, 64)
    assert float(etf_distance(etf)) < 1e-6
    assert float(subject.mean_cosine(etf)) == pytest.approx(-1 / 9, abs=1e-6)
    torch.testing.assert_close(etf.norm(dim=1), torch.ones(10))


def test_dot_regression_is_half_the_squared_distance_to_one():
    scores = torch.tensor([[0.5, 9.0], [3.0, -1.0]])
    assert float(subject.dot_regression(scores, torch.tensor([0, 1]))) == pytest.approx((0.125 + 2.0) / 2)


def test_a_fixed_classifier_has_rows_that_are_not_trained():
    rows = subject.simplex(10, 16)
    plain, unit = (subject.FixedClassifier(rows, unit=unit).eval() for unit in (False, True))
    assert {name for name, _ in plain.named_parameters()} == {"norm.weight", "norm.bias"}
    x = torch.randn(7, 16)
    torch.testing.assert_close(plain(x), plain.norm(x) @ rows.T)
    torch.testing.assert_close(unit(x), functional.normalize(x) @ rows.T, atol=1e-4, rtol=0)
    torch.testing.assert_close(unit(3 * x), unit(x))


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

    def fit(network, x, y, optimizer, **settings):
        seen.__dict__.update(network=network, x=x, y=y, optimizer=optimizer, **settings)
        with torch.no_grad():  # so that it does not see one class everywhere
            if isinstance(network.classifier, torch.nn.Linear):
                network.classifier.bias -= network.eval()(x).mean(0)

    monkeypatch.setattr(subject, "fit", fit)
    return seen


def study(name="step", seed=0, **settings):
    return Study(experiment=f"imbalance.{name}", settings=settings, seed=seed)


def value(rows, metric, split="train"):
    (found,) = [row.value for row in rows if (row.split, row.metric) == (split, metric)]
    return found


@pytest.mark.parametrize(("ratio", "few"), [(1, 140), (10, 14), (70, 2), (1000, 1)])
def test_a_step_keeps_few_samples_of_the_minority_and_oversampling_repeats_them(untrained, ratio, few):
    carry_out(study(ratio=ratio))
    x, counts = untrained.x, torch.bincount(untrained.y)
    assert sorted(counts.tolist()) == [few] * 5 + [140] * 5
    assert untrained.epochs == round(1500 / -(-len(x) // 100))
    carry_out(study(ratio=ratio, oversampled=True))
    assert torch.equal(torch.bincount(untrained.y), torch.where(counts == 140, 140, few * ratio))
    assert {tuple(row.flatten().tolist()) for row in untrained.x} == {tuple(row.flatten().tolist()) for row in x}


def test_a_step_measures_the_classifier_and_the_test_set(untrained):
    rows = carry_out(study(ratio=70))
    counts, weight = torch.bincount(untrained.y), untrained.network.classifier.weight.detach().double()
    few, many = weight[counts == 2], weight[counts == 140]
    assert value(rows, "minority_cosine") == pytest.approx(cosines(few.numpy()).mean())
    assert value(rows, "majority_cosine") == pytest.approx(cosines(many.numpy()).mean())
    assert value(rows, "norm_ratio") == pytest.approx(float(few.norm(dim=1).mean() / many.norm(dim=1).mean()))
    apart = float((few - few.mean(0)).norm() / weight.norm())
    assert value(rows, "spread") == pytest.approx(apart)
    wrong = (untrained.network(untrained.x).argmax(1) != untrained.y).double().mean()
    assert value(rows, "error") == pytest.approx(float(wrong))
    errors = by_class(untrained.network)
    assert value(rows, "error", "test") == pytest.approx(float(errors.mean()))
    assert value(rows, "minority_error", "test") == pytest.approx(float(errors[counts == 2].mean()))


def by_class(network):
    """Return the error on every class of the test set."""
    data = load("digits")
    wrong = (network(data.test_x).argmax(1) != data.test_y).double()
    return torch.stack([wrong[data.test_y == c].mean() for c in range(10)])


@pytest.mark.parametrize("head", ["learned", "etf", "dot"])
def test_a_long_tail_is_trained_with_the_head_asked_for(untrained, head):
    rows = carry_out(study("long_tail", ratio=20, head=head))
    counts = torch.bincount(untrained.y)
    assert sorted(counts.tolist()) == sorted(subject.tail_counts(20).tolist())
    assert untrained.loss is (subject.dot_regression if head == "dot" else functional.cross_entropy)
    classifier = untrained.network.classifier
    assert isinstance(classifier, torch.nn.Linear if head == "learned" else subject.FixedClassifier)
    hidden = 64 * 128 + 128 * 128 + 2 * 3 * 128
    assert value(rows, "trainable") == hidden + (128 * 10 + 10 if head == "learned" else 2 * 128)
    optimised = sum(one.numel() for group in untrained.optimizer.param_groups for one in group["params"])
    assert optimised == value(rows, "trainable")
    errors = by_class(untrained.network)
    assert value(rows, "error", "test") == pytest.approx(float(errors.mean()))
    assert value(rows, "tail_error", "test") == pytest.approx(float(errors[counts.argsort()[:3]].mean()))
    assert head == "learned" or classifier.unit == (head == "dot")


def test_what_is_drawn_does_not_depend_on_the_head(untrained):
    carry_out(study("long_tail", ratio=20))
    before = untrained.x
    carry_out(study("long_tail", ratio=20, head="etf"))
    assert torch.equal(untrained.x, before)
    carry_out(study("long_tail", seed=1, ratio=20))
    assert not torch.equal(untrained.x, before)
    with pytest.raises(ValueError, match="head: expected learned, etf or dot, got 'none'"):
        carry_out(study("long_tail", head="none"))


def test_a_short_training_sees_the_imbalance():
    rows = carry_out(study(ratio=70, steps=100))
    assert value(rows, "norm_ratio") < 0.95
    assert value(rows, "minority_error", "test") > 1.3 * value(rows, "error", "test")
    assert carry_out(study(ratio=1, steps=10)) == carry_out(study(ratio=1, steps=10, oversampled=True))


def steps(cosines, *, ratios=(1, 10, 70), error=0.0, norm=0.7, majority=-0.1):
    """Return runs by ratio and seed, with these minority cosines."""
    return [
        Run(
            study(seed=seed, ratio=ratio),
            tuple(
                network_rows(
                    error=error,
                    minority_cosine=cosine + 0.001 * seed,
                    majority_cosine=majority + 0.001 * seed,
                    norm_ratio=norm,
                )
            ),
        )
        for ratio, cosine in zip(ratios, cosines, strict=True)
        for seed in SEEDS
    ]


def test_minority_cosines_are_judged_by_their_rise():
    judge = claim_file("test_closing_minorities").judge
    assert judge(steps([-0.1, 0.0, 0.15])) == SUPPORTED
    assert judge(steps([-0.1, 0.0, 0.15]), "majority") != SUPPORTED
    assert judge(steps([-0.1, -0.1, -0.05])) == REFUTED
    assert judge(steps([0.15, 0.0, -0.1])) == REFUTED
    assert judge(steps([-0.1, 0.0, 0.15], norm=0.05)) == NOT_APPLICABLE
    assert judge(steps([-0.1, 0.0, 0.15], error=0.1)) == NOT_APPLICABLE


def test_minority_collapse_is_judged_by_the_cosine_itself():
    judge = claim_file("test_parallel_minorities").judge
    assert judge(steps([0.98], ratios=[70])) == SUPPORTED
    assert judge(steps([0.2], ratios=[70])) == REFUTED
    assert judge(steps([0.98], ratios=[70], norm=1e-3)) == NOT_APPLICABLE
    assert judge(steps([0.98], ratios=[70], error=0.1)) == NOT_APPLICABLE


def test_oversampling_is_judged_by_the_share_that_it_takes_back():
    module = claim_file("test_oversampling")
    order = [(one.settings["ratio"], one.settings["oversampled"]) for one in module.networks(10, oversampled=True)]
    assert order == [(1, False)] * 8 + [(10, False)] * 8 + [(10, True)] * 8
    ratios = (1, 70, 70)
    assert module.judge(steps([-0.1, 0.2, -0.05], ratios=ratios)) == SUPPORTED
    assert module.judge(steps([-0.1, 0.2, 0.15], ratios=ratios)) == REFUTED
    assert module.judge(steps([-0.1, -0.08, -0.1], ratios=ratios)) == NOT_APPLICABLE
    assert module.judge(steps([-0.1, 0.2, -0.05], ratios=ratios, error=0.1)) == NOT_APPLICABLE


def tails(first, second, *, heads=("learned", "etf"), error=0.0):
    """Return runs of both heads, with these test errors."""
    noise = [0.001 * (seed - 4.5) for seed in range(10)]
    return [
        Run(
            study("long_tail", seed=seed, head=head),
            (*network_rows(error=error), *network_rows(split="test", error=of + (noise[seed] if of is second else 0))),
        )
        for head, of in zip(heads, (first, second), strict=True)
        for seed in range(10)
    ]


def test_a_fixed_etf_is_judged_by_what_it_gains_under_a_tail():
    judge = claim_file("test_fixed_etf_long_tail").judge
    assert judge(tails(0.07, 0.05)) == SUPPORTED
    assert judge(tails(0.05, 0.07)) == REFUTED
    assert judge(tails(0.05, 0.051)) == REFUTED
    assert judge(tails(0.055, 0.05)) == INCONCLUSIVE
    assert judge(tails(0.07, 0.05, error=0.1)) == NOT_APPLICABLE


def test_a_fixed_etf_on_balanced_data_is_judged_by_equivalence():
    judge = claim_file("test_fixed_etf_balanced").judge
    assert judge(tails(0.02, 0.021)) == SUPPORTED
    assert judge(tails(0.02, 0.06)) == REFUTED
    assert judge(tails(0.06, 0.02)) == REFUTED
    assert judge(tails(0.02, 0.021, error=0.1)) == NOT_APPLICABLE


def test_dot_regression_may_be_a_little_worse():
    judge = claim_file("test_dot_regression").judge
    assert judge(tails(0.05, 0.053, heads=("etf", "dot"))) == SUPPORTED
    assert judge(tails(0.05, 0.03, heads=("etf", "dot"))) == SUPPORTED
    assert judge(tails(0.05, 0.09, heads=("etf", "dot"))) == REFUTED
    assert judge(tails(0.05, 0.053, heads=("etf", "dot"), error=0.1)) == NOT_APPLICABLE

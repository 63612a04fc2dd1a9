"""Studies of the terminal phase: measurements against plain computations, and the verdicts of the claims."""

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ncharness import (
    Row,
    Run,
    Study,
    equiangularity,
    equinorm,
    etf_distance,
    measure,
    nc1_trace,
    product_duality,
    self_duality,
)
from ncharness.studies import fitting
from ncharness.studies import terminal_phase as subject
from ncharness.studies.study import carry_out
from ncharness.training.datasets import load
from ncharness.training.rows import network_rows
from ncharness.verdicts.terminal_phase import digits_over_phase, not_terminal, terminal_phase
from ncharness.verdicts.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED, Verdict

FOLDER = Path(__file__).parents[2] / "claims" / "terminal_phase"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what is measured -------------------------------------------------------------------------------------------------


def network_and_data() -> tuple[torch.nn.Sequential, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    network = fitting.mlp([6, 5, 4, 3])
    inputs, labels = torch.randn(60, 6), torch.arange(60) % 3
    network(inputs)  # batch norm's statistics are neither those of the start nor of these inputs
    return network, inputs, labels


def test_what_is_measured_are_the_features_that_enter_the_last_layer() -> None:
    network, inputs, labels = network_and_data()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = subject.collapse(network, inputs, labels, 3)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        features = network.layer2(network.layer1(network.flatten(inputs)))
        scores = network.classifier(features)
    assert not network.training
    assert features.shape == (60, 4)
    weight, at = network.classifier.weight, measure(features, labels, 3, gram=True)
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -math.inf).amax(1)
    expected = {
        "nc1": at.nc1,
        "nc1_trace": nc1_trace(at.stats),
        "equinorm": equinorm(at.stats),
        "equiangularity": equiangularity(at.stats),
        "etf_distance": etf_distance(at.stats),
        "classifier_equinorm": equinorm(weight, centre="none"),
        "classifier_equiangularity": equiangularity(weight, centre="none"),
        "classifier_etf_distance": etf_distance(weight, centre="none"),
        "self_duality": self_duality(weight, at.stats),
        "product_duality": product_duality(weight, at.stats),
        "ncc_mismatch": (at.nearest != scores.argmax(1)).double().mean(),
        "margin": (own - others).min(),
    }
    assert list(found) == list(expected)
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, rel=1e-6
    )


def test_test_features_are_held_against_the_means_of_the_training_features() -> None:
    data = load("digits", n_train=50)
    torch.manual_seed(0)
    network = fitting.mlp([64, 8, 6, 10]).eval()
    labels = data.train_y[torch.randperm(50)]
    found = subject.held_out(network, data, labels)
    with torch.no_grad():
        train, test = (network[:-1](x).double().numpy() for x in (data.train_x, data.test_x))
        predicted = network(data.test_x).argmax(1)
    means = np.stack([train[labels.numpy() == c].mean(axis=0) for c in range(10)])
    between = ((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()
    distances = ((test[:, None] - means) ** 2).sum(axis=2)
    assert float(found["weak_collapse"]) == pytest.approx(distances.min(axis=1).mean() / between, rel=1e-6)
    own = distances[np.arange(len(test)), data.test_y.numpy()]
    assert float(found["strong_collapse"]) == pytest.approx(own.mean() / between, rel=1e-6)
    assert float(found["error"]) == pytest.approx(float((predicted != data.test_y).double().mean()))


def test_the_fixed_classifier_is_a_simplex_of_unit_rows_that_no_training_moves() -> None:
    torch.manual_seed(0)
    layer = subject.simplex_classifier(16, 10)
    assert layer.bias is None
    assert float(etf_distance(layer.weight, centre="none")) == pytest.approx(0, abs=1e-6)
    assert layer.weight.norm(dim=1).tolist() == pytest.approx([1.0] * 10)
    assert subject.trainable(layer) == 0
    assert subject.trainable(torch.nn.Linear(16, 10)) == 10 * 17
    with pytest.raises(ValueError, match="width: expected at least 10 as there are classes, got 9"):
        subject.simplex_classifier(9, 10)


def short(**settings: object) -> Run:
    study = Study(experiment="terminal_phase.trained", settings={"samples": 50, **settings}, seed=3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the worker processes; on matrices this small, more only wait for one another
    try:
        return Run(study, carry_out(study))
    finally:
        torch.set_num_threads(threads)


def test_a_training_is_measured_where_the_terminal_phase_begins_is_half_over_and_ends() -> None:
    run = short(epochs=50)
    assert run.epochs == list(range(51))
    onset, middle, last = terminal_phase(run)
    assert 0 < onset < last == 50
    assert middle == (onset + 50) // 2
    assert onset % 5, "not measured anyway, as every tenth of the epochs is"
    assert middle % 5
    assert all(run.scalar(epoch=epoch) > 0 for epoch in range(onset))
    assert run.scalar(epoch=onset) == 0
    for epoch in (0, onset, middle, last):
        for name in ("nc1", "shuffled_nc1", "margin", "classifier_etf_distance"):
            assert math.isfinite(run.scalar(name, epoch=epoch))
        assert run.scalar("weak_collapse", epoch=epoch, split="test") <= run.scalar(
            "strong_collapse", epoch=epoch, split="test"
        )
    assert run.scalar("margin") > 0 > run.scalar("shuffled_margin")
    assert run.scalar("shuffled_nc1") > 10 * run.scalar("nc1")
    assert run.scalar("shuffled_ncc_mismatch") > 0.5 > run.scalar("ncc_mismatch")
    assert run.scalar("shuffled_classifier_equinorm") == run.scalar("classifier_equinorm")
    assert run.scalar("error", split="test") < 0.4


def test_permuted_labels_are_the_ones_that_training_error_and_collapse_are_about() -> None:
    run = short(labels="permuted", epochs=40)
    assert run.scalar() == 0
    assert run.scalar("margin") > 0
    assert run.scalar("error", split="test") > 0.7
    assert run.scalar("nc1") < 0.2 * run.scalar("shuffled_nc1")


def test_a_fixed_classifier_saves_its_scalars_and_keeps_its_angles() -> None:
    learned, fixed = short(epochs=3), short(epochs=3, classifier="simplex")
    assert learned.scalar("trainable") - fixed.scalar("trainable") == 10 * (subject.WIDTH + 1)
    assert fixed.scalar("classifier_etf_distance") < 1e-6 < 1e-2 < learned.scalar("classifier_etf_distance")
    assert fixed.scalar("nc1", epoch=0) == learned.scalar("nc1", epoch=0), "the hidden layers begin alike"


def test_every_loss_and_optimiser_is_another_training_of_the_same_start() -> None:
    runs = [short(epochs=2)] + [
        short(epochs=2, **of)
        for of in (
            {"loss": "squared_error"},
            {"optimizer": "adam"},
            {"optimizer": "adamw"},
            {"optimizer": "lbfgs"},
            {"weight_decay": 0.5},
            {"optimizer": "adam", "weight_decay": 0.5},
            {"optimizer": "lbfgs", "weight_decay": 0.5},
        )
    ]
    assert len({run.scalar("nc1", epoch=0) for run in runs}) == 1
    assert len({run.scalar("nc1", epoch=2) for run in runs}) == len(runs)


@pytest.mark.parametrize(
    ("name", "value"), [("labels", "noisy"), ("loss", "hinge"), ("optimizer", "lion"), ("classifier", "frame")]
)
def test_settings_that_there_are_not_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .*, got '{value}'"):
        subject.trained(**{name: value})  # type: ignore[arg-type]


# --- training on all samples at once ----------------------------------------------------------------------------------


def test_training_on_all_samples_ends_where_the_gradient_of_loss_and_decay_vanishes() -> None:
    torch.manual_seed(0)
    model, told = torch.nn.Linear(4, 3).double(), []
    inputs, labels = torch.randn(40, 4, dtype=torch.float64), torch.arange(40) % 3
    fitting.fit_whole(model, inputs, labels, epochs=40, weight_decay=0.1, after=told.append)
    assert told == list(range(41))
    assert model.training
    loss = torch.nn.functional.cross_entropy(model(inputs), labels)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, -0.1 * parameter.detach(), atol=2e-5, rtol=0)


def test_after_every_iteration_batch_norm_has_the_statistics_of_the_weights_reached() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3))
    inputs, labels = torch.randn(40, 4), torch.arange(40) % 3

    def after(epoch: int) -> None:
        if epoch:
            torch.testing.assert_close(model[1].running_mean, model[0](inputs).mean(dim=0).detach())

    fitting.fit_whole(model, inputs, labels, epochs=5, after=after)


def test_settling_gives_batch_norm_the_statistics_of_all_inputs() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    inputs = 2 + torch.randn(50, 3)
    model(100 * inputs)
    fitting.settle(model.eval(), inputs)
    assert model.training
    assert model[0].momentum == 0.1
    torch.testing.assert_close(model[0].running_mean, inputs.mean(dim=0))
    torch.testing.assert_close(model[0].running_var, inputs.var(dim=0))


# --- the claims -------------------------------------------------------------------------------------------------------

ONSET, MIDDLE, LAST = 3, 6, 10
Values = Sequence[float]


def made(
    seed: int, *, error: float = 0.0, late: float = 0.0, test: dict[str, Values] | None = None, **curves: Values
) -> Run:
    """Return a run whose metrics take these values untrained, at the onset, the middle and the end.

    The settings are those of `study`. `error` is the training error at the end, `late` that of the last epoch but one.
    """
    errors = {epoch: 0.0 if epoch >= ONSET else 0.5 for epoch in range(LAST + 1)} | {LAST - 1: late, LAST: error}
    rows = [row for epoch, value in errors.items() for row in network_rows(epoch, error=value)]
    for split, of in (("train", curves), ("test", test or {})):
        for name, values in of.items():
            for epoch, value in zip((0, ONSET, MIDDLE, LAST), values, strict=True):
                rows.append(Row(epoch, "network", split, name, value * (1 + 0.001 * seed)))
    return Run(Study(experiment="terminal_phase.trained", seed=seed), tuple(rows))


def eight(**of: object) -> list[Run]:
    return [made(seed, **of) for seed in range(8)]  # type: ignore[arg-type]


FALLS, FLAT, RISES = (9.0, 0.4, 0.2, 0.1), (9.0, 0.4, 0.4, 0.4), (9.0, 0.1, 0.2, 0.4)


def test_a_phase_begins_with_the_first_epoch_without_error() -> None:
    run = made(0, nc1=FALLS, late=0.1)
    assert terminal_phase(run) == (ONSET, MIDDLE, LAST)
    assert digits_over_phase(run, "nc1") == pytest.approx([-math.log10(v) for v in FALLS[1:]])
    assert not_terminal([made(1), made(2)]) == ""
    assert "error up to 0.100 in the last fifth" in not_terminal([made(1), run])
    never = Run(run.config, tuple(network_rows(1, error=0.5)))
    with pytest.raises(ValueError, match=r"run: .* never reached zero training error"):
        terminal_phase(never)
    assert not_terminal([never])


@pytest.mark.parametrize(
    ("claim", "metrics"),
    [
        ("variability_collapses", ["nc1"]),
        (
            "simplex_forms",
            ["equinorm", "equiangularity", "classifier_equinorm", "classifier_equiangularity"],
        ),
        ("classifier_aligns", ["self_duality"]),
        ("nearest_means_decide", ["ncc_mismatch"]),
        ("classifier_under_adamw", ["classifier_etf_distance"]),
    ],
)
def test_falling_in_the_terminal_phase_is_supported_and_rising_refuted(claim: str, metrics: list[str]) -> None:
    judge = loaded(f"test_{claim}").judge
    falling = dict.fromkeys(metrics, FALLS)
    assert judge(eight(**falling)) == SUPPORTED
    for name in metrics:
        assert judge(eight(**{**falling, name: RISES})) == REFUTED, "any part refutes"
        assert judge(eight(**{**falling, name: FLAT})) == REFUTED
        assert judge(eight(**{**falling, name: (9.0, 0.3, 0.1, 0.2)})) != REFUTED, "in all it fell"
    assert judge(eight(**falling, late=0.01)) == NOT_APPLICABLE
    if claim != "classifier_under_adamw":
        shuffled = {f"shuffled_{name}": FLAT for name in metrics}
        assert judge(eight(**falling, **shuffled), "shuffled_") == REFUTED
    else:
        assert judge(eight(**falling), slice(None, None, -1)) == REFUTED


def test_nothing_left_to_fall_is_no_evidence() -> None:
    judge = loaded("test_nearest_means_decide").judge
    some = eight(ncc_mismatch=(0.9, 0.002, 0.0, 0.0))
    assert judge(some) == SUPPORTED
    assert judge([*some[:7], made(7, ncc_mismatch=(0.9, 0.0, 0.0, 0.0))]) == NOT_APPLICABLE


def test_random_labels_need_a_fall_and_chance() -> None:
    judge = loaded("test_random_labels_collapse").judge
    chance, better = ({"error": (0.9, 0.9, 0.9, error)} for error in (0.89, 0.5))
    assert judge(eight(nc1=FALLS, test=chance)) == SUPPORTED
    found = judge(eight(nc1=FALLS, test=better))
    assert found == REFUTED
    assert found.effect == pytest.approx(0.4, abs=0.01)
    assert judge(eight(nc1=RISES, test=chance)) == REFUTED
    assert judge(eight(nc1=FALLS, test=chance, error=0.01)) == NOT_APPLICABLE


def test_a_fixed_classifier_is_compared_seed_by_seed_and_counted() -> None:
    judge = loaded("test_fixed_simplex_classifier").judge

    def runs(scalars: float, error: float, **more: float) -> list[Run]:
        # The same number in every seed: `made` spreads them, which a count does not.
        return [
            Run(run.config, (*run.rows, *network_rows(LAST, trainable=scalars)))
            for run in eight(test={"error": (0.9, 0.1, 0.1, error)}, **more)
        ]

    learned = runs(5000, 0.020)
    assert judge(learned, runs(5000 - 1290, 0.025)) == SUPPORTED
    assert judge(learned, runs(5000 - 1280, 0.020)) == REFUTED, "a bias kept"
    for error in (0.06, -0.02):
        assert judge(learned, runs(5000 - 1290, error)) == REFUTED, "worse or better"
    assert judge(learned, runs(5000 - 1290, 0.02, late=0.01)) == NOT_APPLICABLE
    assert judge(runs(5000, 0.02, late=0.01), runs(5000 - 1290, 0.02)) == NOT_APPLICABLE


def test_every_optimiser_must_collapse_in_every_respect() -> None:
    judge = loaded("test_every_optimiser_collapses").judge
    good = dict.fromkeys(("nc1", "etf_distance", "self_duality"), FALLS)

    def runs(**worse: dict[str, Values]) -> list[Run]:
        found = []
        for optimizer in ("sgd", "adam", "lbfgs"):
            for run in eight(**{**good, **worse.get(optimizer, {})}):
                study = Study(
                    experiment="terminal_phase.trained", settings={"optimizer": optimizer}, seed=run.config.seed
                )
                found.append(Run(study, run.rows))
        return found

    assert judge(runs()) == SUPPORTED
    for optimizer in ("sgd", "adam", "lbfgs"):
        for name in good:
            found = judge(runs(**{optimizer: {name: (0.4, 0.4, 0.4, 0.3)}}))
            assert found == REFUTED
            assert found.reason.startswith(f"{optimizer}: ")
            assert found.effect == pytest.approx(math.log10(4 / 3))


def test_harder_data_come_second_and_must_be_harder() -> None:
    judge = loaded("test_harder_data_collapse_less").judge
    easy, hard = ({"error": (0.9, 0.1, 0.1, error)} for error in (0.02, 0.4))

    def judged(digits: float, mnist1d: float, errors: tuple[object, object] = (easy, hard)) -> Verdict:
        of = [(1.0, 1.0, 1.0, value) for value in (digits, mnist1d)]
        found = judge([*eight(nc1=of[0], test=errors[0]), *eight(nc1=of[1], test=errors[1])])
        assert isinstance(found, Verdict)
        return found

    assert judged(0.05, 0.2) == SUPPORTED
    assert judged(0.05, 0.2).effect == pytest.approx(math.log10(4))
    assert judged(0.05, 0.08) == REFUTED
    assert judged(0.2, 0.05) == REFUTED
    assert judged(0.05, 0.2, (hard, easy)) == NOT_APPLICABLE


def test_test_collapse_is_between_train_weak_and_strong() -> None:
    judge = loaded("test_no_test_collapse").judge

    def judged(train: float, weak: float, strong: float, epoch: int | None = None) -> Verdict:
        of, near, own = ((1.0, 1.0, 1.0, value) for value in (train, weak, strong))
        found = judge(eight(nc1_trace=of, test={"weak_collapse": near, "strong_collapse": own}), epoch)
        assert isinstance(found, Verdict)
        return found

    assert judged(0.1, 0.2, 0.3) == SUPPORTED
    assert judged(0.1, 0.2, 0.3).effect == pytest.approx(math.log10(2))
    assert judged(0.1, 0.11, 0.3) == REFUTED, "weak collapse"
    assert judged(0.1, 0.2, 0.203) == REFUTED, "strong collapse is no more than weak"
    assert judged(0.1, 0.05, 0.3) == REFUTED
    assert judged(0.1, 0.2, 0.3, epoch=0) != SUPPORTED


def test_claims_of_one_training_share_it() -> None:
    asked = [
        config.key()
        for path in FOLDER.glob("test_*.py")
        for setting in loaded(path.stem).SETTINGS["small"]
        for config in (*setting.runs, *setting.control_runs)
    ]
    assert len(set(asked)) == 10 * 8
    assert len(asked) > 3 * len(set(asked))

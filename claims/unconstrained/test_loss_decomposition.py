"""Squared error is what the least-squares classifier leaves plus a form in the distance to it.

Han, Papyan & Donoho, ICLR 2022 (arXiv:2106.02073): L = L_LS + L_perp, and for balanced classes L_LS is a part of the
variance within classes plus one of the class means, weighted equally. The first holds whatever the sizes of classes;
the second does not (control). An identity: ten digits are asked for. Pilot, seed 0: more than fourteen.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    pivot,
    study_grid,
)

CLAIM = Claim(
    id="u13-loss-decomposition",
    title="Squared error splits at the least-squares classifier",
    statement="Squared error with decay equals its value at the least-squares classifier plus 1/2 tr((W - W_LS)(Sigma "
    "+ lambda)(W - W_LS)^T); for balanced classes that value is a part within classes plus one of the class means.",
    source="Han et al., arXiv:2106.02073",
    quantity="per seed, -log10 of the largest relative error of the first identity, for balanced and imbalanced "
    "classes, and of the second, for balanced ones",
    test="superiority",
    margin=10.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=13.0, sd=1.0),
    precondition="none: random features and classifiers",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="C5 d12",
            eps=None,
            runs=study_grid("central_path.decomposition", balanced=(True, False), seed=CLAIM.seeds),
        ),
    ]
}


def errors(run: Run, split_by_class: bool) -> list[float]:
    loss, best, apart = (run.scalar(name) for name in ("loss", "least_squares", "perpendicular"))
    parts = run.scalar("within") + run.scalar("between")
    return [(best + apart) / loss - 1.0, *([parts / best - 1.0] if split_by_class else [])]


def judge(runs: Sequence[Run], split_by_class: tuple[bool, ...] = (True,)) -> Verdict:
    """`split_by_class` says for which runs, by their `balanced`, the second identity is asked for too."""
    _, table = pivot(
        runs,
        "balanced",
        lambda run: digits_of_agreement(*errors(run, run.config.settings["balanced"] in split_by_class)),
    )
    return CLAIM.judge([min(of_seed) for of_seed in table])


def test_squared_error_splits_at_the_least_squares_classifier(supported: Check) -> None:
    supported(judge)


def test_control_imbalanced_classes(control: Check) -> None:
    control("The same with the split by class asked of imbalanced classes too.", judge, (True, False))

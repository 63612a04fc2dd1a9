"""Gradient flow on unconstrained features conserves |W|^2 - |H|^2.

Ji et al., ICLR 2022 (arXiv:2110.02796); Du, Hu & Lee (arXiv:1806.00900) for all homogeneous layers. Descent with
constant small steps of .05 for 16,000 steps, from loss 1.4 to 6e-4: what the difference drifts is compared with how
much the sum has grown. Pilots, seeds 0 and 1: five digits. The control weighs the squares of the features by .9.
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
    not_applicable,
    study_grid,
    unfinished,
)

CLAIM = Claim(
    id="u18-conserved-norms",
    title="The difference of squared norms is conserved",
    statement="Under gradient descent with small steps on unregularised cross-entropy, |W|^2 - |H|^2 changes by less "
    "than a thousandth of the change of |W|^2 + |H|^2.",
    source="Ji et al., arXiv:2110.02796",
    quantity="per seed, -log10 of the change of |W|^2 - |H|^2 over that of |W|^2 + |H|^2, from start to end",
    test="superiority",
    margin=3.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=5.0, sd=0.2),
    precondition="loss at most 1e-2",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="C4 d8", eps=None, runs=study_grid("max_margin.descent", adapt=False, lr=0.05, seed=CLAIM.seeds))
    ]
}


def drift(run: Run, sign: float) -> float:
    """Change of |W|^2 + sign |H|^2, as a share of how much |W|^2 + |H|^2 has grown."""
    classifier, features = (
        run.scalar(name) - run.scalar(name, epoch=0) for name in ("classifier_norm", "feature_norm")
    )
    return (classifier + sign * features) / (classifier + features)


def judge(runs: Sequence[Run], sign: float = -1.0) -> Verdict:
    if reason := unfinished(runs, loss=1e-2):
        return not_applicable(reason)
    return CLAIM.judge([digits_of_agreement(drift(run, sign)) for run in runs])


def test_the_difference_of_squared_norms_is_conserved(supported: Check) -> None:
    supported(judge)


def test_control_weighted_sum(control: Check) -> None:
    control("The same of |W|^2 - .9 |H|^2.", judge, -0.9)

"""Gradient flow on unconstrained features conserves |W|^2 - |H|^2.

Ji et al., ICLR 2022 (arXiv:2110.02796); Du, Hu & Lee (arXiv:1806.00900) for all homogeneous layers. Descent with
constant small steps of .05 for 16,000 steps, from loss 1.4 to 6e-4: what the difference drifts is compared with how
much the sum has grown. Pilots, seeds 0 and 1: five digits. The control weighs the squares of the features by .9.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfinished,
)

DIGITS, ALPHA, SEEDS = 3.0, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="u18-conserved-norms",
    title="The difference of squared norms is conserved",
    statement="Under gradient descent with small steps on unregularised cross-entropy, |W|^2 - |H|^2 changes by less "
    "than a thousandth of the change of |W|^2 + |H|^2.",
    source="Ji et al., arXiv:2110.02796",
    quantity="per seed, -log10 of the change of |W|^2 - |H|^2 over that of |W|^2 + |H|^2, from start to end",
    test="superiority",
    margin=DIGITS,
    alpha=ALPHA,
    power=power("superiority", effect=5.0, sd=0.2, n=len(SEEDS), margin=DIGITS, alpha=ALPHA),
    precondition="loss at most 1e-2",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="C4 d8", eps=None, runs=study_grid("max_margin.descent", adapt=False, lr=0.05, seed=SEEDS))]
}


def drift(run: Run, sign: float) -> float:
    """Of |W|^2 + sign |H|^2, as a share of how much |W|^2 + |H|^2 has grown."""
    classifier, features = (
        run.scalar(name) - run.scalar(name, epoch=0) for name in ("classifier_norm", "feature_norm")
    )
    return (classifier + sign * features) / (classifier + features)


def judge(runs: Sequence[Run], sign: float = -1.0) -> Verdict:
    if reason := unfinished(runs, loss=1e-2):
        return not_applicable(reason)
    return superiority([digits_of_agreement(drift(run, sign)) for run in runs], margin=DIGITS, alpha=ALPHA)


def test_the_difference_of_squared_norms_is_conserved(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_weighted_sum(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same of |W|^2 - .9 |H|^2."
    assert verdict(lambda _: judge(trained, -0.9), control=control) != SUPPORTED

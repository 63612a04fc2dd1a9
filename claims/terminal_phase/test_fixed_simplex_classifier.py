"""A fixed simplex ETF as the last layer is as accurate as a learned classifier, and saves its parameters.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375): the classifier ends as a simplex ETF anyway, so it may as well be fixed.
Their ResNets also cut the features to d = C; here d = 128 stays, and what is saved are exactly the C (d + 1) scalars of
weight and bias. Pilots, seeds 0 to 2: test accuracy higher by -.005, 0 and .005, on 397 test samples. On MNIST-1D two
pilots differed by -.013 and 0, a spread at which this margin asks for more seeds than are worth it. That the ETF is no
worse is the claim; other fixed classifiers might do as well.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    equivalence,
    not_applicable,
    not_terminal,
    study_grid,
    weakest,
)

CLASSES = 10
WIDTH = 128  # of the last hidden layer in terminal_phase.trained
SAVED = CLASSES * (WIDTH + 1)
CLAIM = Claim(
    id="t7-fixed-simplex",
    title="A fixed simplex classifier is as accurate as a learned one",
    statement="With the last layer fixed as a simplex ETF, test accuracy differs by less than 1.5 points from that of "
    f"a learned one, with C (d + 1) = {SAVED} trainable scalars fewer.",
    source="Zhu et al., arXiv:2105.02375, fixed classifier",
    quantity="per seed, difference of test accuracies, fixed less learned; number of trainable scalars saved less "
    "C (d + 1) (margin ±0.5)",
    test="equivalence",
    margin=0.015,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.003, sd=0.005),
    precondition="zero training error in every epoch of the last fifth, of both",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("terminal_phase.trained", classifier=("learned", "simplex"), seed=CLAIM.seeds),
            control_runs=study_grid("terminal_phase.trained", samples=100, classifier="simplex", seed=CLAIM.seeds),
        )
    ]
}


def judge(learned: Sequence[Run], fixed: Sequence[Run]) -> Verdict:
    """Both in the order of the seeds."""
    if reason := not_terminal([*learned, *fixed]):
        return not_applicable(reason)
    pairs = list(zip(learned, fixed, strict=True))
    return weakest(
        {
            "test accuracy": CLAIM.judge([a.scalar(split="test") - b.scalar(split="test") for a, b in pairs]),
            "scalars saved": equivalence(
                [a.scalar("trainable") - b.scalar("trainable") - SAVED for a, b in pairs], margin=0.5, alpha=CLAIM.alpha
            ),
        }
    )


def test_a_fixed_simplex_is_as_accurate_as_a_learned_classifier(supported: Check) -> None:
    supported(lambda runs: judge(runs[: len(CLAIM.seeds)], runs[len(CLAIM.seeds) :]))


def test_control_a_tenth_of_the_samples(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    learned, fixed = runs(setting.runs)[: len(CLAIM.seeds)], runs(setting.control_runs)
    control = "A fixed classifier with features from a tenth of the samples."
    assert verdict(lambda _: judge(learned, fixed), control=control) != SUPPORTED

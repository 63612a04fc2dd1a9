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
    Claim,
    Run,
    Setting,
    Verdict,
    equivalence,
    not_applicable,
    not_terminal,
    power,
    study_grid,
    weakest,
)

MARGIN, CLASSES, ALPHA, SEEDS = 0.015, 10, 0.05, range(1000, 1008)
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
    margin=MARGIN,
    alpha=ALPHA,
    power=power("equivalence", effect=0.003, sd=0.005, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="zero training error in every epoch of the last fifth, of both",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("terminal_phase.trained", classifier=("learned", "simplex"), seed=SEEDS),
            control_runs=study_grid("terminal_phase.trained", samples=100, classifier="simplex", seed=SEEDS),
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
            "test accuracy": equivalence(
                [a.scalar(split="test") - b.scalar(split="test") for a, b in pairs], margin=MARGIN, alpha=ALPHA
            ),
            "scalars saved": equivalence(
                [a.scalar("trainable") - b.scalar("trainable") - SAVED for a, b in pairs], margin=0.5, alpha=ALPHA
            ),
        }
    )


def test_a_fixed_simplex_is_as_accurate_as_a_learned_classifier(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained[: len(SEEDS)], trained[len(SEEDS) :])) == SUPPORTED


def test_control_a_tenth_of_the_samples(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    learned, fixed = runs(setting.runs)[: len(SEEDS)], runs(setting.control_runs)
    control = "A fixed classifier with features from a tenth of the samples."
    assert verdict(lambda _: judge(learned, fixed), control=control) != SUPPORTED

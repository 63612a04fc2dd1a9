"""Random labels are fitted and collapse too, at chance on test data: collapse is a matter of optimisation.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375): CIFAR-10 with its labels permuted, so that classes stay balanced; a
perceptron on digits here, 100 samples a class, each seed with a permutation of its own. Chance accuracy has a spread of
points from seed to seed, as samples of one true class vote together, so that seeds are what is averaged over and no
binomial interval of test samples. Pilots, seeds 0, 1 and 3: NC1 falls by .22 to .24 of a decade in the terminal phase,
slower than with true labels; test accuracy .078, .108, .116.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    digits_over_phase,
    equivalence,
    not_applicable,
    not_terminal,
    study_grid,
    weakest,
)

MARGIN, CHANCE, NEAR = 0.1, 0.1, 0.05
CLAIM = Claim(
    id="t6-random-labels",
    title="Random labels are fitted and collapse, at chance on test data",
    statement="Networks that fit permuted labels have an NC1 that keeps falling in the terminal phase, by more than "
    f"{MARGIN} of a decade, and a test accuracy within {NEAR} of chance.",
    source="Zhu et al., arXiv:2105.02375, experiments with random labels",
    quantity="per seed, -log10 of tr(Sigma_W pinv(Sigma_B)) / C at the onset, the middle and the end of the phase; "
    f"test accuracy less {CHANCE} (margin ±{NEAR})",
    test="trend",
    levels=(0.0, 0.5, 1.0),  # onset, middle and end of the terminal phase
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=(Planned(effect=0.22, sd=0.04), Planned(effect=0.0, sd=0.025, test="equivalence", margin=NEAR)),
    precondition="zero training error in every epoch of the last fifth, on the permuted labels",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("terminal_phase.trained", labels="permuted", seed=CLAIM.seeds),
            control_runs=study_grid("terminal_phase.trained", seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := not_terminal(runs):
        return not_applicable(reason)
    accuracies = [1.0 - run.scalar(split="test") for run in runs]
    return weakest(
        {
            "fall of NC1": CLAIM.judge([digits_over_phase(run, "nc1") for run in runs]),
            "accuracy above chance": equivalence(
                [accuracy - CHANCE for accuracy in accuracies], margin=NEAR, alpha=CLAIM.alpha
            ),
        }
    )


def test_random_labels_collapse_at_chance(supported: Check) -> None:
    supported(judge)


def test_control_true_labels(control: Check) -> None:
    control("The same with the true labels, on which test accuracy is not chance.", judge)

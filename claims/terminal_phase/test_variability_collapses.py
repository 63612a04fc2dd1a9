"""NC1: variability within classes keeps falling in the terminal phase of training.

Papyan, Han & Donoho, PNAS 2020 (arXiv:2008.08186): past zero training error, tr(Sigma_W pinv(Sigma_B)) / C goes on
falling. Their seven data sets with deep convolutional networks are a perceptron on digits and MNIST-1D here, 100
samples a class, with cross-entropy and squared error, SGD and Adam. "Keeps" is a trend over the epoch at which the
training error first reaches 0, the middle of what is left, and the end. Pilots, seeds 0 and 1: falls by .34 to .70 of
a decade; the floor is less than half of that. Most of it lies before the middle, at the first learning rate.
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
    not_applicable,
    not_terminal,
    study_grid,
)

MARGIN = 0.15
CLAIM = Claim(
    id="t1-variability",
    title="NC1 keeps falling past zero training error",
    statement="From the first epoch of zero training error on, NC1 of the last layer's features falls further, past "
    f"the middle of the terminal phase to its end, in all by more than {MARGIN} of a decade.",
    source="Papyan, Han & Donoho, arXiv:2008.08186, NC1",
    quantity="per seed, -log10 of tr(Sigma_W pinv(Sigma_B)) / C at the onset, the middle and the end of the phase",
    test="trend",
    levels=(0.0, 0.5, 1.0),  # onset, middle and end of the terminal phase
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.35, sd=0.06),
    precondition="zero training error in every epoch of the last fifth",
    suite="literature",
)
TRAININGS = {
    "digits": {},
    "digits MSE": {"loss": "squared_error"},
    "digits Adam": {"optimizer": "adam"},
    "mnist1d": {"data": "mnist1d"},
}
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=study_grid("terminal_phase.trained", **of, seed=CLAIM.seeds))
        for name, of in TRAININGS.items()
    ]
}


def judge(runs: Sequence[Run], of: str = "") -> Verdict:
    if reason := not_terminal(runs):
        return not_applicable(reason)
    table = [digits_over_phase(run, f"{of}nc1") for run in runs]
    return CLAIM.judge(table)


def test_variability_keeps_falling(supported: Check) -> None:
    supported(judge)


def test_control_labels_shuffled_for_the_measurement(control: Check) -> None:
    control("The same networks, measured with their labels shuffled.", judge, "shuffled_")

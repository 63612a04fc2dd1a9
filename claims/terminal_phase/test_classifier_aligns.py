"""NC3: the classifier aligns with the class means in the terminal phase of training.

Papyan, Han & Donoho, PNAS 2020 (arXiv:2008.08186): || W / ||W||_F - M / ||M||_F ||_F^2 falls, W the classifier as it
is and M the centred class means. Under squared error W keeps a large part that all its rows share, so that the
distance stays near .8 and only its fall is asked for. Pilots, seeds 0 and 1: falls by .07 to .10 of a decade under
squared error, .15 to .21 otherwise; the floor is less than half of the smallest.
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

MARGIN = 0.03
CLAIM = Claim(
    id="t3-duality",
    title="The classifier keeps aligning with the class means",
    statement="From the first epoch of zero training error on, the distance of classifier and centred class means "
    f"falls further, past the middle of the terminal phase to its end, in all by more than {MARGIN} of a decade.",
    source="Papyan, Han & Donoho, arXiv:2008.08186, NC3",
    quantity="per seed, -log10 of ||W / ||W||_F - M / ||M||_F||_F^2 at the onset, the middle and the end of the phase",
    test="trend",
    levels=(0.0, 0.5, 1.0),  # onset, middle and end of the terminal phase
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.075, sd=0.015),
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
    table = [digits_over_phase(run, f"{of}self_duality") for run in runs]
    return CLAIM.judge(table)


def test_the_classifier_keeps_aligning(supported: Check) -> None:
    supported(judge)


def test_control_labels_shuffled_for_the_measurement(control: Check) -> None:
    control("The same networks, measured with their labels shuffled.", judge, "shuffled_")

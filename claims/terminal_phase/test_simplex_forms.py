"""NC2: class means and classifier rows become equinorm and equiangular in the terminal phase of training.

Papyan, Han & Donoho, PNAS 2020 (arXiv:2008.08186), figures 2 and 3: the spread of norms over their mean, and how far
cosines are from -1 / (C - 1), of centred class means and of the classifier's rows as they are; all four must fall.
Pilots, seeds 0 and 1: falls by .11 to .43 of a decade on digits with either loss and either optimiser, the classifier's
the smallest. On MNIST-1D the classifier's norms spread by .2 of a decade in one pilot and drew together by .07 in the
other, so that the claim might well fail there; it stayed as it was, and did: there and under Adam on digits, it is the
norms of the classifier that do not become equal, while the three other parts hold everywhere.
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
    weakest,
)

MARGIN = 0.04
PARTS = {
    "norms of class means": "equinorm",
    "angles of class means": "equiangularity",
    "norms of the classifier": "classifier_equinorm",
    "angles of the classifier": "classifier_equiangularity",
}
CLAIM = Claim(
    id="t2-simplex",
    title="Means and classifier approach a simplex ETF past zero training error",
    statement="From the first epoch of zero training error on, norms and angles of class means and of classifier rows "
    f"approach those of a simplex ETF, to the end of the terminal phase, each by more than {MARGIN} of a decade.",
    source="Papyan, Han & Donoho, arXiv:2008.08186, NC2",
    quantity="per seed, -log10 of std / mean of norms and of mean |cosine + 1 / (C - 1)|, of centred class means and "
    "of classifier rows, at the onset, the middle and the end of the phase",
    test="trend",
    levels=(0.0, 0.5, 1.0),  # onset, middle and end of the terminal phase
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.12, sd=0.03, times=len(PARTS)),
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
    parts = {}
    for name, metric in PARTS.items():
        table = [digits_over_phase(run, f"{of}{metric}") for run in runs]
        parts[name] = CLAIM.judge(table)
    return weakest(parts)


def test_means_and_classifier_approach_a_simplex(supported: Check) -> None:
    supported(judge)


def test_control_labels_shuffled_for_the_measurement(control: Check) -> None:
    control("The same networks, measured with their labels shuffled.", judge, "shuffled_")

"""NC4: the network comes to decide like the nearest class mean in the terminal phase of training.

Papyan, Han & Donoho, PNAS 2020 (arXiv:2008.08186): the share of training samples that the network labels otherwise
than the nearest class mean falls to 0. Pilots, seeds 0 and 1, on 1000 samples: from 1 to 5 samples at the onset under
cross-entropy and from 21 to 25 under squared error to none before the middle of the phase. So little is left to fall
under cross-entropy that a seed may have nothing: the claim cannot be tested then, and is not applicable. So it came
out: only under squared error is there something to fall in all of the claim's seeds. The floor is half a sample.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    not_terminal,
    study_grid,
    terminal_phase,
)

CLAIM = Claim(
    id="t4-nearest-mean",
    title="Decisions come to be those of the nearest class mean",
    statement="From the first epoch of zero training error on, the share of training samples that the network labels "
    "otherwise than the nearest class mean falls further.",
    source="Papyan, Han & Donoho, arXiv:2008.08186, NC4",
    quantity="per seed, the share of training samples on which network and nearest class mean agree, at the onset, the "
    "middle and the end of the phase",
    test="trend",
    levels=(0.0, 0.5, 1.0),  # onset, middle and end of the terminal phase
    margin=0.0005,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.003, sd=0.001),
    precondition="zero training error in every epoch of the last fifth, and at the onset a sample on which they differ",
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
    table = [[1.0 - run.scalar(f"{of}ncc_mismatch", epoch=epoch) for epoch in terminal_phase(run)] for run in runs]
    if agreed := sum(row[0] == 1.0 for row in table):
        return not_applicable(f"in {agreed} of {len(table)} seeds, network and nearest mean agree from the onset on")
    return CLAIM.judge(table)


def test_decisions_become_those_of_the_nearest_mean(supported: Check) -> None:
    supported(judge)


def test_control_labels_shuffled_for_the_measurement(control: Check) -> None:
    control("The same networks, measured with their labels shuffled.", judge, "shuffled_")

"""The law of data separation is not there at initialisation; training brings it about.

He & Su (arXiv:2210.17020), figure 2: before training log D_l does not fall along the layers. Here it rises: in
untrained networks every layer mixes the classes more, with a correlation near +1. Networks are those of l5. Pilots,
seeds 0 and 1: the smaller of the two parts is .9 and more; the margin is less than half of it.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    log_linearity,
    not_applicable,
    study_grid,
    unfitted,
)

MARGIN = 0.4
CLAIM = Claim(
    id="l6-law-emerges",
    title="The law of separation emerges in training",
    statement=f"The correlation of a layer's index with log fuzziness is above {MARGIN} before training and below "
    f"-{MARGIN} after it.",
    source="He & Su, arXiv:2210.17020, figure 2",
    quantity="per seed, the smaller of r before training and -r after it, r Pearson's of l with log D_l over l = 0..L",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.9, sd=0.1),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="L4", eps=None, runs=study_grid("layers.trained", depth=4, seed=CLAIM.seeds)),
        Setting(name="L8", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(name="L20", eps=None, runs=study_grid("layers.trained", depth=20, seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run], swapped: bool = False) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    values = []
    for run in runs:
        before, after = (straightness(run, epoch) for epoch in (0, run.epochs[-1]))
        values.append(min(after, -before) if swapped else min(before, -after))
    return CLAIM.judge(values)


def straightness(run: Run, epoch: int) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", epoch=epoch, point=point)]
    return log_linearity(values)


def test_the_law_of_separation_emerges_in_training(supported: Check) -> None:
    supported(judge)


def test_control_before_for_after(control: Check) -> None:
    control("The same with before and after in each other's place.", judge, swapped=True)

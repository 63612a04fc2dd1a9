"""Early in training, steps move their own class more than others if labels can be learnt, and alike if they cannot.

Zhang et al. (arXiv:2110.05960) estimate alpha and beta from the motion of the logits; here they are measured: the
change of the logits at samples of a probe's own label and of others, by one small step on it alone, in units of the
change at the probe. Of the first three digits, 2/3 of the labels wrong leave nothing to learn. Pilots, seeds 0 and 1,
alpha/beta after epochs 1 and 2: 1.8 to 2.1 against 1.00 to 1.02. Much of it is in the data: 1.3 to 1.4 at
initialisation. Nothing is said of later epochs, see test_inelastic_on_random_labels.py.
"""

from collections.abc import Sequence
from math import log

import numpy as np

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, pivot, study_grid

CLAIM = Claim(
    id="d4-elastic-learnable",
    title="Early, alpha/beta is larger for labels that can be learnt",
    statement="In the first two epochs, alpha/beta with clean labels exceeds that with labels at random.",
    source="Zhang et al., arXiv:2110.05960",
    quantity="per seed, mean log alpha/beta after the first and the second epoch, clean less random labels",
    test="superiority",
    margin=0.3,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.6, sd=0.1),
    precondition="the clean labels are learnt: training error after the second epoch at most .05",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("local_elasticity.impacts", noise=(0.0, 2 / 3), epochs=2, seed=CLAIM.seeds),
            control_runs=study_grid("local_elasticity.impacts", noise=(0.6, 2 / 3), epochs=2, seed=CLAIM.seeds),
        )
    ]
}


def early(run: Run) -> float:
    return (log(run.scalar("ratio", epoch=1)) + log(run.scalar("ratio", epoch=2))) / 2


def judge(runs: Sequence[Run], learnt: float = 0.05) -> Verdict:
    _, errors = pivot(runs, "noise", lambda run: run.scalar("error", epoch=2))
    if not (worst := np.array(errors, dtype=float)[:, 0].max()) <= learnt:
        return not_applicable(f"training error {worst:.3g} after two epochs, above {learnt:g}")
    _, table = pivot(runs, "noise", early)
    less, more = np.array(table, dtype=float).T
    return CLAIM.judge(less - more)


def test_networks_are_elastic_on_labels_that_can_be_learnt(supported: Check) -> None:
    supported(judge)


def test_control_labels_nearly_at_random(control: Check) -> None:
    control("The same with .6 of the labels wrong in place of none, at whatever training error.", judge, learnt=1.0)

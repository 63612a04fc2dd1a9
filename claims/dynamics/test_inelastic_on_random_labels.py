"""With labels at random, a step moves its own class as much as the others: alpha = beta.

Zhang et al. (arXiv:2110.05960), with alpha and beta measured as in test_elastic_on_learnable_labels.py. Other pilots
(a network on MNIST) saw it early only: 1.05, then 1.3 to 1.7 once the labels were memorised. On digits it was 1.00 to
1.02 after two epochs and .98 and 1.07 at training error 0 after 100 (seeds 0 and 1). Both times are tested.
"""

from collections.abc import Sequence
from math import log

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

CLAIM = Claim(
    id="d5-inelastic-random",
    title="alpha = beta on labels at random",
    statement="With labels at random, the mean of log alpha/beta is within .15 of 0, early and once they are "
    "memorised.",
    source="Zhang et al., arXiv:2110.05960",
    quantity="per seed, log alpha/beta after the last epoch",
    test="equivalence",
    margin=0.15,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.02, sd=0.05),
    precondition="of a training to its end, training error at most .01; of one of two epochs, none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=name,
            eps=None,
            runs=study_grid("local_elasticity.impacts", noise=2 / 3, epochs=epochs, seed=CLAIM.seeds),
            control_runs=study_grid("local_elasticity.impacts", noise=0.0, epochs=2, seed=CLAIM.seeds),
        )
        for name, epochs in (("early", 2), ("memorised", 100))
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if unfitted := [run for run in runs if run.epochs[-1] > 2 and not run.scalar("error") <= 0.01]:
        return not_applicable(f"{unfitted[0].config.name()} did not memorise: error {unfitted[0].scalar('error'):.3f}")
    return CLAIM.judge([log(run.scalar("ratio")) for run in runs])


def test_networks_are_inelastic_on_labels_at_random(supported: Check) -> None:
    supported(judge)


def test_control_clean_labels(control: Check) -> None:
    control("The same with clean labels, after two epochs.", judge)

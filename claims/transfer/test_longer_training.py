"""Training on after the labels are fitted makes the last layer's features transfer worse.

Hui, Belkin & Nakkiran (arXiv:2202.08384): more collapse of the training set can hurt transfer. The runs with
cross-entropy of `x7-separation-transfer`: a linear probe of five digits on the features of a network trained on the
other five, after a twentieth of the epochs, when the labels were fitted in all pilots, and after all of them. Pilots,
seeds 0 to 2: .004, 0 and .002 of accuracy lost. The margin, half a point, is what would matter; the claim was expected
to be refuted or inconclusive. The control exchanges the two.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

FITTED = 0.01
CLAIM = Claim(
    id="x10-longer-training",
    title="Longer training makes the last layer transfer worse",
    statement="From when the labels are fitted to the end of training, linear-probe accuracy on other classes falls by "
    "more than half a point.",
    source="Hui, Belkin & Nakkiran, arXiv:2202.08384",
    quantity="per seed, probe accuracy in the last hidden layer after a twentieth of the epochs less that after all",
    test="superiority",
    margin=0.005,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.012, sd=0.005),
    precondition=f"training error at most {FITTED} after a twentieth of the epochs; class separation has grown since",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="digits", eps=None, runs=study_grid("transfer.losses", seed=CLAIM.seeds))]}


def judge(runs: Sequence[Run], *, reverse: bool = False) -> Verdict:
    lost = []
    for run in runs:
        early, late = run.epochs[1], run.epochs[-1]
        if (error := run.scalar(epoch=early)) > FITTED:
            return not_applicable(f"{run.config.name()} has a training error of {error:.3f} after epoch {early}")
        if run.scalar("separation", epoch=late) <= run.scalar("separation", epoch=early):
            return not_applicable(f"{run.config.name()} did not collapse any further after epoch {early}")
        lost.append(run.scalar("probe", epoch=early, split="test") - run.scalar("probe", epoch=late, split="test"))
    return CLAIM.judge([-one if reverse else one for one in lost])


def test_longer_training_makes_the_last_layer_transfer_worse(supported: Check) -> None:
    supported(judge)


def test_control_reversed(control: Check) -> None:
    control("The end of training in the place of the beginning, and the other way round.", judge, reverse=True)

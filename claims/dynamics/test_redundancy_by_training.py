"""The redundancy of a wide last hidden layer comes about while the network goes on to fit its labels.

Doimo et al. (arXiv:2106.03485, abstract): copies appear in wide networks that are trained to interpolate. What a random
eighth of 512 neurons loses of test accuracy, after 3 epochs and at the end. Pilots: .171 to .125 (seed 0, 30 epochs),
.188 to .114 (seed 1, 60 epochs), so a third of it goes; other pilots on Fashion-MNIST saw three quarters go. The
control is width 32, where the loss grows.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

CLAIM = Claim(
    id="d13-redundancy-training",
    title="Redundancy of a wide layer comes with training",
    statement="What is lost with a random eighth of 512 neurons is smaller at the end of training than after three "
    "epochs, by more than 15 % of it.",
    source="Doimo et al., arXiv:2106.03485",
    quantity="per seed, 1 - (test accuracy lost with an eighth of the neurons at the end) / (the same after 3 epochs)",
    test="superiority",
    margin=0.15,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.35, sd=0.08),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("redundancy.chunks", width=512, seed=CLAIM.seeds),
            control_runs=study_grid("redundancy.chunks", width=32, seed=CLAIM.seeds),
        )
    ]
}


def lost(run: Run, epoch: int) -> float:
    return run.scalar("accuracy", epoch=epoch, split="test") - run.scalar("eighth", epoch=epoch, split="test")


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    shares = [1 - lost(run, run.epochs[-1]) / lost(run, run.epochs[0]) for run in runs]
    return CLAIM.judge(shares)


def test_redundancy_of_a_wide_layer_comes_with_training(supported: Check) -> None:
    supported(judge)


def test_control_a_narrow_layer(control: Check) -> None:
    control("The same of a last hidden layer of 32 neurons.", judge)

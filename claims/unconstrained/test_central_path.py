"""Training under squared error comes near the central path, where the classifier is the least-squares one.

Han, Papyan & Donoho, ICLR 2022 (arXiv:2106.02073): L_perp becomes negligible against L_LS. A network of three hidden
layers of 64 with batch norm on 1,400 digits, 60 epochs. L_perp falls throughout while the learning rate is high only as
far as the noise of the batches allows (.5 at epoch 20); it is after the rate has fallen that it vanishes. Pilots, seeds
0 and 1: L_perp / L_LS .70 and .95 at the start, .32 at epoch 5, .039 and .049 at the end.
"""

from collections.abc import Sequence
from math import log10

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    study_grid,
    superiority,
    unfitted,
    weakest,
)

END, SINCE = 0.1, 0.3
CLAIM = Claim(
    id="u14-central-path",
    title="Training comes near the central path",
    statement="At the end of training under squared error L_perp is less than a tenth of L_LS, and that ratio less "
    "than .3 of what it was after 5 epochs.",
    source="Han et al., arXiv:2106.02073",
    quantity="per seed, -log10 of L_perp / L_LS on the training set at the end, and of its ratio to that after 5 "
    "epochs (margin .52)",
    test="superiority",
    margin=-log10(END),
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=(Planned(effect=1.35, sd=0.15), Planned(effect=0.85, sd=0.15, margin=-log10(SINCE))),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="digits", eps=None, runs=study_grid("central_path.network", seed=CLAIM.seeds))]}


def distance(run: Run, epoch: int) -> float:
    """From the central path, log10."""
    return log10(run.scalar("perpendicular", epoch=epoch) / run.scalar("least_squares", epoch=epoch))


def judge(runs: Sequence[Run], end: int = 60) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    parts = {
        "at the end": ([-distance(run, end) for run in runs], END),
        "since epoch 5": ([distance(run, 5) - distance(run, end) for run in runs], SINCE),
    }
    return weakest({name: superiority(x, margin=-log10(most), alpha=CLAIM.alpha) for name, (x, most) in parts.items()})


def test_training_comes_near_the_central_path(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same with the untrained network in place of the trained one.", judge, 0)

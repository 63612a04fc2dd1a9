"""Once the loss is below the threshold of separation, the normalised margin of a homogeneous network does not decrease.

Lyu & Li (arXiv:1906.05890): under gradient flow, and gradient descent of small steps, it grows while the loss goes on
to 0. A ReLU network of one hidden layer, homogeneous of order 2 with a bias in the first layer only, full-batch
gradient descent in float64 on 60 samples of each of the first three digits. Their theorem is about a smoothed margin
that approaches the plain one, which is measured here, every 20 steps from the first with loss below log 2 / n. Pilots,
seeds 0 and 1: it grew by .49 and .49, and by at least .0017 from each measurement to the next. Nothing is said of the
limit.
"""

from collections.abc import Sequence
from itertools import pairwise

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, superiority, weakest

MARGIN, DROP = 0.2, 1e-4
CLAIM = Claim(
    id="d8-margin-grows",
    title="The normalised margin grows after separation",
    statement="From a loss below log 2 / n on, the normalised margin never falls by more than a ten-thousandth of "
    f"itself between measurements, and it grows by more than {MARGIN:g} of what it was.",
    source="Lyu & Li, arXiv:1906.05890",
    quantity="per seed, growth of the normalised margin since separation, as a share; the least relative change from "
    f"one measurement to the next (margin -{DROP:g})",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=(Planned(effect=0.45, sd=0.05), Planned(effect=1e-3, sd=5e-4, margin=-DROP)),
    precondition="the loss falls below log 2 / n, at least 20 measurements before the end",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("implicit_bias.margin", samples=60, lr=0.1, steps=2000, seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run], order: slice = slice(None)) -> Verdict:
    growth, least = [], []
    for run in runs:
        first = run.scalar("first_separated")
        epochs = [epoch for epoch in run.epochs if epoch >= first][order]
        if first < 0 or len(epochs) < 20:
            return not_applicable(f"{run.config.name()} did not separate its samples in time")
        margins = [run.scalar("margin", epoch=epoch) for epoch in epochs]
        growth.append(margins[-1] / margins[0] - 1)
        least.append(min(after / before - 1 for before, after in pairwise(margins)))
    return weakest(
        {
            "growth": CLAIM.judge(growth),
            "least change": superiority(least, margin=-DROP, alpha=CLAIM.alpha),
        }
    )


def test_the_normalised_margin_grows_after_separation(supported: Check) -> None:
    supported(judge)


def test_control_time_reversed(control: Check) -> None:
    control("The same with the measurements in reverse order.", judge, slice(None, None, -1))

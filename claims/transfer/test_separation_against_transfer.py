"""Losses that separate classes more transfer worse.

Kornblith et al., NeurIPS 2021 (arXiv:2010.16402): nine losses on ImageNet, linear probes on eight sets. Here
six of them on five digits, drawn by the seed, and a linear probe of the other five from 10 samples each. Pilots, seeds
0 to 2: rank correlations over the losses of -.94, -.6 and -.99; the margin is less than half of that.
"""

from collections.abc import Sequence

from scipy.stats import spearmanr

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    pivot,
    study_grid,
    unfitted,
)

MARGIN, CHANCE = 0.3, 0.2
LOSSES = ("cross_entropy", "label_smoothing", "logit_penalty", "sigmoid", "cosine", "squared_error")
CLAIM = Claim(
    id="x7-separation-transfer",
    title="Losses that separate more transfer worse",
    statement="Over losses, class separation R^2 on the source and linear-probe accuracy on other classes are "
    f"anti-correlated: rank correlation below -{MARGIN}.",
    source="Kornblith et al., arXiv:2010.16402",
    quantity="per seed, -1 times the rank correlation over six losses of R^2 of the source training samples in the "
    "last hidden layer and probe accuracy on the target classes",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.75, sd=0.2),
    precondition="training error at most 0.01, probe accuracy above chance",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="digits", eps=None, runs=study_grid("transfer.losses", loss=LOSSES, seed=CLAIM.seeds))]
}


def judge(runs: Sequence[Run], shift: int = 0) -> Verdict:
    """With `shift`, each loss's separation is held against the probe of one so many places on in the alphabet."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    _, separations = pivot(runs, "loss", lambda run: run.scalar("separation"))
    _, probes = pivot(runs, "loss", lambda run: run.scalar("probe", split="test"))
    if not (least := min(map(min, probes))) > CHANCE:
        return not_applicable(f"probe accuracy {least:.3f} is not above chance: the features tell nothing")
    pairs = zip(separations, probes, strict=True)
    correlations = [float(spearmanr(of, [*on[shift:], *on[:shift]]).statistic) for of, on in pairs]
    return CLAIM.judge([-correlation for correlation in correlations])


def test_losses_that_separate_more_transfer_worse(supported: Check) -> None:
    supported(judge)


def test_control_losses_shifted(control: Check) -> None:
    control("The separation of every loss against the probe of another.", judge, 2)

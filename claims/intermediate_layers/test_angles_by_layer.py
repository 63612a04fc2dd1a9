"""Class means are further apart in angle with every layer.

Parker et al. (arXiv:2308.02760): "the angular separation of class means increases consistently with layer depth".
Measured as the mean distance of their cosines from those of a simplex ETF; networks are those of l1. Pilots, seeds 0
and 1: correlations of .9 and more with batch norm; without it they lie about 0 after He initialisation and about -1 in
torch's default, so that the claim as it is usually stated, of any network, is not expected to hold. The margin is half
of 1.
"""

from collections.abc import Sequence

from scipy.stats import spearmanr

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

MARGIN = 0.5
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l2-angles-by-layer",
    title="Angles between class means grow with depth",
    statement="The rank correlation of a layer's index with the angular separation of its class means is above "
    f"{MARGIN}.",
    source="Parker et al., arXiv:2308.02760, abstract",
    quantity="per seed, minus Spearman's correlation of l with the mean |cos(m_i, m_j) + 1/(C - 1)| over hidden layers",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.95, sd=0.1),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="batch norm", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(name="He", eps=None, runs=study_grid("layers.trained", start="he", **PLAIN, seed=CLAIM.seeds)),
        Setting(name="default", eps=None, runs=study_grid("layers.trained", **PLAIN, seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return CLAIM.judge([growth(run) for run in runs])


def growth(run: Run, epoch: int | None = None) -> float:
    values = run.profile("equiangularity", epoch=epoch, point="out")
    return -float(spearmanr(range(len(values)), values).statistic)


def test_angles_between_class_means_grow_with_depth(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same before training.", lambda runs: CLAIM.judge([growth(run, epoch=0) for run in runs]))

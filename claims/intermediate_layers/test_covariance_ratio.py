"""The ratio of within-class to between-class covariance falls with every layer.

Rangamani et al. (ICML 2023): intermediate neural collapse, in networks trained with the squared error. The ratio is
tr(Sigma_W) / tr(Sigma_B), which counts variability in every direction, while the NC1 of l1 counts only that between
class means: in default-initialised networks without batch norm this ratio falls along the layers where that NC1 does
not. Pilots, seeds 0 and 1: correlations of 1 in both settings. The margin is half of 1.
"""

from collections.abc import Sequence

from scipy.stats import spearmanr

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

MARGIN = 0.5
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l9-covariance-ratio",
    title="The covariance ratio falls with depth",
    statement="The rank correlation of a layer's index with tr(Sigma_W) / tr(Sigma_B) is below "
    f"-{MARGIN} over the hidden layers.",
    source="Rangamani et al., ICML 2023",
    quantity="per seed, minus Spearman's correlation of l with tr(Sigma_W) / tr(Sigma_B) over hidden layers",
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
        Setting(name="squared", eps=None, runs=study_grid("layers.trained", loss="squared", depth=5, seed=CLAIM.seeds)),
        Setting(name="default", eps=None, runs=study_grid("layers.trained", **PLAIN, seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return CLAIM.judge([fall(run) for run in runs])


def fall(run: Run, epoch: int | None = None) -> float:
    values = run.profile("nc1_trace", epoch=epoch, point="out")
    return -float(spearmanr(range(len(values)), values).statistic)


def test_the_covariance_ratio_falls_with_depth(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same before training.", lambda runs: CLAIM.judge([fall(run, epoch=0) for run in runs]))

"""With a drift along label residuals, alpha > beta > 0 is said to bring class means to a simplex ETF.

Zhang et al. (arXiv:2110.05960), L-model of the LE-ODE, dX_k = (1/K) sum_l E_kl H_kl X_l. What H_kl is, they leave to be
guessed: with d_k along e_k - 1/K, either d_k d_k^T, which the estimators of their repository fit (here `own`), or d_k
d_l^T, which their narrative fits (`cross`). The eigenvalues say that `own` ends in a simplex ETF if and only if beta <
0, `cross` if and only if beta > 0. Three classes cannot tell: there, either gives one for every beta but 0. The claim
is tested as it is usually stated, in both readings; for `own` and five classes it must come out REFUTED. Pilots, seeds
0 and 1, five classes, beta .3: distances .82 and .74 for `own`, 6e-16 for `cross`; three classes: below 1e-15.
"""

from collections.abc import Sequence
from math import log10

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, study_grid

CLAIM = Claim(
    id="d2-residual-drift-simplex",
    title="Local elasticity brings class means to a simplex ETF",
    statement="With a drift along label residuals and alpha > beta > 0, centred class means tend to a simplex ETF.",
    source="Zhang et al., arXiv:2110.05960, L-model",
    quantity="per seed, -log10 of the distance of the centred class means to a simplex ETF",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=10.0, sd=1.0),
    precondition="none: the end is known to rounding",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"{reading} C{classes}",
            eps=None,
            runs=study_grid(
                "elastic_dynamics.residual_drift", classes=classes, beta=0.3, reading=reading, seed=CLAIM.seeds
            ),
        )
        for reading in ("own", "cross")
        for classes in (5, 3)
    ]
}


def judge(runs: Sequence[Run], metric: str = "etf_distance") -> Verdict:
    digits = [-log10(max(run.scalar(metric), 1e-16)) for run in runs]
    return CLAIM.judge(digits)


def test_local_elasticity_brings_class_means_to_a_simplex(supported: Check) -> None:
    supported(judge)


def test_control_class_means_at_the_start(control: Check) -> None:
    control("The same of the random class means that the flow begins with.", judge, "etf_distance_at_start")

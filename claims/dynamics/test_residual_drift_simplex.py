"""With a drift along label residuals, alpha > beta > 0 is said to bring class means to a simplex ETF.

Zhang et al. (arXiv:2110.05960), L-model of the LE-ODE, dX_k = (1/K) sum_l E_kl H_kl X_l. What H_kl is, they leave to be
guessed: with d_k along e_k - 1/K, either d_k d_k^T, which the estimators of their repository fit (here `own`), or d_k
d_l^T, which their narrative fits (`cross`). The eigenvalues say that `own` ends in a simplex ETF if and only if beta <
0, `cross` if and only if beta > 0. Three classes cannot tell: there, either gives one for every beta but 0. The claim
is tested as it is usually stated, in both readings; for `own` and five classes it must come out REFUTED. Pilots, seeds
0 and 1, five classes, beta .3: distances .82 and .74 for `own`, 6e-16 for `cross`; three classes: below 1e-15.
"""

from collections.abc import Callable, Sequence
from math import log10

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, power, study_grid, superiority

DIGITS, ALPHA, SEEDS = 4.0, 0.05, range(1000, 1006)
CLAIM = Claim(
    id="d2-residual-drift-simplex",
    title="Local elasticity brings class means to a simplex ETF",
    statement="With a drift along label residuals and alpha > beta > 0, centred class means tend to a simplex ETF.",
    source="Zhang et al., arXiv:2110.05960, L-model",
    quantity="per seed, -log10 of the distance of the centred class means to a simplex ETF",
    test="superiority",
    margin=DIGITS,
    alpha=ALPHA,
    power=power("superiority", effect=10.0, sd=1.0, n=len(SEEDS), margin=DIGITS, alpha=ALPHA),
    precondition="none: the end is known to rounding",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"{reading} C{classes}",
            eps=None,
            runs=study_grid("elastic_dynamics.residual_drift", classes=classes, beta=0.3, reading=reading, seed=SEEDS),
        )
        for reading in ("own", "cross")
        for classes in (5, 3)
    ]
}


def judge(runs: Sequence[Run], metric: str = "etf_distance") -> Verdict:
    digits = [-log10(max(run.scalar(metric), 1e-16)) for run in runs]
    return superiority(digits, margin=DIGITS, alpha=ALPHA)


def test_local_elasticity_brings_class_means_to_a_simplex(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_class_means_at_the_start(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same of the random class means that the flow begins with."
    assert verdict(lambda _: judge(trained, "etf_distance_at_start"), control=control) != SUPPORTED

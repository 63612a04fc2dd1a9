"""The law of data separation: every layer multiplies the fuzziness of the classes by about the same factor.

He & Su (arXiv:2210.17020): log D_l is close to linear in l for trained networks, D = tr(SS_w pinv(SS_b)), the raw
inputs being layer 0. They train networks of width 100 with batch norm, 4, 8 and 20 layers, 100 samples of each class,
for 600 epochs; here 60 on digits. Pilots, seeds 0 and 1: -r of .999 at 4 layers, .978 at 8, .970 and .979 with Adam,
.942 and .939 at 20, which is short of the margin. The margin is what claims about this law ask for at 20 layers; no r
can be halved in a way that means anything.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    log_linearity,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfitted,
)

MARGIN, ALPHA, SEEDS = 0.95, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="l5-separation-law",
    title="Log fuzziness is linear in depth",
    statement=f"Pearson's correlation of a layer's index with -log fuzziness is above {MARGIN}, inputs included.",
    source="He & Su, arXiv:2210.17020, figure 1",
    quantity="per seed, minus Pearson's r of l with log D_l over l = 0..L, D = tr(SS_w pinv(SS_b))",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.98, sd=0.01, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="L4", eps=None, runs=study_grid("layers.trained", depth=4, seed=SEEDS)),
        Setting(name="L8", eps=None, runs=study_grid("layers.trained", seed=SEEDS)),
        Setting(name="L8 adam", eps=None, runs=study_grid("layers.trained", method="adam", lr=1e-3, seed=SEEDS)),
        Setting(name="L20", eps=None, runs=study_grid("layers.trained", depth=20, seed=SEEDS)),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return superiority([-straightness(run) for run in runs], margin=MARGIN, alpha=ALPHA)


def straightness(run: Run, epoch: int | None = None) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", epoch=epoch, point=point)]
    return log_linearity(values)


def test_log_fuzziness_is_linear_in_depth(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_untrained(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    untrained = [-straightness(run, epoch=0) for run in runs(setting.runs)]
    control = "The same before training."
    assert verdict(lambda _: superiority(untrained, margin=MARGIN, alpha=ALPHA), control=control) != SUPPORTED

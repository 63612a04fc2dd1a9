"""The law of data separation: every layer multiplies the fuzziness of the classes by about the same factor.

He & Su (arXiv:2210.17020): log D_l is close to linear in l for trained networks, D = tr(SS_w pinv(SS_b)), the raw
inputs being layer 0. They train networks of width 100 with batch norm, 4, 8 and 20 layers, 100 samples of each class,
for 600 epochs; here 60 on digits. Pilots, seeds 0 and 1: -r of .999 at 4 layers, .978 at 8, .970 and .979 with Adam,
.942 and .939 at 20, which is short of the margin. The margin is what claims about this law ask for at 20 layers; no r
can be halved in a way that means anything.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    log_linearity,
    not_applicable,
    study_grid,
    unfitted,
)

MARGIN = 0.95
CLAIM = Claim(
    id="l5-separation-law",
    title="Log fuzziness is linear in depth",
    statement=f"Pearson's correlation of a layer's index with -log fuzziness is above {MARGIN}, inputs included.",
    source="He & Su, arXiv:2210.17020, figure 1",
    quantity="per seed, minus Pearson's r of l with log D_l over l = 0..L, D = tr(SS_w pinv(SS_b))",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.98, sd=0.01),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="L4", eps=None, runs=study_grid("layers.trained", depth=4, seed=CLAIM.seeds)),
        Setting(name="L8", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
        Setting(name="L8 adam", eps=None, runs=study_grid("layers.trained", method="adam", lr=1e-3, seed=CLAIM.seeds)),
        Setting(name="L20", eps=None, runs=study_grid("layers.trained", depth=20, seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return CLAIM.judge([-straightness(run) for run in runs])


def straightness(run: Run, epoch: int | None = None) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", epoch=epoch, point=point)]
    return log_linearity(values)


def test_log_fuzziness_is_linear_in_depth(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same before training.", lambda runs: CLAIM.judge([-straightness(run, epoch=0) for run in runs]))

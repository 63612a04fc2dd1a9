"""The law of data separation is not there at initialisation; training brings it about.

He & Su (arXiv:2210.17020), figure 2: before training log D_l does not fall along the layers. Here it rises: in
untrained networks every layer mixes the classes more, with a correlation near +1. Networks are those of l5. Pilots,
seeds 0 and 1: the smaller of the two parts is .9 and more; the margin is less than half of it.
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

MARGIN, ALPHA, SEEDS = 0.4, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="l6-law-emerges",
    title="The law of separation emerges in training",
    statement=f"The correlation of a layer's index with log fuzziness is above {MARGIN} before training and below "
    f"-{MARGIN} after it.",
    source="He & Su, arXiv:2210.17020, figure 2",
    quantity="per seed, the smaller of r before training and -r after it, r Pearson's of l with log D_l over l = 0..L",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.9, sd=0.1, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="L4", eps=None, runs=study_grid("layers.trained", depth=4, seed=SEEDS)),
        Setting(name="L8", eps=None, runs=study_grid("layers.trained", seed=SEEDS)),
        Setting(name="L20", eps=None, runs=study_grid("layers.trained", depth=20, seed=SEEDS)),
    ]
}


def judge(runs: Sequence[Run], swapped: bool = False) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    values = []
    for run in runs:
        before, after = (straightness(run, epoch) for epoch in (0, run.epochs[-1]))
        values.append(min(after, -before) if swapped else min(before, -after))
    return superiority(values, margin=MARGIN, alpha=ALPHA)


def straightness(run: Run, epoch: int) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", epoch=epoch, point=point)]
    return log_linearity(values)


def test_the_law_of_separation_emerges_in_training(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_before_for_after(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same with before and after in each other's place."
    assert verdict(lambda _: judge(trained, swapped=True), control=control) != SUPPORTED

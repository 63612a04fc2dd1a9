"""Minority collapse as usually stated: under strong imbalance the minority classifiers become parallel.

Fang et al., PNAS 2021 (arXiv:2101.12699): in the layer-peeled model the cosine is exactly 1 above a threshold ratio.
Networks are far from there: pilots, seeds 0 to 3, have a mean cosine of .10 to .15 at R = 70 after 1,500 steps, .05
after 3,000 (seed 0), and the claim was expected to be refuted in them. That the cosine rises is `i1-minority-cosine`.
"""

from collections.abc import Callable, Sequence

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, not_applicable, power, study_grid, superiority, unfitted

COSINE, NORM, ALPHA, SEEDS = 0.9, 0.1, 0.05, range(1000, 1008)
CLAIM = Claim(
    id="i2-minority-collapse",
    title="Minority classifiers become parallel",
    statement="In networks trained on strongly step-imbalanced data (R = 70), the mean cosine between the classifier "
    f"rows of minority classes is above {COSINE}.",
    source="Fang et al., arXiv:2101.12699, as read for networks",
    quantity="per seed, the mean cosine over pairs of the 5 minority rows of the last layer",
    test="superiority",
    margin=COSINE,
    alpha=ALPHA,
    power=power("superiority", effect=1.0, sd=0.05, n=len(SEEDS), margin=COSINE, alpha=ALPHA),
    precondition=f"training error at most 0.01; minority rows' mean norm at least {NORM} of the majority rows'",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("imbalance.step", ratio=70, seed=SEEDS),
            control_runs=study_grid("imbalance.step", ratio=1, seed=SEEDS),
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    if least := [run for run in runs if run.scalar("norm_ratio") < NORM]:
        return not_applicable(f"{least[0].config.name()}: the minority rows vanished and have no angles")
    return superiority([run.scalar("minority_cosine") for run in runs], margin=COSINE, alpha=ALPHA)


def test_minority_classifiers_become_parallel(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_balanced(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    trained = runs(setting.control_runs)
    control = "The same five classes where all have 140 samples."
    assert verdict(lambda _: judge(trained), control=control) != SUPPORTED

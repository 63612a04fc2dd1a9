"""Minority collapse as usually stated: under strong imbalance the minority classifiers become parallel.

Fang et al., PNAS 2021 (arXiv:2101.12699): in the layer-peeled model the cosine is exactly 1 above a threshold ratio.
Networks are far from there: pilots, seeds 0 to 3, have a mean cosine of .10 to .15 at R = 70 after 1,500 steps, .05
after 3,000 (seed 0), and the claim was expected to be refuted in them. That the cosine rises is `i1-minority-cosine`.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

COSINE, NORM = 0.9, 0.1
CLAIM = Claim(
    id="i2-minority-collapse",
    title="Minority classifiers become parallel",
    statement="In networks trained on strongly step-imbalanced data (R = 70), the mean cosine between the classifier "
    f"rows of minority classes is above {COSINE}.",
    source="Fang et al., arXiv:2101.12699, as read for networks",
    quantity="per seed, the mean cosine over pairs of the 5 minority rows of the last layer",
    test="superiority",
    margin=COSINE,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=1.0, sd=0.05),
    precondition=f"training error at most 0.01; minority rows' mean norm at least {NORM} of the majority rows'",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=study_grid("imbalance.step", ratio=70, seed=CLAIM.seeds),
            control_runs=study_grid("imbalance.step", ratio=1, seed=CLAIM.seeds),
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    if least := [run for run in runs if run.scalar("norm_ratio") < NORM]:
        return not_applicable(f"{least[0].config.name()}: the minority rows vanished and have no angles")
    return CLAIM.judge([run.scalar("minority_cosine") for run in runs])


def test_minority_classifiers_become_parallel(supported: Check) -> None:
    supported(judge)


def test_control_balanced(control: Check) -> None:
    control("The same five classes where all have 140 samples.", judge)

"""Above the ratio R0 the cosine between small classes' classifiers is 1, as minority collapse is usually shown.

Fang et al., PNAS 2021 (arXiv:2101.12699). It holds where the small classes keep a classifier of some norm (5+5 classes,
R0 = 12.2). Where their rows vanish, as with 7+3 classes above R0 = 4.0, the cosine is that of rounding errors: .9992,
.691 and .991 for seeds 0 to 2 of the pilots at norms of 1e-8 of the whole. There the claim is expected to be REFUTED or
INCONCLUSIVE; u10 takes the spread instead. Pilots of 5+5: 1 to eight digits; half of those of 3 seeds and 3 ratios of
7+3 were below .99.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    study_grid,
    unfinished,
)

CLAIM = Claim(
    id="u12-minority-cosine",
    title="The cosine of small classes' classifiers tells minority collapse",
    statement="Above the ratio R0 of class sizes, the average cosine between the small classes' classifiers is 1.",
    source="Fang et al., arXiv:2101.12699",
    quantity="per seed, average cosine over pairs of rows of W of small classes",
    test="superiority",
    margin=0.99,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=1.0, sd=0.002),
    precondition="the largest entry of the gradient at most 1e-8, two starts within 1e-6 of each other, and neither "
    "bound slack",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=f"{10 - small}+{small} classes, R {ratio:g}",
                eps=None,
                runs=study_grid(
                    "layer_peeled.minimum", ratio=ratio, majority=10 - small, minority=small, seed=CLAIM.seeds
                ),
                control_runs=study_grid(
                    "layer_peeled.minimum", ratio=3.0, majority=10 - small, minority=small, seed=CLAIM.seeds
                ),
            )
            for small, ratio in ((5, 31.0), (3, 10.0))
        ),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8, disagreement=1e-6, slack=0.0):
        return not_applicable(reason)
    return CLAIM.judge([run.scalar("cosine") for run in runs])


def test_the_cosine_of_small_classes_classifiers_is_one(supported: Check) -> None:
    supported(judge)


def test_control_below_the_threshold(control: Check) -> None:
    control("The same at a ratio of sizes of 3, below R0.", judge)

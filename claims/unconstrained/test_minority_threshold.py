"""Minority collapse sets in earlier for tighter bounds and for fewer small classes.

Fang et al., PNAS 2021 (arXiv:2101.12699): R0 moves with the bounds and with the numbers of classes of either size. At
one ratio between two thresholds, one model has merged and the other has not. Thresholds of the pilots: E_H 2.5, 5, 10
with 5+5 classes 3.74, 12.2, 81; E_H 5 with 7+3 classes 4.0, with 3+7 245. Pilots, seeds 0 and 1: spreads of 1e-8 to
6e-8 against .32 to .42, seven orders apart; three are asked for.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    pivot,
    study_grid,
    unfinished,
)

CLAIM = Claim(
    id="u11-minority-threshold",
    title="Minority collapse comes earlier under tighter bounds",
    statement="The ratio of class sizes from which on small classes' classifiers merge is smaller for tighter bounds "
    "on the features and for fewer small classes.",
    source="Fang et al., arXiv:2101.12699",
    quantity="per seed, log10 of |W_min - mean of its rows| / |W| of the model with looser bounds or more small "
    "classes, minus that of the other, at one ratio of sizes",
    test="superiority",
    margin=3.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.5, sd=0.7),
    precondition="the largest entry of the gradient at most 1e-8, two starts within 1e-6 of each other, and neither "
    "bound slack",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="E_H 2.5 before 5",
            eps=None,
            runs=study_grid("layer_peeled.minimum", ratio=6.8, feature_level=(2.5, 5.0), seed=CLAIM.seeds),
        ),
        Setting(
            name="E_H 5 before 10",
            eps=None,
            runs=study_grid("layer_peeled.minimum", ratio=31.0, feature_level=(5.0, 10.0), seed=CLAIM.seeds),
        ),
        *(
            Setting(
                name=f"{10 - few}+{few} classes before {10 - many}+{many}",
                eps=None,
                runs=[
                    study
                    for small in (few, many)
                    for study in study_grid(
                        "layer_peeled.minimum", ratio=ratio, majority=10 - small, minority=small, seed=CLAIM.seeds
                    )
                ],
            )
            for few, many, ratio in ((3, 5, 7.0), (5, 7, 54.0))
        ),
    ]
}


def judge(runs: Sequence[Run], order: slice = slice(None)) -> Verdict:
    """`order` is that of the two models, the one that merges earlier first."""
    if reason := unfinished(runs, gradient=1e-8, disagreement=1e-6, slack=0.0):
        return not_applicable(reason)
    axis = "minority" if len({run.config.settings["minority"] for run in runs}) == 2 else "feature_level"
    _, spreads = pivot(runs, axis, lambda run: -digits_of_agreement(run.scalar("spread")))
    pairs = [of_seed[order] for of_seed in spreads]
    return CLAIM.judge([later - earlier for earlier, later in pairs])


def test_minority_collapse_comes_earlier_under_tighter_bounds(supported: Check) -> None:
    supported(judge)


def test_control_models_exchanged(control: Check) -> None:
    control("The same with the two models exchanged.", judge, slice(None, None, -1))

"""Above a ratio R0 of class sizes the classifiers of the small classes become one vector, abruptly.

Fang et al., PNAS 2021 (arXiv:2101.12699), the layer-peeled model. R0 was bracketed in pilots (C = 10, half of the
classes small, |w|^2 at most 1 on average): 3.74 for |h|^2 at most 2.5, 12.2 for 5. The claim is on both sides: at 1.25
R0 the small classes' rows of W agree to five digits, at .8 R0 their spread is above .1 of |W|. Told by the spread,
never by the cosine alone (u12). Pilots, seed 0: seven digits above, .205 and .266 below; the rows keep .21 of the norm
of W.
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
    superiority,
    unfinished,
    weakest,
)

SPREAD = 0.1
CLAIM = Claim(
    id="u10-minority-collapse",
    title="Small classes' classifiers merge above a ratio of sizes",
    statement="In the layer-peeled model with two class sizes, the small classes' classifiers are one vector at 1.25 "
    "times a ratio R0 of the sizes, and apart at .8 times it.",
    source="Fang et al., arXiv:2101.12699",
    quantity="per seed, |W_min - mean of its rows| / |W|: -log10 of it at 1.25 R0, and itself at .8 R0 (margin .1)",
    test="superiority",
    margin=5.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=(Planned(effect=7.0, sd=0.5), Planned(effect=0.2, sd=0.02, margin=SPREAD)),
    precondition="the largest entry of the gradient at most 1e-8, two starts within 1e-6 of each other, and neither "
    "bound slack",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=f"5+5 classes, E_H {level:g}",
                eps=None,
                runs=study_grid(
                    "layer_peeled.minimum",
                    ratio=(0.8 * threshold, 1.25 * threshold),
                    feature_level=level,
                    seed=CLAIM.seeds,
                ),
                control_runs=study_grid("layer_peeled.minimum", feature_level=level, seed=CLAIM.seeds),
            )
            for level, threshold in ((2.5, 3.74), (5.0, 12.2))
        ),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8, disagreement=1e-6, slack=0.0):
        return not_applicable(reason)
    _, spreads = pivot(runs, "ratio", lambda run: run.scalar("spread"))
    merged = [digits_of_agreement(of_seed[-1]) for of_seed in spreads]
    return weakest(
        {
            "above": CLAIM.judge(merged),
            "below": superiority([of_seed[0] for of_seed in spreads], margin=SPREAD, alpha=CLAIM.alpha),
        }
    )


def test_small_classes_classifiers_merge_above_a_ratio_of_sizes(supported: Check) -> None:
    supported(judge)


def test_control_equal_sizes(control: Check) -> None:
    control("The same with classes of equal size.", judge)

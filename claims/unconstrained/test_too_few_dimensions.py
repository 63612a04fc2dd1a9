"""With fewer than C - 1 dimensions minimisers are still collapsed, though not to a simplex ETF.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), where d of at least C - 1 is assumed; what else is known of this case:
Jiang et al. (arXiv:2310.05351). The distance to an ETF is at least .965, .699 and .385 for d = 2, 4 and 6 with C = 8,
whatever the vectors, so that part could only fail by a fault of the measurement; that NC1 is 0 could. Pilots, seed 0:
more than sixteen digits of NC1; distances .966, .699 and .473.
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
    study_grid,
    superiority,
    unfinished,
    weakest,
)

DISTANCE = 0.24
CLAIM = Claim(
    id="u24-too-few-dimensions",
    title="Too few dimensions: collapsed, but no simplex ETF",
    statement="With d below C - 1, minimisers of regularised cross-entropy over features and classifier have NC1 = 0 "
    "and class means that are no simplex ETF.",
    source="the case that Zhu et al., arXiv:2105.02375, theorem 3.1, leaves out",
    quantity="per seed, -log10 of tr(Sigma_W) / tr(Sigma_B), and distance of the class means to an ETF (margin .24)",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=(Planned(effect=10.0, sd=1.0), Planned(effect=0.47, sd=0.05, margin=DISTANCE)),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=f"C8 d{dim}",
                eps=None,
                runs=study_grid("unconstrained.minimum", classes=8, dim=dim, seed=CLAIM.seeds),
                control_runs=study_grid("unconstrained.minimum", classes=8, dim=16, seed=CLAIM.seeds),
            )
            for dim in (2, 4, 6)
        ),
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    collapse = [digits_of_agreement(run.scalar("nc1_trace")) for run in runs]
    return weakest(
        {
            "collapsed": CLAIM.judge(collapse),
            "no ETF": superiority([run.scalar("etf_distance") for run in runs], margin=DISTANCE, alpha=CLAIM.alpha),
        }
    )


def test_too_few_dimensions_collapse_without_an_etf(supported: Check) -> None:
    supported(judge)


def test_control_dimensions_enough(control: Check) -> None:
    control("The same with d = 16, in which a simplex ETF fits.", judge)

"""Label smoothing, focal, normalised and supervised contrastive losses have collapsed simplex ETFs as minimisers too.

Zhou et al., NeurIPS 2022 (arXiv:2210.02192); on the unit sphere Lu & Steinerberger (arXiv:2012.08465) and Yaras et al.
(arXiv:2209.09211); Graf et al., ICML 2021 (arXiv:2102.08817). The least values of the last two are known and compared
too. Pilots, seed 0: eight digits and more; supervised contrastive with d = 2 collapses .61 away from an ETF.
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
    id="u19-other-losses",
    title="Other losses have collapsed simplex ETFs as minimisers",
    statement="With d of at least C - 1, minimisers of label-smoothed and focal loss with decay, of cross-entropy on "
    "the sphere and of supervised contrastive loss have NC1 = 0 and class means in a simplex ETF.",
    source="Zhou et al., arXiv:2210.02192; Lu & Steinerberger, arXiv:2012.08465; Graf et al., arXiv:2102.08817",
    quantity="per seed, -log10 of the largest of: tr(Sigma_W) / tr(Sigma_B), distance of the means to an ETF, and on "
    "the sphere what the loss exceeds its least value by",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.5, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=loss,
                eps=None,
                runs=study_grid("losses.minimum", loss=loss, dim=(3, 8), seed=CLAIM.seeds),
                control_runs=study_grid("losses.minimum", loss=loss, dim=2, seed=CLAIM.seeds),
            )
            for loss in ("smoothed", "focal", "sphere", "contrastive")
        ),
    ]
}


def digits(run: Run) -> float:
    return digits_of_agreement(*(run.scalar(name) for name in ("nc1_trace", "etf_distance", "gap")))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    _, table = pivot(runs, "dim", digits)
    return CLAIM.judge([min(of_seed) for of_seed in table])


def test_other_losses_have_collapsed_simplex_etfs_as_minimisers(supported: Check) -> None:
    supported(judge)


def test_control_too_few_dimensions(control: Check) -> None:
    control("The same with d = C - 2.", judge)

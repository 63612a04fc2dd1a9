"""Behind batch norm and ReLU, minimisers of squared error are collapsed, and a simplex ETF once centred.

Ergen & Pilanci, ICML 2021 (arXiv:2002.09773), and Ergen et al., ICLR 2022 (arXiv:2103.01499). The features are
nonnegative, an orthogonal frame; centred they are a simplex ETF, uncentred .52 from it (control). At the minimum every
entry that ReLU cuts off sits on its kink, where the gradient says little, so the search is judged by its objective,
which is known. Pilots, seeds 0 to 2: it is within 4e-10, ETF to six digits or more.
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
    unfinished,
)

CLAIM = Claim(
    id="u25-batch-norm",
    title="Batch norm and ReLU: collapsed, an ETF once centred",
    statement="Minimisers of regularised squared error over features behind batch norm and ReLU have NC1 = 0, and "
    "centred class means in a simplex ETF.",
    source="Ergen & Pilanci, arXiv:2002.09773, arXiv:2103.01499",
    quantity="per seed, -log10 of the larger of tr(Sigma_W) / tr(Sigma_B) and distance of the centred means to an ETF",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.0, sd=0.5),
    precondition="the objective within 1e-6 of its least value, C (beta sqrt(n) - beta^2 / 2)",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="C4 n6 d8", eps=None, runs=study_grid("batch_norm_features.minimum", seed=CLAIM.seeds))]
}


def judge(runs: Sequence[Run], distance: str = "etf_distance") -> Verdict:
    if reason := unfinished(runs, gap=1e-6):
        return not_applicable(reason)
    digits = [digits_of_agreement(run.scalar("nc1_trace"), run.scalar(distance)) for run in runs]
    return CLAIM.judge(digits)


def test_batch_norm_and_relu_give_etfs_once_centred(supported: Check) -> None:
    supported(judge)


def test_control_not_centred(control: Check) -> None:
    control("The same of the means as they are.", judge, "uncentred_etf_distance")

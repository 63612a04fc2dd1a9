"""On balanced data a classifier fixed at a simplex ETF loses nothing.

Yang et al., NeurIPS 2022 (arXiv:2203.09081); Zhu et al., NeurIPS 2021 (arXiv:2105.02375). A claim of no
difference, so an equivalence, within 1.5 points of test accuracy. Pilots on digits, seeds 0 to 3: differences of half
a point at most. The control puts a learned classifier under a long tail of R = 20 in the place of the fixed one.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

CLAIM = Claim(
    id="i5-etf-balanced",
    title="A fixed ETF classifier loses nothing on balanced data",
    statement="On balanced data the test accuracies of networks with a learned classifier and with one fixed at a "
    "simplex ETF differ by less than 1.5 points.",
    source="Yang et al., arXiv:2203.09081; Zhu et al., arXiv:2105.02375",
    quantity="per seed, test error averaged over classes, fixed less learned",
    test="equivalence",
    margin=0.015,
    alpha=0.05,
    seeds=range(1000, 1010),
    planned=Planned(effect=0.002, sd=0.007),
    precondition="training error at most 0.01",
    suite="literature",
)
BALANCED = study_grid("imbalance.long_tail", ratio=1, seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=[*BALANCED, *study_grid("imbalance.long_tail", ratio=1, head="etf", seed=CLAIM.seeds)],
            control_runs=[*BALANCED, *study_grid("imbalance.long_tail", ratio=20, seed=CLAIM.seeds)],
        )
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    """The first half of the runs against the second, each by seed."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    errors = [run.scalar(split="test") for run in runs]
    n = len(errors) // 2
    differences = [other - learned for learned, other in zip(errors[:n], errors[n:], strict=True)]
    return CLAIM.judge(differences)


def test_a_fixed_etf_loses_nothing_on_balanced_data(supported: Check) -> None:
    supported(judge)


def test_control_long_tail(control: Check) -> None:
    control("A learned classifier under a long tail of R = 20 in the place of the fixed one.", judge)

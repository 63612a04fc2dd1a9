"""A classifier fixed at a simplex ETF improves accuracy under long-tail imbalance.

Yang et al., NeurIPS 2022 (arXiv:2203.09081), on CIFAR-LT and ImageNet-LT with mixup. Here digits without mixup,
140 R^(-k/9) samples in the k-th class (140 to 7 at R = 20, 140 to 1 at R = 100, where 1.4 is rounded), a batch norm
before the fixed rows as in the authors' code. The margin, half a point, is half of what FMNIST pilots saw at R = 20.
Pilots on digits, seeds 0 to 3: -.6 to +.3 points at R = 20, -2.8 to +.1 at R = 100 (without the batch norm, seeds 0 and
1, -.9 and -.3). It was expected to be refuted or inconclusive.
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
    pivot,
    study_grid,
    unfitted,
)

CLAIM = Claim(
    id="i4-etf-long-tail",
    title="A fixed ETF classifier helps under a long tail",
    statement="Under long-tail imbalance a classifier fixed at a simplex ETF has a balanced test accuracy more than "
    "half a point above that of a learned one.",
    source="Yang et al., arXiv:2203.09081",
    quantity="per seed, test error averaged over classes, learned less fixed",
    test="superiority",
    margin=0.005,
    alpha=0.05,
    seeds=range(1000, 1010),
    planned=Planned(effect=0.0125, sd=0.005),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"digits R{ratio}",
            eps=None,
            runs=study_grid("imbalance.long_tail", ratio=ratio, head=("learned", "etf"), seed=CLAIM.seeds),
            control_runs=study_grid("imbalance.long_tail", ratio=1, head=("learned", "etf"), seed=CLAIM.seeds),
        )
        for ratio in (20, 100)
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    heads, table = pivot(runs, "head", lambda run: run.scalar(split="test"))
    fixed, learned = heads.index("etf"), heads.index("learned")
    return CLAIM.judge([row[learned] - row[fixed] for row in table])


def test_a_fixed_etf_helps_under_a_long_tail(supported: Check) -> None:
    supported(judge)


def test_control_balanced(control: Check) -> None:
    control("The same where all classes have 140 samples, and there is nothing to gain.", judge)

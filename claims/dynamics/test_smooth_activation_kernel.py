"""On two Gaussian classes, kernels of the error function have a smaller NC1 than those of ReLU.

Kothapalli & Tirer (arXiv:2406.02105), kernels and data as in test_tangent_kernel.py. Pilots, seeds 0 to 2, log10 of the
ratio, the smaller of NNGP and tangent kernel: .5 at d = 1, .08 at 8, .04 at 32. The advantage shrinks with the
dimension, and with means on one side it turns round, which is the control.
"""

from collections.abc import Sequence
from math import log10

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, study_grid

CLAIM = Claim(
    id="d15-smooth-activation",
    title="Kernels of the error function are more collapsed than those of ReLU",
    statement="On two Gaussian classes with means of opposite sign, NC1 of both kernels is smaller for the error "
    "function than for ReLU.",
    source="Kothapalli & Tirer, arXiv:2406.02105",
    quantity="per seed, log10 of NC1 (trace form) for ReLU over that for erf, the smaller of NNGP and tangent kernel",
    test="superiority",
    margin=0.02,
    alpha=0.05,
    seeds=range(1000, 1006),
    planned=Planned(effect=0.04, sd=0.01),
    precondition="none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"d{dim}",
            eps=None,
            runs=study_grid("kernels.gaussians", dim=dim, seed=CLAIM.seeds),
            control_runs=study_grid("kernels.gaussians", dim=dim, first=2.0, second=6.0, seed=CLAIM.seeds),
        )
        for dim in (1, 8, 32)
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    ratios = [
        min(log10(run.scalar(f"relu_{kernel}") / run.scalar(f"erf_{kernel}")) for kernel in ("nngp", "ntk"))
        for run in runs
    ]
    return CLAIM.judge(ratios)


def test_kernels_of_the_error_function_are_more_collapsed(supported: Check) -> None:
    supported(judge)


def test_control_means_on_one_side(control: Check) -> None:
    control("The same with both means on one side of the origin.", judge)

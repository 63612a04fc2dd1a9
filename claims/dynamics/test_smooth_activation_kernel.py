"""On two Gaussian classes, kernels of the error function have a smaller NC1 than those of ReLU.

Kothapalli & Tirer (arXiv:2406.02105), kernels and data as in test_tangent_kernel.py. Pilots, seeds 0 to 2, log10 of the
ratio, the smaller of NNGP and tangent kernel: .5 at d = 1, .08 at 8, .04 at 32. The advantage shrinks with the
dimension, and with means on one side it turns round, which is the control.
"""

from collections.abc import Callable, Sequence
from math import log10

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, power, study_grid, superiority

MARGIN, ALPHA, SEEDS = 0.02, 0.05, range(1000, 1006)
CLAIM = Claim(
    id="d15-smooth-activation",
    title="Kernels of the error function are more collapsed than those of ReLU",
    statement="On two Gaussian classes with means of opposite sign, NC1 of both kernels is smaller for the error "
    "function than for ReLU.",
    source="Kothapalli & Tirer, arXiv:2406.02105",
    quantity="per seed, log10 of NC1 (trace form) for ReLU over that for erf, the smaller of NNGP and tangent kernel",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.04, sd=0.01, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="none",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name=f"d{dim}",
            eps=None,
            runs=study_grid("kernels.gaussians", dim=dim, seed=SEEDS),
            control_runs=study_grid("kernels.gaussians", dim=dim, first=2.0, second=6.0, seed=SEEDS),
        )
        for dim in (1, 8, 32)
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    ratios = [
        min(log10(run.scalar(f"relu_{kernel}") / run.scalar(f"erf_{kernel}")) for kernel in ("nngp", "ntk"))
        for run in runs
    ]
    return superiority(ratios, margin=MARGIN, alpha=ALPHA)


def test_kernels_of_the_error_function_are_more_collapsed(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_means_on_one_side(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.control_runs)
    control = "The same with both means on one side of the origin."
    assert verdict(lambda _: judge(trained), control=control) != SUPPORTED

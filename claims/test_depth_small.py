"""C3: networks trained by SGD have small effective depth in standard classification.

TMLR 2023 and arXiv:2202.09028 v9. "Small" is less than half of the 12 layers that the network has. This setting was
not blind: C2 and C13 had been judged on runs with the same seeds, and their published numbers (about 5 layers at
L = 12 on MNIST-1D, 2.5 at L = 8 on digits) imply its outcome. Pilot, seed 0: 2.6 layers on digits, 4.6 on MNIST-1D.
The control is the classification that is not standard: half of the training labels wrong.

At scale paper: the deepest network of the published figure, CONV-20-400 on CIFAR-10. Not blind either: it has layer 6.
"""

from collections.abc import Sequence

from ncharness import (
    PAPER,
    SMALL,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    grid,
    interpolated_depth,
    unfitted,
)

MARGIN, DEPTH, DEEPEST = 0.5, 12, 20
CLAIM = Claim(
    id="c3-depth-small",
    title="Effective depth is small",
    statement="On clean labels, the effective depth of a trained network is less than half of its layers, by more "
    f"than {MARGIN} layers.",
    source="TMLR 2023, arXiv:2202.09028 v9",
    quantity="per seed, L / 2 minus interpolated depth, in layers; without a separable layer, the depth is L",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=1.0, sd=0.2),
    precondition="training error at most 0.01",
    suite="headline",
    figure="ncc-by-layer",
)
SETTINGS = {
    "small": [
        Setting(
            name=name,
            eps=eps,
            runs=grid(SMALL[name], depth=[DEPTH], seed=CLAIM.seeds),
            control_runs=grid(SMALL[noisy], noise=[0.5], seed=CLAIM.seeds),
        )
        for name, noisy, eps in (("digits", "digits", 0.01), ("mnist1d", "mnist1d-2000", 0.05))
    ],
    "paper": [
        Setting(
            name=name,
            eps=0.05,
            runs=grid(base, depth=[DEEPEST], seed=CLAIM.seeds),
            control_runs=grid(base, noise=[0.5], seed=CLAIM.seeds),
        )
        for name, base in PAPER.items()
    ],
}


def spared(run: Run, eps: float) -> float:
    found = interpolated_depth(run.profile(), eps=eps)
    return run.config.depth / 2 - (run.config.depth if found is None else found)


def judge(runs: Sequence[Run], eps: float) -> Verdict:
    return CLAIM.judge([spared(run, eps) for run in runs])


def test_effective_depth_is_small(supported: Check) -> None:
    supported(judge, unless=unfitted)


def test_control_half_of_the_labels_wrong(control: Check) -> None:
    control("The same for networks of 8 layers that were trained on labels half of which are wrong.", judge)

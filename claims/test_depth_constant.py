"""C2: effective depth hardly depends on L.

arXiv:2202.09028 (v9 and the public notes on it): for L at least L_0, a network trained with SGD and weight decay
NCC-separates the training set in its first L_0 layers, whatever L. "Hardly" is an equivalence claim with a margin of
1.5 layers: a depth in proportion to L would grow by 5 layers or more here. Margin, thresholds and seeds were
chosen before any run with these seeds, with a pilot of seeds 0 to 2 in view: the spread was 0.8 layers on digits. On
MNIST-1D it was 0.9 layers after 150 epochs but up to 2.1 after 120, so that the outcome was open.
"""

from collections.abc import Callable, Sequence

from ncharness import Run, RunConfig, Verdict, equivalence, grid, interpolated_depth
from ncharness.claim import Claim, Setting, pivot, unfitted
from ncharness.verdict import SUPPORTED, not_applicable, power

MARGIN, WORST, ALPHA, SEEDS, DEPTHS = 1.5, 2.5, 0.05, range(1000, 1005), (4, 6, 8, 12)
CLAIM = Claim(
    id="c2-depth-constant",
    title="Effective depth hardly depends on L",
    statement="Among networks deep enough to separate the training set, the effective depth is the same within a "
    f"margin of {MARGIN} layers, and no seed differs by more than {WORST}.",
    source="2202.09028 v9",
    quantity="per seed, the largest difference of interpolated depth between any two of the depths L, in layers; L "
    "from the smallest one that separates in all seeds upwards, at least three; beyond it, none counts as L",
    test="equivalence",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("equivalence", effect=0.8, sd=0.25, n=len(SEEDS), margin=MARGIN, alpha=ALPHA, max_difference=WORST),
    precondition="training error at most 0.01",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=0.01,
            runs=grid(RunConfig(data="digits", n_train=1400, width=128, epochs=150), depth=DEPTHS, seed=SEEDS),
        ),
        Setting(
            name="mnist1d",
            eps=0.05,
            runs=grid(RunConfig(data="mnist1d", n_train=4000, width=200, epochs=150), depth=DEPTHS, seed=SEEDS),
        ),
    ]
}


def deep_enough(runs: Sequence[Run], eps: float) -> list[Run]:
    """The runs whose L is at least the smallest at which every seed has a separable layer."""
    levels, rows = pivot(runs, "depth", lambda run: interpolated_depth(run.profile(), eps=eps))
    separating = [level for level, column in zip(levels, zip(*rows, strict=True), strict=True) if None not in column]
    return [run for run in runs if separating and run.config.depth >= min(separating)]


def depth(run: Run, eps: float) -> float:
    found = interpolated_depth(run.profile(), eps=eps)
    return float(run.config.depth) if found is None else found


def spread_over_depths(runs: Sequence[Run], quantity: Callable[[Run], float]) -> Verdict:
    _, rows = pivot(runs, "depth", quantity)
    return equivalence([max(row) - min(row) for row in rows], margin=MARGIN, alpha=ALPHA, max_difference=WORST)


def judge(runs: Sequence[Run], eps: float) -> Verdict:
    kept = deep_enough(runs, eps)
    used = sorted({run.config.depth for run in kept})
    if len(used) < 3:
        return not_applicable(f"only {len(used)} of the depths {DEPTHS} separate the training set at eps {eps:g}")
    if reason := unfitted(kept):
        return not_applicable(reason)
    return spread_over_depths(kept, lambda run: depth(run, eps))


def test_effective_depth_hardly_depends_on_depth(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda eps: judge(trained, eps)) == SUPPORTED


def test_control_number_of_redundant_layers(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The number of layers from the effective depth upwards, which does grow with L, through the same test."
    redundant = verdict(
        lambda eps: spread_over_depths(trained, lambda run: run.config.depth - depth(run, eps)), control=control
    )
    assert redundant != SUPPORTED

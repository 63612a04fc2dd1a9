"""No start ends at a spurious local minimum of regularised cross-entropy.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), theorem 3.2. Two ways to search: gradient descent with momentum from twenty
starts of scales .01 to 3 in every seed, and L-BFGS from scale 3. The objective reached is compared with the theorem's
least value in closed form; nine digits are asked for. Pilots: fifteen for descent (seeds 0 and 1), and for L-BFGS (seed
0).
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    digits_of_agreement,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfinished,
)

DIGITS, ALPHA, SEEDS = 9.0, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="u20-benign-landscape",
    title="Every start reaches the global minimum",
    statement="From any start, descent on regularised cross-entropy over features and classifier ends at the least "
    "objective.",
    source="Zhu et al., arXiv:2105.02375, theorem 3.2",
    quantity="per seed, -log10 of the largest difference of an objective reached to the theorem's least one",
    test="superiority",
    margin=DIGITS,
    alpha=ALPHA,
    power=power("superiority", effect=12.0, sd=1.0, n=len(SEEDS), margin=DIGITS, alpha=ALPHA),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="20 starts, momentum",
            eps=None,
            runs=study_grid("landscape.starts", seed=SEEDS),
            control_runs=study_grid("unconstrained.minimum", dim=2, seed=SEEDS),
        ),
        Setting(
            name="L-BFGS, scale 3",
            eps=None,
            runs=study_grid("unconstrained.minimum", scale=3.0, seed=SEEDS),
            control_runs=study_grid("unconstrained.minimum", dim=2, seed=SEEDS),
        ),
    ]
}


def digits(run: Run) -> float:
    names = ("largest_gap", "least_gap") if run.config.experiment == "landscape.starts" else ("gap",)
    return digits_of_agreement(*(run.scalar(name) for name in names))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return superiority([digits(run) for run in runs], margin=DIGITS, alpha=ALPHA)


def test_every_start_reaches_the_global_minimum(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_too_few_dimensions(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.control_runs)
    control = "The same with d = C - 2, in which the least objective of the theorem is out of reach."
    assert verdict(lambda _: judge(trained), control=control) != SUPPORTED

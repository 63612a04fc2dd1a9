"""No start ends at a spurious local minimum of regularised cross-entropy.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), theorem 3.2. Two ways to search: gradient descent with momentum from twenty
starts of scales .01 to 3 in every seed, and L-BFGS from scale 3. The objective reached is compared with the theorem's
least value in closed form; nine digits are asked for. Pilots: fifteen for descent (seeds 0 and 1), and for L-BFGS (seed
0).
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
    id="u20-benign-landscape",
    title="Every start reaches the global minimum",
    statement="From any start, descent on regularised cross-entropy over features and classifier ends at the least "
    "objective.",
    source="Zhu et al., arXiv:2105.02375, theorem 3.2",
    quantity="per seed, -log10 of the largest difference of an objective reached to the theorem's least one",
    test="superiority",
    margin=9.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=12.0, sd=1.0),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="20 starts, momentum",
            eps=None,
            runs=study_grid("landscape.starts", seed=CLAIM.seeds),
            control_runs=study_grid("unconstrained.minimum", dim=2, seed=CLAIM.seeds),
        ),
        Setting(
            name="L-BFGS, scale 3",
            eps=None,
            runs=study_grid("unconstrained.minimum", scale=3.0, seed=CLAIM.seeds),
            control_runs=study_grid("unconstrained.minimum", dim=2, seed=CLAIM.seeds),
        ),
    ]
}


def digits(run: Run) -> float:
    names = ("largest_gap", "least_gap") if run.config.experiment == "landscape.starts" else ("gap",)
    return digits_of_agreement(*(run.scalar(name) for name in names))


def judge(runs: Sequence[Run]) -> Verdict:
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    return CLAIM.judge([digits(run) for run in runs])


def test_every_start_reaches_the_global_minimum(supported: Check) -> None:
    supported(judge)


def test_control_too_few_dimensions(control: Check) -> None:
    control("The same with d = C - 2, in which the least objective of the theorem is out of reach.", judge)

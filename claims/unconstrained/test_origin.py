"""The origin is a strict saddle up to a decay of 1 / (C sqrt(n)), and the minimiser from there on.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), theorem 3.2 and its proof, in closed form: the least eigenvalue of the
Hessian there is (lambda_W + lambda_H) / 2 - sqrt(((lambda_W - lambda_H) / 2)^2 + 1 / (C^2 n)). At .5, .95 and 1.05 of
the threshold the eigenvalue and the norm of the minimiser are compared with theirs. Pilots, seed 0: six digits, the
norm beyond the threshold the least accurate (2e-7 to 7e-7: the descent is slow there).
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

SHARES = (0.5, 0.95, 1.05)  # of the threshold
CLAIM = Claim(
    id="u21-origin",
    title="The origin is a saddle below a decay, the minimiser above",
    statement="The Hessian at the origin has a negative eigenvalue, of known size, iff sqrt(lambda_W lambda_H) is "
    "below 1 / (C sqrt(n)); beyond that the minimiser is zero.",
    source="Zhu et al., arXiv:2105.02375, theorem 3.2",
    quantity="per seed, -log10 of the largest, over .5, .95 and 1.05 of the threshold, of the relative error of the "
    "least eigenvalue and the error of sqrt(lambda_W) |W| at the minimum",
    test="superiority",
    margin=4.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=6.0, sd=0.5),
    precondition="the largest entry of the gradient at most 1e-8",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="C4 n5 d4",
            eps=None,
            runs=study_grid("landscape.origin", threshold_share=SHARES, seed=CLAIM.seeds),
        ),
    ]
}


def digits(run: Run, threshold: float) -> float:
    expected = run.scalar("expected_norm") if run.config.settings["threshold_share"] < threshold else 0.0
    eigenvalue = run.scalar("eigenvalue") / run.scalar("expected_eigenvalue") - 1.0
    return digits_of_agreement(eigenvalue, run.scalar("norm") - expected)


def judge(runs: Sequence[Run], threshold: float = 1.0) -> Verdict:
    """`threshold`, as a share of the theorem's, is where the minimiser becomes zero."""
    if reason := unfinished(runs, gradient=1e-8):
        return not_applicable(reason)
    _, table = pivot(runs, "threshold_share", lambda run: digits(run, threshold))
    return CLAIM.judge([min(of_seed) for of_seed in table])


def test_the_origin_is_a_saddle_below_a_decay(supported: Check) -> None:
    supported(judge)


def test_control_threshold_moved(control: Check) -> None:
    control("The same with the threshold at .9 of where it is.", judge, 0.9)

"""Gradient descent on unregularised cross-entropy ends in the direction of the largest margin.

Ji et al., ICLR 2022 (arXiv:2110.02796), for gradient flow; here gradient descent with steps over the loss and the
squared norms, until the loss is about 1e-200. From starts of scale .1 the margin is .97 of its limit at a loss of 1e-6
already and .9999 at the end (pilots, seeds 0 and 1); from scale 1 it is .85 to .91 at a loss of 1e-25 or less (the
control) and .981 to .987 at the end (seeds 0 to 6). Convergence is as slow as 1 / log(1 / loss), and what is trained
from such a start for any ordinary time is nowhere near the limit: it only sees the margin increase (u17).
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid

EARLY = 4000  # steps; the last checkpoint is at 16000
CLAIM = Claim(
    id="u16-max-margin",
    title="Unregularised descent ends at the largest margin",
    statement="Gradient descent on unregularised cross-entropy over features and classifier converges in direction to "
    "the largest margin, 1 / ((C - 1) sqrt(n)).",
    source="Ji et al., arXiv:2110.02796",
    quantity="per seed, the least margin over (|W|^2 + |H|^2) / 2 at the end, as a share of its limit",
    test="superiority",
    margin=0.95,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.983, sd=0.003),
    precondition="loss at most 1e-6",
    suite="literature",
)
SETTINGS = {
    "small": [
        *(
            Setting(
                name=f"scale {scale:g}",
                eps=None,
                runs=study_grid("max_margin.descent", scale=scale, seed=CLAIM.seeds),
                control_runs=study_grid("max_margin.descent", scale=1.0, seed=CLAIM.seeds),
            )
            for scale in (0.1, 1.0)
        ),
    ]
}


def judge(runs: Sequence[Run], step: int | None = None) -> Verdict:
    """At the end, or after `step`."""
    for run in runs:
        if not (loss := run.scalar("loss", epoch=step)) <= 1e-6:
            return not_applicable(f"{run.config.name()}: loss {loss:.2g}")
        if (share := run.scalar("margin_share", epoch=step)) > 1.0 + 1e-9:
            return not_applicable(f"{run.config.name()}: a margin of {share!r} of what is possible")
    return CLAIM.judge([run.scalar("margin_share", epoch=step) for run in runs])


def test_unregularised_descent_ends_at_the_largest_margin(supported: Check) -> None:
    supported(judge)


def test_control_early_from_a_large_start(control: Check) -> None:
    control("The same after 4,000 steps from scale 1, at a loss of 1e-25 or less.", judge, EARLY)

"""A step on one sample moves the outputs of a ReLU network nearby and not far away; a linear network's, everywhere.

He & Su (arXiv:1910.06943), on their torus: two classes on curves that wind around each other, a network of one hidden
layer fitted to them, similarity = |change at x'| / |change at x| by a step on x, distance along the circle; only the
first class. Pilots, seeds 0 to 4: correlation -.95 to -.96 and far/near ratio .01 with ReLU, -.02 to -.07 and .96 to
.97 linear. The original has 40,960 neurons and 20,000 epochs of SGD; here 1,024 and 2,000 steps of Adam. With 800
steps, one of the seeds 1000 to 1005 was left with a training error of .06, and the claim was NOT APPLICABLE; it was
declared anew with more steps, which pilots chose by the training error, and with seeds that had not been used.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Study,
    Verdict,
    equivalence,
    not_applicable,
    study_grid,
    weakest,
)

FLAT = 0.3
CLAIM = Claim(
    id="d6-elastic-torus",
    title="ReLU networks are locally elastic, linear ones are not",
    statement="The change at x' by a step on x falls with the distance of the two along the torus in a ReLU network, "
    "and is as large far away as nearby in a linear one.",
    source="He & Su, arXiv:1910.06943",
    quantity="per seed: minus the correlation of relative change and distance, ReLU; that of the linear network "
    f"(margin ±{FLAT}); ratio of the relative change of far pairs to near ones, linear less ReLU",
    test="superiority",
    margin=0.5,
    alpha=0.05,
    seeds=range(2000, 2006),
    planned=(
        Planned(effect=0.9, sd=0.05),
        Planned(effect=0.05, sd=0.05, test="equivalence", margin=FLAT),
        Planned(effect=0.9, sd=0.05),
    ),
    precondition="ReLU networks have a training error of at most .05, and every step changes the output at its own "
    "sample by more than 1e-9",
    suite="literature",
)


def networks(*, linear: bool) -> list[Study]:
    return study_grid("local_elasticity.torus", width=1024, steps=2000, lr=3e-3, linear=linear, seed=CLAIM.seeds)


SETTINGS = {"small": [Setting(name="torus", eps=None, runs=[*networks(linear=False), *networks(linear=True)])]}


def judge(elastic: Sequence[Run], linear: Sequence[Run], fitted: float = 0.05) -> Verdict:
    least = min(run.scalar("least_change") for run in (*elastic, *linear))
    if not least > 1e-9:
        return not_applicable(f"a step changed the output at its own sample by {least:.2g}")
    if not (worst := max(run.scalar("error") for run in elastic)) <= fitted:
        return not_applicable(f"a ReLU network did not fit the classes: error {worst:.2g}")
    ratios = [b.scalar("far_over_near") - a.scalar("far_over_near") for a, b in zip(elastic, linear, strict=True)]
    return weakest(
        {
            "correlation, ReLU": CLAIM.judge([-run.scalar("correlation") for run in elastic]),
            "correlation, linear": equivalence(
                [run.scalar("correlation") for run in linear], margin=FLAT, alpha=CLAIM.alpha
            ),
            "far/near": CLAIM.judge(ratios),
        }
    )


def test_networks_with_relu_are_locally_elastic(supported: Check) -> None:
    supported(lambda runs: judge(runs[: len(CLAIM.seeds)], runs[len(CLAIM.seeds) :]))


def test_control_linear_networks_twice(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same with the linear networks in the place of those with ReLU, too."
    linear = trained[len(CLAIM.seeds) :]
    assert verdict(lambda _: judge(linear, linear, fitted=1.0), control=control) != SUPPORTED

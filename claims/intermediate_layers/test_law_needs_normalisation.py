"""Without batch norm, or without nonlinearity, the law of data separation fails.

The readme of He & Su's code says so of networks without batch norm and of linearised ones. How the weights begin
decides: in torch's default initialisation the networks without batch norm do lose the law, after He initialisation they
do not, as pilots showed with seeds 0 and 1 (r of -.47 and -.04 against -.996, with batch norm -.98, linear +.7), so
that the claim as it is usually stated is expected to be refuted there. Networks without batch norm are those of l1,
without weight decay, as with it they do not fit at all.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    log_linearity,
    not_applicable,
    study_grid,
    unfitted,
)

MARGIN = 0.25
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
CLAIM = Claim(
    id="l7-law-needs-norm",
    title="The law of separation needs batch norm and ReLU",
    statement="Without batch norm, or without ReLU, the correlation of a layer's index with log fuzziness is more than "
    f"{MARGIN} above that of a network with both.",
    source="He & Su, arXiv:2210.17020, and the readme of its code",
    quantity="per seed, r without less r with batch norm and ReLU, r Pearson's of l with log D_l over l = 0..L",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.8, sd=0.25),
    precondition="training error at most 0.01, of both networks",
    suite="literature",
)
LATTER, FORMER_REVERSED = slice(len(CLAIM.seeds), None), slice(len(CLAIM.seeds) - 1, None, -1)
NORMED = study_grid("layers.trained", seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=[*study_grid("layers.trained", **without, seed=CLAIM.seeds), *NORMED])
        for name, without in (("default", PLAIN), ("He", {**PLAIN, "start": "he"}), ("linear", {"linear": True}))
    ]
}


def judge(runs: Sequence[Run], against: slice = LATTER) -> Verdict:
    """The networks without first, then those with; `against` is what the first are compared with."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    pairs = zip(runs[: len(CLAIM.seeds)], runs[against], strict=True)
    return CLAIM.judge([straightness(a) - straightness(b) for a, b in pairs])


def straightness(run: Run) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", point=point)]
    return log_linearity(values)


def test_the_law_of_separation_needs_batch_norm_and_relu(supported: Check) -> None:
    supported(judge)


def test_control_other_seeds(control: Check) -> None:
    control("Networks without against the same networks of the seeds in reverse order.", judge, FORMER_REVERSED)

"""Without batch norm, or without nonlinearity, the law of data separation fails.

The readme of He & Su's code says so of networks without batch norm and of linearised ones. How the weights begin
decides: in torch's default initialisation the networks without batch norm do lose the law, after He initialisation they
do not, as pilots showed with seeds 0 and 1 (r of -.47 and -.04 against -.996, with batch norm -.98, linear +.7), so
that the claim as it is usually stated is expected to be refuted there. Networks without batch norm are those of l1,
without weight decay, as with it they do not fit at all.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    log_linearity,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfitted,
)

MARGIN, ALPHA, SEEDS = 0.25, 0.05, range(1000, 1005)
LATTER, FORMER_REVERSED = slice(len(SEEDS), None), slice(len(SEEDS) - 1, None, -1)
PLAIN = {"batch_norm": False, "weight_decay": 0.0, "method": "adam", "lr": 1e-3, "epochs": 150}
NORMED = study_grid("layers.trained", seed=SEEDS)
CLAIM = Claim(
    id="l7-law-needs-norm",
    title="The law of separation needs batch norm and ReLU",
    statement="Without batch norm, or without ReLU, the correlation of a layer's index with log fuzziness is more than "
    f"{MARGIN} above that of a network with both.",
    source="He & Su, arXiv:2210.17020, and the readme of its code",
    quantity="per seed, r without less r with batch norm and ReLU, r Pearson's of l with log D_l over l = 0..L",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.8, sd=0.25, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01, of both networks",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=[*study_grid("layers.trained", **without, seed=SEEDS), *NORMED])
        for name, without in (("default", PLAIN), ("He", {**PLAIN, "start": "he"}), ("linear", {"linear": True}))
    ]
}


def judge(runs: Sequence[Run], against: slice = LATTER) -> Verdict:
    """The networks without first, then those with; `against` is what the first are compared with."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    pairs = zip(runs[: len(SEEDS)], runs[against], strict=True)
    return superiority([straightness(a) - straightness(b) for a, b in pairs], margin=MARGIN, alpha=ALPHA)


def straightness(run: Run) -> float:
    values = [value for point in ("in", "out") for value in run.profile("fuzziness", point=point)]
    return log_linearity(values)


def test_the_law_of_separation_needs_batch_norm_and_relu(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_other_seeds(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    trained = runs(setting.runs)
    control = "Networks without against the same networks of the seeds in reverse order."
    assert verdict(lambda _: judge(trained, FORMER_REVERSED), control=control) != SUPPORTED

"""True labels are decided in the shallow layers, random labels only in the last.

Cohen, Sapiro & Giryes (arXiv:1805.06822): on test samples, a vote of the nearest training samples in a layer agrees
with the network from the shallow layers on where labels are true; where they were permuted, only near the output. Ten
neighbours; the labels of the vote are those that the network was trained on. Pilots, seeds 0 and 1: a gap of .65 at
layer 1, a rise of .52. The networks on random labels train for 100 epochs, not 60, as after those their error was up to
.006, close to the precondition. The margin is less than half of either.
"""

from collections.abc import Callable, Sequence

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, not_applicable, power, study_grid, superiority, unfitted

MARGIN, ALPHA, SEEDS = 0.25, 0.05, range(1000, 1005)
LATTER, FORMER_REVERSED = slice(len(SEEDS), None), slice(len(SEEDS) - 1, None, -1)
CLAIM = Claim(
    id="l16-late-memorisation",
    title="Random labels are memorised in the last layers",
    statement="The agreement of a layer's nearest neighbours with the network, at layer 1, is more than "
    f"{MARGIN} below that with true labels if labels are random, and rises by more than that to the last layer.",
    source="Cohen, Sapiro & Giryes, arXiv:1805.06822",
    quantity="per seed, the smaller of: agreement at layer 1 with true less that with random labels; with random "
    "labels, agreement at layer L less that at layer 1",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.5, sd=0.1, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01, on random labels too",
    suite="literature",
)
TRUE = study_grid("layers.trained", seed=SEEDS)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=[*TRUE, *study_grid("layers.trained", data="shuffled:digits", epochs=100, seed=SEEDS)],
        )
    ]
}


def judge(runs: Sequence[Run], random: slice = LATTER) -> Verdict:
    """The runs with true labels first; `random` says which stand for those with random ones."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    values = []
    for with_true, with_random in zip(runs[: len(SEEDS)], runs[random], strict=True):
        shallow = with_true.profile("agreement", point="out")[0]
        first, *_, last = with_random.profile("agreement", point="out")
        values.append(min(shallow - first, last - first))
    return superiority(values, margin=MARGIN, alpha=ALPHA)


def test_random_labels_are_memorised_in_the_last_layers(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_true_labels_twice(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same with the true labels' networks, seeds in reverse order, for the random ones'."
    assert verdict(lambda _: judge(trained, FORMER_REVERSED), control=control) != SUPPORTED

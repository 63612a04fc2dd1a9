"""True labels are decided in the shallow layers, random labels only in the last.

Cohen, Sapiro & Giryes (arXiv:1805.06822): on test samples, a vote of the nearest training samples in a layer agrees
with the network from the shallow layers on where labels are true; where they were permuted, only near the output. Ten
neighbours; the labels of the vote are those that the network was trained on. Pilots, seeds 0 and 1: a gap of .65 at
layer 1, a rise of .52. The networks on random labels train for 100 epochs, not 60, as after those their error was up to
.006, close to the precondition. The margin is less than half of either.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

MARGIN = 0.25
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
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.5, sd=0.1),
    precondition="training error at most 0.01, on random labels too",
    suite="literature",
)
LATTER, FORMER_REVERSED = slice(len(CLAIM.seeds), None), slice(len(CLAIM.seeds) - 1, None, -1)
TRUE = study_grid("layers.trained", seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=[*TRUE, *study_grid("layers.trained", data="shuffled:digits", epochs=100, seed=CLAIM.seeds)],
        )
    ]
}


def judge(runs: Sequence[Run], random: slice = LATTER) -> Verdict:
    """The runs with true labels first; `random` says which stand for those with random ones."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    values = []
    for with_true, with_random in zip(runs[: len(CLAIM.seeds)], runs[random], strict=True):
        shallow = with_true.profile("agreement", point="out")[0]
        first, *_, last = with_random.profile("agreement", point="out")
        values.append(min(shallow - first, last - first))
    return CLAIM.judge(values)


def test_random_labels_are_memorised_in_the_last_layers(supported: Check) -> None:
    supported(judge)


def test_control_true_labels_twice(control: Check) -> None:
    control(
        "The same with the true labels' networks, seeds in reverse order, for the random ones'.", judge, FORMER_REVERSED
    )

"""In the top layers, the class means lie in the top singular directions of the weights that come next.

Rangamani et al. (ICML 2023). Alignment is the mean cosine of the principal angles between the C class means of a layer
and the top C right singular vectors of the next linear map. Two random subspaces of that size are not orthogonal:
chance is simulated in the same dimensions and subtracted, or the alignment before training where that is larger. Top is
the deeper half of the hidden layers, and the least aligned of them counts. Pilots, seeds 0 and 1: .3 with the squared
error, .5 with cross-entropy.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, not_applicable, study_grid, unfitted

MARGIN = 0.1
CLAIM = Claim(
    id="l10-alignment",
    title="Top weights align with class means",
    statement="In the deeper half of the layers, alignment of class means with the next weights is more than "
    f"{MARGIN} above chance and above what it was before training.",
    source="Rangamani et al., ICML 2023",
    quantity="per seed, the least over l > L/2 of alignment less the larger of chance and alignment before training",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.25, sd=0.06),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="squared", eps=None, runs=study_grid("layers.trained", loss="squared", depth=5, seed=CLAIM.seeds)),
        Setting(name="cross-entropy", eps=None, runs=study_grid("layers.trained", seed=CLAIM.seeds)),
    ]
}


def judge(runs: Sequence[Run], epoch: int | None = None) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return CLAIM.judge([excess(run, epoch) for run in runs])


def excess(run: Run, epoch: int | None = None) -> float:
    before, after = (run.profile("alignment", epoch=at, point="out") for at in (0, epoch))
    chance = run.scalar("chance")
    gains = [aligned - max(untrained, chance) for untrained, aligned in zip(before, after, strict=True)]
    return min(gains[len(gains) // 2 :])


def test_top_weights_align_with_class_means(supported: Check) -> None:
    supported(judge)


def test_control_untrained(control: Check) -> None:
    control("The same before training.", judge, epoch=0)

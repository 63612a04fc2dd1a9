"""In the top layers, the class means lie in the top singular directions of the weights that come next.

Rangamani et al. (ICML 2023). Alignment is the mean cosine of the principal angles between the C class means of a layer
and the top C right singular vectors of the next linear map. Two random subspaces of that size are not orthogonal:
chance is simulated in the same dimensions and subtracted, or the alignment before training where that is larger. Top is
the deeper half of the hidden layers, and the least aligned of them counts. Pilots, seeds 0 and 1: .3 with the squared
error, .5 with cross-entropy.
"""

from collections.abc import Callable, Sequence

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, not_applicable, power, study_grid, superiority, unfitted

MARGIN, ALPHA, SEEDS = 0.1, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="l10-alignment",
    title="Top weights align with class means",
    statement="In the deeper half of the layers, alignment of class means with the next weights is more than "
    f"{MARGIN} above chance and above what it was before training.",
    source="Rangamani et al., ICML 2023",
    quantity="per seed, the least over l > L/2 of alignment less the larger of chance and alignment before training",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=0.25, sd=0.06, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name="squared", eps=None, runs=study_grid("layers.trained", loss="squared", depth=5, seed=SEEDS)),
        Setting(name="cross-entropy", eps=None, runs=study_grid("layers.trained", seed=SEEDS)),
    ]
}


def judge(runs: Sequence[Run], epoch: int | None = None) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    return superiority([excess(run, epoch) for run in runs], margin=MARGIN, alpha=ALPHA)


def excess(run: Run, epoch: int | None = None) -> float:
    before, after = (run.profile("alignment", epoch=at, point="out") for at in (0, epoch))
    chance = run.scalar("chance")
    gains = [aligned - max(untrained, chance) for untrained, aligned in zip(before, after, strict=True)]
    return min(gains[len(gains) // 2 :])


def test_top_weights_align_with_class_means(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_untrained(setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained, epoch=0), control="The same before training.") != SUPPORTED

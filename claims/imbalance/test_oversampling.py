"""Oversampling the minority restores the angles of its classifiers.

Fang et al., PNAS 2021 (arXiv:2101.12699). "Restores" is the share of the rise of the minority cosine under
imbalance that goes away when the minority's samples are repeated R times; margin a half. All networks take the same
number of steps. Pilots, seeds 0 and 1: .96 and .88 at R = 10, .90 and .85 at R = 70. The accuracy is another matter:
at R = 70 the test error of the minority fell only from .45 to .40. The control asks the same of networks that take
twice as many steps and are not oversampled; they take back .23 at R = 70 (seed 0).
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Study,
    Verdict,
    not_applicable,
    study_grid,
    unfitted,
)

RISE = 0.05
CLAIM = Claim(
    id="i3-oversampling",
    title="Oversampling restores the angles",
    statement="Under step imbalance, repeating the minority's samples until classes are balanced takes back more than "
    "half of what the imbalance adds to the mean cosine between minority classifiers.",
    source="Fang et al., arXiv:2101.12699",
    quantity="per seed, (imbalanced - oversampled) / (imbalanced - balanced), each the mean cosine over pairs of the 5 "
    "minority rows of the last layer",
    test="superiority",
    margin=0.5,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.85, sd=0.15),
    precondition=f"training error at most 0.01; in every seed the imbalance adds at least {RISE} to the cosine",
    suite="literature",
)


def networks(ratio: int, **settings: object) -> list[Study]:
    """Runs of the claim or the control: balanced, imbalanced, and what should restore; per seed in this order."""
    plain = study_grid("imbalance.step", ratio=(1, ratio), seed=CLAIM.seeds)
    return [*plain, *study_grid("imbalance.step", ratio=ratio, **settings, seed=CLAIM.seeds)]


SETTINGS = {
    "small": [
        Setting(
            name=f"digits R{ratio}",
            eps=None,
            runs=networks(ratio, oversampled=True),
            control_runs=networks(ratio, steps=3000),
        )
        for ratio in (10, 70)
    ]
}


def judge(runs: Sequence[Run]) -> Verdict:
    """Runs in the order of `networks`."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    n = len(runs) // 3
    cosines = [run.scalar("minority_cosine") for run in runs]
    triples = list(zip(cosines[:n], cosines[n : 2 * n], cosines[2 * n :], strict=True))
    if (least := min(imbalanced - balanced for balanced, imbalanced, _ in triples)) < RISE:
        return not_applicable(f"the imbalance adds {least:.3f} to the cosine of a seed, and there is little to restore")
    shares = [(imbalanced - restored) / (imbalanced - balanced) for balanced, imbalanced, restored in triples]
    return CLAIM.judge(shares)


def test_oversampling_restores_the_angles(supported: Check) -> None:
    supported(judge)


def test_control_more_steps(control: Check) -> None:
    control("Twice the steps without oversampling in place of oversampling.", judge)

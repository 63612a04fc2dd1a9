"""C8: collapse happens without generalisation; the intermediate layers tell the two apart.

arXiv:2202.09028 v9 (v7 words it by the "rate of collapse"): the last layer collapses even where generalisation is
impossible, so its collapse says little about it, while separability of the intermediate layers relates to it.
Impossible it is where every training label is wrong. Both halves of the claim are in units of NCC error, and a seed
counts with the smaller of them. No threshold eps enters. Pilots, seed 0: the last layer improves by .84 on both sets
of data, layer 4 differs by .64 on digits and by .56 on MNIST-1D.

At scale paper: CONV-8-400 on CIFAR-10 of the published figure; which networks the paper compares is not public.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    PAPER,
    SMALL,
    SUPPORTED,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    grid,
    not_applicable,
    unfitted,
)

MARGIN, CHANCE = 0.25, 0.85
CLAIM = Claim(
    id="c8-no-generalisation",
    title="Collapse without generalisation shows in the intermediate layers",
    statement="Trained on wrong labels only, the last layer becomes separable as well, while layer L/2 stays less "
    f"separable than in a network trained on clean labels; each by an NCC error of more than {MARGIN}.",
    source="arXiv:2202.09028 v9 and v7",
    quantity="per seed, the smaller of two differences of train NCC error: of the last layer under wrong labels, "
    "untrained minus trained; and of layer L/2 after training, wrong minus clean labels",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=0.5, sd=0.1),
    precondition=f"training error at most 0.01 on the labels trained on, test error under wrong ones at least {CHANCE}",
    figure="ncc-by-noise",
)
SETTINGS = {
    "small": [
        Setting(name=name, eps=None, runs=grid(SMALL[base], noise=(0.0, 1.0), seed=CLAIM.seeds))
        for name, base in (("digits", "digits"), ("mnist1d", "mnist1d-2000"))
    ],
    "paper": [
        Setting(name=name, eps=None, runs=grid(base, noise=(0.0, 1.0), seed=CLAIM.seeds))
        for name, base in PAPER.items()
    ],
}


def smaller_difference(wrong: Run, clean: Run) -> float:
    middle = clean.config.depth // 2 - 1
    collapse = wrong.profile(epoch=0)[-1] - wrong.profile()[-1]
    return min(collapse, wrong.profile()[middle] - clean.profile()[middle])


def judge(wrong: Sequence[Run], clean: Sequence[Run]) -> Verdict:
    if reason := unfitted([*wrong, *clean]):
        return not_applicable(reason)
    pairs = zip(wrong, clean, strict=True)
    return CLAIM.judge([smaller_difference(a, b) for a, b in pairs])


def generalising(runs: Sequence[Run]) -> str:
    best = min(runs, key=lambda run: run.scalar(split="test"))
    error = best.scalar(split="test")
    return f"{best.config.name()} has a test error of only {error:.3f}, below {CHANCE:g}" if error < CHANCE else ""


def test_collapse_without_generalisation(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    clean, wrong = (runs([config for config in setting.runs if config.noise == noise]) for noise in (0.0, 1.0))
    reason = generalising(wrong)
    assert verdict(lambda _: not_applicable(reason) if reason else judge(wrong, clean)) == SUPPORTED


def test_control_clean_labels_twice(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    clean = runs([config for config in setting.runs if config.noise == 0.0])
    control = "The same with the networks trained on clean labels in the place of the others."
    assert verdict(lambda _: judge(clean, clean), control=control) != SUPPORTED

"""Simple data are separable after fewer layers than harder data.

Parker et al. (arXiv:2308.02760): simple data sets need only the shallow layers, harder ones the whole network; they
compare MNIST with Fashion-MNIST and CIFAR-10. Here digits are compared with the same digits under Gaussian noise of the
inputs' own standard deviation, and with MNIST-1D: 1,000 samples, 10 classes, one network. Depth is where a layer's NCC
error on the training samples crosses .01, and L where none gets there. Pilots, seeds 0 and 1: 1.6 layers later and more
with noise, 3.8 and more on MNIST-1D.
"""

from collections.abc import Callable, Sequence

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    interpolated_depth,
    not_applicable,
    power,
    study_grid,
    superiority,
    unfitted,
)

MARGIN, ALPHA, SEEDS, EPS = 0.5, 0.05, range(1000, 1005), 0.01
LATTER, FORMER_REVERSED = slice(len(SEEDS), None), slice(len(SEEDS) - 1, None, -1)
EASY = study_grid("layers.trained", seed=SEEDS)
CLAIM = Claim(
    id="l8-easy-data",
    title="Simple data need fewer layers",
    statement=f"Hard data are separable more than {MARGIN} layers later than easy data.",
    source="Parker et al., arXiv:2308.02760, abstract",
    quantity=f"per seed, in layers: interpolated depth at eps {EPS} of the hard data less that of the easy data",
    test="superiority",
    margin=MARGIN,
    alpha=ALPHA,
    power=power("superiority", effect=2.0, sd=0.7, n=len(SEEDS), margin=MARGIN, alpha=ALPHA),
    precondition="training error at most 0.01",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(name=name, eps=EPS, runs=[*EASY, *study_grid("layers.trained", **hard, seed=SEEDS)])
        for name, hard in (("noisy digits", {"pixel_noise": 1.0}), ("mnist1d", {"data": "mnist1d"}))
    ]
}


def judge(runs: Sequence[Run], eps: float | None = EPS, harder: slice = LATTER) -> Verdict:
    """The easy data's runs first; `harder` says which of the runs stand for the hard ones."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    pairs = zip(runs[: len(SEEDS)], runs[harder], strict=True)
    return superiority([depth(hard, eps) - depth(easy, eps) for easy, hard in pairs], margin=MARGIN, alpha=ALPHA)


def depth(run: Run, eps: float | None) -> float:
    errors = run.profile("ncc_error", point="out")
    found = interpolated_depth(errors, eps=EPS if eps is None else eps)
    return float(len(errors)) if found is None else found


def test_simple_data_need_fewer_layers(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda eps: judge(trained, eps)) == SUPPORTED


def test_control_the_same_data(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The easy data against themselves, the seeds in reverse order."
    assert verdict(lambda eps: judge(trained, eps, FORMER_REVERSED), control=control) != SUPPORTED

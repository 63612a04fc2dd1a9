"""Simple data are separable after fewer layers than harder data.

Parker et al. (arXiv:2308.02760): simple data sets need only the shallow layers, harder ones the whole network; they
compare MNIST with Fashion-MNIST and CIFAR-10. Here digits are compared with the same digits under Gaussian noise of the
inputs' own standard deviation, and with MNIST-1D: 1,000 samples, 10 classes, one network. Depth is where a layer's NCC
error on the training samples crosses .01, and L where none gets there. Pilots, seeds 0 and 1: 1.6 layers later and more
with noise, 3.8 and more on MNIST-1D.
"""

from collections.abc import Sequence

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    interpolated_depth,
    not_applicable,
    study_grid,
    unfitted,
)

MARGIN, EPS = 0.5, 0.01
CLAIM = Claim(
    id="l8-easy-data",
    title="Simple data need fewer layers",
    statement=f"Hard data are separable more than {MARGIN} layers later than easy data.",
    source="Parker et al., arXiv:2308.02760, abstract",
    quantity=f"per seed, in layers: interpolated depth at eps {EPS} of the hard data less that of the easy data",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=2.0, sd=0.7),
    precondition="training error at most 0.01",
    suite="literature",
)
LATTER, FORMER_REVERSED = slice(len(CLAIM.seeds), None), slice(len(CLAIM.seeds) - 1, None, -1)
EASY = study_grid("layers.trained", seed=CLAIM.seeds)
SETTINGS = {
    "small": [
        Setting(name=name, eps=EPS, runs=[*EASY, *study_grid("layers.trained", **hard, seed=CLAIM.seeds)])
        for name, hard in (("noisy digits", {"pixel_noise": 1.0}), ("mnist1d", {"data": "mnist1d"}))
    ]
}


def judge(runs: Sequence[Run], eps: float | None = EPS, harder: slice = LATTER) -> Verdict:
    """The easy data's runs first; `harder` says which of the runs stand for the hard ones."""
    if reason := unfitted(runs):
        return not_applicable(reason)
    pairs = zip(runs[: len(CLAIM.seeds)], runs[harder], strict=True)
    return CLAIM.judge([depth(hard, eps) - depth(easy, eps) for easy, hard in pairs])


def depth(run: Run, eps: float | None) -> float:
    errors = run.profile("ncc_error", point="out")
    found = interpolated_depth(errors, eps=EPS if eps is None else eps)
    return float(len(errors)) if found is None else found


def test_simple_data_need_fewer_layers(supported: Check) -> None:
    supported(judge)


def test_control_the_same_data(control: Check) -> None:
    control("The easy data against themselves, the seeds in reverse order.", judge, FORMER_REVERSED)

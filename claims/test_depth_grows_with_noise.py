"""C7: effective depth grows with label noise.

arXiv:2202.09028: v4 "generally increases", v9 "monotonically increases" with the number of random labels, the appendix
"tends to". Depths saturate near L, so the claim is an ordered trend with a least rise, not strict monotonicity, and it
is judged at eps = .10: at smaller thresholds 10 % of noise already needs nearly every layer. Margin, threshold and
seeds were chosen before any run with these seeds, with a pilot, nearly all of seed 0, in view: from 1.0 to 7.4 layers
on digits, from 4.6 to 7.1 on MNIST-1D. MNIST-1D takes its first 2,000 samples, as fitting noisy labels takes longest.

At scale paper: CONV-8-400 on CIFAR-10 of the published figure. Its noisy runs, their networks and levels, are not
public: the levels are ours.
"""

from collections.abc import Sequence

from ncharness import (
    PAPER,
    Check,
    Claim,
    Planned,
    Run,
    RunConfig,
    Setting,
    Verdict,
    grid,
    interpolated_depth,
    not_applicable,
    pivot,
    unfitted,
)

MIN_RISE, NOISE = 1.5, (0.0, 0.1, 0.25, 0.5)
CLAIM = Claim(
    id="c7-depth-noise",
    title="Effective depth grows with label noise",
    statement="The larger the fraction of wrong training labels, the larger the effective depth of a network that has "
    f"fitted them: an ordered trend, and a rise by more than {MIN_RISE} layers from none to half.",
    source="arXiv:2202.09028 v9",
    quantity="per seed, interpolated depth by noise fraction (exact count, nested, all wrong), in layers; without a "
    "separable layer, L: under noise that makes the rise smaller than it is, on clean labels it leaves none",
    test="trend",
    levels=NOISE,
    margin=MIN_RISE,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=2.4, sd=0.4),
    precondition="training error on the noisy labels at most 0.01",
    suite="headline",
    figure="depth-by-noise",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=0.10,
            runs=grid(RunConfig(data="digits", n_train=1400, width=128, epochs=150), noise=NOISE, seed=CLAIM.seeds),
        ),
        Setting(
            name="mnist1d",
            eps=0.10,
            runs=grid(RunConfig(data="mnist1d", n_train=2000, width=200, epochs=100), noise=NOISE, seed=CLAIM.seeds),
        ),
    ],
    "paper": [
        Setting(name=name, eps=0.10, runs=grid(base, noise=NOISE, seed=CLAIM.seeds)) for name, base in PAPER.items()
    ],
}
# For the control: which noise level is taken for which, by seed in turn. Each undoes the other: no order is left.
PERMUTATIONS = ((1, 3, 0, 2), (2, 0, 3, 1))


def depth(run: Run, eps: float) -> float:
    found = interpolated_depth(run.profile(), eps=eps)
    return float(run.config.depth) if found is None else found


def judge(runs: Sequence[Run], eps: float, permutations: Sequence[Sequence[int]] = (range(len(NOISE)),)) -> Verdict:
    if reason := unfitted(runs):
        return not_applicable(reason)
    _, rows = pivot(runs, "noise", lambda run: depth(run, eps))
    table = [[row[i] for i in permutations[seed % len(permutations)]] for seed, row in enumerate(rows)]
    return CLAIM.judge(table)


def test_effective_depth_grows_with_label_noise(supported: Check) -> None:
    supported(judge)


def test_control_noise_fractions_permuted(control: Check) -> None:
    control("The same with the noise fractions permuted across runs.", judge, PERMUTATIONS)

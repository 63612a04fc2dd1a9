"""The signal-to-noise matrix's singular values do not change under invertible maps of the features.

Han, Papyan & Donoho, ICLR 2022 (arXiv:2106.02073): Sigma_W^(-1/2) M, on which the dynamics on the central path rest.
Maps of condition 30. NC1 as a quotient of traces does change, which is the control. Nine digits are asked for; pilot,
seed 0: thirteen, and NC1 changed by .16.
"""

from collections.abc import Callable, Sequence

from ncharness import SUPPORTED, Claim, Run, Setting, Verdict, digits_of_agreement, power, study_grid, superiority

DIGITS, ALPHA, SEEDS = 9.0, 0.05, range(1000, 1005)
CLAIM = Claim(
    id="u15-signal-to-noise",
    title="The signal-to-noise spectrum survives invertible maps",
    statement="Invertible linear maps of the features leave the singular values of Sigma_W^(-1/2) M unchanged.",
    source="Han et al., arXiv:2106.02073",
    quantity="per seed, -log10 of the largest relative change of a singular value",
    test="superiority",
    margin=DIGITS,
    alpha=ALPHA,
    power=power("superiority", effect=12.5, sd=1.0, n=len(SEEDS), margin=DIGITS, alpha=ALPHA),
    precondition="none: random features and maps",
    suite="literature",
)
SETTINGS = {"small": [Setting(name="C5 d12", eps=None, runs=study_grid("central_path.signal_to_noise", seed=SEEDS))]}


def judge(runs: Sequence[Run], name: str = "change") -> Verdict:
    return superiority([digits_of_agreement(run.scalar(name)) for run in runs], margin=DIGITS, alpha=ALPHA)


def test_the_signal_to_noise_spectrum_survives_invertible_maps(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_quotient_of_traces(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same of tr(Sigma_W) / tr(Sigma_B)."
    assert verdict(lambda _: judge(trained, "nc1_change"), control=control) != SUPPORTED

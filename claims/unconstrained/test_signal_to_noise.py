"""The signal-to-noise matrix's singular values do not change under invertible maps of the features.

Han, Papyan & Donoho, ICLR 2022 (arXiv:2106.02073): Sigma_W^(-1/2) M, on which the dynamics on the central path rest.
Maps of condition 30. NC1 as a quotient of traces does change, which is the control. Nine digits are asked for; pilot,
seed 0: thirteen, and NC1 changed by .16.
"""

from collections.abc import Sequence

from ncharness import Check, Claim, Planned, Run, Setting, Verdict, digits_of_agreement, study_grid

CLAIM = Claim(
    id="u15-signal-to-noise",
    title="The signal-to-noise spectrum survives invertible maps",
    statement="Invertible linear maps of the features leave the singular values of Sigma_W^(-1/2) M unchanged.",
    source="Han et al., arXiv:2106.02073",
    quantity="per seed, -log10 of the largest relative change of a singular value",
    test="superiority",
    margin=9.0,
    alpha=0.05,
    seeds=range(1000, 1005),
    planned=Planned(effect=12.5, sd=1.0),
    precondition="none: random features and maps",
    suite="literature",
)
SETTINGS = {
    "small": [Setting(name="C5 d12", eps=None, runs=study_grid("central_path.signal_to_noise", seed=CLAIM.seeds))]
}


def judge(runs: Sequence[Run], name: str = "change") -> Verdict:
    return CLAIM.judge([digits_of_agreement(run.scalar(name)) for run in runs])


def test_the_signal_to_noise_spectrum_survives_invertible_maps(supported: Check) -> None:
    supported(judge)


def test_control_quotient_of_traces(control: Check) -> None:
    control("The same of tr(Sigma_W) / tr(Sigma_B).", judge, "nc1_change")

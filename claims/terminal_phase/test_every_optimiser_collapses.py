"""SGD, Adam and L-BFGS all reach neural collapse, whatever their test accuracies.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), and Kothapalli et al. (arXiv:2206.04041), figure 7: SGD, Adam and L-BFGS
collapse alike on training data and generalise differently. Of that, the collapse is tested: NC1, NC2 of the means and
NC3 since the untrained network, the one that fell least. No direction is claimed of test accuracies. L-BFGS takes
1000 samples at once with a line search, for 100 iterations, and stands still after about half of them; batch norm's
statistics are those of all samples. Pilots, seeds 0 to 2: least falls of .41 to .65 of a decade, always NC2's; test
accuracy .977 to .982, .975 to .985 and .97.
"""

from collections.abc import Sequence
from math import log10

from ncharness import (
    Check,
    Claim,
    Planned,
    Run,
    Setting,
    Verdict,
    not_applicable,
    not_terminal,
    study_grid,
    weakest,
)

MARGIN = 0.2
OPTIMISERS = {"sgd": 200, "adam": 200, "lbfgs": 100}
METRICS = ("nc1", "etf_distance", "self_duality")
CLAIM = Claim(
    id="t8-optimisers",
    title="SGD, Adam and L-BFGS all collapse",
    statement="Trained by SGD, Adam or L-BFGS alike, NC1, NC2 of the class means and NC3 are each lower than in the "
    f"untrained network by more than {MARGIN} of a decade.",
    source="Zhu et al., arXiv:2105.02375; Kothapalli et al., arXiv:2206.04041, figure 7",
    quantity="per seed, log10 of untrained over trained of tr(Sigma_W pinv(Sigma_B)) / C, of the distance of class "
    "means to a simplex ETF, and of that of classifier and means: the least of the three",
    test="superiority",
    margin=MARGIN,
    alpha=0.05,
    seeds=range(1000, 1008),
    planned=Planned(effect=0.4, sd=0.06, times=len(OPTIMISERS)),
    precondition="zero training error in every epoch of the last fifth",
    suite="literature",
)
SETTINGS = {
    "small": [
        Setting(
            name="digits",
            eps=None,
            runs=[
                run
                for name, epochs in OPTIMISERS.items()
                for run in study_grid("terminal_phase.trained", optimizer=name, epochs=epochs, seed=CLAIM.seeds)
            ],
        )
    ]
}


def least_fall(run: Run, of: str) -> float:
    return min(log10(run.scalar(f"{of}{name}", epoch=0) / run.scalar(f"{of}{name}")) for name in METRICS)


def judge(runs: Sequence[Run], of: str = "") -> Verdict:
    if reason := not_terminal(runs):
        return not_applicable(reason)
    falls: dict[str, list[float]] = {name: [] for name in OPTIMISERS}
    for run in runs:
        falls[run.config.to_dict()["settings"]["optimizer"]].append(least_fall(run, of))
    return weakest({name: CLAIM.judge(values) for name, values in falls.items()})


def test_every_optimiser_reaches_collapse(supported: Check) -> None:
    supported(judge)


def test_control_labels_shuffled_for_the_measurement(control: Check) -> None:
    control("The same networks, measured with their labels shuffled.", judge, "shuffled_")

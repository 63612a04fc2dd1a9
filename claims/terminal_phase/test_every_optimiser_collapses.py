"""SGD, Adam and L-BFGS all reach neural collapse, whatever their test accuracies.

Zhu et al., NeurIPS 2021 (arXiv:2105.02375), and Kothapalli et al. (arXiv:2206.04041), figure 7: SGD, Adam and L-BFGS
collapse alike on training data and generalise differently. Of that, the collapse is tested: NC1, NC2 of the means and
NC3 since the untrained network, the one that fell least. No direction is claimed of test accuracies. L-BFGS takes
1000 samples at once with a line search, for 100 iterations, and stands still after about half of them; batch norm's
statistics are those of all samples. Pilots, seeds 0 to 2: least falls of .41 to .65 of a decade, always NC2's; test
accuracy .977 to .982, .975 to .985 and .97.
"""

from collections.abc import Callable, Sequence
from math import log10

from ncharness import (
    SUPPORTED,
    Claim,
    Run,
    Setting,
    Verdict,
    not_applicable,
    not_terminal,
    power,
    study_grid,
    superiority,
    weakest,
)

MARGIN, ALPHA, SEEDS = 0.2, 0.05, range(1000, 1008)
OPTIMISERS = {"sgd": 200, "adam": 200, "lbfgs": 100}
METRICS = ("nc1", "etf_distance", "self_duality")
MISSED = 1.0 - power("superiority", effect=0.4, sd=0.06, n=len(SEEDS), margin=MARGIN, alpha=ALPHA)
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
    alpha=ALPHA,
    power=1.0 - len(OPTIMISERS) * MISSED,  # of all parts; at least this, whatever their dependence
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
                for run in study_grid("terminal_phase.trained", optimizer=name, epochs=epochs, seed=SEEDS)
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
    return weakest({name: superiority(values, margin=MARGIN, alpha=ALPHA) for name, values in falls.items()})


def test_every_optimiser_reaches_collapse(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    assert verdict(lambda _: judge(trained)) == SUPPORTED


def test_control_labels_shuffled_for_the_measurement(
    setting: Setting, runs: Callable[..., list[Run]], verdict: Callable[..., Verdict]
) -> None:
    trained = runs(setting.runs)
    control = "The same networks, measured with their labels shuffled."
    assert verdict(lambda _: judge(trained, "shuffled_"), control=control) != SUPPORTED

"""Estimates of the duration of runs and studies."""

from collections.abc import Sequence

from ncharness.store.run import Configuration
from ncharness.studies.study import Study
from ncharness.training.config import RunConfig
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, flops, steps, training_seconds


def estimated_seconds(config: Configuration) -> float:
    """Estimate roughly how many seconds a run or a study takes on one core of a server of the 2020s."""
    return config.seconds if isinstance(config, Study) else training_seconds(config)


def estimated_hours(programs: Sequence[Sequence[Configuration]], *, device: str, at_once: int) -> float:
    """Estimate the hours until all runs are finished, given in programs: lists that are trained together (groups.py).

    On the CPU `at_once` programs run in parallel, and the estimate adds up `estimated_seconds` of every run. On a GPU
    programs run one after the other. Training takes FLOPs over ASSUMED_RATES, but at least ASSUMED_STEP for every step;
    measuring takes FLOPs over the rate of float32. Runs without known FLOPs are taken to need as long as on the CPU.
    """
    if device == "cpu":
        return sum(estimated_seconds(config) for program in programs for config in program) / at_once / 3600
    seconds = 0.0
    for program in programs:
        known = [(config, of) for config in program if isinstance(config, RunConfig) and (of := flops(config))]
        if known:
            training = sum(of.training / ASSUMED_RATES[config.precision] for config, of in known)
            seconds += max(training, ASSUMED_STEP * max(steps(config) for config, _ in known))
            seconds += sum(of.measuring for _, of in known) / ASSUMED_RATES["float32"]
        counted = {config.key() for config, _ in known}
        seconds += sum(estimated_seconds(config) for config in program if config.key() not in counted)
    return seconds / 3600

"""How long runs and studies take, before they are started."""

from collections.abc import Sequence

from ncharness.store.run import Configuration
from ncharness.studies.study import Study
from ncharness.training.config import RunConfig
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, flops, steps, training_seconds


def estimated_seconds(config: Configuration) -> float:
    """Seconds that a run or a study takes, roughly, on one core of a server of the 2020s."""
    return config.seconds if isinstance(config, Study) else training_seconds(config)


def estimated_hours(programs: Sequence[Sequence[Configuration]], *, device: str, at_once: int) -> float:
    """Hours until all the runs are finished, given as what is trained together (programs.py).

    On the CPU, where `at_once` programs run side by side, by `estimated_seconds` of every run. On a GPU one program
    after the other: FLOPs over ASSUMED_RATES, measuring at that of float32, but ASSUMED_STEP for every step at the
    least. What no FLOPs are known of takes there what it takes the CPU.
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

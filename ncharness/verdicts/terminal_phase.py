"""Quantities of the terminal phase of training (TPT): the epochs from the first zero training error on."""

from collections.abc import Sequence
from math import log10

from ncharness.store.run import Run
from ncharness.studies.terminal_phase import middle


def terminal_phase(run: Run) -> tuple[int, int, int]:
    """The epochs at which the terminal phase of a run begins, is half over, and ends; ValueError where it has none."""
    last = run.epochs[-1]
    fitted = [epoch for epoch in run.epochs if run.scalar(epoch=epoch) == 0]
    if not fitted:
        raise ValueError(f"run: {run.config.name()} never reached zero training error")
    return fitted[0], middle(fitted[0], last), last


def not_terminal(runs: Sequence[Run]) -> str:
    """Why these runs cannot speak for a claim about the terminal phase, or an empty string.

    It asks for zero training error in every epoch of the last fifth.
    """
    for run in runs:
        last = run.epochs[-1]
        worst = max(run.scalar(epoch=epoch) for epoch in run.epochs if epoch >= 0.8 * last)
        if worst != 0:
            return f"{run.config.name()}: training error up to {worst:.3f} in the last fifth of its epochs"
    return ""


def digits_over_phase(run: Run, metric: str) -> list[float]:
    """-log10 of a metric where the terminal phase begins, is half over, and ends: it rises as the metric falls."""
    return [-log10(run.scalar(metric, epoch=epoch)) for epoch in terminal_phase(run)]

"""Quantities of the terminal phase of training (TPT): the epochs from the first zero training error on."""

from collections.abc import Sequence
from math import log10

from ncharness.store.run import Run
from ncharness.studies.terminal_phase import middle


def terminal_phase(run: Run) -> tuple[int, int, int]:
    """Return the epochs at which the terminal phase of training begins, is half over, and ends.

    Args:
        run: Run whose training error was recorded.

    Returns:
        The first epoch of zero training error, the middle, and the last epoch.

    Raises:
        ValueError: Training error never was zero.

    Examples:
        >>> from ncharness import Row, Run, RunConfig
        >>> errors = {0: 0.9, 10: 0.0, 20: 0.0, 30: 0.0}
        >>> rows = [Row(epoch, "network", "train", "error", error) for epoch, error in errors.items()]
        >>> terminal_phase(Run(RunConfig(), tuple(rows)))
        (10, 20, 30)
    """
    last = run.epochs[-1]
    fitted = [epoch for epoch in run.epochs if run.scalar(epoch=epoch) == 0]
    if not fitted:
        raise ValueError(f"run: {run.config.name()} never reached zero training error")
    return fitted[0], middle(fitted[0], last), last


def not_terminal(runs: Sequence[Run]) -> str:
    """Return the reason why runs cannot speak for a claim about the terminal phase, or an empty string.

    It asks for zero training error in every epoch of the last fifth.

    Args:
        runs: Runs whose training error was recorded.

    Returns:
        A sentence that names the first run at fault.

    Examples:
        >>> from ncharness import Row, Run, RunConfig
        >>> not_terminal([Run(RunConfig(), (Row(10, "network", "train", "error", 0.1),))])
        'mlp-L08-H256-digits-p0.00-s0: training error up to 0.100 in the last fifth of its epochs'
    """
    for run in runs:
        last = run.epochs[-1]
        worst = max(run.scalar(epoch=epoch) for epoch in run.epochs if epoch >= 0.8 * last)
        if worst != 0:
            return f"{run.config.name()}: training error up to {worst:.3f} in the last fifth of its epochs"
    return ""


def digits_over_phase(run: Run, metric: str) -> list[float]:
    """Return -log10 of a metric where the terminal phase begins, is half over, and ends.

    It rises as the metric falls.

    Args:
        run: Run with the metric as a number of the network.
        metric: Name of the metric.

    Returns:
        Three numbers.

    Examples:
        >>> from ncharness import Row, Run, RunConfig
        >>> values = {"error": (0.0, 0.0, 0.0), "nc1": (0.1, 0.01, 0.001)}
        >>> rows = [Row(e, "network", "train", m, v) for m, vs in values.items() for e, v in zip((1, 2, 3), vs)]
        >>> digits_over_phase(Run(RunConfig(), tuple(rows)), "nc1")
        [1.0, 2.0, 3.0]
    """
    return [-log10(run.scalar(metric, epoch=epoch)) for epoch in terminal_phase(run)]

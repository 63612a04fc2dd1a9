"""Time and memory of calls on a CUDA device."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from ncharness.bench.tables import Settings

Calls = Mapping[str, Sequence[Callable[[], object]]]
"""Calls to time by the name of the implementation, one call for each copy of the input."""


class Clock:
    """Timer for a device. On the CPU, where only tests measure, it reads the processor's clock."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def seconds(self, calls: Sequence[Callable[[], object]]) -> float:
        """Make the calls one after the other and return the seconds per call."""
        if self.device.type != "cuda":
            begun = time.perf_counter()
            for call in calls:
                call()
            return (time.perf_counter() - begun) / len(calls)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]  # torch's
        torch.cuda.synchronize(self.device)
        start.record()
        for call in calls:
            call()
        end.record()
        torch.cuda.synchronize(self.device)
        return float(start.elapsed_time(end)) / 1e3 / len(calls)


def times_on_device(settings: Settings, title: str, calls: Calls, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of every call in each round, after one round of warm-up; the calls take turns."""
    clock = Clock(device)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, of_inputs in calls.items():
        settings.on_step(f"{title}: {name}, warm-up")
        clock.seconds(of_inputs)
    for i in range(settings.rounds):
        for name, of_inputs in calls.items():
            settings.on_step(f"{title}: {name}, round {i + 1} of {settings.rounds}")
            times[name].append(clock.seconds(of_inputs))
    return times


def bytes_on_device(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the peak memory of a call on a CUDA device above the memory before it; None for other devices."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before

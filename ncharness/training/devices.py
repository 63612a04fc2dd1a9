"""Device and arithmetic of a run. They are chosen when it is started and are no part of its key."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NAMES = "cpu, cuda or cuda:<number>"


def check(name: str, *, here: bool = True) -> torch.device:
    """The device of that name; ValueError for one that is none, or, with `here`, that this machine does not have."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise ValueError(f"--device: expected {NAMES}, got {name!r}")
    if here and device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(f"--device: expected {NAMES}, got {name!r}, but torch finds {found or 'no'} CUDA devices")
    return device


def automatic(scale: str) -> str:
    """cuda at scale paper where there is one, else cpu: small networks train faster side by side on its cores."""
    return "cuda" if scale == "paper" and torch.cuda.is_available() else "cpu"


def describe(device: torch.device, machine: str) -> str:
    """The device in words, for a run's provenance."""
    return f"CUDA ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else f"CPU ({machine})"


@contextmanager
def exact() -> Iterator[None]:
    """Restrict cuDNN to deterministic algorithms without TF32: float32 is float32, and a resumed run the same run.

    Without effect on the CPU. What `torch.backends.cuda.matmul` allows is left as torch has it: no TF32.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield

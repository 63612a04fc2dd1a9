"""Where a number comes from: versions, commit, machine."""

import functools
import importlib.util
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from ncharness.kernels import ops
from ncharness.training import devices


def facts(device: str = "cpu") -> dict[str, str | int]:
    """Return versions, commit, backend and device, on which a result depends besides its configuration."""
    return {
        "version": _version("ncharness"),
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": _version("numpy"),
        "scikit-learn": _version("scikit-learn"),
        "mnist1d": _version("mnist1d"),
        "backend": ": ".join(ops.backend()),
        "threads": torch.get_num_threads(),
        "device": devices.describe(torch.device(device), platform.machine()),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # not installed, or imported from a tree that is only on the path
        return "not installed"


def _package() -> Path:
    """The folder of the package, wherever in it this module is."""
    spec = importlib.util.find_spec("ncharness")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@functools.cache
def _commit() -> str:
    """The commit of the source tree this package is imported from, with `+` for local changes; empty outside one."""
    root = _package().parent
    if not (root / ".git").exists():
        return ""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")

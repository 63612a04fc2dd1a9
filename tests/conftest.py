"""Fixtures shared by the tests, pytester for the claims' plumbing, and processes for all of the tests together."""

import signal
from collections.abc import Generator, Iterator

import pytest
import torch

from ncharness import RunConfig
from ncharness.store.processes import available_cpus

pytest_plugins = ["pytester"]
MOST_PROCESSES = 4  # each imports torch, and the longest file decides the end


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """`pytest` alone, which means everything, takes the processors there are; what is named runs in one process.

    It comes before pytest-xdist reads its options, and `-n` overrules it; a worker of pytest-xdist starts no others.
    """
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.usepdb
    worker = hasattr(config, "workerinput")
    if everything and not worker and config.getoption("numprocesses", default=0) is None:  # 0: no pytest-xdist
        config.option.numprocesses = min(available_cpus(), MOST_PROCESSES)
        config.option.dist = "loadfile"  # what a file builds for all of its tests is built once
    return (yield)


def pytest_configure() -> None:
    """Restore SIGINT: a process that a shell starts in the background ignores it, and so would its children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def torch_globals_unchanged() -> Iterator[None]:
    """A test that leaves torch's global settings changed fails by name, instead of another one by accident."""

    def settings() -> tuple[object, ...]:
        return torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()

    before = settings()
    yield
    assert settings() == before, "this test changed torch's global settings"


@pytest.fixture
def tiny() -> RunConfig:
    """A run that trains in a fraction of a second."""
    return RunConfig(depth=3, width=16, n_train=200, epochs=4, measurements=3)

"""Fixtures shared by the tests, and pytester for the tests of the claims' plumbing."""

from collections.abc import Iterator

import pytest
import torch

from ncharness import RunConfig

pytest_plugins = ["pytester"]


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

"""Where runs are computed: names, what is not there, and what is set while computing."""

import pytest
import torch

from ncharness import RunConfig, Store
from ncharness.store.messages import Source
from ncharness.training import devices


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:one", "", "meta", "cpu:1"])
def test_a_name_that_is_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"--device: expected cpu, cuda or cuda:<number>, got '"):
        devices.check(name)


def test_a_device_that_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: object, tiny: RunConfig) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="got 'cuda', but torch finds no CUDA devices"):
        Store(str(tmp_path)).train(tiny, device="cuda")
    assert devices.check("cuda:3", here=False) == torch.device("cuda", 3), "a worker elsewhere may have it"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.check("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="torch finds 2 CUDA devices"):
        devices.check("cuda:2")


def test_the_automatic_choice_is_the_gpu_at_scale_paper_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (devices.automatic("paper"), devices.automatic("small")) == ("cuda", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.automatic("paper") == "cpu"
    assert Source().device == "cpu"


def test_exact_is_without_tf32_and_deterministic_and_restored() -> None:
    flags = torch.backends.cudnn
    before = flags.allow_tf32, flags.deterministic, flags.benchmark
    with devices.exact():
        assert (flags.allow_tf32, flags.deterministic, flags.benchmark) == (False, True, False)
    assert (flags.allow_tf32, flags.deterministic, flags.benchmark) == before

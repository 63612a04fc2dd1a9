"""Training on a CUDA device; `pytest -m gpu` runs it with the kernels' tests. No device has run it yet."""

import pytest
import torch

from ncharness import RunConfig, Store
from ncharness.store.messages import Source
from ncharness.training.loop import State

if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)
pytestmark = pytest.mark.gpu
PLAIN = RunConfig(arch="conv", depth=2, width=16, n_train=400, epochs=4, measurements=3)
AS_AT_SCALE_PAPER = PLAIN.replace(augment="code", precision="bf16", compiled=True)


class StoppedError(Exception):
    """Ends a training as a kill would."""


def test_the_untrained_network_measures_as_on_the_cpu_and_training_fits_as_well(tmp_path):
    here, there = (Store(tmp_path / name).train(PLAIN, device=name) for name in ("cpu", "cuda"))
    assert there.provenance["device"].startswith("CUDA (")
    for mine, true in zip(there.rows, here.rows, strict=True):
        assert mine[:-1] == true[:-1]
        if true.epoch == 0:
            assert mine.value == pytest.approx(true.value, rel=1e-3, abs=5e-3)
    assert there.scalar("error") == pytest.approx(here.scalar("error"), abs=0.1)


@pytest.mark.parametrize("config", [PLAIN, AS_AT_SCALE_PAPER], ids=["plain", "augmented, bf16, compiled"])
def test_a_stopped_run_resumes_to_the_same_rows(config, tmp_path):
    untouched = Store(tmp_path / "untouched").train(config, device="cuda")

    def stop(state: State) -> None:
        if state.epoch == 2:
            raise StoppedError

    store = Store(tmp_path / "stopped")
    with pytest.raises(StoppedError):
        store.train(config, device="cuda", on_epoch=stop)
    assert store.status(config).epoch == 2
    assert store.train(config, device="cuda").rows == untouched.rows


@pytest.mark.parametrize("config", [PLAIN, AS_AT_SCALE_PAPER], ids=["plain", "augmented, bf16, compiled"])
def test_runs_as_one_program_are_near_the_runs_alone_and_resume_to_the_same_rows(config, tmp_path):
    configs = [config.replace(seed=seed) for seed in range(3)]
    untouched = Store(tmp_path / "untouched").train_together(configs, source=Source(device="cuda"))
    for each, run in zip(configs, untouched, strict=True):
        alone = Store(tmp_path / "alone").train(each, device="cuda")
        for mine, true in zip(run.rows, alone.rows, strict=True):
            assert mine[:-1] == true[:-1]
            if true.epoch == 0:
                assert mine.value == pytest.approx(true.value, rel=1e-3, abs=5e-3)
        assert run.scalar("error") == pytest.approx(alone.scalar("error"), abs=0.1)

    def stop(_, state: State) -> None:
        if state.epoch == 3:  # of the first run: all of them have their checkpoints
            raise StoppedError

    store = Store(tmp_path / "stopped")
    with pytest.raises(StoppedError):
        store.train_together(configs, source=Source(device="cuda"), on_epoch=stop)
    assert [run.rows for run in store.train_together(configs, source=Source(device="cuda"))] == [
        run.rows for run in untouched
    ]


def test_weights_of_a_run_on_the_device_load_without_one(tmp_path):
    store = Store(tmp_path)
    store.train(PLAIN, device="cuda")
    weights = torch.load(store.path(PLAIN) / "model.pt", weights_only=True)
    assert {value.device.type for value in weights.values()} == {"cpu"}

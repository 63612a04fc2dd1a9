"""Short fuzz run over the public functions and the ops; fuzz_bindings.py makes long ones."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from ncharness.kernels import reference

spec = importlib.util.spec_from_file_location("fuzz_bindings", Path(__file__).with_name("fuzz_bindings.py"))
fuzz_bindings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_bindings)


def test_every_call_returns_what_the_reference_does_or_refuses_by_name():
    assert fuzz_bindings.fuzz(seed=0, seconds=2) > 5


def test_a_wrong_answer_is_found_and_can_be_repeated(monkeypatch):
    right = reference.class_stats

    def wrong(features, labels, n_classes):
        count, mean, scatter = right(features, labels, n_classes)
        return count, mean, scatter * (1 + 1e-9)

    monkeypatch.setattr(fuzz_bindings, "reference", SimpleNamespace(**{**vars(reference), "class_stats": wrong}))
    with pytest.raises(fuzz_bindings.WrongError, match=r"scatter: .*\nrepeat it with: .* --seed 0 --first") as failure:
        fuzz_bindings.fuzz(seed=0, seconds=10)
    index = int(str(failure.value).split("--first ")[1].split()[0])
    with pytest.raises(fuzz_bindings.WrongError, match=f"--first {index} "):
        fuzz_bindings.fuzz(seed=0, seconds=0, first=index)

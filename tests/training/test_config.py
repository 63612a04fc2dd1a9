"""The configuration of a run: identity, derived seeds, schedule."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from ncharness.metrics.registry import names
from ncharness.training.config import SCHEDULES, RunConfig, grid
from ncharness.training.dataset_specs import known
from ncharness.training.networks import ARCHITECTURES


def test_key_covers_every_field() -> None:
    base = RunConfig()
    changes = {
        "arch": "conv",
        "depth": 9,
        "width": 9,
        "data": "mnist1d",
        "n_train": 9,
        "noise": 0.5,
        "noise_kind": "reference",
        "epochs": 9,
        "batch_size": 9,
        "lr": 0.5,
        "momentum": 0.5,
        "weight_decay": 0.5,
        "schedule": "readme",
        "points": ("out",),
        "measurements": 9,
        "part": "both",
        "split": 9,
        "seed": 9,
        "metrics": ("nc1",),
        "augment": "code",
        "precision": "bf16",
        "compiled": True,
    }
    assert set(changes) == set(base.to_dict()), "a new field belongs into this test"
    keys = {
        base.replace(**{"part": "first"} if name == "split" else {}, **{name: value}).key()
        for name, value in changes.items()
    }
    assert len(keys | {base.key()}) == len(changes) + 1


def test_a_configuration_without_metrics_has_the_key_from_before_there_were_any() -> None:
    assert RunConfig().key() == "ace1bd5db5"
    assert RunConfig(depth=4, seed=1000, noise=0.5, metrics=()).key() == "56ccd62a27"
    older = RunConfig().to_dict()
    del older["metrics"]
    assert RunConfig.from_dict(older) == RunConfig()


def test_runs_from_before_there_were_halves_keep_their_keys() -> None:
    assert RunConfig().key() == "ace1bd5db5"
    assert RunConfig(data="mnist1d", noise=0.25, seed=1000, n_train=2000, width=200, epochs=100).key() == "4da4d36e48"
    fields = RunConfig().to_dict()
    assert RunConfig.from_dict({name: fields[name] for name in fields.keys() - {"part", "split"}}) == RunConfig()


def test_the_draws_of_halves_depend_on_the_split_and_of_the_whole_on_the_seed() -> None:
    half = RunConfig(part="first", split=3, seed=5)
    other = RunConfig(part="both", split=3, seed=6, noise=0.2, depth=2)
    assert half.data_seed() == other.data_seed() != half.replace(split=4).data_seed()
    assert half.seed_for("init") != other.seed_for("init")
    assert RunConfig(seed=5).data_seed() == RunConfig(seed=5).seed_for("noise") != RunConfig(seed=6).data_seed()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": "second"}, "^part: expected one of all, first, both, got 'second'"),
        ({"split": 1}, "^split: expected 0 where nothing is split"),
        ({"part": "first", "split": -1}, "^split: expected an integer of at least 0, got -1"),
        ({"part": "first", "noise": 0.1}, "^noise: expected 0 for part first, as S1 is clean, got 0.1"),
        ({"part": "both", "noise_kind": "reference"}, "^noise_kind: expected exact for part both"),
    ],
)
def test_halves_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig(**changes)


def test_runs_from_before_there_was_a_gpu_keep_their_keys_and_a_device_has_none() -> None:
    fields = RunConfig().to_dict()
    assert RunConfig(augment="none", precision="float32", compiled=False).key() == "ace1bd5db5"
    older = fields.keys() - {"augment", "precision", "compiled"}
    assert RunConfig.from_dict({name: fields[name] for name in older}) == RunConfig()
    assert "device" not in fields
    assert RunConfig(compiled=1).key() == RunConfig(compiled=True).key()


def test_key_is_the_same_in_another_process() -> None:
    code = "from ncharness.training.config import RunConfig; print(RunConfig(seed=3, noise=0.25).key())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == RunConfig(noise=0.25, seed=3).key()


def test_configuration_survives_json() -> None:
    config = RunConfig(points=("pre_bn", "out"), n_train=100, noise=0.1, metrics=("nc1", "equinorm"))
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_integers_and_floats_of_one_value_are_one_configuration() -> None:
    assert RunConfig(noise=0).key() == RunConfig(noise=0.0).key()


def test_name_is_readable() -> None:
    assert RunConfig(depth=8, width=256, noise=0.5, seed=3).name() == "mlp-L08-H256-digits-p0.50-s3"
    assert "lr0" in RunConfig(lr=0).name()
    assert RunConfig(part="both", split=7, seed=3).name() == "mlp-L08-H256-digits-p0.00-both7-s3"
    assert RunConfig(data="folder:/some/cifar10").name() == "mlp-L08-H256-folder-some-cifar10-p0.00-s0"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("arch", "transformer"),
        ("depth", 0),
        ("width", 1.5),
        ("epochs", -1),
        ("batch_size", True),
        ("noise", 1.01),
        ("noise", -0.1),
        ("noise", float("nan")),
        ("lr", float("inf")),
        ("schedule", "cosine"),
        ("points", ()),
        ("points", ("middle",)),
        ("seed", -1),
        ("n_train", 0),
        ("n_train", 2.5),
        ("n_train", True),
        ("seed", True),
        ("noise_kind", "some"),
        ("metrics", ("nc_1",)),
        ("metrics", "nc1"),
        ("augment", "crop"),
        ("precision", "float16"),
        ("compiled", "yes"),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        RunConfig(**{field: value})


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown configuration field: typo"):
        RunConfig.from_dict({"typo": 1})


def test_seeds_differ_by_purpose_and_seed_only() -> None:
    config = RunConfig(seed=5)
    assert config.seed_for("init") == config.replace(depth=3, noise=0.5).seed_for("init")
    assert config.seed_for("init") != config.seed_for("noise")
    assert config.seed_for("init") != RunConfig(seed=6).seed_for("init")
    assert 0 <= config.seed_for("init") < 2**63


def test_learning_rate_follows_the_reference_code_at_its_own_epochs() -> None:
    config = RunConfig(epochs=500)
    steps = {epoch: config.lr_at(epoch) for epoch in (0, 59, 60, 99, 100, 199, 200, 499)}
    expected = {0: 0.1, 59: 0.1, 60: 0.02, 99: 0.02, 100: 0.004, 199: 0.004, 200: 0.0008, 499: 0.0008}
    assert steps == pytest.approx(expected)


def test_the_readme_schedule_is_available_by_name() -> None:
    config = RunConfig(epochs=500, schedule="readme")
    assert [config.lr_at(epoch) for epoch in (59, 60, 120, 160)] == pytest.approx([0.1, 0.01, 0.001, 0.0001])
    assert RunConfig(schedule="constant").lr_at(149) == 0.1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 7, 150])
def test_the_first_epoch_trains_at_the_full_rate(schedule: str, epochs: int) -> None:
    assert RunConfig(epochs=epochs, schedule=schedule).lr_at(0) == 0.1


@pytest.mark.parametrize("epochs", [1, 2, 5, 150, 500])
@pytest.mark.parametrize("measurements", [1, 2, 3, 12])
def test_measured_epochs_include_the_untrained_and_the_last(epochs: int, measurements: int) -> None:
    measured = RunConfig(epochs=epochs, measurements=measurements).measured_epochs()
    assert measured[0] == 0
    assert measured[-1] == epochs
    assert measured == sorted(set(measured))
    assert len(measured) <= max(measurements, 3)


def test_grid_refuses_a_string_for_several_values() -> None:
    with pytest.raises(TypeError, match="data: expected several values, got the string 'digits'"):
        grid(RunConfig(), data="digits")


def test_grid_varies_the_last_field_fastest() -> None:
    configs = grid(RunConfig(), depth=(4, 8), seed=range(2))
    assert [(config.depth, config.seed) for config in configs] == [(4, 0), (4, 1), (8, 0), (8, 1)]


def test_a_classifier_of_torchvision_has_neither_depth_nor_width() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    config = RunConfig(arch="resnet18", seed=3)
    assert (config.depth, config.width) == (0, 0), "layers of its own, whatever the defaults are"
    assert config == RunConfig(arch="resnet18", depth=0, width=0, seed=3) == RunConfig.from_dict(config.to_dict())
    assert config.name() == "resnet18-digits-p0.00-s3"
    assert len({config.key(), config.replace(arch="resnet34").key(), config.replace(seed=4).key()}) == 3
    assert [one.depth for one in grid(RunConfig(), arch=["mlp", "vgg11"])] == [8, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "resnet18", "depth": 4}, "^depth: expected 0 for resnet18, whose layers are its own, got 4"),
        ({"arch": "resnet18", "width": 64}, "^width: expected 0 for resnet18, whose layers are its own, got 64"),
        (
            {"arch": "resnet18", "points": ("pre_bn",)},
            "^points: expected paper or out for resnet18, which has",
        ),
        (
            {"arch": "resnet"},
            "^arch: expected mlp, conv, convres or a classifier of torchvision, got 'resnet'; did",
        ),
        ({"arch": 3}, "^arch: expected mlp, conv, convres or a classifier of torchvision, got 3; "),
        ({"depth": 0}, "^depth: expected an integer of at least 1, got 0"),
        ({"width": 0}, "^width: expected an integer of at least 1, got 0"),
    ],
)
def test_what_a_classifier_cannot_have_is_refused(changes: dict[str, object], message: str) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    with pytest.raises(ValueError, match=message):
        RunConfig(**changes)


def test_without_torchvision_its_classifiers_are_refused_and_the_papers_networks_are_not() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None\n"
        "from ncharness import RunConfig\n"
        "RunConfig(arch='conv')\n"
        "try: RunConfig(arch='resnet18')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "which is not installed (pip install 'ncharness[claims]'), got 'resnet18'" in done.stdout


KEYS: dict[str, dict[str, object]] = {
    "ace1bd5db5": {},
    "56ccd62a27": {"depth": 4, "seed": 1000, "noise": 0.5},
    "4da4d36e48": {"data": "mnist1d", "noise": 0.25, "seed": 1000, "n_train": 2000, "width": 200, "epochs": 100},
    "78deec127a": {"arch": "conv", "width": 16, "epochs": 60},
    "99c29b9ce7": {"arch": "convres", "width": 16, "n_train": 1400, "seed": 1003},
    "0590dc5179": {"arch": "resnet18", "data": "cifar10"},
    "21124cdcc3": {"metrics": ("nc1", "etf_distance")},
    "3d3c0f7a18": {
        "augment": "code",
        "precision": "bf16",
        "compiled": True,
        "arch": "conv",
        "width": 400,
        "data": "cifar10",
        "epochs": 500,
        "schedule": "readme",
    },
    "b97f27f835": {"part": "first", "split": 1002, "n_train": 1000, "width": 20},
    "a832b965d0": {"part": "both", "split": 1002, "noise": 0.3, "depth": 2, "weight_decay": 0.005},
    "71b39d1d82": {"points": ("pre_bn", "out"), "measurements": 20, "lr": 0, "momentum": 0},
    "82d39e133c": {"data": "folder:/images", "noise_kind": "reference", "noise": 1},
}
"""Configurations by the keys that they had before there were specs."""


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_those_of_the_stores_that_people_have(key: str) -> None:
    if KEYS[key].get("arch") == "resnet18":
        pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert RunConfig(**KEYS[key]).key() == key


def test_every_field_has_a_help_text_and_every_choice_is_accepted() -> None:
    specs = RunConfig.field_specs()
    assert [*specs] == [one.name for one in dataclasses.fields(RunConfig)]
    for name, of in specs.items():
        assert len(of.help) > 3, name
        assert re.search(rf"^        {name}: \S", RunConfig.__doc__ or "", flags=re.MULTILINE), name
        for choice in of.kind.choices:
            assert getattr(RunConfig(**{name: choice}), name) == choice
            assert str(choice) in of.help, name


def test_the_text_of_every_value_is_parsed_to_the_value() -> None:
    for config in [RunConfig(**changes) for changes in KEYS.values() if changes.get("arch") != "resnet18"]:
        for name, of in RunConfig.field_specs().items():
            value = getattr(config, name)
            assert of.kind.parse("+".join(value) if isinstance(value, tuple) else str(value)) == value, name


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("depth", "1.5", "expected an integer, got '1.5'"),
        ("depth", "None", "expected an integer, got 'None'"),
        ("n_train", "some", "expected an integer, got 'some'"),
        ("lr", "fast", "expected a number, got 'fast'"),
        ("compiled", "1", "expected True or False, got '1'"),
    ],
)
def test_a_text_that_is_no_value_is_refused(field: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        RunConfig.field_specs()[field].kind.parse(text)


def test_the_help_lists_what_there_is() -> None:
    specs = RunConfig.field_specs()
    for name, there_are in {"arch": ARCHITECTURES, "data": known(), "metrics": names()}.items():
        assert all(re.search(rf"(^|[ ,]){re.escape(one)}(,|$)", specs[name].help) for one in there_are), name


def test_metrics_may_come_from_an_iterator() -> None:
    assert RunConfig(metrics=iter(["nc1", "margin"])) == RunConfig(metrics=("nc1", "margin"))


@pytest.mark.parametrize(("field", "value"), [("arch", ["mlp"]), ("metrics", [["nc1"]]), ("metrics", [3])])
def test_values_without_a_hash_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{field}: expected"):
        RunConfig(**{field: value})

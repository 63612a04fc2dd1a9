"""A metric, a data set and an architecture are added by one declaration each.

The pages in docs/contributing promise it. Each test adds a spec for its own time and looks for it in every place.
"""

import math
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import ncharness as nc
from ncharness.cli.main import build_parser, configs_from, main
from ncharness.metrics import registry
from ncharness.metrics.registry import METRICS, MetricSpec, Needs
from ncharness.store.groups import grouped
from ncharness.training import dataset_specs, networks
from ncharness.training.batched import train_together
from ncharness.training.cost import flops, training_seconds
from ncharness.training.dataset_specs import DATASETS, DatasetSpec, Parts, Sizes
from ncharness.training.datasets import load
from ncharness.training.loop import train
from ncharness.training.networks import ARCHITECTURES, ArchSpec

SHORT = ["train", "--depth", "2", "--width", "4", "--n-train", "60", "--epochs", "1", "--measurements", "2"]


@pytest.fixture(autouse=True)
def _no_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCHARNESS_DATA", raising=False)


def help_of(option: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The help of an option of `ncharness train`."""
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    words = capsys.readouterr().out.split(f"  {option} ", 1)[1].split("\n  --", 1)[0]
    return " ".join(words.split())


def config_of(*options: str) -> nc.RunConfig:
    (config,) = configs_from(build_parser().parse_args([*SHORT, *options]))
    return config


def rows_of(config: nc.RunConfig) -> list[nc.Row]:
    *_, last = train(config, load(config.data, n_train=config.n_train, seed=config.data_seed()))
    return last.rows


def refused(option: str, name: str, capsys: pytest.CaptureFixture[str]) -> bool:
    assert main([*SHORT, option, name]) == 2
    return f"got {name!r}" in capsys.readouterr().err


def least_norm(stats: nc.ClassStats) -> Tensor:
    return stats.mean.norm(dim=1).min()


def test_a_metric(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("--metrics", "least_norm", capsys)
    assert "least_norm" not in help_of("--metrics", capsys)
    spec = MetricSpec(
        name="least_norm",
        needs=Needs.STATS,
        function=least_norm,
        convention="least norm | of a mean",
        elsewhere="`smallest_mean`",
    )
    monkeypatch.setitem(METRICS, spec.name, spec)
    model, batches = nn.Sequential(nn.Linear(8, 4)), [(torch.randn(30, 8), torch.arange(30) % 3)]
    report = nc.measure_layers(model, batches, layers=["0"], n_classes=3, metrics=["nc1_trace", "least_norm"])
    assert report.metrics["least_norm"]["0"] == float(least_norm(report.stats["0"]))
    rows = rows_of(config_of("--metrics", "least_norm+margin"))
    assert len([row for row in rows if row.metric == "least_norm" and row.split == "train"]) == 4  # layers, epochs
    assert "least_norm" in help_of("--metrics", capsys)
    assert "| `least_norm` | least norm \\| of a mean |  | layer |  |" in registry.markdown_table()
    assert "| `least_norm` | `smallest_mean` |" in registry.markdown_aliases()


def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 5, generator=generator), torch.arange(60) % 3

    def read(root: Path | None, download: bool) -> Parts:
        assert (root, download) == (None, False)
        return Parts(x, y, x[:9], y[:9], 3, lambda stored: stored.float())

    with pytest.raises(ValueError, match=r"^name: expected one of digits, .* got 'blobs'"):
        load("blobs")
    assert "blobs" not in help_of("--data", capsys)
    spec = DatasetSpec(
        name="blobs",
        about="three blobs",
        normalisation="none",
        source="drawn",
        read=read,
        sizes=Sizes((5,), 60, 9, 3),
    )
    monkeypatch.setitem(DATASETS, "blobs", spec)
    config = config_of("--data", "blobs", "--noise", "0.1")
    assert {row.split for row in rows_of(config)} == {"train", "test"}
    counted = flops(config)
    assert counted is not None
    assert counted.training == 3 * 2 * 4 * (5 + 4 + 3) * 60
    assert (load("shuffled:blobs").train_y != load("blobs").train_y).any()
    assert "blobs" in help_of("--data", capsys)
    assert "| `blobs` | three blobs | 5 | 60, 9 | 3 | none | drawn |" in dataset_specs.markdown_table()
    assert not dataset_specs.needs_root("blobs")


def tanh(depth: int, width: int, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    layers: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for i, name in enumerate(networks.block_names(depth)):
        linear = nn.Linear(width if i else math.prod(shape), width)
        layers.append((name, nn.Sequential(OrderedDict(pre_bn=linear, out=nn.Tanh()))))
    return nn.Sequential(OrderedDict([*layers, ("head", nn.Linear(width, n_classes))]))


def test_an_architecture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused("--arch", "tanh", capsys)
    assert "tanh" not in help_of("--arch", capsys)
    spec = ArchSpec(
        name="tanh",
        about="fully connected, with tanh",
        builder=tanh,
        paper_point="out",
        forward_flops=lambda depth, *_: 7 * depth,
        layer_products=lambda width: width**2,
    )
    monkeypatch.setitem(ARCHITECTURES, "tanh", spec)
    config = config_of("--arch", "tanh")
    assert config.name() == "tanh-L02-H4-digits-p0.00-s0"
    assert {row.layer for row in rows_of(config)} == {"block01.out", "block02.out", "network"}
    counted = flops(config)
    assert counted is not None
    assert counted.training == 3 * 14 * 60
    assert training_seconds(config) == training_seconds(config.replace(arch="mlp"))
    both = [config, config.replace(seed=1)]
    assert grouped(both, together=2) == [both]
    *_, last = train_together(both, [load("digits", n_train=60)] * 2)
    assert len(last) == 2
    assert "tanh" in help_of("--arch", capsys)
    row = "| `tanh` | fully connected, with tanh | `pre_bn`, `out` (paper) | yes | counted |"
    assert row in networks.markdown_table()


def two_layers(_: int, __: int, shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 6), nn.ReLU(), nn.Linear(6, n_classes))


def test_an_architecture_whose_layers_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ArchSpec(
        name="own",
        about="two layers",
        builder=two_layers,
        paper_point="out",
        forward_flops=None,
        layer_products=lambda _: 500.0,
        sized=False,
        layers=lambda _model, _points: {"hidden.out": "2"},
    )
    monkeypatch.setitem(ARCHITECTURES, "own", spec)
    config = nc.RunConfig(arch="own", n_train=60, epochs=1, measurements=2)
    assert (config.depth, config.width, config.name()) == (0, 0, "own-digits-p0.00-s0")
    assert {row.layer for row in rows_of(config)} == {"hidden.out", "network"}
    assert flops(config) is None
    assert training_seconds(config) == pytest.approx(6.5e-11 * 500 * 60)
    assert grouped([config, config.replace(seed=1)], together=2) == [[config], [config.replace(seed=1)]]
    with pytest.raises(ValueError, match=r"^depth: expected 0 for own, whose layers are its own, got 3"):
        nc.RunConfig(arch="own", depth=3)
    with pytest.raises(ValueError, match=r"^points: expected paper or out for own, which has no other"):
        nc.RunConfig(arch="own", points=("pre_bn",))
    with pytest.raises(ValueError, match=r"^configs: expected networks of mlp, conv, convres, got own"):
        next(train_together([config], [load("digits", n_train=60)]))


def test_the_tables_of_the_pages_are_those_of_the_specs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    tables = {
        "metrics": registry.markdown_table(),
        "aliases": registry.markdown_aliases(),
        "data-sets": dataset_specs.markdown_table(),
        "architectures": networks.markdown_table(),
    }
    page.write_text("".join(f"<!-- generated:{what} -->\n<!-- /generated -->\n" for what in tables))
    assert main(["report", "--markdown", str(page)]) == 0
    assert "written" in capsys.readouterr().out
    assert all(f"<!-- generated:{what} -->\n\n{table}\n\n" in page.read_text() for what, table in tables.items())
    for path, what in (("add-a-data-set", "data-sets"), ("add-an-architecture", "architectures")):
        assert tables[what] in (Path(__file__).parents[2] / "docs" / "contributing" / f"{path}.md").read_text()

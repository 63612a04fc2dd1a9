"""The command line: what it prints, and how it fails."""

import shutil
from pathlib import Path

import pytest

import ncharness
from ncharness import RunConfig, Store
from ncharness.cli.main import build_parser, configs_from, main

TINY = ["--depth", "3", "--width", "16", "--n-train", "200", "--epochs", "4", "--measurements", "3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished") / "runs"
    Store(root).train(RunConfig(depth=3, width=16, n_train=200, epochs=4, measurements=3))
    return root


@pytest.fixture
def store(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    shutil.copytree(finished, tmp_path / "runs")
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")
    return Store()


def test_options_are_the_fields_of_a_run_and_commas_make_a_grid() -> None:
    options = [
        "train",
        "--depth",
        "4,8",
        "--noise",
        "0.25",
        "--points",
        "pre_bn+out",
        "--seed",
        "1,2",
        "--n-train",
        "100",
        "--metrics",
        "nc1+margin",
    ]
    configs = configs_from(build_parser().parse_args(options))
    assert [(config.depth, config.seed) for config in configs] == [(4, 1), (4, 2), (8, 1), (8, 2)]
    assert {(config.noise, config.points, config.n_train) for config in configs} == {(0.25, ("pre_bn", "out"), 100)}
    assert {config.metrics for config in configs} == {("nc1", "margin")}
    assert configs_from(build_parser().parse_args(["train"])) == [RunConfig()]
    for_a_gpu = [
        "train",
        "--compiled",
        "False,True",
        "--precision",
        "bf16",
        "--augment",
        "crop_flip",
        "--device",
        "cuda",
    ]
    configs = configs_from(build_parser().parse_args(for_a_gpu))
    assert [(config.compiled, config.precision, config.augment) for config in configs] == [
        (False, "bf16", "crop_flip"),
        (True, "bf16", "crop_flip"),
    ]


@pytest.mark.usefixtures("store")
def test_a_finished_run_is_shown_without_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY]) == 0
    printed = capsys.readouterr().out
    assert "mlp-L03-H16-digits-p0.00-s0" in printed
    assert "d 0.05" in printed


def test_metrics_asked_for_by_name_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")
    config = RunConfig(depth=3, width=16, n_train=200, epochs=1, metrics=("nc1", "weak_collapse", "margin"))
    run = Store().train(config)
    assert run is not None
    assert Store().load(config) == run
    assert main(["show", config.key()]) == 0
    printed = capsys.readouterr().out
    for column in ("nc1, train", "weak_collapse, train", "weak_collapse, test"):
        assert column in printed
    assert "nc1, test" not in printed
    assert f"{run.profile('nc1')[1]:.4g}" in printed
    assert f"network: margin={run.scalar('margin'):.4g}" in printed


def test_a_classifier_of_torchvision_is_trained_by_its_name() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    configs = configs_from(build_parser().parse_args(["train", "--arch", "resnet18,mlp", "--data", "cifar10"]))
    assert configs == [RunConfig(arch="resnet18", data="cifar10"), RunConfig(data="cifar10")]


@pytest.mark.usefixtures("store")
def test_a_classifier_with_a_depth_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    assert main(["train", "--arch", "resnet18", "--depth", "4"]) == 2
    assert "depth: expected 0 for resnet18, whose layers are its own, got 4" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_a_metric_that_does_not_exist_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, "--metrics", "nc1+equinrom"]) == 2
    assert "metrics: expected names of metrics, got 'equinrom'; did you mean equinorm?" in capsys.readouterr().err


def test_ls_lists_finished_unfinished_and_corrupt_runs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "other_0123456789").mkdir()
    (store.root / "other_0123456789" / "result.json").write_text("{}")
    assert main(["ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].rstrip().endswith("done")
    assert lines[2].rstrip().endswith("corrupt (its checksum does not match)")


def test_a_table_of_runs_is_whole_on_a_narrow_terminal(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["ls"]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert store.path(RunConfig(depth=3, width=16, n_train=200, epochs=4, measurements=3)).name[-10:] in printed


@pytest.mark.parametrize("arguments", [["ls"], ["train", *TINY], ["show", "x"], ["report"]])
def test_a_file_where_the_store_should_be_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path / "file"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "NCHARNESS_RUNS" in error
    assert len(error.splitlines()) == 1


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"ncharness {ncharness.__version__}\n"


def test_ls_of_an_empty_store_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path / "none"))
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path / 'none'}\n"


@pytest.mark.usefixtures("store")
def test_show_prints_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    key = RunConfig(depth=3, width=16, n_train=200, epochs=4, measurements=3).key()
    assert main(["show", key]) == 0
    printed = capsys.readouterr().out
    for part in ("block01.pre_bn", "block03.pre_bn", "weight_decay=0.0005", "torch="):
        assert part in printed


@pytest.mark.usefixtures("store")
def test_show_needs_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "nonsense"]) == 1
    assert "0 runs" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
def test_report_without_claims_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    error = capsys.readouterr().err
    assert "claims.csv" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "many"], "--depth: expected an integer, got 'many'"),
        (["--momentum", "1"], "momentum: expected a number in [0, 1), got 1.0"),
        (["--noise", "2"], "noise: expected a fraction in [0, 1], got 2.0"),
        (["--arch", "vit"], "arch: expected mlp, conv, convres or a classifier of torchvision, got 'vit'; torchvision"),
        (["--compiled", "yes"], "--compiled: expected True or False, got 'yes'"),
        (["--device", "gpu"], "--device: expected cpu, cuda or cuda:<number>, got 'gpu'"),
        (["--jobs", "0"], "--jobs: expected at least 1, got 0"),
        (["--together", "0"], "--together: expected at least 1, got 0"),
        (["--executor", "threads"], "--executor: expected processes, dask:<host>:<port> or slurm"),
        (["--points", "middle"], "points: expected some of paper, pre_bn, out"),
        (["--data", "mnist", "--data-root", "no/such/place"], "no/such/place"),
    ],
)
@pytest.mark.usefixtures("store")
def test_wrong_use_is_one_clear_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["train", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_runs_of_one_shape_are_trained_together_where_that_is_asked_for(store: Store) -> None:
    tiny = ["--depth", "2", "--width", "8", "--n-train", "200", "--epochs", "1", "--measurements", "2", "--jobs", "1"]
    assert main(["train", *tiny, "--seed", "5,6,7", "--together", "2"]) == 0
    together = [run.provenance["together"] for _, run, _ in store.runs() if run and run.training.depth == 2]
    assert sorted(together) == [1, 2, 2]


def test_the_bound_of_the_store_says_its_direction_and_what_is_assumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NCHARNESS_RUNS", str(tmp_path))
    assert main(["bound"]) == 0
    assert "no runs with part first and both" in capsys.readouterr().out
    tiny = ["--depth", "2", "--width", "8", "--n-train", "200", "--epochs", "1", "--measurements", "2", "--jobs", "1"]
    assert main(["train", *tiny, "--part", "first", "--seed", "0,1"]) == 0
    assert main(["train", *tiny, "--part", "both", "--noise", "0.2,0.4"]) == 0
    capsys.readouterr()
    assert main(["bound", "--alpha", "0.1", "--delta1", "estimate"]) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines() if line.startswith("digits")]
    assert [line[1:4] for line in lines] == [["2", "0.2", "0.1"], ["2", "0.4", "0.1"]]
    assert "under-estimate" in printed
    assert "assumed" in printed.splitlines()[2]
    assert main(["bound", "--alpha", "some"]) == 2
    assert "--alpha, --delta1: expected numbers" in capsys.readouterr().err
    assert main(["bound", "--eps", "2"]) == 2
    assert "eps: expected a number in (0, 1), got 2.0" in capsys.readouterr().err


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--typo", "1"])
    assert caught.value.code == 2
    assert "--typo" in capsys.readouterr().err


def test_info_says_which_kernels_serve_and_why(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for part in ("ncharness", "torch", "kernels", "native kernels, instruction set", str(store.root)):
        assert part in printed


def test_every_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for arguments in (["--help"], ["train", "--help"], ["show", "--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert len(capsys.readouterr().out.splitlines()) <= 50

"""Published numbers of Figure 1, the comparison of runs with them, and the figure."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from ncharness import Row, Run, RunConfig, Store, grid
from ncharness.cli.main import main
from ncharness.report import figure1_readings as pub
from ncharness.report.figure1 import figure_one, write
from ncharness.report.traces import group, traces_of
from ncharness.store.files import write_result

BASE = RunConfig(arch="conv", width=400, data="cifar10", epochs=500, measurements=3)


def accuracy(config, layer, epoch):
    """Return a number that differs for every L, layer, seed and epoch; layer 0 is the network."""
    return (0.1 if epoch == 0 else 0.5) + 0.01 * layer + 0.001 * config.depth + 0.02 * config.seed


def made(config):
    rows = []
    for epoch in config.measured_epochs():
        for i in range(1, config.depth + 1):
            error = 1 - accuracy(config, i, epoch)
            rows.append(Row(epoch, f"block{i:02d}.pre_bn", "train", "ncc_error", error))
            rows.append(Row(epoch, f"block{i:02d}.pre_bn", "test", "ncc_error", 0.99))
        rows.append(Row(epoch, "network", "train", "error", 1 - accuracy(config, 0, epoch)))
    return Run(config, tuple(rows))


def runs(depths=(3, 5), seeds=(0, 1), base=BASE):
    return [made(config) for config in grid(base, depth=depths, seed=seeds)]


def test_there_is_a_reading_for_every_layer_of_every_published_network():
    assert [*pub.READINGS] == [*pub.NETWORK] == [3, 5, 8, 12, 16, 20]
    for depth, row in pub.READINGS.items():
        assert len(row) == depth
        for low, high in map(pub.parse_reading, (*row, pub.NETWORK[depth])):
            assert 0.3 < low <= high < 1.0
    for depth, layer, value in ((3, 3, 0.84), (8, 7, 0.952), (8, 6, 0.972), (20, 4, 0.77), (12, 5, 0.93)):
        assert pub.parse_reading(pub.READINGS[depth][layer - 1]) == (value, value)


@pytest.mark.parametrize(
    ("text", "ends"), [(".84", (0.84, 0.84)), ("~.993i", (0.993, 0.993)), (".995-.998", (0.995, 0.998))]
)
def test_the_notation_of_readings(text, ends):
    assert pub.parse_reading(text) == ends


def test_a_deviation_has_a_sign_and_is_nothing_inside_a_range():
    reading = pub.Reading(0.993, 0.997)
    assert [reading.deviation(value) for value in (0.993, 0.995, 0.997)] == [0, 0, 0]
    assert reading.deviation(1.0) == pytest.approx(0.003)
    assert reading.deviation(0.9) == pytest.approx(-0.093)


def test_cells_are_means_over_seeds_of_the_last_epoch_by_layer():
    cells = pub.compare(runs((5, 3, 4)))
    assert [(cell.depth, cell.layer) for cell in cells] == [
        *((3, i) for i in (1, 2, 3, 0)),
        *((5, i) for i in (1, 2, 3, 4, 5, 0)),
    ], "L = 4 was not published"
    for cell in cells:
        assert cell.measured == pytest.approx(0.5 + 0.01 * cell.layer + 0.001 * cell.depth + 0.01)
        assert cell.published == (pub.READINGS[cell.depth][cell.layer - 1] if cell.layer else pub.NETWORK[cell.depth])
    assert cells[2].deviation == pytest.approx(0.543 - 0.84)


def test_runs_that_differ_in_more_than_depth_and_seed_are_refused():
    with pytest.raises(ValueError, match=r"^runs: expected runs that differ in depth and seed alone, got 2 kinds"):
        pub.compare([*runs(), *runs(base=BASE.replace(width=24))])


def test_the_largest_deviation_of_a_layer_is_over_all_depths_and_keeps_its_sign():
    cells = [
        pub.Cell(3, 1, ".36", 0.40),
        pub.Cell(5, 1, ".367", 0.30),
        pub.Cell(12, 9, ".993-.997", 0.98),
        pub.Cell(12, 12, ".993-.997", 0.95),
        pub.Cell(5, 0, ".9995i", 0.9),
    ]
    found = pub.largest(cells)
    assert [*found] == [0, 1, 9]
    assert (found[1].depth, found[1].deviation) == (5, pytest.approx(-0.067))
    assert found[9].layer == 12


def test_the_table_has_both_rows_of_every_depth_and_the_largest_deviations():
    lines = pub.deviation_table(pub.compare(runs((3, 5)))).splitlines()
    assert lines[0] == "| L |  | 1 | 2 | 3 | 4 | 5 | network |"
    assert lines[2:6] == [
        "| 3 | published | .36 | .415 | .84 |  |  | .994i |",
        "|  | measured | .523 | .533 | .543 |  |  | .513 |",
        "| 5 | published | .367 | .465 | .575 | .706 | .998i | .9995i |",
        "|  | measured | .525 | .535 | .545 | .555 | .565 | .515 |",
    ]
    assert lines[6].startswith(
        "|  | largest deviation | +.163 (L = 3) | +.118 (L = 3) | -.297 (L = 3) | -.151 (L = 5) |"
    )
    assert " | -.433 (L = 5) | -.48" in lines[6]
    deep = pub.deviation_table(pub.compare(runs((12,), seeds=(0,)))).splitlines()
    assert deep[0].endswith("| 8 | > 8 | network |")
    assert deep[2].endswith("| ~.993i | .993-.997 | .9965i |")
    assert deep[3].endswith("| .592 | .602-.632 | .512 |")


def test_runs_are_at_reduced_scale_unless_every_setting_is_the_published_one():
    settings = {name: value for name, value in pub.SETTINGS.items() if name in BASE.to_dict()}
    published = RunConfig(**settings, depth=20, seed=7, measurements=40)
    assert pub.differences(published) in ([], ["augmentation none instead of code"])
    for name, value in settings.items():
        other = {
            "arch": "convres",
            "n_train": 100,
            "data": "folder:/x/copies",
            "schedule": "readme",
            "augment": "none",
            "precision": "bf16",
        }
        config = published.replace(**{name: other.get(name, value // 2 if isinstance(value, int) else 0.25)})
        assert len(pub.differences(config)) == len(pub.differences(published)) + 1, name
        assert pub.scale(config).startswith("Reduced scale: ")
    small = BASE.replace(width=24, n_train=1000, lr=0.02, data="folder:/x/copies")
    assert pub.scale(small).startswith(
        "Reduced scale: width 24 instead of 400, data folder copies instead of cifar10, "
        "training samples 1000 instead of all, learning rate 0.02 instead of 0.1"
    )


def test_the_published_settings_are_called_so(monkeypatch):
    monkeypatch.setattr(pub, "SETTINGS", {name: value for name, value in pub.SETTINGS.items() if name != "augment"})
    assert pub.scale(BASE) == "The published settings"
    assert "one setting from another" not in pub.document(runs())
    assert "one setting from another" in pub.document(runs(base=BASE.replace(width=24)))


def test_the_document_names_its_scale_its_seeds_and_its_source():
    text = pub.document(runs(base=BASE.replace(epochs=50)))
    assert text.startswith("Reduced scale: epochs 50 instead of 500")
    for words in (
        "mean over 2 seeds (0, 1)",
        pub.SOURCE,
        "after 490 of 500 epochs",
        pub.deviation_table(pub.compare(runs())),
    ):
        assert words in text


def drawn(given):
    (family,) = group(traces_of(given))
    return figure_one(family)


def panel(figure, title):
    (ax,) = [ax for ax in figure.axes if ax.get_title() == title]
    return ax


def test_a_panel_has_every_layer_over_the_epochs_and_the_published_levels_at_its_edge():
    figure = drawn(runs((3, 5, 4))).figure
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["L = 3", "L = 5"]
    ax = panel(figure, "L = 5")
    curves = [line for line in ax.get_lines() if line.get_marker() == "None"]
    marks = [line for line in ax.get_lines() if line.get_marker() == "<"]
    epochs = BASE.measured_epochs()
    for layer, line in enumerate(curves[:5], 1):
        expected = [accuracy(BASE.replace(depth=5), layer, epoch) + 0.01 for epoch in epochs]
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([epochs, expected]))
        assert to_rgb(line.get_color()) == to_rgb(marks[layer - 1].get_color())
    assert [float(mark.get_ydata()[0]) for mark in marks] == [0.367, 0.465, 0.575, 0.706, 0.998, 0.9995]
    assert all(mark.get_xdata()[0] > epochs[-1] for mark in marks)
    np.testing.assert_allclose(
        curves[5].get_ydata(), [accuracy(BASE.replace(depth=5), 0, epoch) + 0.01 for epoch in epochs]
    )
    assert len({to_rgb(line.get_color()) for line in curves}) == 6


def test_the_scale_is_on_the_figure_itself():
    one = drawn(runs(base=BASE.replace(width=24)))
    words = " ".join(one.figure.get_suptitle().split())
    assert words == pub.scale(BASE.replace(width=24))
    assert words in one.caption


def test_no_figure_without_a_published_depth():
    assert drawn(runs((4,))) is None


def test_three_files_are_written_for_every_family_that_belongs(tmp_path):
    other = [
        *runs(base=BASE.replace(noise=0.1)),
        *runs(base=BASE.replace(lr=0.0)),
        *runs(base=BASE.replace(data="cifar100")),
        *runs((4,)),
        *runs(base=BASE.replace(points=("pre_bn", "out"))),
        *(made(config) for config in grid(RunConfig(data="cifar10", width=400), depth=[3])),
    ]
    assert write(other, tmp_path, data="cifar10") == []
    given = [*other, *runs(), *runs(base=BASE.replace(width=24))]
    paths = write(given, tmp_path / "new", data="cifar10")
    assert [path.suffix for path in paths] == [".png", ".svg", ".md"] * 2
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new").iterdir())
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".md"]
    assert ["width 24" in text for text in texts] == [True, False]
    assert all(pub.deviation_table(pub.compare(runs())) in text for text in texts)
    assert write(given, tmp_path, data="cifar10", width=400)[0].name == paths[3].name
    assert paths[0].read_bytes()[:4] == b"\x89PNG"


def test_the_command_writes_the_figure_beside_the_store_and_says_what_it_needs(tmp_path, monkeypatch, capsys):
    store = Store(tmp_path / "runs")
    monkeypatch.setenv("NCHARNESS_RUNS", str(store.root))
    assert main(["figure1", "--width", "24"]) == 1
    error = capsys.readouterr().err
    assert "there are no runs of CONV-L-24 on cifar10" in error
    assert pub.recipe() in error
    for run in runs():
        store.path(run.config).mkdir(parents=True)
        write_result(store.path(run.config) / "result.json", run)
    assert main(["figure1"]) == 0
    printed = capsys.readouterr().out.split()
    assert [path.rpartition(".")[2] for path in printed] == ["png", "svg", "md"]
    assert main(["figure1", "--out", str(tmp_path / "out")]) == 0
    assert len([*(tmp_path / "out").iterdir()]) == 3


def test_the_recipe_is_a_command_that_asks_for_the_published_depths():
    from ncharness.cli.main import build_parser, configs_from

    configs = configs_from(build_parser().parse_args(pub.recipe().split()[1:]))
    assert [config.depth for config in configs] == [3, 5, 8, 12, 16, 20]
    assert all(pub.differences(config) in ([], ["augmentation none instead of code"]) for config in configs)


def test_the_numbers_need_no_matplotlib():
    code = "import sys, ncharness.report.figure1_readings; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

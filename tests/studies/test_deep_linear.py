"""Deep linear networks: inputs and rates against closed forms, and the judgements of the claims about them."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from ncharness import Row, Run, Study
from ncharness.studies import deep_linear as subject
from ncharness.studies.study import carry_out
from ncharness.training.rows import network_rows
from ncharness.verdicts.verdict import NOT_APPLICABLE, REFUTED, SUPPORTED

FOLDER = Path(__file__).parents[2] / "claims" / "intermediate_layers"
REVERSED = slice(None, None, -1)


def run(**settings):
    study = Study(experiment="deep_linear.trained", settings=settings)
    return Run(study, carry_out(study))


def test_inputs_are_orthonormal_with_what_is_added():
    torch.manual_seed(0)
    x, labels = subject.orthonormal_inputs(3, 4, 20, noise=0.0, offset=0.0)
    assert x.shape == (20, 12)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    torch.testing.assert_close(x.T @ x, torch.eye(12, dtype=torch.float64))
    found = {}
    for name, settings in (("noise", {"noise": 0.5, "offset": 0.0}), ("offset", {"noise": 0.0, "offset": 2.0})):
        torch.manual_seed(0)
        plain, _ = subject.orthonormal_inputs(3, 4, 20, noise=0.0, offset=0.0)
        torch.manual_seed(0)
        found[name] = subject.orthonormal_inputs(3, 4, 20, **settings)[0] - plain
    assert float(found["noise"].norm()) == pytest.approx(0.5)
    assert float(found["offset"][:, 0].norm()) == pytest.approx(2.0)
    torch.testing.assert_close(found["offset"], found["offset"][:, :1].expand(20, 12))


def test_the_shorter_side_is_orthonormal():
    for rows, columns in ((3, 8), (8, 3), (5, 5)):
        matrix = subject.orthogonal(rows, columns)
        product = matrix @ matrix.T if rows < columns else matrix.T @ matrix
        torch.testing.assert_close(product, torch.eye(min(rows, columns), dtype=torch.float64))


def test_layers_are_products_and_the_error_is_half_the_mean():
    a, b, x = torch.randn(4, 5), torch.randn(2, 4), torch.randn(5, 3)
    first, second = subject.layers([a, b], x)
    torch.testing.assert_close(first, a @ x)
    torch.testing.assert_close(second, b @ (a @ x))
    outputs, targets = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    assert float(subject.error(outputs, targets)) == pytest.approx(0.5 * 5 / 3)


def test_at_the_start_the_first_layer_is_the_inputs():
    n, classes = 5, 3
    found = run(classes=classes, samples=n, dim=20, noise=0.0, depth=3, steps=0)
    expected = (1 - 1 / n) / (1 / n * (1 - 1 / classes))
    assert found.profile("compactness") == pytest.approx([expected] * 3), "orthogonal maps change nothing"
    assert found.profile("discrimination") == pytest.approx([1.0] * 3)
    assert found.scalar("loss") == pytest.approx(0.5, abs=0.05)
    assert len(found.profile("compactness")) == 3
    assert found.scalar("predicted") == pytest.approx(math.log10(0.09 / 5 ** (1 / 3)))


def test_training_brings_the_rate_of_the_formula():
    found = run(depth=3, scale=0.4, classes=2, samples=6, dim=14, noise=0.02, lr=0.3, steps=800)
    assert found.scalar("loss") < 1e-9
    logs = [math.log10(value) for value in found.profile("compactness")]
    assert logs[1] - logs[0] == pytest.approx(found.scalar("predicted"), rel=0.05)
    assert logs[2] - logs[1] == pytest.approx(found.scalar("predicted"), rel=0.05)


def test_with_an_offset_discrimination_begins_low():
    values = run(depth=3, offset=1.0, steps=0).profile("discrimination")
    assert values == pytest.approx([values[0]] * 3)
    assert 0.03 < values[0] < 0.2


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"test_{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judged(name, *arguments, compactness=(1.0, 0.1, 0.01, 0.001), discrimination=(0.1, 0.3, 0.5, 0.7), loss=1e-12):
    runs = []
    for seed in range(1000, 1005):
        rows = network_rows(loss=loss, predicted=-1.0)
        for metric, values in (("compactness", compactness), ("discrimination", discrimination)):
            rows += [
                Row(0, f"layer{i:02d}.out", "train", metric, value * (1 + 1e-4 * (seed % 5) * (i + 1)))
                for i, value in enumerate(values)
            ]
        runs.append(Run(Study(experiment="deep_linear.trained", seed=seed), tuple(rows)))
    return load(name).judge(runs, *arguments)


def test_a_geometric_fall_is_a_straight_line_of_logarithms():
    assert judged("linear_straight") == SUPPORTED
    assert judged("linear_straight").effect == pytest.approx(1.0)
    assert judged("linear_straight", REVERSED) == REFUTED
    assert judged("linear_straight", compactness=(1.0, 0.7, 0.4, 0.1)) == REFUTED
    assert judged("linear_straight", loss=1e-6) == NOT_APPLICABLE
    assert judged("linear_straight", loss=math.nan) == NOT_APPLICABLE


def test_the_rate_is_that_of_the_formula_to_five_hundredths():
    assert judged("linear_rate") == SUPPORTED
    assert judged("linear_rate").effect == pytest.approx(0.0, abs=1e-3)
    for factor in (0.1**1.07, 0.1**0.93):
        assert judged("linear_rate", compactness=[factor**k for k in range(4)]) == REFUTED
    assert judged("linear_rate", loss=1e-6) == NOT_APPLICABLE


def test_discrimination_rises_linearly_where_it_can_rise():
    assert judged("linear_discrimination") == SUPPORTED
    assert judged("linear_discrimination", REVERSED) == REFUTED
    assert judged("linear_discrimination", discrimination=(0.1, 0.6, 0.69, 0.7)) == REFUTED
    assert judged("linear_discrimination", discrimination=(0.98, 0.99, 1.0, 1.01)) == NOT_APPLICABLE
    assert judged("linear_discrimination", loss=1e-6) == NOT_APPLICABLE


def test_the_controls_formula_leaves_the_samples_out():
    of = Run(Study(experiment="deep_linear.trained", settings={"scale": 0.1}), ())
    assert load("linear_rate").without_samples(of) == pytest.approx(-2.0)

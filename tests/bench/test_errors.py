"""Errors of a measurement: the float64 reference against the definition, and ties."""

import pytest
import torch

from ncharness.bench import timing
from ncharness.bench.contenders import Answer, Shape
from ncharness.bench.errors import Errors, errors_of, truth

TINY = Shape(240, 16, 6)


def test_the_float64_oracle_is_the_definition() -> None:
    x, y = timing.sample(TINY)
    true = truth(x, y, TINY.C)
    by_class = [x[y == c].double() for c in range(TINY.C)]
    means = [rows.mean(0) for rows in by_class]
    variances = [float(((rows - mean) ** 2).sum() / len(rows)) for rows, mean in zip(by_class, means, strict=True)]
    pairs = [
        (variances[i] + variances[j]) / (2 * float(((means[i] - means[j]) ** 2).sum()))
        for i in range(TINY.C)
        for j in range(i)
    ]
    assert true.cdnv == pytest.approx(sum(pairs) / len(pairs), rel=1e-12)
    distances = torch.stack([((x.double() - mean) ** 2).sum(1) for mean in means], dim=1)
    assert torch.equal(true.nearest, distances.argmin(1))
    assert true.clear.all()


def test_a_tie_is_no_error() -> None:
    x = torch.tensor([[-1.0], [1.0], [3.0], [5.0], [1.5]])
    y = torch.tensor([0, 0, 1, 1, 1])
    true = truth(x, y, 2)  # means 0 and 9.5 / 3
    middle = true._replace(clear=torch.tensor([True, True, True, True, False]))
    answer = Answer(true.means, None, true.cdnv, true.nearest.clone())
    answer.nearest[4] = 1 - answer.nearest[4]
    assert errors_of(answer, true).wrong == pytest.approx(0.2)
    assert errors_of(answer, middle) == Errors(0.0, 0.0)
    assert errors_of(answer._replace(cdnv=float("nan")), true).cdnv == float("inf")

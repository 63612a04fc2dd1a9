"""Declarations of claims: the verdict and the power follow from them, and senseless ones are refused."""

from typing import Any

import numpy as np
import pytest

from ncharness import Claim, Planned, equivalence, power, superiority, trend


def made(**changes: Any) -> Claim:
    fields: dict[str, Any] = {
        "id": "e1-x", "title": "t", "statement": "s", "source": "s", "quantity": "q", "test": "superiority",
        "margin": 0.5, "alpha": 0.05, "seeds": [1, 2, 3, 4, 5], "planned": Planned(effect=2.0, sd=0.5),
        "precondition": "none",
    }  # fmt: skip
    return Claim(**(fields | changes))


def test_the_verdict_and_the_power_follow_from_the_declaration() -> None:
    x = [2.0, 1.5, 2.5, 1.0, 3.0]
    table = [[3, 4, 6], [3, 3, 5], [4, 5, 7], [2, 4, 5], [3, 4, 4]]
    assert made().judge(x) == superiority(x, margin=0.5, alpha=0.05)
    assert made(margin=1.9).judge(x) == superiority(x, margin=1.9, alpha=0.05)
    assert made(test="equivalence", margin=4.0, max_difference=2.9).judge(x) == equivalence(
        x, margin=4.0, alpha=0.05, max_difference=2.9
    )
    trended = made(test="trend", levels=[0.0, 1.0, 3.0], alpha=0.1)
    assert trended.judge(table) == trend(table, levels=(0.0, 1.0, 3.0), min_effect=0.5, alpha=0.1)
    other = np.array([1.0, 2.0, 4.0])
    assert trended.judge(table, levels=other) == trend(table, levels=(1.0, 2.0, 4.0), min_effect=0.5, alpha=0.1)
    design = {"effect": 2.0, "sd": 0.5, "n": 5, "alpha": 0.05}
    one = power("superiority", margin=0.5, **design)
    assert made().power == one
    assert made(planned=0.7).power == 0.7
    assert made(planned=Planned(effect=2.0, sd=0.5, times=3)).power == 1.0 - 3 * (1.0 - one)
    parts = [Planned(effect=2.0, sd=0.5), Planned(effect=0.1, sd=0.2, test="equivalence", margin=1.0)]
    second = power("equivalence", margin=1.0, **(design | {"effect": 0.1, "sd": 0.2}))
    assert made(planned=parts).power == 1.0 - ((1.0 - one) + (1.0 - second))
    assert hash(made(planned=parts, seeds=[1, 2, 3, 4, 5])) == hash(made(planned=tuple(parts)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": "t"}, "^test: expected one of superiority, equivalence, trend, got 't'"),
        ({"alpha": 0.5}, "^alpha: expected an error rate"),
        ({"seeds": [1, 2, 3, 4]}, "^seeds: expected at least 5 different seeds, which alpha 0.05 needs"),
        ({"seeds": [1, 2, 3, 4, 4]}, "^seeds: expected at least 5 different seeds"),
        ({"levels": (1.0, 2.0, 3.0)}, "^levels: expected none for the test superiority"),
        ({"test": "trend", "levels": (1.0, 3.0, 2.0)}, "^levels: expected at least 3 ascending numbers"),
        ({"test": "trend", "levels": (1.0, 2.0)}, "^levels: expected at least 3 ascending numbers"),
        ({"max_difference": 1.0}, "^max_difference: expected None for the test superiority"),
    ],
)
def test_declarations_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_levels_are_refused_where_the_test_takes_none() -> None:
    with pytest.raises(ValueError, match=r"^levels: expected none for the test superiority"):
        made().judge([1.0, 2.0, 3.0, 4.0, 5.0], levels=(1.0, 2.0, 3.0))

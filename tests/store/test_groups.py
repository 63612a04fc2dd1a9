"""Grouping of runs into programs, and the number of runs in each."""

import pytest

from ncharness import RunConfig, Study, grid
from ncharness.store import groups
from ncharness.store.estimates import estimated_seconds
from ncharness.store.groups import MOST, fitting
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, step_flops


def members(work: list[groups.Program]) -> list[list[int]]:
    return [[config.seed for config in program] for program in work]


def test_on_the_cpu_every_run_is_a_program(tiny: RunConfig) -> None:
    assert members(groups.grouped(grid(tiny, seed=range(3)))) == [[0], [1], [2]]


def test_runs_of_one_shape_are_parted_into_programs_of_about_one_size(tiny: RunConfig) -> None:
    seven = grid(tiny, seed=range(7))
    assert members(groups.grouped(seven, together=7)) == [list(range(7))]
    assert members(groups.grouped(seven, together=100)) == [list(range(7))]
    assert sorted(members(groups.grouped(seven, together=3))) == [[0, 1], [2, 3], [4, 5, 6]]
    assert sorted(members(groups.grouped(seven, together=6))) == [[0, 1, 2], [3, 4, 5, 6]]
    assert members(groups.grouped(seven, together=1)) == [[seed] for seed in range(7)]
    assert groups.grouped([], together=3) == []
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"^together: expected at least 1, or None, got {wrong}"):
            groups.grouped(seven, together=wrong)


def test_other_shapes_studies_and_networks_of_torchvision_are_apart_and_the_longest_come_first(
    tiny: RunConfig,
) -> None:
    deep, noisy = tiny.replace(depth=5), tiny.replace(noise=0.5, seed=1)
    others = [Study(experiment="unconstrained.minimum", seed=i) for i in range(2)]
    others += [RunConfig(arch="resnet18", epochs=1, n_train=10, seed=i) for i in range(2)]
    work = groups.grouped([tiny, deep, *others, noisy], together=4)
    assert sorted(map(len, work)) == [1] * 5 + [2]
    assert [tiny, noisy] in work
    seconds = [sum(map(estimated_seconds, program)) for program in work]
    assert seconds == sorted(seconds, reverse=True)


def test_a_gpu_is_given_as_many_as_fill_a_step() -> None:
    narrow = RunConfig(arch="conv", depth=10, width=80, data="cifar10", precision="bf16")
    counted = step_flops(narrow)
    assert counted is not None
    count = fitting(narrow)
    assert 1 < count < MOST
    assert count * counted <= ASSUMED_STEP * ASSUMED_RATES["bf16"] < (count + 1) * counted
    assert fitting(narrow.replace(width=400)) == 1, "which fills it alone"
    assert fitting(narrow.replace(width=20)) == MOST
    assert fitting(narrow.replace(precision="float32")) == 1, "where the rate is assumed to be an eighth"
    assert fitting(narrow.replace(data="folder:/x")) == 1, "of unknown size"
    assert fitting(RunConfig(arch="resnet18")) == 1
    assert fitting(Study(experiment="unconstrained.minimum")) == 1
    work = groups.grouped(grid(narrow, seed=range(count + 1)), device="cuda:1")
    assert sorted(map(len, work)) == [(count + 1) // 2, (count + 2) // 2]
    assert sorted(map(len, groups.grouped(grid(narrow, seed=range(5)), device="cuda", together=1))) == [1] * 5


def test_a_step_is_three_forward_passes_of_a_batch() -> None:
    # MLP-2-3 on 40 numbers, 10 classes: 40 -> 3 -> 3 -> 10, multiply-adds 120 + 9 + 30.
    config = RunConfig(data="mnist1d", depth=2, width=3, batch_size=50)
    assert step_flops(config) == 3 * 2 * (120 + 9 + 30) * 50
    assert step_flops(config.replace(data="folder:/x")) is None


@pytest.mark.parametrize(
    ("count", "words"), [(1, ""), (2, " and 1 other of its shape"), (3, " and 2 others of its shape")]
)
def test_a_program_is_named_by_its_first_run(tiny: RunConfig, count: int, words: str) -> None:
    program: groups.Program = [*grid(tiny, seed=range(count))]
    assert groups.name(program) == tiny.name() + words
    assert groups.failure(program, OSError("gone")) == f"{tiny.name()}{words}: OSError: gone"


def test_halves_hold_every_run_once(tiny: RunConfig) -> None:
    for count in (2, 3, 5):
        program: groups.Program = [*grid(tiny, seed=range(count))]
        halves = groups.halved(program)
        assert len(halves) == 2
        assert all(halves)
        assert halves[0] + halves[1] == program

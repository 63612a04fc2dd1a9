"""Training of runs from their checkpoints to their end, as one program that writes further checkpoints."""

import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ncharness.store.files import write, write_checkpoint
from ncharness.store.messages import Source
from ncharness.store.run import Run
from ncharness.training import provenance
from ncharness.training.batched import check_shapes, train_together
from ncharness.training.config import RunConfig
from ncharness.training.datasets import Dataset, load
from ncharness.training.loop import State, train

LARGE_CHECKPOINT, CHECKPOINT_SECONDS = 2**24, 60.0
"""Size in bytes above which a checkpoint is written only once in so many seconds.

If epochs take seconds, writing large checkpoints would take longer than training. A killed run repeats at most an
epoch, or with large checkpoints a minute and an epoch."""


class Standing(NamedTuple):
    """Run that is not finished, with the state in its checkpoint, if it has one."""

    config: RunConfig
    state: State | None


class Tell(NamedTuple):
    """Callbacks for finished epochs and for corrupt files of a run."""

    epoch: Callable[[RunConfig, State], None]
    problem: Callable[[Any, str], None]


def finish(standing: Sequence[Standing], path: Callable[[RunConfig], Path], source: Source, tell: Tell) -> list[Run]:
    """Train the runs as one program, write their weights and return the finished runs; `path` is the folder of a run.

    The epochs of the checkpoints differ if a process was killed between writing two of them. Runs that are behind are
    trained to the epoch of the others first, and then together with them.
    """
    started, states = time.monotonic(), list[State]()
    standing = sorted(standing, key=_epoch)
    configs = [config for config, _ in standing]
    if len(configs) > 1:
        check_shapes(configs)  # before anything is trained or written
    datasets = _datasets(configs, source)
    for config in configs:
        path(config).mkdir(parents=True, exist_ok=True)
    levels = [list(runs) for _, runs in itertools.groupby(standing, key=_epoch)]
    ends = [*(_epoch(runs[0]) for runs in levels[1:]), configs[0].epochs]
    for runs, end in zip(levels, ends, strict=True):
        states += [state for _, state in runs if state is not None]
        count = max(len(states), len(runs))  # without any state, all runs begin
        states = _advanced(configs[:count], datasets[:count], states, end, path, source, tell)
    facts = provenance_of(started, source.device) | {"together": len(configs)}
    trained = []
    for (config, resume), state in zip(standing, states, strict=True):
        weights = io.BytesIO()
        torch.save({name: value.cpu() for name, value in state.model.items()}, weights)
        write(path(config) / "model.pt", weights.getvalue())
        resumed = None if resume is None else resume.epoch
        trained.append(Run(config, tuple(state.rows), {**facts, "resumed_from_epoch": resumed}))
    return trained


def _advanced(
    configs: Sequence[RunConfig],
    datasets: Sequence[Dataset],
    states: Sequence[State],
    end: int,
    path: Callable[[RunConfig], Path],
    source: Source,
    tell: Tell,
) -> list[State]:
    """Train the runs from `states`, if there are any, to epoch `end`, writing checkpoints. Returns the new states."""
    due = 0.0
    for now in _steps(configs, datasets, states, source.device):
        states, both = now, list(zip(configs, now, strict=True))
        if time.monotonic() >= due:
            size = sum(write_checkpoint(path(each) / "checkpoint.pt", each, state) for each, state in both)
            due = time.monotonic() + CHECKPOINT_SECONDS if size > LARGE_CHECKPOINT else 0.0
        for each, state in both:
            tell.epoch(each, state)
        if now[0].epoch == end:
            break
    return list(states)


def _datasets(configs: Sequence[RunConfig], source: Source) -> list[Dataset]:
    """Load the data of the runs. The inputs are shared in memory."""
    datasets: list[Dataset] = []
    for config in configs:
        dataset = load(
            config.data,
            n_train=config.n_train,
            noise=config.noise,
            noise_kind=config.noise_kind,
            part=config.part,
            seed=config.data_seed(),
            root=source.root,
            download=source.download,
        )
        datasets.append(dataset.sharing(datasets[0]) if datasets else dataset)
    return datasets


def _steps(
    configs: Sequence[RunConfig], datasets: Sequence[Dataset], states: Sequence[State], device: str
) -> Iterator[Sequence[State]]:
    if len(configs) > 1:
        yield from train_together(configs, datasets, states or None, device=device)
    else:
        for state in train(configs[0], datasets[0], states[0] if states else None, device=device):
            yield (state,)


def _epoch(run: Standing) -> int:
    return -1 if run.state is None else run.state.epoch


def provenance_of(started: float, device: str) -> dict[str, Any]:
    """Return the provenance of a training that began at `started`, a time of `time.monotonic`.

    `seconds` is the duration of the whole program.
    """
    return {
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - started, 1),
        **provenance.facts(device),
    }

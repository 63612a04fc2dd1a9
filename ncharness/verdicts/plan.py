"""Output of `pytest claims --plan`: the runs, their cost, and data that cannot be read here. Nothing is started."""

from collections.abc import Iterator, Mapping, Sequence

from ncharness.store.estimates import estimated_hours
from ncharness.store.groups import Program, grouped
from ncharness.store.processes import missing
from ncharness.store.run import Configuration
from ncharness.store.store import Store
from ncharness.training.config import RunConfig
from ncharness.training.cost import ASSUMED_RATES, ASSUMED_STEP, Flops, flops


def plan(
    store: Store,
    configs: Sequence[Configuration],
    *,
    tests: int,
    device: str,
    at_once: int,
    together: int | None = None,
    waiting: Mapping[str, Sequence[Configuration]] | None = None,
) -> Iterator[str]:
    """Yield lines about the runs that tests need, their state, and the cost of those that are missing.

    Runs `waiting` for data come by the reason; there are none where another reason skips the tests.

    `device` is the kind, cpu or cuda; `at_once` how many programs are trained side by side, `together` how many runs in
    one of them (groups.py).
    """
    for config in configs:
        status = store.status(config)
        place = f" {status.epoch}/{config.epochs}" if status.state == "partial" else ""
        yield f"{config.key()}  {config.name():40} {_told(config)}{status.state}{place}  {status.detail}".rstrip()
    todo = missing(store, configs)
    work = grouped(todo, together=together, device=device)
    hours = estimated_hours(work, device=device, at_once=at_once)
    with_what = f"with {at_once} processes" if device == "cpu" else "on a GPU, one program after the other"
    yield (
        f"{len(configs)} runs for {tests} tests, {len(configs) - len(todo)} cached, "
        f"about {_time(hours)} to train the rest {with_what}; nothing was trained"
    )
    if todo:
        yield f"  {_sum(todo)}, at 2 FLOPs per multiply-add of convolutions and linear maps"
        yield f"  {_rate(device)}"
        yield from _together(work)
    for why, others in (waiting or {}).items():
        if not others:
            yield f"no runs for tests that are skipped: {why}"
            continue
        for config in others:
            yield f"{config.key()}  {config.name():40} {_told(config)}waits for data"
        work = grouped(others, together=together, device=device)
        hours = estimated_hours(work, device=device, at_once=at_once)
        yield f"{len(others)} runs more wait for data, {_sum(others)}, about {_time(hours)} {with_what}: {why}"
        if not todo:
            yield f"  {_rate(device)}"
        yield from _together(work)


def _told(config: Configuration) -> str:
    """Schedule and precision where they are not the defaults, which tell runs of one name apart."""
    if not isinstance(config, RunConfig):
        return ""
    parts = (
        config.schedule if config.schedule != "code" else "",
        config.precision if config.precision != "float32" else "",
    )
    counted = flops(config)
    return " ".join(part for part in (*parts, f"{sum(counted):.1e} FLOP" if counted else "") if part) + "  "


def _sum(configs: Sequence[Configuration]) -> str:
    counted = [flops(config) for config in configs if isinstance(config, RunConfig)]
    known = [one for one in counted if one is not None]
    total = Flops(sum(one.training for one in known), sum(one.measuring for one in known))
    unknown = f" ({len(configs) - len(known)} runs not counted)" if len(known) < len(configs) else ""
    return f"{total.training:.2e} FLOPs of training and {total.measuring:.2e} of measuring{unknown}"


def _together(work: Sequence[Program]) -> Iterator[str]:
    """How many programs there are, if any holds several runs."""
    several = [len(program) for program in work if len(program) > 1]
    if several:
        yield f"  in {len(work)} programs: {sum(several)} runs are trained together, up to {max(several)} of one shape"


def _rate(device: str) -> str:
    if device == "cpu":
        return "the time is a rough estimate for one core a process, of a server of the 2020s"
    rates = ", ".join(f"{rate:.1e} FLOP/s in {precision}" for precision, rate in ASSUMED_RATES.items())
    step = f"{1e3 * ASSUMED_STEP:g} ms for every step at the least"
    return f"the time is at ASSUMED rates, not measured ones: {rates}, {step}"


def _time(hours: float) -> str:
    return f"{hours * 60:.1f} minutes" if hours < 1.0 else f"{hours:.1f} hours"

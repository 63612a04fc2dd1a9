"""Judgement of a claim in a setting: the verdict, the row of the table, and the files of the table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ncharness.metrics.effective_depth import EPS_SWEEP
from ncharness.store.run import Run
from ncharness.verdicts.claim import Claim, Setting
from ncharness.verdicts.rows import ClaimRow, read_csv
from ncharness.verdicts.verdict import Verdict, holm, not_applicable


def judgement(
    judge: Callable[..., Verdict],
    runs: Sequence[Run],
    setting: Setting,
    *arguments: object,
    unless: Callable[[Sequence[Run]], str] | None = None,
    **named: object,
) -> Callable[[float | None], Verdict]:
    """The judge of a claim as a function of eps alone.

    `judge` is called with the runs, with eps where the setting has one, and with the further arguments. `unless` gives
    the reason for which the runs cannot speak for the claim, or an empty string.
    """
    reason = unless(runs) if unless else ""

    def verdict(eps: float | None) -> Verdict:
        if reason:
            return not_applicable(reason)
        given = (runs,) if setting.eps is None else (runs, eps)
        return judge(*given, *arguments, **named)

    return verdict


def judged(
    claim: Claim, setting: Setting, judge: Callable[[float | None], Verdict], *, scale: str, control: str = ""
) -> tuple[Verdict, ClaimRow]:
    """The verdict of a claim, or of its control, at the eps of the setting; and its row, with the sweep over eps."""
    result = judge(setting.eps)
    used = (setting.control_runs or setting.runs) if control else setting.runs
    row = ClaimRow(
        claim=claim.id,
        title=claim.title,
        statement=control or claim.statement,
        source=claim.source,
        setting=setting.name,
        scale=scale,
        control=bool(control),
        quantity=claim.quantity,
        precondition="none: it is a control" if control else claim.precondition,
        power=None if control else claim.power,
        figure="" if control else claim.figure,
        test=claim.test if result.margin is None else result.test,  # a claim of several parts has several
        eps=setting.eps,
        effect=result.effect,
        low=result.low,
        high=result.high,
        margin=claim.margin if result.margin is None else result.margin,
        alpha=claim.alpha,
        n=result.n,
        verdict=result.outcome.value,
        p=result.p,
        reason=result.reason,
        sweep=() if setting.eps is None else tuple((eps, judge(eps).outcome.value) for eps in EPS_SWEEP),
        values=result.values,
        runs=tuple(config.key() for config in used),
    )
    return result, row


def with_holm(rows: Iterable[ClaimRow]) -> list[ClaimRow]:
    """The rows in order, with Holm's p over the claims, not their controls: it is shown and flips nothing."""
    ordered = sorted(rows, key=lambda row: (row.claim, row.setting))
    adjusted = iter(holm([row.p for row in ordered if not row.control]))
    return [row if row.control else replace(row, holm_p=next(adjusted)) for row in ordered]


def places(root: Path, rows: Sequence[ClaimRow]) -> tuple[Path, Path]:
    """Return the table and the page to write: other files where a part of the claims would overwrite a larger table."""
    table, page = root / "claims.csv", root / "report.html"
    try:
        before = read_csv(table)
    except (FileNotFoundError, ValueError):
        return table, page
    had, has = ({(row.claim, row.setting, row.control) for row in of} for of in (before, rows))
    if had <= has:
        return table, page
    return table.with_name("claims-part.csv"), page.with_name("report-part.html")

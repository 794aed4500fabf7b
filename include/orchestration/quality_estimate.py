"""How much a backfill would read and write, month by month: told before it begins, or instead of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.orchestration.backfill_days import Month
    from include.orchestration.quality_backfill import History

WORDS = {
    "month": "month",
    "days": "days",
    "days_refused": "too old",
    "rows_to_read": "to read",
    "rows_to_write": "to write",
    "rows_stored": "stored",
    "days_final": "final",
}
"""The columns of the table that people read; numbers of rows to read and write are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthEstimate:
    """
    What a month would come to.

    Args:
        month: such as ``2026-01``.
        days: to be computed, the refused ones among them.
        days_refused: of these, older than the oldest row of the source: they would stay as they are.
        rows_to_read: about so many syncs of the source.
        rows_to_write: about so many rows of ``quality_daily``, if all of them changed; None: not asked for.
        rows_stored: of ``quality_daily``, of these days already.
        days_final: of these days, stored and final already.
    """

    month: str
    days: int
    days_refused: int
    rows_to_read: int
    rows_to_write: int | None
    rows_stored: int
    days_final: int


def estimate_months(
    history: History, months: Mapping[Month, Sequence[date]], *, with_writes: bool
) -> list[MonthEstimate]:
    """
    Return how much each month would be, in the order given; nothing is written.

    Args:
        history: of `open_history`.
        months: and the days of each that would be computed, oldest first; at least one.
        with_writes: also read the middle day of each month, and estimate by it how many rows would be written.

    Raises:
        SourceError: the source cannot be read as it should be.
        StorageError: the schema is missing or the database unreachable.
    """
    from include.sync_health.daily_quality import day_bounds
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_history import computed_days
    from include.warehouse.source_estimate import SourceEstimator

    if not months:
        return []
    zone, as_of = history.policy.reporting_timezone, history.as_of
    with connect(history.monitoring_conninfo) as conn:
        of_days = [days for days in months.values() if days]
        ledger = computed_days(conn, first=min(d[0] for d in of_days), last=max(d[-1] for d in of_days))
    estimates = []
    with SourceEstimator.connect(history.source_conninfo, history.policy.source) as source:
        oldest = source.oldest_start()
        for month, days in months.items():
            bounds = {day: day_bounds(day, timezone=zone) for day in days}
            refused = [day for day in days if oldest is None or bounds[day][1] <= oldest]
            there = [day for day in days if day not in set(refused)]
            rows = keys = 0
            if there:
                rows = source.rows_between(bounds[there[0]][0], bounds[there[-1]][1], as_of=as_of)
                # The month's missing days may be few and far between.
                rows = rows * len(there) // ((there[-1] - there[0]).days + 1)
            if there and with_writes:
                middle = there[len(there) // 2]
                keys = source.keys_of(middle, bounds[middle], as_of=as_of)
            known = ledger[ledger["day"].isin(days)]
            estimates.append(
                MonthEstimate(
                    month=month.label,
                    days=len(days),
                    days_refused=len(refused),
                    rows_to_read=rows,
                    rows_to_write=keys * len(there) if with_writes else None,
                    rows_stored=int(known["rows"].sum()),
                    days_final=int(known["is_final"].sum()),
                )
            )
    return estimates


def total_of(estimates: Sequence[MonthEstimate]) -> MonthEstimate:
    """Return the sums, under the name ``total``."""
    writes = [each.rows_to_write for each in estimates if each.rows_to_write is not None]
    return MonthEstimate(
        month="total",
        days=sum(each.days for each in estimates),
        days_refused=sum(each.days_refused for each in estimates),
        rows_to_read=sum(each.rows_to_read for each in estimates),
        rows_to_write=sum(writes) if len(writes) == len(estimates) else None,
        rows_stored=sum(each.rows_stored for each in estimates),
        days_final=sum(each.days_final for each in estimates),
    )


def lines_of(estimates: Sequence[MonthEstimate]) -> Iterator[str]:
    """Yield a table for people, with a head and the total; one sentence when there is nothing to do."""
    if not estimates:
        yield "nothing is missing: there is no day to compute"
        return
    names = [field.name for field in fields(MonthEstimate) if field.name in WORDS]
    names.sort(key=list(WORDS).index)
    if all(each.rows_to_write is None for each in estimates):
        names.remove("rows_to_write")
    yield _line([WORDS[name] for name in names])
    for each in (*estimates, total_of(estimates)):
        yield _line([_shown(name, getattr(each, name)) for name in names])


def _shown(name: str, value: object) -> str:
    about = "~" if name in ("rows_to_read", "rows_to_write") and value else ""
    return f"{about}{value:,}" if isinstance(value, int) else str(value)


def _line(cells: Sequence[str]) -> str:
    return cells[0].ljust(7) + "".join(cell.rjust(13) for cell in cells[1:])

"""How much a backfill would read and write, month by month: told before it begins, or instead of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.orchestration.backfill_days import Month
    from include.orchestration.history import History

WORDS = {
    "month": "month",
    "days": "days",
    "days_refused": "too old",
    "rows_to_read": "to read",
    "rows_to_write": "to write",
    "rows_stored": "stored",
    "days_final": "final",
    "log_scans": "scans",
}
"""The columns of the table that people read; numbers of rows and of scans are about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthEstimate:
    """
    What a month would come to.

    Args:
        month: such as ``2026-01``.
        days: to be computed, the refused ones among them.
        days_refused: of these, older than the oldest row of the source: they would stay as they are (`refused_days`).
        rows_to_read: about so many syncs of the source.
        rows_to_write: about so many rows of ``quality_daily``, if all of them changed; None: not asked for.
        rows_stored: of ``quality_daily``, of these days already.
        days_final: of these days, stored and final already.
        log_scans: about so often the whole sync log is gone through; 0 where a key or an index finds the days.
    """

    month: str
    days: int
    days_refused: int
    rows_to_read: int
    rows_to_write: int | None
    rows_stored: int
    days_final: int
    log_scans: int


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
        SourceError: the source cannot be read as it should be, or has no credentials.
        StorageError: the schema is missing or the database unreachable.
    """
    from include.orchestration.day_restatement import read_known_credentials
    from include.sync_health.daily_quality import day_bounds
    from include.sync_health.log_start import other_ends, refused_days
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_history import computed_days
    from include.warehouse.source_estimate import keys_in, scans_of
    from include.warehouse.source_reader import SourceReader

    if not months:
        return []
    policy, as_of = history.policy, history.as_of
    with connect(history.monitoring_conninfo) as conn:
        of_days = [days for days in months.values() if days]
        ledger = computed_days(conn, first=min(d[0] for d in of_days), last=max(d[-1] for d in of_days))
    zones = dict(zip(ledger["day"], ledger["timezone"], strict=True))
    ended_elsewhere = other_ends(zones, timezone=policy.reporting_timezone)
    estimates = []
    with SourceReader.connect(history.source_conninfo, policy.source) as source:
        read_known_credentials(source, policy=policy)  # refused before it is begun, as it would be then
        start = source.oldest_start()
        for month, days in months.items():
            bounds = {day: day_bounds(day, timezone=policy.reporting_timezone) for day in days}
            refused = set(
                refused_days(bounds, start=start, with_rows=start.stray_days(bounds), other_ends=ended_elsewhere)
            )
            there = [day for day in days if day not in refused]
            rows = keys = 0
            if there:
                rows = source.rows_between(bounds[there[0]][0], bounds[there[-1]][1], as_of=as_of)
                # The month's missing days may be few and far between.
                rows = rows * len(there) // ((there[-1] - there[0]).days + 1)
            if there and with_writes:
                middle = there[len(there) // 2]
                chunks = source.stream_days(
                    {middle: bounds[middle]}, slack=policy.source.id_slack, as_of=as_of, clock=lambda: as_of
                )
                keys = keys_in(chunks)
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
                    log_scans=scans_of(
                        days,
                        rows_per_day=rows // max(1, len(there)),
                        rows_per_read=policy.backfill.rows_per_read,
                        id_slack=policy.source.id_slack,
                        shape=source.shape,
                    ),
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
        log_scans=sum(each.log_scans for each in estimates),
    )


def lines_of(estimates: Sequence[MonthEstimate]) -> Iterator[str]:
    """
    Yield a table for people, with a head and the total; one sentence when there is nothing to do.

    Where the whole log is gone through, a last line says how often, and what helps.
    """
    if not estimates:
        yield "nothing is missing: there is no day to compute"
        return
    names = [field.name for field in fields(MonthEstimate) if field.name in WORDS]
    names.sort(key=list(WORDS).index)
    if all(each.rows_to_write is None for each in estimates):
        names.remove("rows_to_write")
    total = total_of(estimates)
    if not total.log_scans:
        names.remove("log_scans")
    yield _line([WORDS[name] for name in names])
    for each in (*estimates, total):
        yield _line([_shown(name, getattr(each, name)) for name in names])
    if total.log_scans:
        yield (
            f"note: the sync log has no key or index that rises with time, so each read scans all of it, twice: about "
            f"{total.log_scans:,} scans; with an index on started_at there is none, with a larger "
            "backfill.rows_per_read there are fewer (docs/deployment.md)"
        )


def _shown(name: str, value: object) -> str:
    about = "~" if name in ("rows_to_read", "rows_to_write", "log_scans") and value else ""
    return f"{about}{value:,}" if isinstance(value, int) else str(value)


def _line(cells: Sequence[str]) -> str:
    return cells[0].ljust(7) + "".join(cell.rjust(13) for cell in cells[1:])

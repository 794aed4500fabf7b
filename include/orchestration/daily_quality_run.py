"""
Restating days: what the source says now of whole days, aggregated and put in the place of what was stored.

A day is computed from all rows that the source has of it at that moment, so that a late change restates its day.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.errors import RequestError, SourceError
from include.sync_health.policy import Policy
from include.sync_health.windows import RunMode, Window, resolve_window, run_mode

if TYPE_CHECKING:
    import pandas as pd

    from include.orchestration.check_tasks import RunFacts

log = logging.getLogger("servicetitan.daily_quality")

LATE_DATA = "late_data"
"""The ``check_run`` of the late pass. Its ``open_sync_ids`` are the syncs that took longer than ``source.id_slack``: a
narrow read of their days would not have them, and reads them by key."""

DAY = timedelta(days=1)
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """
    What became of the days.

    Args:
        days: replaced.
        rows: written.
        kept: rows left as they were, because the source's retention has taken syncs of theirs.
        vanished: rows marked, whose keys are gone from the source.
        refused: days older than the oldest source row, which has none of them: what is stored stays.
        superseded: days that a later reading had replaced already.
        rows_read: that left the source for it.
        late_sync_ids: the syncs of these days that took longer than ``source.id_slack``, by text.
        missed_by_narrow: syncs in the read that one with a slack of ``source.id_slack`` would not have.
        notes: sentences for people about how it was read.
    """

    days: int
    rows: int
    kept: int
    vanished: int
    refused: tuple[date, ...]
    superseded: tuple[date, ...]
    rows_read: int
    late_sync_ids: tuple[str, ...]
    missed_by_narrow: int
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Return the numbers alone."""
        return {
            "days": self.days,
            "rows": self.rows,
            "kept": self.kept,
            "vanished": self.vanished,
            "refused": len(self.refused),
            "superseded": len(self.superseded),
            "rows_read": self.rows_read,
        }


def days_touched(window: Window, policy: Policy, *, mode: RunMode = RunMode.LIVE) -> list[date]:
    """
    Return the days, in the reporting time zone, that a run restates, oldest first.

    Those that its window touches (one that ends at midnight does not touch the day that begins there); a LIVE run also
    the ``late_data_days`` before the day of ``as_of``, which may still change.
    """
    from include.sync_health.daily_quality import local_day

    zone = policy.reporting_timezone
    last = local_day(max(window.as_of - INSTANT, window.start), timezone=zone)
    first = local_day(window.start, timezone=zone)
    if mode is RunMode.LIVE:
        first = min(first, local_day(window.as_of, timezone=zone) - policy.late_data_days * DAY)
    return [first + number * DAY for number in range((last - first).days + 1)]


def restate_days(
    source_conninfo: str,
    monitoring_conninfo: str,
    *,
    policy: Policy,
    days: Sequence[date],
    as_of: datetime,
    now: datetime,
    slack: timedelta,
    remembered: Sequence[str] = (),
) -> Restated:
    """
    Read, aggregate and replace some days; each day is committed by itself, and doing it again changes nothing.

    Args:
        source_conninfo, monitoring_conninfo: of the Hub Plus database and of ours.
        policy: zone, late data, how to read.
        days: in the reporting time zone, in any order.
        as_of: the instant up to which the source is read, and by whose day days are final; aware.
        now: the wall clock when the reading begins, aware: of two readings of a day the later wins.
        slack: how long before its first day a sync may have started.
        remembered: ids of syncs that take longer, read by key.

    Raises:
        RequestError: there is no day.
        SourceError: the source cannot be read as it should be.
        StorageError: the schema is missing or the database unreachable; days already replaced stay so.
    """
    from include.sync_health.daily_quality import aggregate_days, day_bounds, local_day
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_daily import replace_days

    zone = policy.reporting_timezone
    bounds = {day: day_bounds(day, timezone=zone) for day in sorted(set(days))}
    bounds = {day: (start, end) for day, (start, end) in bounds.items() if start < end}  # a zone may skip a whole day
    if not bounds:
        raise RequestError("days: there is no day to restate")
    source = _read(source_conninfo, policy=policy, bounds=bounds, as_of=as_of, slack=slack, remembered=remembered)
    daily = aggregate_days(
        source.runs,
        credentials=source.credentials,
        days=list(bounds),
        timezone=zone,
        as_of=as_of,
        late_data_days=policy.late_data_days,
        duration_fallback=policy.duration_fallback,
    )
    oldest, there = source.oldest, set(daily["day"])
    refused = tuple(day for day, (_, end) in bounds.items() if day not in there and (oldest is None or end <= oldest))
    if refused:
        log.warning(
            "%d days from %s to %s are older than the oldest row of the source: they stay as they are",
            len(refused),
            refused[0].isoformat(),
            refused[-1].isoformat(),
        )
    with connect(monitoring_conninfo) as conn:
        replaced = replace_days(
            conn,
            daily,
            days=[day for day in bounds if day not in refused],
            computed_at=now,
            final_before=local_day(as_of, timezone=zone) - policy.late_data_days * DAY,
            # A sync that ended on such a day may have started before what the source still has.
            only_growing={
                day for day, (start, _) in bounds.items() if oldest is None or start < oldest + policy.source.id_slack
            },
        )
    return Restated(
        days=replaced.days,
        rows=replaced.rows,
        kept=replaced.kept,
        vanished=replaced.vanished,
        refused=refused,
        superseded=replaced.superseded,
        rows_read=source.rows_read,
        late_sync_ids=source.late_sync_ids,
        missed_by_narrow=source.missed_by_narrow,
        notes=source.notes,
    )


def update_daily(facts: RunFacts, *, now: datetime | None = None) -> dict[str, Any]:
    """
    Restate the days of a run of the data-quality check and return counts.

    Days are whole: Params that narrow the check to some credentials narrow nothing here. A historical run restates its
    own days alone, and for it they are final by today's date, since it reads what the source has today.

    Args:
        facts: the run.
        now: the wall clock, aware; read here when not given.

    Raises:
        MonitorError: as `restate_days`, and for connections, the policy file and Params.
    """
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.checks import DATA_QUALITY

    now = now or datetime.now(UTC)
    window = resolve_window(
        window_end=facts.params.get("window_end") or None,
        interval=facts.interval,
        run_after=facts.run_after,
        usual_length=DATA_QUALITY.every,
        by_hand_at=facts.by_hand_at,
    )
    storage = postgres_conninfo(storage_connection())
    policy = policy_in_force(storage_conninfo=storage, now=now).loaded.policy
    _require_trusted_times(storage)
    mode = run_mode(
        as_of=window.as_of,
        now=now,
        is_backfill=facts.is_backfill,
        horizon=policy.live_horizon[DATA_QUALITY.name],
    )
    restated = restate_days(
        postgres_conninfo(policy.source.connection),
        storage,
        policy=policy,
        days=days_touched(window, policy, mode=mode),
        as_of=window.as_of if mode is RunMode.LIVE else now,
        now=now,
        slack=policy.source.id_slack,
        remembered=late_syncs(storage),
    )
    log.info("restated: %s", restated)
    return {"mode": str(mode), **restated.counts()}


def late_syncs(monitoring_conninfo: str) -> tuple[str, ...]:
    """Return the ids of the syncs that the last late pass found to take longer than a narrow read looks back."""
    from include.warehouse.check_runs import last_seen_run
    from include.warehouse.monitoring_session import connect

    with connect(monitoring_conninfo) as conn:
        last = last_seen_run(conn, check=LATE_DATA)
    return (last.open_sync_ids or ()) if last is not None else ()


def _require_trusted_times(monitoring_conninfo: str) -> None:
    """
    Refuse while a check doubts the source's time zone: every row would count on another day's side of midnight.

    Raises:
        SourceError: ``wrong_time_zone``, in the words of the open alert.
        StorageError: the schema is missing or the database unreachable.
    """
    from include.sync_health.visibility import WRONG_TIME_ZONE
    from include.warehouse.alert_store import load_alerts
    from include.warehouse.monitoring_session import connect

    with connect(monitoring_conninfo) as conn:
        for alert in load_alerts(conn).values():
            is_doubt = alert.rule == "monitor_health" and alert.identity["cause"] == WRONG_TIME_ZONE
            if is_doubt and alert.state.is_open:
                raise SourceError(f"no day is restated: {alert.message}", cause=WRONG_TIME_ZONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceRead:
    """What the source has of some days."""

    runs: pd.DataFrame
    credentials: pd.DataFrame
    oldest: datetime | None
    rows_read: int
    late_sync_ids: tuple[str, ...]
    missed_by_narrow: int
    notes: tuple[str, ...]


def _read(
    conninfo: str,
    *,
    policy: Policy,
    bounds: Mapping[date, tuple[datetime, datetime]],
    as_of: datetime,
    slack: timedelta,
    remembered: Sequence[str],
) -> _SourceRead:
    import pandas as pd

    from include.sync_health.frames import id_text
    from include.warehouse.source_reader import SourceReader

    id_slack = policy.source.id_slack
    frames, late, notes = [], [], []
    rows_read = missed = 0
    with SourceReader.connect(conninfo, policy.source) as reader:
        oldest = reader.oldest_start()
        credentials = reader.read_credentials()
        if credentials.empty:
            raise SourceError(
                "the credentials table has no rows, no day is restated; check that hub_plus_db points at the right "
                "database and schema",
                cause="no_rows",
            )
        for first, last in _stretches(list(bounds)):
            start, end = bounds[first][0], bounds[last][1]
            read = reader.read_days(day_from=start, day_to=end, slack=slack, as_of=as_of)
            rows = read.runs
            belongs = rows["completed_at"].fillna(rows["started_at"])
            late += id_text(rows["sync_id"][belongs - rows["started_at"] > id_slack]).tolist()
            missed += int((rows["started_at"] < pd.Timestamp(start - id_slack)).sum())
            frames.append(rows)
            rows_read += read.rows_read
            notes += [note for note in read.notes if note not in notes]
        if remembered:
            # The window is as short as can be: it is the keys that are wanted.
            read = reader.read_runs(
                finished_from=as_of - INSTANT, as_of=as_of, remembered_open=remembered, with_counts=True
            )
            frames.append(read.runs[id_text(read.runs["sync_id"]).isin(list(remembered))])
            rows_read += read.rows_read
    return _SourceRead(
        runs=pd.concat(frames, ignore_index=True).drop_duplicates("sync_id"),
        credentials=credentials,
        oldest=oldest,
        rows_read=rows_read,
        late_sync_ids=tuple(late),
        missed_by_narrow=missed,
        notes=tuple(notes),
    )


def _stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Yield first and last day of each unbroken stretch of sorted days."""
    first = previous = days[0]
    for day in days[1:]:
        if day - previous > DAY:
            yield first, previous
            first = day
        previous = day
    yield first, previous

"""
Restating days: what the source says now of whole days, aggregated and put in the place of what was stored.

A day is computed from all rows that the source has of it at that moment, so that a late change restates its day. Days go
through in chunks: while one is aggregated and written, the next is being read (`DayStream`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from include.orchestration.structured_logs import DecisionLog
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.policy import BackfillPolicy, Policy

if TYPE_CHECKING:
    import pandas as pd

    from include.sync_health.daily_quality import DayAggregates
    from include.warehouse.day_stream import Bounds, DaysRead
    from include.warehouse.quality_daily import Replaced
    from include.warehouse.source_reader import SourceReader

log = DecisionLog("servicetitan.day_restatement")

DAY = timedelta(days=1)

FUTURE_READING = (
    "{days} days from {first} to {last} are left as they are: by the ledger they were read up to {read_at}, which lies in "
    "the future, so that no reading of now is newer; set the clock right that is wrong, then run UPDATE "
    "monitoring.quality_day SET read_at = now() WHERE read_at > now()"
)
"""What people are told of days that a machine with a wrong clock computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    How far a restatement is; told after each commit, oldest day first.

    Args:
        days_done, days_total: of the days asked for, whatever became of them.
        rows_read, rows_written: so far.
        day: the last one done.
    """

    days_done: int
    days_total: int
    rows_read: int
    rows_written: int
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Restated:
    """
    What became of the days.

    Args:
        days: replaced.
        rows: written, because they are new or differ.
        unchanged: rows that were stored like this already.
        kept: rows left as they were, because the source's retention has taken syncs of theirs.
        vanished: rows marked, whose syncs are gone from the source.
        removed: rows deleted, whose syncs are now of another key or day.
        revised: rows of final days whose verdict changed.
        refused: days older than the oldest source row, which has none of them: what is stored stays (`refused_days`).
        superseded: days that a later reading had replaced already, or one that is dated in the future.
        rows_read: that left the source for it.
        late_sync_ids: the syncs of these days that took longer than ``source.id_slack``, by text.
        missed_by_narrow: syncs in the read that one with a slack of ``source.id_slack`` would not have.
        unusable_details: counts and details that could not be taken as they are, by kind.
        notes: sentences for people about how it was read.
    """

    days: int = 0
    rows: int = 0
    unchanged: int = 0
    kept: int = 0
    vanished: int = 0
    removed: int = 0
    revised: int = 0
    refused: tuple[date, ...] = ()
    superseded: tuple[date, ...] = ()
    rows_read: int = 0
    late_sync_ids: tuple[str, ...] = ()
    missed_by_narrow: int = 0
    unusable_details: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the numbers alone."""
        return {
            "days": self.days,
            "rows": self.rows,
            "unchanged": self.unchanged,
            "kept": self.kept,
            "vanished": self.vanished,
            "removed": self.removed,
            "revised": self.revised,
            "refused": len(self.refused),
            "superseded": len(self.superseded),
            "rows_read": self.rows_read,
        }


def restate_days(
    source_conninfo: str,
    monitoring_conninfo: str,
    *,
    policy: Policy,
    days: Sequence[date],
    as_of: datetime,
    clock: Callable[[], datetime],
    slack: timedelta,
    remembered: Sequence[str] = (),
    rows_per_read: int = BackfillPolicy().rows_per_read,
    pause: timedelta = timedelta(0),
    progress: Callable[[Progress], None] | None = None,
) -> Restated:
    """
    Read, aggregate and replace some days; each day is committed by itself, and doing it again changes nothing.

    Args:
        source_conninfo, monitoring_conninfo: of the Hub Plus database and of ours.
        policy: zone, late data, how to read.
        days: in the reporting time zone, in any order; oldest first they are done.
        as_of: the instant up to which the source is read, and by whose day days are final; aware.
        clock: tells the present moment, aware: of two readings of a day the later wins.
        slack: how long before its own day a sync may have started.
        remembered: ids of syncs that take longer, read by key.
        rows_per_read: about as many rows at a time.
        pause: between two reads of the source.
        progress: is told how far it is; what it raises ends the restatement between two chunks.

    Raises:
        RequestError: there is no day.
        SourceError: the source cannot be read as it should be.
        StorageError: the schema is missing or the database unreachable; days already replaced stay so.
    """
    from include.sync_health.daily_quality import day_bounds, local_day
    from include.sync_health.log_start import other_ends, refused_days
    from include.sync_health.record_counts import tells_outcomes
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_daily import replace_days
    from include.warehouse.quality_history import computed_days
    from include.warehouse.snapshots import names_as_they_were
    from include.warehouse.source_reader import SourceReader
    from include.warehouse.source_schema import DETAILS, known_details

    zone = policy.reporting_timezone
    bounds = {day: day_bounds(day, timezone=zone) for day in sorted(set(days))}
    bounds = {day: (start, end) for day, (start, end) in bounds.items() if start < end}  # a zone may skip a whole day
    if not bounds:
        raise RequestError("days: there is no day to restate")
    final_before = local_day(as_of, timezone=zone) - policy.late_data_days * DAY
    tally = _Tally(total=len(bounds))
    with SourceReader.connect(source_conninfo, policy.source) as reader, connect(monitoring_conninfo) as conn:
        start = reader.oldest_start()
        ledger = computed_days(conn, first=min(bounds), last=max(bounds))
        names = names_as_they_were(conn)
        conn.commit()
        ended_elsewhere = other_ends(dict(zip(ledger["day"], ledger["timezone"], strict=True)), timezone=zone)
        credentials = read_known_credentials(reader, policy=policy)
        # A log without such columns has no details; one that has a column which we cannot read may have some.
        has_details = set(DETAILS) & set(reader.shape.runs.types) == set(known_details(reader.shape))
        can_tell_outcomes = tells_outcomes(reader.shape.runs.types)
        found = aggregated_days(
            reader,
            bounds,
            policy=policy,
            as_of=as_of,
            clock=clock,
            slack=slack,
            remembered=remembered,
            credentials=credentials,
            names=names,
            rows_per_read=rows_per_read,
            pause=pause,
        )
        with closing(found):
            for chunk, aggregates in found:
                refused = refused_days(
                    {day: bounds[day] for day in chunk.days},
                    start=start,
                    with_rows=set(aggregates.daily["day"]),
                    other_ends=ended_elsewhere,
                )
                replaced = replace_days(
                    conn,
                    aggregates.daily,
                    aggregates.fields,
                    days=[day for day in chunk.days if day not in refused],
                    read_at=chunk.read_at,
                    timezone=zone,
                    quality=policy.rules.data_quality,
                    final_before=final_before,
                    # A sync that ended on such a day may have started before what the source still has.
                    only_growing={
                        day
                        for day in chunk.days
                        if start.at is None or bounds[day][0] < start.at + policy.source.id_slack
                    },
                    credential_ids=chunk.credential_ids,
                    has_details=has_details,
                    tells_outcomes=can_tell_outcomes,
                )
                tally.add(chunk, aggregates, replaced, refused=refused)
                _write_line(chunk, replaced, refused=refused)
                if progress is not None:
                    progress(tally.progress(chunk.days[-1]))
    ahead = ledger[ledger["day"].isin(tally.superseded) & (ledger["read_at"] > clock())]
    if len(ahead):
        tally.notes.append(
            FUTURE_READING.format(
                days=len(ahead),
                first=min(ahead["day"]),
                last=max(ahead["day"]),
                read_at=ahead["read_at"].max().isoformat(),
            )
        )
    return tally.restated()


def _write_line(chunk: DaysRead, replaced: Replaced, *, refused: Collection[date]) -> None:
    """One line for the days that were committed together."""
    log.info(
        "days_restated",
        "restated %(first_day)s to %(last_day)s: %(counts)s",
        first_day=chunk.days[0],
        last_day=chunk.days[-1],
        days=replaced.days,
        rows_read=chunk.rows_read,
        rows_written=replaced.rows,
        counts={
            "unchanged": replaced.unchanged,
            "kept": replaced.kept,
            "vanished": replaced.vanished,
            "removed": replaced.removed,
            "revised": replaced.revised,
            "refused": len(refused),
            "superseded": len(replaced.superseded),
        },
    )


def read_known_credentials(reader: SourceReader, *, policy: Policy) -> pd.DataFrame:
    """
    Return the credentials of the source (`CREDENTIAL_COLUMNS`).

    Raises:
        SourceError: ``no_rows``, or as `SourceReader.read_credentials`.
    """
    credentials = reader.read_credentials()
    if credentials.empty:
        raise SourceError(
            f"the credentials table has no rows, no day is restated; check that {policy.source.connection} points at the "
            "right database and schema",
            cause="no_rows",
        )
    return credentials


def aggregated_days(
    reader: SourceReader,
    bounds: Bounds,
    *,
    policy: Policy,
    as_of: datetime,
    clock: Callable[[], datetime],
    slack: timedelta,
    remembered: Sequence[str] = (),
    credentials: pd.DataFrame | None = None,
    names: pd.DataFrame | None = None,
    rows_per_read: int = BackfillPolicy().rows_per_read,
    pause: timedelta = timedelta(0),
) -> Generator[tuple[DaysRead, DayAggregates]]:
    """
    Yield days in chunks with what they came to, oldest first; the next chunk is being read meanwhile.

    Args:
        reader: its session is in use until the last chunk.
        bounds: the days and their instants ``[from, to)``.
        credentials: of `read_known_credentials`; read here when not given.
        names: what was recorded of the credentials (`NAME_COLUMNS`).

    The others are those of `restate_days`.

    Raises:
        SourceError: the source cannot be read as it should be, or has no credentials.
    """
    import pandas as pd

    from include.sync_health.company_names import CompanyNames
    from include.sync_health.daily_quality import aggregate_days

    if credentials is None:
        credentials = read_known_credentials(reader, policy=policy)
    known = CompanyNames.of(credentials, names)
    late = reader.read_finished(remembered, as_of=as_of) if remembered else None
    chunks = reader.stream_days(bounds, slack=slack, as_of=as_of, clock=clock, rows_per_read=rows_per_read, pause=pause)
    with closing(chunks) as read:
        for chunk in read:
            runs = chunk.runs
            if late is not None and len(late):
                runs = pd.concat([runs, late[~late["sync_id"].isin(runs["sync_id"])]], ignore_index=True)
            aggregates = aggregate_days(
                runs,
                names=known,
                days=chunk.days,
                timezone=policy.reporting_timezone,
                as_of=as_of,
                late_data_days=policy.late_data_days,
                duration_fallback=policy.duration_fallback,
            )
            yield chunk, aggregates


@dataclass(slots=True)
class _Tally:
    """Sums over chunks."""

    total: int
    done: int = 0
    rows_read: int = 0
    missed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    refused: list[date] = field(default_factory=list)
    superseded: list[date] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, chunk: DaysRead, aggregates: DayAggregates, replaced: Replaced, *, refused: Collection[date]) -> None:
        self.done += len(chunk.days)
        self.rows_read += chunk.rows_read
        self.missed += chunk.missed_by_narrow
        self.counts.update(
            days=replaced.days,
            rows=replaced.rows,
            unchanged=replaced.unchanged,
            kept=replaced.kept,
            vanished=replaced.vanished,
            removed=replaced.removed,
            revised=replaced.revised,
        )
        self.problems.update(aggregates.problems)
        self.refused += refused
        self.superseded += replaced.superseded
        self.late += chunk.late_sync_ids
        self.notes += [note for note in chunk.notes if note not in self.notes]

    def progress(self, day: date) -> Progress:
        return Progress(
            days_done=self.done,
            days_total=self.total,
            rows_read=self.rows_read,
            rows_written=self.counts["rows"],
            day=day,
        )

    def restated(self) -> Restated:
        if self.refused:
            log.warning(
                "days_refused",
                "%(days)s days from %(first_day)s to %(last_day)s lie before the log of the source, without a row: they "
                "stay as they are",
                days=len(self.refused),
                first_day=self.refused[0],
                last_day=self.refused[-1],
            )
        if self.problems:
            log.warning(
                "details_unusable",
                "counts and details that could not be taken as they are: %(counts)s",
                counts=self.problems,
            )
        return Restated(
            days=self.counts["days"],
            rows=self.counts["rows"],
            unchanged=self.counts["unchanged"],
            kept=self.counts["kept"],
            vanished=self.counts["vanished"],
            removed=self.counts["removed"],
            revised=self.counts["revised"],
            refused=tuple(self.refused),
            superseded=tuple(self.superseded),
            rows_read=self.rows_read,
            late_sync_ids=tuple(self.late),
            missed_by_narrow=self.missed,
            unusable_details=dict(self.problems),
            notes=tuple(self.notes),
        )

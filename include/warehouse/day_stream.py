"""
Many whole days of the sync log, in chunks: each key is read once, whatever the number of days.

Keys rise with ``started_at``, days are told by ``completed_at``. A read of some days goes on for ``source.id_slack`` of
keys, for late commits; what it finds of later days is carried to the chunk that they belong to. So a sync that took
many days is found wherever it ended, and the next read begins at the key where the last one ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.policy import SourcePolicy
from include.warehouse.run_rows import RunRows, Times, moment
from include.warehouse.run_search import END_OF_TIME, Reading, RunSearch
from include.warehouse.source_schema import SourceShape

DAY = timedelta(days=1)

DAYS_PER_READ = 31
"""However few rows a day has, a read has no more days than this."""

DETAIL_BYTES_PER_READ = 32_000_000
"""About so many bytes of details are read at once, and no fewer than those of a day."""

Bounds = Mapping[date, tuple[datetime, datetime]]
"""Days and their instants ``[from, to)``."""


class ReadRows(Protocol):
    """Reads rows of the log by a statement of `SourceStatements.runs`."""

    def __call__(self, reading: Reading, parameters: Mapping[str, object]) -> RunRows:
        """Return the rows of ``days``, with counts and details."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysRead:
    """
    A chunk of days, whole.

    Args:
        days: oldest first, without a gap.
        runs: `RUN_COLUMNS`, `COUNT_COLUMNS` and `DETAIL_COLUMNS` of all their runs.
        read_at: when the oldest of it began to be read; aware.
        rows_read: rows that left the database for it.
        late_sync_ids: of the runs that took longer than ``source.id_slack``, as text.
        missed_by_narrow: runs that a read of their day with a slack of ``source.id_slack`` would not have.
        anomalies: odd rows by kind (`RunRows.anomalies`).
        notes: sentences for people about how it was read.
        round_trips: statements sent for it.
    """

    days: tuple[date, ...]
    runs: pd.DataFrame
    read_at: datetime
    rows_read: int
    late_sync_ids: tuple[str, ...]
    missed_by_narrow: int
    anomalies: Mapping[str, int]
    notes: tuple[str, ...]
    round_trips: int


@dataclass(slots=True)
class _Carried:
    """Rows of days to come, when the oldest of them were read, and the key at which the next read begins."""

    rows: RunRows | None = None
    read_at: datetime | None = None
    next_low: object = None


class DayStream:
    """Reads days in chunks on one session."""

    def __init__(self, *, shape: SourceShape, policy: SourcePolicy, search: RunSearch, read_rows: ReadRows) -> None:
        self._shape = shape
        self._policy = policy
        self._search = search
        self._read_rows = read_rows

    def chunks(
        self,
        bounds: Bounds,
        *,
        slack: timedelta,
        as_of: datetime,
        clock: Callable[[], datetime],
        rows_per_read: int,
        pause: timedelta = timedelta(0),
    ) -> Iterator[DaysRead]:
        """
        Yield the days in chunks, oldest first.

        Args:
            bounds: the days; any, in any order. A gap costs a search of its own.
            slack: a run that started longer than this before its own day began is left out.
            as_of: aware; when it is read. Starts long after it are not plausible.
            clock: tells the present moment; aware.
            rows_per_read: about as many rows at a time, by the density of what was read before; at least a day.
            pause: how long to wait between two reads.

        Raises:
            SourceError: what `source_errors` maps.
        """
        days_at_once = 1
        is_first = True
        for stretch in stretches(sorted(bounds)):
            carried, at = _Carried(), 0
            while at < len(stretch):
                days = stretch[at : at + days_at_once]
                if not is_first and pause:
                    time.sleep(pause.total_seconds())
                is_last = at + len(days) == len(stretch)
                chunk, weight = self._chunk(
                    days, bounds, carried, is_last=is_last, slack=slack, as_of=as_of, clock=clock
                )
                yield chunk
                is_first, at = False, at + len(days)
                rows = max(1, len(chunk.runs) // len(days))
                room = min(rows_per_read // rows, DETAIL_BYTES_PER_READ * len(days) // max(1, weight))
                days_at_once = max(1, min(room, DAYS_PER_READ))

    def _chunk(
        self,
        days: Sequence[date],
        bounds: Bounds,
        carried: _Carried,
        *,
        is_last: bool,
        slack: timedelta,
        as_of: datetime,
        clock: Callable[[], datetime],
    ) -> tuple[DaysRead, int]:
        """Read some days that follow each other and return them, and the bytes of their details."""
        search, reading, began = self._search, Reading(as_of), clock()
        start, end = bounds[days[0]][0], bounds[days[-1]][1]
        by_end = self._shape.search == "completed_at"
        low, high = search.range_of(
            reading, oldest=start - slack - self._policy.id_slack, newest=end + self._policy.id_slack
        )
        if carried.next_low is not None:
            low = carried.next_low
        # An index on the end finds the days themselves, and after the last chunk nothing comes: nothing is carried.
        until = end if by_end or is_last else END_OF_TIME
        parameters = {
            "low": low,
            "high": high,
            "from_raw": search.raw("completed_at", start, towards="past"),
            "to_raw": search.raw("completed_at", until, towards="future"),
            "start_from_raw": search.raw("started_at", start, towards="past"),
            "start_to_raw": search.raw("started_at", until, towards="future"),
        }
        fresh = self._read_rows(reading, parameters)
        rows = fresh if carried.rows is None else carried.rows.joined(fresh)
        belongs = rows.belongs_at()
        is_ours = (belongs >= moment(start)) & (belongs < moment(end))
        read_at = min(began, carried.read_at or began)
        _carry_on(carried, rows, belongs >= moment(end), of_before=len(rows) - len(fresh), began=began)
        carried.next_low = None if by_end else high
        ours, belongs = rows.only(is_ours), belongs[is_ours]
        day_starts = np.array([moment(bounds[day][0]) for day in days])
        own_start: Times = day_starts[np.searchsorted(day_starts, belongs, side="right") - 1]
        is_kept = ~(ours.started < own_start - np.timedelta64(slack))
        ours, belongs, own_start = ours.only(is_kept), belongs[is_kept], own_start[is_kept]
        id_slack = np.timedelta64(self._policy.id_slack)
        return DaysRead(
            days=tuple(days),
            runs=ours.frame(),
            read_at=read_at,
            rows_read=len(fresh),
            late_sync_ids=tuple(str(each) for each in ours.ids[belongs - ours.started > id_slack].tolist()),
            missed_by_narrow=int((ours.started < own_start - id_slack).sum()),
            anomalies=ours.anomalies(now=reading.now),
            notes=(*self._shape.notes, *reading.notes),
            round_trips=reading.round_trips,
        ), ours.detail_bytes()


def _carry_on(
    carried: _Carried, rows: RunRows, is_later: NDArray[np.bool_], *, of_before: int, began: datetime
) -> None:
    """Keep the rows of later days; the first ``of_before`` of ``rows`` were carried to here already."""
    if not is_later[:of_before].any():
        carried.read_at = began
    carried.rows = rows.only(is_later)


def stretches(days: Sequence[date]) -> Iterator[list[date]]:
    """Yield each unbroken stretch of sorted days."""
    if not days:
        return
    stretch = [days[0]]
    for before, day in pairwise(days):
        if day - before > DAY:
            yield stretch
            stretch = []
        stretch.append(day)
    yield stretch

"""
Many whole days of the sync log, in chunks: each key is read once, whatever the number of days.

Keys rise with ``started_at``, days are told by ``completed_at``. A read of some days goes on for ``source.id_slack`` of
keys, for late commits; what it finds of later days is carried to the chunk that they belong to. So a sync that took
many days is found wherever it ended, and the next read begins at the key where the last one ended.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from threading import Event
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.policy import SourcePolicy
from include.warehouse.read_ahead import read_ahead
from include.warehouse.run_rows import RawRows, RunRows, moment
from include.warehouse.run_search import END_OF_TIME, Reading, RunSearch
from include.warehouse.source_schema import SourceShape

DAY = timedelta(days=1)

DAYS_PER_READ = 31
"""However few rows a day has, a read has no more days than this."""

DETAIL_BYTES_PER_READ = 32_000_000
"""About so many bytes of details are read at once, and no fewer than those of a day."""

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter to itself while another waits; Python's own is 5 ms."""

Bounds = Mapping[date, tuple[datetime, datetime]]
"""Days and their instants ``[from, to)``."""


class FetchRows(Protocol):
    """Fetches rows of the log by a statement of `SourceStatements.runs`."""

    def __call__(self, reading: Reading, parameters: Mapping[str, object]) -> RawRows:
        """Return rows of ``days``, with counts and the sizes of details; decoded while the next ones are on their way."""
        ...


class WithDetails(Protocol):
    """Fetches the texts of the details of rows."""

    def __call__(self, reading: Reading, rows: RawRows) -> RawRows:
        """Return the rows with them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysRead:
    """
    A chunk of days, whole.

    Args:
        days: oldest first, without a gap.
        runs: `RUN_COLUMNS`, `COUNT_COLUMNS` and `DETAIL_COLUMNS` of all their runs, in no order.
        read_at: when the oldest of it began to be read; aware.
        rows_read: rows that left the database for it.
        credential_ids: all that the source still had once the rows were read, as text.
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
    credential_ids: frozenset[str]
    late_sync_ids: tuple[str, ...]
    missed_by_narrow: int
    anomalies: Mapping[str, int]
    notes: tuple[str, ...]
    round_trips: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fetched:
    """What was fetched for some days that follow each other; ``is_last`` of their stretch."""

    days: tuple[date, ...]
    is_last: bool
    reading: Reading
    began: datetime
    rows: RawRows
    credential_ids: frozenset[str]


@dataclass(slots=True)
class _Carried:
    """Rows of days to come, and when the oldest of them were read."""

    rows: RunRows | None = None
    read_at: datetime | None = None


class DayStream:
    """Reads days in chunks on one session."""

    def __init__(
        self,
        *,
        shape: SourceShape,
        policy: SourcePolicy,
        search: RunSearch,
        fetch: FetchRows,
        with_details: WithDetails,
        read_credential_ids: Callable[[], frozenset[str]],
        cancel: Callable[[], None],
    ) -> None:
        """Take what reads on the session; ``cancel``, which another thread may call, ends the statement under way."""
        self._shape = shape
        self._policy = policy
        self._search = search
        self._fetch = fetch
        self._with_details = with_details
        self._read_credential_ids = read_credential_ids
        self._cancel = cancel

    def chunks(
        self,
        bounds: Bounds,
        *,
        slack: timedelta,
        as_of: datetime,
        clock: Callable[[], datetime],
        rows_per_read: int,
        pause: timedelta = timedelta(0),
    ) -> Generator[DaysRead]:
        """
        Yield the days in chunks, oldest first; while one is in use, a thread fetches the next.

        Left early, it cancels the read that is under way. Until then nobody else may use the session.

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
        stop = Event()

        def pause_between() -> bool:
            """Pause, and return whether to go on."""
            return not stop.wait(pause.total_seconds())

        def give_up() -> None:
            stop.set()
            self._cancel()

        fetches = self._fetches(
            bounds, slack=slack, as_of=as_of, clock=clock, rows_per_read=rows_per_read, go_on=pause_between
        )
        carried = _Carried()
        with _quick_switches(), closing(read_ahead(fetches, name="read-days", give_up=give_up)) as ahead:
            for fetched in ahead:
                yield self._chunk(fetched, bounds, carried, slack=slack)
                if fetched.is_last:
                    carried = _Carried()

    def _fetches(
        self,
        bounds: Bounds,
        *,
        slack: timedelta,
        as_of: datetime,
        clock: Callable[[], datetime],
        rows_per_read: int,
        go_on: Callable[[], bool],
    ) -> Iterator[_Fetched]:
        days_at_once = 1
        is_first = True
        for stretch in stretches(sorted(bounds)):
            at, next_low, rows_so_far = 0, None, 0
            while at < len(stretch):
                days = tuple(stretch[at : at + days_at_once])
                if not is_first and not go_on():
                    return
                reading, began = Reading(as_of), clock()
                parameters = self._parameters(
                    reading, days, bounds, next_low=next_low, is_last=at + len(days) == len(stretch), slack=slack
                )
                fetched = self._fetch(reading, parameters)
                is_first, weight = False, fetched.detail_bytes
                if weight > DETAIL_BYTES_PER_READ and len(days) > 1:
                    # Their details would be too much at once: so many days less, from the same day on.
                    days_at_once = max(1, len(days) * DETAIL_BYTES_PER_READ // weight)
                    continue
                fetched = self._with_details(reading, fetched)
                at += len(days)
                next_low = None if self._is_by_end else parameters["high"]
                yield _Fetched(
                    days=days,
                    is_last=at == len(stretch),
                    reading=reading,
                    began=began,
                    rows=fetched,
                    # After the rows: of a credential that was deleted between the two, we have rows and no id.
                    credential_ids=self._read_credential_ids(),
                )
                rows_so_far += len(fetched)
                # A search may go beyond its days and leave the next read few rows, which says nothing of their number.
                rows, usual = max(1, len(fetched) // len(days)), rows_so_far // at
                rows = rows if 2 * rows > usual else usual
                room = min(rows_per_read // rows, DETAIL_BYTES_PER_READ * len(days) // max(1, weight))
                days_at_once = max(1, min(room, DAYS_PER_READ))

    @property
    def _is_by_end(self) -> bool:
        return self._shape.search == "completed_at"

    def _parameters(
        self,
        reading: Reading,
        days: Sequence[date],
        bounds: Bounds,
        *,
        next_low: Any,
        is_last: bool,
        slack: timedelta,
    ) -> dict[str, object]:
        search = self._search
        start, end = bounds[days[0]][0], bounds[days[-1]][1]
        low, high = search.range_of(
            reading,
            oldest=start - slack - self._policy.id_slack if next_low is None else None,
            newest=end + self._policy.id_slack,
        )
        if next_low is not None:
            # A search that was unsure ended its range later than this one ends; what it read is not read again.
            low, high = next_low, max(next_low, high)
        # An index on the end finds the days themselves, and after the last chunk nothing comes: nothing is carried.
        until = end if self._is_by_end or is_last else END_OF_TIME
        return {
            "low": low,
            "high": high,
            "from_raw": search.raw("completed_at", start, towards="past"),
            "to_raw": search.raw("completed_at", until, towards="future"),
            "start_from_raw": search.raw("started_at", start, towards="past"),
            "start_to_raw": search.raw("started_at", until, towards="future"),
        }

    def _chunk(self, fetched: _Fetched, bounds: Bounds, carried: _Carried, *, slack: timedelta) -> DaysRead:
        """Return the days that were fetched, whole, and keep what is of later days."""
        days, reading = fetched.days, fetched.reading
        start, end = moment(bounds[days[0]][0]), moment(bounds[days[-1]][1])
        fresh = fetched.rows.decoded()
        before = fresh.only(np.zeros(0, dtype=np.int64)) if carried.rows is None else carried.rows
        if self._shape.search != "id":
            # Ranges of times meet, and a row may have moved from one to the other; those of keys cannot share a row.
            fresh = fresh.only(~np.isin(fresh.ids, before.ids))
        read_at = min(fetched.began, carried.read_at or fetched.began)
        parts = [(rows, rows.belongs_at()) for rows in (before, fresh)]
        later = [(rows, belongs >= end) for rows, belongs in parts]
        if not later[0][1].any():
            carried.read_at = fetched.began
        carried.rows = RunRows.merged(later)
        rows = RunRows.merged([(rows, (belongs >= start) & (belongs < end)) for rows, belongs in parts])
        ours, late_places, missed = self._narrowed(rows, [moment(bounds[day][0]) for day in days], slack=slack)
        return DaysRead(
            days=days,
            runs=ours.frame(in_order=False),
            read_at=read_at,
            rows_read=len(fetched.rows),
            credential_ids=fetched.credential_ids,
            late_sync_ids=tuple(str(each) for each in ours.ids[late_places].tolist()),
            missed_by_narrow=missed,
            anomalies=ours.anomalies(now=reading.now),
            notes=(*self._shape.notes, *reading.notes),
            round_trips=reading.round_trips,
        )

    def _narrowed(
        self, rows: RunRows, day_starts: Sequence[np.datetime64], *, slack: timedelta
    ) -> tuple[RunRows, NDArray[np.int64], int]:
        """
        Return those of some days' rows that did not start longer than ``slack`` before their own day, the places of those
        that took longer than ``source.id_slack``, and how many a read with that slack would have missed.
        """
        wide, narrow = np.timedelta64(slack), np.timedelta64(self._policy.id_slack)
        belongs = rows.belongs_at()
        took = belongs - rows.started
        # Nothing is later than its day began: what took less than both started late enough, and few took more.
        long = np.flatnonzero(~(took <= min(wide, narrow)))
        own_start = np.array(day_starts)[np.searchsorted(np.array(day_starts), belongs[long], side="right") - 1]
        started = rows.started[long]
        is_old = started < own_start - wide
        kept, missed = long[~is_old], int((started[~is_old] < own_start[~is_old] - narrow).sum())
        late = kept[took[kept] > narrow]
        if not is_old.any():
            return rows, late, missed
        is_ours = np.ones(len(rows), dtype=bool)
        is_ours[long[is_old]] = False
        return rows.only(is_ours), late - np.searchsorted(long[is_old], late), missed


@contextmanager
def _quick_switches() -> Iterator[None]:
    """
    Let a thread that waits for the interpreter have it sooner.

    A search is some ten short statements; after each, the fetching thread would wait up to 5 ms for the one that computes,
    and the database with it: a third of the time.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, SWITCH_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


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

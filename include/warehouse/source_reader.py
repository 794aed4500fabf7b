"""
Reads Hub Plus' sync runs and credentials into the frames of `include.sync_health.frames`.

Read only, and at a cost that follows the window, not the table: the window's first key is found by bisection
(`id_window`), then one range of the primary key is read. Exactness: a run is in the frame when the time from its
``started_at`` to its end, plus the lateness of its commit, is within ``source.id_slack``, or when it was remembered
as open, or, without that memory, when it started within ``source.open_lookback``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Self

import numpy as np
import pandas as pd

from include.sync_health.errors import RequestError
from include.sync_health.log_start import LogStart
from include.sync_health.policy import SourcePolicy
from include.warehouse import credential_reader, source_estimate
from include.warehouse.binary_arrays import raw_row, raw_row_in_one_call
from include.warehouse.day_stream import Bounds, DaysRead, DayStream
from include.warehouse.detail_reader import DetailReader
from include.warehouse.run_rows import CLOCK_TOLERANCE, RawRows, RunRows, moment
from include.warehouse.run_search import Reading, RunSearch, window_reading
from include.warehouse.source_keys import key_of
from include.warehouse.source_schema import SourceShape, describe_source, known_details, require_counts
from include.warehouse.source_session import Session, cancel_statement, open_session, source_errors
from include.warehouse.source_statements import SourceStatements
from include.warehouse.source_time import require_aware

ROWS_PER_READ = 100_000
"""About how many rows of whole days are read at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsRead:
    """
    What a read of runs returned.

    Args:
        runs: `RUN_COLUMNS`, and `COUNT_COLUMNS` where they were asked for, by ``finished_at``, then ``sync_id``, rows
            that are not finished last. ``status``, ``completed_at`` and ``finished_at`` are as the source has them
            now: at an older ``as_of``, a run that finished after it is among the open ones, with a later end.
        rows_read: rows that left the database for it.
        ms: milliseconds it took, round trips included.
        newest_started_at: the newest plausible start in the whole table (the third newest of the newest rows, so
            that stray future stamps do not count); None for a table without any.
        missing_remembered: remembered ids whose rows are gone, in the order given.
        anomalies: odd rows by kind (`RunRows.anomalies`), and ``abandoned_open``: open for longer than
            ``source.open_lookback``, in the frame only if remembered.
        notes: sentences for people about how it was read.
        round_trips: statements sent for it.
    """

    runs: pd.DataFrame
    rows_read: int
    ms: float
    newest_started_at: datetime | None
    missing_remembered: tuple[str, ...]
    anomalies: Mapping[str, int]
    notes: tuple[str, ...]
    round_trips: int


class SourceReader:
    """
    One session on the source; close it, or use it as a context manager.

    Use `connect`. The shape is looked up once and statements are prepared, so that later reads cost little.
    """

    def __init__(self, session: Session, policy: SourcePolicy) -> None:
        self._session = session
        self._policy = policy
        self.shape: SourceShape = describe_source(session, policy)
        self._statements = SourceStatements(self.shape, zone=policy.timezone)
        self._search = RunSearch(session, policy, shape=self.shape, statements=self._statements)
        self._details = DetailReader(session, policy, shape=self.shape, statements=self._statements)

    @classmethod
    def connect(cls, conninfo: str, policy: SourcePolicy) -> Self:
        """
        Connect and look the source up.

        Raises:
            SourceError: what `open_session` and `describe_source` raise.
        """
        session = open_session(conninfo, policy)
        try:
            return cls(session, policy)
        except BaseException:
            session.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def read_runs(
        self,
        *,
        finished_from: datetime,
        as_of: datetime,
        remembered_open: Sequence[str] | None,
        credential_ids: Sequence[str] | None = None,
        environment: str | None = None,
        with_counts: bool = False,
    ) -> RunsRead:
        """
        Return the runs finished in ``(finished_from, as_of]``, those open at ``as_of``, and those started in the window
        that say neither: of an unknown status, or completed without an end.

        Args:
            finished_from, as_of: aware.
            remembered_open: ids that were open before: they are read by primary key and all returned, finished or
                not. None: there is no memory, and open runs are looked for back to ``source.open_lookback``.
            credential_ids: only runs of these credentials; an empty sequence means none.
            environment: only runs of credentials of this environment.
            with_counts: add `COUNT_COLUMNS`.

        Raises:
            RequestError: a naive time, an empty window, or an id that is none.
            SourceError: ``timeout``, ``interrupted``, ``permission`` and the like; with counts also ``missing_column``
                and ``permission`` where the columns that hold them cannot be read.
        """
        reading = window_reading(
            self.shape,
            finished_from=finished_from,
            as_of=as_of,
            credential_ids=credential_ids,
            environment=environment,
        )
        counts = require_counts(self.shape, self._policy) if with_counts else None
        oldest_start = finished_from - self._policy.id_slack
        if remembered_open is None:
            oldest_start = min(oldest_start, self._oldest_open(as_of) - self._policy.id_slack)
        rows = self._read_window(reading, finished_from, oldest_start, counts=counts)
        rows_read = len(rows)
        is_open, is_abandoned = rows.open_at(as_of), rows.open_at(as_of, started_before=self._oldest_open(as_of))
        is_wanted = rows.finished_in(finished_from, as_of) | (is_open & ~is_abandoned)
        is_wanted |= rows.undated_in(finished_from, as_of)
        # Rows that are neither are still told of where they are odd, unless they only fell into the wide bounds.
        is_told = is_wanted | is_abandoned | np.isnat(rows.completed) | (rows.started > moment(as_of))
        anomalies = rows.anomalies(now=reading.now, among=is_told)
        wanted = rows.only(is_wanted)
        missing: tuple[str, ...] = ()
        abandoned = set(rows.ids[is_abandoned].tolist())
        if remembered_open:
            remembered, missing = self._read_remembered(reading, remembered_open, counts=counts)
            rows_read += len(remembered)
            is_abandoned = remembered.open_at(as_of, started_before=self._oldest_open(as_of))
            abandoned |= set(remembered.ids[is_abandoned].tolist())
            wanted = wanted.joined(remembered)
        if abandoned:
            anomalies["abandoned_open"] = len(abandoned)
        return self._result(reading, wanted, rows_read=rows_read, missing=missing, anomalies=anomalies)

    def read_failed_runs(
        self,
        *,
        finished_from: datetime,
        as_of: datetime,
        credential_ids: Sequence[str] | None = None,
        environment: str | None = None,
    ) -> RunsRead:
        """
        Return only the runs with status ``failed`` that finished in ``(finished_from, as_of]``.

        Arguments and errors are those of `read_runs`.
        """
        reading = window_reading(
            self.shape,
            finished_from=finished_from,
            as_of=as_of,
            credential_ids=credential_ids,
            environment=environment,
        )
        rows = self._read_window(reading, finished_from, finished_from - self._policy.id_slack, only_failed=True)
        wanted = rows.only(rows.finished_in(finished_from, as_of))
        return self._result(
            reading, wanted, rows_read=len(rows), missing=(), anomalies=wanted.anomalies(now=reading.now)
        )

    def read_credentials(self) -> pd.DataFrame:
        """
        Return `CREDENTIAL_COLUMNS`, one row per credential, by key.

        No secret's value is read: whether it is present is decided in the database. Where we may not even do
        that, ``has_client_id`` and ``has_client_secret`` are True, and `shape.notes` says so.

        Raises:
            SourceError: as `read_runs` does.
        """
        return credential_reader.read_credentials(
            self._session, self._policy, shape=self.shape, statements=self._statements
        )

    def read_older_successes(self, credential_ids: Collection[str], *, as_of: datetime) -> dict[str, datetime]:
        """
        Return the newest ``completed_at`` up to ``as_of``, in UTC, of each credential's runs with status ``completed``.

        Credentials without any are left out. Each costs its whole history, by the foreign key's index: ask only for
        those whose last success is not in a window that was read. Where there is no such index, only runs started in
        the last ``source.open_lookback`` are looked at, in one range, and `shape.notes` says so.

        Raises:
            RequestError: ``as_of`` is naive.
            SourceError: as `read_runs` does.
        """
        require_aware(as_of=as_of)
        return credential_reader.read_older_successes(
            credential_ids,
            as_of=as_of,
            policy=self._policy,
            shape=self.shape,
            statements=self._statements,
            search=self._search,
        )

    def stream_days(
        self,
        bounds: Bounds,
        *,
        slack: timedelta,
        as_of: datetime,
        clock: Callable[[], datetime],
        rows_per_read: int = ROWS_PER_READ,
        pause: timedelta = timedelta(0),
    ) -> Generator[DaysRead]:
        """
        Yield the runs that belong to some days, with `COUNT_COLUMNS` and `DETAIL_COLUMNS`, chunk by chunk, oldest first.

        A run belongs to the instant of its ``completed_at``, whatever its status; without one, to that of its
        ``started_at``. One that started longer than ``slack`` before its own day began is left out.
        See `DayStream.chunks` for the arguments.

        Raises:
            RequestError: a naive time, or a day that is empty.
            SourceError: as `read_runs` with counts does.
        """
        require_aware(as_of=as_of)
        for day, (start, end) in bounds.items():
            require_aware(day_from=start, day_to=end)
            if start >= end:
                raise RequestError(f"the day {day.isoformat()}, [{start.isoformat()}, {end.isoformat()}), is none")
        counts, details = require_counts(self.shape, self._policy), known_details(self.shape)

        def fetch(reading: Reading, parameters: Mapping[str, object]) -> RawRows:
            return self._fetch_rows(reading, "days", parameters, counts=counts, details=details, in_one_call=True)

        stream = DayStream(
            shape=self.shape,
            policy=self._policy,
            search=self._search,
            fetch=fetch,
            with_details=self._details.added,
            read_credential_ids=lambda: credential_reader.read_credential_ids(
                self._session, self._policy, shape=self.shape, statements=self._statements
            ),
            cancel=partial(cancel_statement, self._session),
        )
        return stream.chunks(bounds, slack=slack, as_of=as_of, clock=clock, rows_per_read=rows_per_read, pause=pause)

    def read_finished(self, sync_ids: Sequence[str], *, as_of: datetime) -> pd.DataFrame:
        """
        Return runs by their ids, with `COUNT_COLUMNS` and `DETAIL_COLUMNS`; ids without a row are left out.

        Raises:
            SourceError: as `read_runs` with counts does.
        """
        counts, details = require_counts(self.shape, self._policy), known_details(self.shape)
        rows, _ = self._read_remembered(Reading(as_of), sync_ids, counts=counts, details=details)
        return rows.frame()

    def oldest_start(self) -> LogStart:
        """
        Return where the log begins; see `source_estimate.oldest_start`.

        Raises:
            SourceError: as `read_runs` does.
        """
        return source_estimate.oldest_start(search=self._search, statements=self._statements)

    def rows_between(self, start: datetime, end: datetime, *, as_of: datetime) -> int:
        """
        Return about how many rows of the log started in ``[start, end)``; see `source_estimate.rows_between`.

        Raises:
            RequestError: a naive time.
            SourceError: as `read_runs` does.
        """
        require_aware(start=start, end=end, as_of=as_of)
        return source_estimate.rows_between(start, end, as_of=as_of, shape=self.shape, search=self._search)

    def _oldest_open(self, as_of: datetime) -> datetime:
        return as_of - self._policy.open_lookback

    def _read_window(
        self,
        reading: Reading,
        finished_from: datetime,
        oldest_start: datetime,
        *,
        only_failed: bool = False,
        counts: Sequence[str] | None = None,
    ) -> RunRows:
        search = self._search
        low, high = search.range_of(reading, oldest=oldest_start, newest=reading.as_of + self._policy.id_slack)
        limit = max(reading.now, reading.as_of) + CLOCK_TOLERANCE
        parameters = {
            "low": low,
            "high": high,
            "from_raw": search.raw("completed_at", finished_from, towards="past"),
            "as_of_raw": search.raw("started_at", reading.as_of, towards="future"),
            "future_raw": search.raw("started_at", limit, towards="future"),
        }
        return self._fetch_rows(reading, "window", parameters, only_failed=only_failed, counts=counts).decoded()

    def _read_remembered(
        self,
        reading: Reading,
        ids: Sequence[str],
        *,
        counts: Sequence[str] | None,
        details: Sequence[str] | None = None,
    ) -> tuple[RunRows, tuple[str, ...]]:
        keys = {text: key_of(text, self.shape.run_key) for text in dict.fromkeys(ids)}
        # An id of the wrong kind is one from before the source was rebuilt: its row is gone.
        wanted = [key for key in keys.values() if key is not None]
        raw = self._fetch_rows(reading, "keys", {"keys": wanted}, counts=counts, details=details)
        rows = self._details.added(reading, raw).decoded()
        there = {str(value) for value in rows.ids}
        missing = [text for text, key in keys.items() if key is None or str(key) not in there]
        if missing and reading.filters:
            # Filtered out is not gone.
            parameters = {"keys": [keys[text] for text in missing if keys[text] is not None]}
            there |= {row[0] for row in self._search.fetch(reading, self._statements.existing, parameters)}
            missing = [text for text in missing if str(keys[text]) not in there]
        return rows, tuple(missing)

    def _fetch_rows(
        self,
        reading: Reading,
        rows: str,
        parameters: Mapping[str, object],
        *,
        only_failed: bool = False,
        counts: Sequence[str] | None,
        details: Sequence[str] | None = None,
        in_one_call: bool = False,
    ) -> RawRows:
        statement = self._statements.runs(
            rows,
            only_failed=only_failed,
            by_credential="credentials" in reading.filters,
            by_environment="environment" in reading.filters,
            counts=counts or (),
            details=details or (),
        )
        reading.round_trips += 1
        with source_errors(f"reading {self.shape.runs.name}", self._policy):
            values = {"zone": self._policy.timezone, **reading.filters, **parameters}
            if in_one_call:
                row = raw_row_in_one_call(self._session, statement, values)
            else:
                cursor = self._session.cursor(binary=True)
                cursor.execute(statement, values, prepare=True)
                row = raw_row(cursor)
        return RawRows(buffers=row, shape=self.shape, zone=self._policy.timezone, counts=counts, details=details)

    def _result(
        self,
        reading: Reading,
        rows: RunRows,
        *,
        rows_read: int,
        missing: tuple[str, ...],
        anomalies: Mapping[str, int],
    ) -> RunsRead:
        return RunsRead(
            runs=rows.frame(),
            rows_read=rows_read,
            ms=reading.ms,
            newest_started_at=reading.newest,
            missing_remembered=missing,
            anomalies=anomalies,
            notes=(*self.shape.notes, *reading.notes),
            round_trips=reading.round_trips,
        )

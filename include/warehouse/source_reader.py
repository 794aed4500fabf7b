"""
Reads Hub Plus' sync runs and credentials into the frames of `include.sync_health.frames`.

Read only, and at a cost that follows the window, not the table: the window's first key is found by bisection
(`id_window`), then one range of the primary key is read. Exactness: a run is in the frame when the time from its
``started_at`` to its end, plus the lateness of its commit, is within ``source.id_slack``, or when it was remembered
as open, or, without that memory, when it started within ``source.open_lookback``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import pandas as pd

from include.sync_health.errors import RequestError
from include.sync_health.frames import CREDENTIAL_COLUMNS, ENVIRONMENTS
from include.sync_health.policy import SourcePolicy
from include.warehouse.binary_arrays import raw_row
from include.warehouse.id_window import GALLOP_STEPS, Block, find_bound
from include.warehouse.run_rows import CLOCK_TOLERANCE, RunRows, moment
from include.warehouse.source_schema import SourceShape, describe_source
from include.warehouse.source_session import Session, open_session, source_errors
from include.warehouse.source_statements import SourceStatements
from include.warehouse.source_time import raw_bound

FIRST_KEY, LAST_KEY = -(2**63), 2**63 - 1
"""The ends of int8: no bound."""

END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)

SURVEY_STEPS = [*GALLOP_STEPS, 2**62]
"""The last step is past any table's start: the block at its smallest key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsRead:
    """
    What a read of runs returned.

    Args:
        runs: `RUN_COLUMNS`, by ``finished_at`` and then ``sync_id``, rows that are not finished last. ``status``,
            ``completed_at`` and ``finished_at`` are as the source has them now: at an older ``as_of``, a run that
            finished after it is among the open ones, and its ``finished_at`` is later than ``as_of``.
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


@dataclass(slots=True)
class _Reading:
    """What one read has found out on its way."""

    finished_from: datetime
    as_of: datetime
    filters: dict[str, Any]
    began: float = field(default_factory=perf_counter)
    now: datetime = END_OF_TIME
    newest: datetime | None = None
    round_trips: int = 0
    notes: list[str] = field(default_factory=list)


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

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
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
    ) -> RunsRead:
        """
        Return the runs finished in ``(finished_from, as_of]`` and those open at ``as_of``.

        Args:
            finished_from, as_of: aware.
            remembered_open: ids that were open before: they are read by primary key and all returned, finished or
                not. None: there is no memory, and open runs are looked for back to ``source.open_lookback``.
            credential_ids: only runs of these credentials; an empty sequence means none.
            environment: only runs of credentials of this environment.

        Raises:
            RequestError: a naive time, an empty window, or an id that is none.
            SourceError: ``timeout``, ``interrupted``, ``permission`` and the like.
        """
        reading = self._begin(finished_from, as_of, credential_ids, environment)
        oldest_start = finished_from - self._policy.id_slack
        if remembered_open is None:
            oldest_start = min(oldest_start, self._oldest_open(as_of) - self._policy.id_slack)
        rows = self._read_window(reading, oldest_start, only_failed=False)
        rows_read = len(rows)
        is_open, is_abandoned = rows.open_at(as_of), rows.open_at(as_of, started_before=self._oldest_open(as_of))
        is_wanted = rows.finished_in(finished_from, as_of) | (is_open & ~is_abandoned)
        # Rows that are neither are still told of where they are odd, unless they only fell into the wide bounds.
        is_told = is_wanted | is_abandoned | np.isnat(rows.completed) | (rows.started > moment(as_of))
        anomalies = rows.only(is_told).anomalies(now=reading.now)
        wanted = rows.only(is_wanted)
        missing: tuple[str, ...] = ()
        abandoned = set(rows.ids[is_abandoned].tolist())
        if remembered_open:
            remembered, missing = self._read_remembered(reading, remembered_open)
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
        reading = self._begin(finished_from, as_of, credential_ids, environment)
        rows = self._read_window(reading, finished_from - self._policy.id_slack, only_failed=True)
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
        with source_errors("reading credentials", self._policy):
            cursor = self._session.execute(self._statements.credentials, {"zone": self._policy.timezone})
            rows = cursor.fetchall()
        frame = pd.DataFrame.from_records(
            rows, columns=[column.name for column in cursor.description or ()], coerce_float=False
        )
        for column in ("credential_id", "company_id"):
            values = (
                frame[column].astype(str).astype(object) if self._is_uuid(column) else frame[column].astype(np.int64)
            )
            frame[column] = values
        frame["company_name"] = frame["company_name"].astype(object).where(frame["company_name"].notna(), None)
        environment = frame["environment"].where(frame["environment"].isin(ENVIRONMENTS), "unknown")
        frame["environment"] = pd.Categorical(environment, categories=list(ENVIRONMENTS))
        for column in ("token_expires_at", "last_connection_attempt", "created_at", "updated_at"):
            frame[column] = pd.to_datetime(frame[column], utc=True).astype("datetime64[us, UTC]")
        for column in ("has_client_id", "has_client_secret"):
            frame[column] = frame[column].astype(bool)
        return frame[list(CREDENTIAL_COLUMNS)]

    def _is_uuid(self, column: str) -> bool:
        source_column = "id" if column == "credential_id" else column
        return self.shape.credentials.types[source_column] == "uuid"

    def _oldest_open(self, as_of: datetime) -> datetime:
        return as_of - self._policy.open_lookback

    def _begin(
        self, finished_from: datetime, as_of: datetime, credential_ids: Sequence[str] | None, environment: str | None
    ) -> _Reading:
        for name, value in (("finished_from", finished_from), ("as_of", as_of)):
            if value.tzinfo is None:
                raise RequestError(f"{name} {value.isoformat()} has no time zone; give one, such as +00:00")
        if finished_from >= as_of:
            raise RequestError(
                f"the window ({finished_from.isoformat()}, {as_of.isoformat()}] is empty; its start must be earlier"
            )
        filters: dict[str, Any] = {}
        if credential_ids is not None:
            filters["credentials"] = [_key_of(text, self.shape.credential_id_key) for text in credential_ids]
            if None in filters["credentials"]:
                raise RequestError(
                    f"credential ids {', '.join(credential_ids)}: the source's are {self.shape.credential_id_key}s"
                )
        if environment is not None:
            filters["environment"] = environment
        return _Reading(finished_from, as_of, filters)

    def _read_window(self, reading: _Reading, oldest_start: datetime, *, only_failed: bool) -> RunRows:
        low, high = self._range(reading, oldest_start)
        limit = max(reading.now, reading.as_of) + CLOCK_TOLERANCE
        parameters = {
            "low": low,
            "high": high,
            "from_raw": self._raw("completed_at", reading.finished_from, towards="past"),
            "as_of_raw": self._raw("started_at", reading.as_of, towards="future"),
            "future_raw": self._raw("started_at", limit, towards="future"),
        }
        return self._read_rows(reading, "window", parameters, only_failed=only_failed)

    def _read_remembered(self, reading: _Reading, ids: Sequence[str]) -> tuple[RunRows, tuple[str, ...]]:
        keys = {text: _key_of(text, self.shape.run_key) for text in dict.fromkeys(ids)}
        # An id of the wrong kind is one from before the source was rebuilt: its row is gone.
        wanted = [key for key in keys.values() if key is not None]
        rows = self._read_rows(reading, "keys", {"keys": wanted}, only_failed=False)
        there = {str(value) for value in rows.ids}
        missing = [text for text, key in keys.items() if key is None or str(key) not in there]
        if missing and reading.filters:
            # Filtered out is not gone.
            parameters = {"keys": [keys[text] for text in missing if keys[text] is not None]}
            there |= {row[0] for row in self._fetch(reading, self._statements.existing, parameters)}
            missing = [text for text in missing if str(keys[text]) not in there]
        return rows, tuple(missing)

    def _range(self, reading: _Reading, oldest_start: datetime) -> tuple[object, object]:
        """Return the range to read, low included, high excluded: keys, or raw starts where no key is searched."""
        newest_needed = reading.as_of + self._policy.id_slack
        if self.shape.search != "id":
            reading.now, reading.newest = self._fetch(reading, self._statements.clock, self._clock(reading))[0]
            is_now = reading.newest is None or newest_needed >= reading.newest
            return (
                self._raw("started_at", oldest_start, towards="past"),
                self._raw("started_at", END_OF_TIME if is_now else newest_needed, towards="future"),
            )
        survey = self._fetch(reading, self._statements.survey, {**self._clock(reading), "steps": SURVEY_STEPS})
        reading.now, reading.newest = survey[0][4:]
        known = [Block(*row[:4]) for row in survey if row[1] is not None]
        if not known:
            return FIRST_KEY, LAST_KEY
        end = max(block.last_id for block in known)
        high = LAST_KEY
        if reading.newest is not None and newest_needed < reading.newest:
            high = self._bound(reading, known, newest_needed, side="upper", scan_end=end)
        low = self._bound(reading, known, oldest_start, side="lower", scan_end=min(end, high))
        return low, high

    def _bound(
        self, reading: _Reading, known: list[Block], at: datetime, *, side: Literal["lower", "upper"], scan_end: int
    ) -> int:
        def probe(pivots: Sequence[int]) -> list[Block]:
            parameters = {**self._clock(reading), "pivots": list(pivots)}
            rows = self._fetch(reading, self._statements.blocks, parameters)
            blocks = [Block(*row) for row in rows if row[1] is not None]
            known.extend(blocks)
            return blocks

        target = self._raw("started_at", at, towards="past" if side == "lower" else "future")
        bound = find_bound(probe, target=target, side=side, known=tuple(known), scan_end=scan_end)
        if bound.is_widened:
            reading.notes.append(
                f"{self.shape.runs.name}: starts do not follow the keys around {at.isoformat()}; "
                "a wider range was read to be safe"
            )
        if bound.key is None:
            return FIRST_KEY if side == "lower" else LAST_KEY
        return bound.key

    def _read_rows(
        self, reading: _Reading, rows: str, parameters: Mapping[str, object], *, only_failed: bool
    ) -> RunRows:
        statement = self._statements.runs(
            rows,
            only_failed=only_failed,
            by_credential="credentials" in reading.filters,
            by_environment="environment" in reading.filters,
        )
        reading.round_trips += 1
        with source_errors(f"reading {self.shape.runs.name}", self._policy):
            cursor = self._session.cursor(binary=True)
            cursor.execute(statement, {"zone": self._policy.timezone, **reading.filters, **parameters}, prepare=True)
            return RunRows.decoded(raw_row(cursor), shape=self.shape)

    def _fetch(self, reading: _Reading, statement: bytes, parameters: Mapping[str, object]) -> list[Any]:
        reading.round_trips += 1
        with source_errors(f"searching {self.shape.runs.name}", self._policy):
            return self._session.cursor(binary=True).execute(statement, parameters, prepare=True).fetchall()

    def _clock(self, reading: _Reading) -> dict[str, object]:
        return {"zone": self._policy.timezone, "as_of": reading.as_of}

    def _raw(self, column: str, at: datetime, *, towards: Literal["past", "future"]) -> datetime:
        is_aware = self.shape.runs.is_aware(column)
        return raw_bound(at, is_aware=is_aware, zone=self._policy.timezone, towards=towards)

    def _result(
        self,
        reading: _Reading,
        rows: RunRows,
        *,
        rows_read: int,
        missing: tuple[str, ...],
        anomalies: Mapping[str, int],
    ) -> RunsRead:
        return RunsRead(
            runs=rows.frame(),
            rows_read=rows_read,
            ms=(perf_counter() - reading.began) * 1_000,
            newest_started_at=reading.newest,
            missing_remembered=missing,
            anomalies=anomalies,
            notes=(*self.shape.notes, *reading.notes),
            round_trips=reading.round_trips,
        )


def _key_of(text: str, kind: Literal["integer", "uuid"]) -> int | uuid.UUID | None:
    """Return the key that an id's text means, None when it is no key of that kind."""
    try:
        if kind == "uuid":
            return uuid.UUID(text)
        key = int(text)
    except ValueError:
        return None
    return key if FIRST_KEY <= key <= LAST_KEY else None

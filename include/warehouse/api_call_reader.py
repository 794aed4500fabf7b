"""
Reads the application's table of API calls, by whole hours, in chunks that fit into memory.

Cost follows the window: an index on the time of the call is used where there is one, else the first key of the window is
found by bisection (`id_window`). Nothing but the six columns of `docs/api-calls.md` is read, and no raw endpoint leaves
this module: what it returns is summed by hour and template.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from psycopg import sql

from include.sync_health.api_calls import collapse, no_hours, summed
from include.sync_health.endpoints import MOST_ENDPOINTS, OTHER, most_frequent
from include.sync_health.errors import SourceError
from include.sync_health.policy import SourcePolicy
from include.warehouse.api_call_schema import CALL_TABLE, CallTable
from include.warehouse.binary_arrays import raw_row_in_one_call
from include.warehouse.id_window import BLOCK_ROWS, TELLING_ROWS, Block, find_bound
from include.warehouse.packed_columns import Kind, packed, unpacked, unpacked_times
from include.warehouse.run_search import SURVEY_STEPS
from include.warehouse.source_keys import FIRST_KEY
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_statements import FIRST_PLAUSIBLE
from include.warehouse.source_time import instant, raw_bound, require_aware

ROWS_PER_READ = 100_000
"""Calls that are in memory at a time, where they are read by id."""

ENDPOINT_LIMIT = 500
"""Characters of an endpoint that leave the source: more than any path of ServiceTitan's that tells something."""

HOUR = timedelta(hours=1)

NO_STATUS = -1
"""What stands for NULL in a column of statuses; a negative status is no status either."""

NO_UUID = "00000000-0000-0000-0000-000000000000"
"""What stands for NULL in a column of UUIDs."""

NO_TIME = -1_000_000
"""What stands for NULL in a column of response times, in microseconds: a negative one is cut at less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsRead:
    """
    What a read of calls returned.

    Args:
        hours: `HOURLY_COLUMNS`: all calls made in ``[since, until)``.
        rows_read: rows that left the database for it.
        ms: milliseconds it took.
        anomalies: odd rows by kind: ``negative_time`` and ``odd_status`` (counted as not known), ``no_time``,
            ``no_status``, ``no_credential``, ``no_endpoint``, ``other_endpoint`` (beyond `MOST_ENDPOINTS`), ``in_future``
            (left out).
        notes: sentences for people about how it was read.
    """

    hours: pd.DataFrame
    rows_read: int
    ms: float
    anomalies: Mapping[str, int]
    notes: tuple[str, ...]


def read_calls(
    session: Session,
    policy: SourcePolicy,
    *,
    table: CallTable,
    since: datetime,
    until: datetime,
    late: timedelta,
    known: Sequence[str] = (),
    rows_per_read: int = ROWS_PER_READ,
) -> CallsRead:
    """
    Return the calls that were made in ``[since, until)``, by hour.

    Args:
        session: on the source.
        policy: names the connection, the time zone and the limits.
        table: as `describe_calls` found it.
        since, until: aware; whole hours are whole only where ``since`` is the beginning of one.
        late: how late after a call its row may have been written, where keys are searched.
        known: endpoints told before, which keep their names.
        rows_per_read: about how many at a time.

    Raises:
        SourceError: what `source_errors` maps.
        RequestError: a time is naive.
    """
    require_aware(since=since, until=until)
    began = perf_counter()
    reader = _CallReader(session, policy, table=table, since=since, until=until)
    parts = [
        part
        for part in (reader.by_id(late=late, limit=rows_per_read) if table.search == "id" else reader.by_time())
        if len(part)
    ]
    hours = summed(pd.concat(parts, ignore_index=True)) if parts else no_hours()
    hours = _limited(hours, known=known, anomalies=reader.anomalies)
    return CallsRead(
        hours=hours,
        rows_read=reader.rows_read,
        ms=(perf_counter() - began) * 1_000,
        anomalies={kind: number for kind, number in sorted(reader.anomalies.items()) if number},
        notes=(*table.notes, *reader.notes),
    )


def _limited(hours: pd.DataFrame, *, known: Sequence[str], anomalies: Counter[str]) -> pd.DataFrame:
    """Return hours that name at most `MOST_ENDPOINTS` endpoints, those of all chunks together."""
    calls = hours.groupby("endpoint", observed=True)["requests"].sum()
    if len(calls) <= MOST_ENDPOINTS:
        return hours
    kept = most_frequent({str(name): int(number) for name, number in calls.items()}, known=known)
    is_kept = hours["endpoint"].isin(kept)
    anomalies["other_endpoint"] += int(hours.loc[~is_kept, "requests"].sum())
    return summed(hours.assign(endpoint=hours["endpoint"].where(is_kept, OTHER)))


class _CallReader:
    """One read on one session; counts on its way."""

    def __init__(
        self, session: Session, policy: SourcePolicy, *, table: CallTable, since: datetime, until: datetime
    ) -> None:
        self._session, self._policy, self._table = session, policy, table
        self._since, self._until = since, until
        self._name = sql.Identifier(table.schema, table.table.name)
        self._called = sql.Identifier(table.called_at)
        self._at = instant(table.called_at, is_aware=table.is_aware, zone=policy.timezone)
        self._credential_kind: Kind = "uuid" if table.credential_type == "uuid" else "int8"
        self.rows_read = 0
        self.anomalies: Counter[str] = Counter()
        self.notes: list[str] = []

    def by_time(self) -> Iterator[pd.DataFrame]:
        """Yield the calls hour by hour, by the index on their time; all at once where there is none."""
        edges = [self._since]
        while self._table.search == "called_at" and edges[-1] + HOUR < self._until:
            edges.append(edges[-1] + HOUR)
        within = sql.SQL("{called} >= %(low)s AND {called} <= %(high)s").format(called=self._called)
        statement = self._statement(within, limit=None)
        for first, last in zip(edges, [*edges[1:], self._until], strict=True):
            frame, _ = self._read(
                statement, first, last, low=self._raw(first, towards="past"), high=self._raw(last, towards="future")
            )
            yield frame
        self.anomalies["in_future"] += self._future()

    def by_id(self, *, late: timedelta, limit: int) -> Iterator[pd.DataFrame]:
        """Yield the calls chunk by chunk, by their keys, from the first that may be of the window."""
        after = self._first_key(self._since - late)
        statement = self._statement(sql.SQL("id > %(after)s"), limit=limit)
        while True:
            frame, last_key = self._read(statement, self._since, self._until, after=after)
            yield frame
            if last_key is None:
                return
            after = last_key

    def _read(
        self, statement: bytes, first: datetime, last: datetime, **bounds: object
    ) -> tuple[pd.DataFrame, int | None]:
        """Return the calls of ``[first, last)`` among some rows, by hour, and the last key of those rows."""
        values = {**bounds, "zone": self._policy.timezone, "first": first, "last": last, "future": self._until}
        with source_errors(f"reading {CALL_TABLE}", self._policy):
            raw = raw_row_in_one_call(self._session, statement, values)
        count, last_key, future, untimed, at, credential, endpoint, status, micros = raw
        rows = _number(count)
        self.rows_read += rows
        self.anomalies["in_future"] += _number(future)
        self.anomalies["no_time"] += _number(untimed)
        times = unpacked_times(at, name=self._table.called_at)
        names = [] if not len(times) else bytes(endpoint or b"").decode("utf-8", errors="replace").split("\n")
        if len(names) != len(times):
            raise SourceError(f"column {self._table.endpoint}: {len(names)} values of {len(times)}", cause="invalid")
        frame = self._calls(
            times,
            unpacked(credential, self._credential_kind, name=self._table.credential, rows=len(times)),
            names,
            unpacked(status, "int8", name=self._table.status_code, rows=len(times)),
            unpacked(micros, "int8", name=self._table.response_time, rows=len(times)),
        )
        return frame, (_number(last_key) if rows else None)

    def _calls(self, times: Any, credentials: Any, names: list[str], statuses: Any, micros: Any) -> pd.DataFrame:
        """Return `HOURLY_COLUMNS` of rows as they arrived; what is odd is counted, and not known."""
        is_unknown = credentials == (NO_UUID if credentials.dtype.kind == "O" else FIRST_KEY)
        is_odd = (statuses != NO_STATUS) & (statuses != 0) & ((statuses < 100) | (statuses > 599))
        is_negative = (micros < 0) & (micros != NO_TIME)
        endpoints = np.array(names, dtype=object)
        for kind, found in (
            ("no_credential", is_unknown),
            ("no_endpoint", endpoints == ""),
            ("no_status", statuses == NO_STATUS),
            ("odd_status", is_odd),
            ("no_response_time", micros == NO_TIME),
            ("negative_time", is_negative),
        ):
            self.anomalies[kind] += int(np.count_nonzero(found))
        ids = np.where(is_unknown, "", credentials.astype(str).astype(object))
        return collapse(
            pd.DataFrame(
                {
                    "at": times,
                    "credential_id": ids.astype(object),
                    "endpoint": endpoints,
                    "status_code": statuses,
                    "response_ms": np.where(micros < 0, np.nan, micros / 1_000),
                    # A call that got no answer is recorded with status 0.
                    "errors": ((statuses == 0) | ((statuses >= 400) & ~is_odd)).astype(np.int64),
                }
            ),
            most_endpoints=len(names) + 1,
        )

    def _statement(self, condition: sql.Composable, *, limit: int | None) -> bytes:
        table = self._table
        credential = sql.Identifier(table.credential)
        known = (
            sql.SQL("coalesce({}, {}::uuid)").format(credential, sql.SQL(f"'{NO_UUID}'"))
            if self._credential_kind == "uuid"
            else sql.SQL("coalesce({}::int8, {})").format(credential, sql.SQL(str(FIRST_KEY)))
        )
        inside = sql.SQL("FILTER (WHERE at >= %(first)s AND at < %(last)s)")
        inner = sql.SQL(
            "SELECT id, {at}::timestamptz AS at, {credential} AS credential,"
            " replace(left(coalesce({endpoint}::text, ''), {most}), E'\\n', ' ') AS endpoint,"
            " coalesce({status}::int8, {no_status}) AS status,"
            " CASE WHEN {time} IS NULL THEN {no_time}"
            " ELSE round(least(greatest({time}::float8, -0.5), 1e9) * 1000)::int8 END AS micros"
            " FROM {table} WHERE {condition}{order}"
        ).format(
            at=self._sane(),
            credential=known,
            endpoint=sql.Identifier(table.endpoint),
            most=sql.SQL(str(ENDPOINT_LIMIT)),
            status=sql.Identifier(table.status_code),
            no_status=sql.SQL(str(NO_STATUS)),
            time=sql.Identifier(table.response_time),
            no_time=sql.SQL(str(NO_TIME)),
            table=self._name,
            condition=condition,
            order=sql.SQL("" if limit is None else f" ORDER BY id LIMIT {limit:d}"),
        )
        return (
            sql.SQL(
                "SELECT count(*), {last_key}, count(*) FILTER (WHERE at > %(future)s::timestamptz + interval '5 minutes'),"
                " count(*) FILTER (WHERE at IS NULL), {columns} FROM ({inner}) AS x"
            )
            .format(
                last_key=sql.SQL("max(id)::int8" if limit is not None else "NULL::int8"),
                columns=sql.SQL(", ").join(
                    sql.SQL("{} {}").format(column, inside)
                    for column in (
                        packed(sql.Identifier("at"), "timestamptz"),
                        packed(sql.Identifier("credential"), self._credential_kind),
                        sql.SQL("string_agg(endpoint, E'\\n')"),
                        packed(sql.Identifier("status"), "int8"),
                        packed(sql.Identifier("micros"), "int8"),
                    )
                ),
                inner=inner,
            )
            .as_bytes()
        )

    def _sane(self) -> sql.Composed:
        """Return SQL for the time of the call, NULL for what is none."""
        return sql.SQL("CASE WHEN {} BETWEEN {} AND '2200-01-01' THEN {} END").format(
            self._called, sql.SQL(f"'{FIRST_PLAUSIBLE}'"), self._at
        )

    def _future(self) -> int:
        """Return how many calls lie in the future, by the index; at most a thousand are counted."""
        statement = sql.SQL("SELECT count(*) FROM (SELECT FROM {} WHERE {} > %(at)s LIMIT 1000) AS x").format(
            self._name, self._called
        )
        at = self._raw(self._until + timedelta(minutes=5), towards="future")
        with source_errors(f"reading {CALL_TABLE}", self._policy):
            row = self._session.execute(statement, {"at": at}).fetchone()
        return int(row[0]) if row else 0

    def _first_key(self, at: datetime) -> int:
        """Return a key after which all calls of ``at`` and later come."""
        block = sql.SQL(
            "SELECT min(id)::int8 AS first_id, max(id)::int8 AS last_id,"
            " CASE WHEN count(*) FILTER (WHERE {plausible}) >= {least} THEN"
            " percentile_disc(0.5) WITHIN GROUP (ORDER BY {called}) FILTER (WHERE {plausible}) END AS median"
            " FROM (SELECT id, {called} FROM {table} WHERE id >= q.pivot ORDER BY id LIMIT {rows}) AS x"
        ).format(
            plausible=sql.SQL("{called} > {first} AND {called} < %(latest)s").format(
                called=self._called, first=sql.SQL(f"'{FIRST_PLAUSIBLE}'")
            ),
            least=sql.SQL(str(TELLING_ROWS)),
            called=self._called,
            table=self._name,
            rows=sql.SQL(str(BLOCK_ROWS)),
        )
        latest = self._raw(self._until + timedelta(days=1), towards="future")
        survey = sql.SQL(
            "SELECT q.pivot, b.first_id, b.last_id, b.median FROM (SELECT DISTINCT"
            " greatest((SELECT min(id) FROM {table}), (SELECT max(id) FROM {table}) - step) AS pivot"
            " FROM unnest(%(steps)s::int8[]) AS step) AS q CROSS JOIN LATERAL ({block}) AS b"
        ).format(table=self._name, block=block)
        blocks = sql.SQL(
            "SELECT q.pivot, b.first_id, b.last_id, b.median"
            " FROM unnest(%(pivots)s::int8[]) AS q (pivot) CROSS JOIN LATERAL ({block}) AS b"
        ).format(block=block)

        def fetch(statement: sql.Composed, **values: object) -> list[Block]:
            with source_errors(f"searching {CALL_TABLE}", self._policy):
                rows = self._session.execute(statement, {"latest": latest, **values}).fetchall()
            return [Block(*row) for row in rows if row[1] is not None]

        known = fetch(survey, steps=SURVEY_STEPS)
        if not known:
            return FIRST_KEY
        bound = find_bound(
            lambda pivots: fetch(blocks, pivots=list(pivots)),
            target=self._raw(at, towards="past"),
            side="lower",
            known=known,
            scan_end=max(block.last_id for block in known),
        )
        if bound.is_widened:
            self.notes.append(f"{CALL_TABLE}: times do not follow the keys; a wider range was read to be safe")
        return FIRST_KEY if bound.key is None else bound.key - 1

    def _raw(self, at: datetime, *, towards: Any) -> datetime:
        return raw_bound(at, is_aware=self._table.is_aware, zone=self._policy.timezone, towards=towards)


def _number(value: bytes | None) -> int:
    """Return an int8 in PostgreSQL's binary form; NULL is 0."""
    return 0 if value is None else int.from_bytes(value, "big", signed=True)


def hours_between(since: datetime, until: datetime) -> list[datetime]:
    """Return the beginnings of the UTC hours that ``[since, until)`` touches; aware."""
    first = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    found = []
    while first < until:
        found.append(first)
        first += HOUR
    return found

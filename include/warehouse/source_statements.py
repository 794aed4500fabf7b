"""
The statements that read the source, composed once per session from the shape that was found.

Every identifier comes from `SourceShape`, whose names are those of fixed lists; every value is a parameter.
No statement selects a secret; no statement selects a column that the frames do not need.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

from psycopg import sql

from include.sync_health.frames import ERROR_TEXT_LIMIT
from include.warehouse.id_window import BLOCK_ROWS, TELLING_ROWS
from include.warehouse.packed_columns import packed, packed_groups
from include.warehouse.run_codes import detail_columns, detail_texts, packed_code
from include.warehouse.source_schema import CREDENTIAL_OPTIONAL, SECRETS, KeyType, SourceShape, count_types
from include.warehouse.source_time import SANE_FROM, SANE_UNTIL, UTC_NAMES, instant, is_bare

NEWEST_RANK = 3
"""The newest ``started_at`` told is the third largest of the newest rows: two future stamps do not mislead it."""

FIRST_PLAUSIBLE = "2000-01-01"
"""Older stamps are artefacts: ServiceTitan was founded in 2012."""

FINISHED_BADLY = ("failed", "cancelled")
"""Statuses whose rows count as finished even without ``completed_at``."""

OLDEST_SHARE = 0.1
"""Among this share of the first block's rows the log begins: so many backdated imports do not mislead it."""

NULL_COUNTS = {"int4": "-2147483648", "int8": "-9223372036854775808"}
"""What stands for NULL in a column of counts: the smallest number of its type. A count below zero is told as it is."""

SANE_YEARS = f"'{SANE_FROM}' AND '{SANE_UNTIL}'"


class SourceStatements:
    """
    The statements for one shape. Parameters by name:

        zone        text         source.timezone
        as_of       timestamptz  the window's end
        steps       int8[]       distances from the newest key (`survey`)
        pivots      int8[]       keys (`blocks`)
        low, high   as searched  the range: keys or raw started_at; low included, high excluded
        from_raw    raw          finished later than this (`days`: no earlier); of completed_at's type
        to_raw      raw          finished earlier than this (`days`); of completed_at's type
        start_from_raw, start_to_raw  raw  started in this range, without an end (`days`); of started_at's type
        as_of_raw   raw          started no later than this; of started_at's type
        future_raw  raw          a stamp beyond it lies in the future; of started_at's type
        keys        as the key   rows by primary key
        credentials as the key   filter by credential
        environment text         filter by environment
    """

    def __init__(self, shape: SourceShape, *, zone: str) -> None:
        self._shape = shape
        self._zone = zone
        self._table = sql.Identifier(shape.schema, shape.runs.name)
        self._credentials = sql.Identifier(shape.schema, shape.credentials.name)
        self._runs: dict[tuple[str, bool, bool, bool, tuple[str, ...], tuple[str, ...]], bytes] = {}

    @cached_property
    def survey(self) -> bytes:
        """Blocks at distances from the newest key: pivot, first id, last id, median; with it server time and newest."""
        return (
            sql.SQL(
                "SELECT q.pivot, b.first_id, b.last_id, b.median, now(), {newest} FROM ("
                " SELECT DISTINCT greatest((SELECT min(id) FROM {table}), (SELECT max(id) FROM {table}) - step) AS pivot"
                " FROM unnest(%(steps)s::int8[]) AS step) AS q CROSS JOIN LATERAL ({block}) AS b"
            )
            .format(newest=self._newest("id"), table=self._table, block=self._block)
            .as_bytes()
        )

    @cached_property
    def blocks(self) -> bytes:
        """Blocks at given pivots: pivot, first id, last id, median of the plausible started_at in raw form."""
        return (
            sql.SQL(
                "SELECT q.pivot, b.first_id, b.last_id, b.median"
                " FROM unnest(%(pivots)s::int8[]) AS q (pivot) CROSS JOIN LATERAL ({block}) AS b"
            )
            .format(block=self._block)
            .as_bytes()
        )

    @cached_property
    def clock(self) -> bytes:
        """Server time and the newest plausible started_at, where no keys are surveyed."""
        by_key = self._shape.run_key == "integer" and self._shape.search != "scan"
        return sql.SQL("SELECT now(), {}").format(self._newest("id" if by_key else "started_at")).as_bytes()

    @cached_property
    def existing(self) -> bytes:
        """Which of some keys exist, as text."""
        return sql.SQL("SELECT id::text FROM {} WHERE {}").format(self._table, self._by_keys).as_bytes()

    @cached_property
    def oldest(self) -> bytes:
        """
        The oldest of the first rows by key, up to `OLDEST_SHARE` of those with a plausible start: started_at, and the
        instant by which the row belongs to a day; oldest first. By time where the key does not rise with it.
        """
        by_key = self._shape.run_key == "integer" and self._shape.search != "scan"
        return (
            sql.SQL(
                "SELECT started, belongs FROM (SELECT {started}::timestamptz AS started,"
                " coalesce({completed}, {started})::timestamptz AS belongs,"
                " row_number() OVER (ORDER BY {started}) AS place, count(*) OVER () AS rows"
                " FROM (SELECT started_at, completed_at FROM {table} {known} ORDER BY {order} LIMIT {limit}) AS x"
                " WHERE {plausible}) AS y WHERE place <= ceil(rows * {share}) ORDER BY place"
            )
            .format(
                share=sql.SQL(str(OLDEST_SHARE)),
                started=self._time("started_at"),
                completed=self._sane_time("completed_at"),
                plausible=self._plausible,
                table=self._table,
                known=sql.SQL("") if by_key else sql.SQL("WHERE ") + self._plausible,
                order=sql.Identifier("id" if by_key else "started_at"),
                limit=sql.SQL(str(BLOCK_ROWS)),
            )
            .as_bytes()
        )

    @cached_property
    def older_successes(self) -> bytes:
        """
        The newest completed_at up to ``as_of`` of each of ``credentials``: credential, time.

        By the foreign key's index: LATERAL asks for one credential at a time, and the FILTER keeps the planner from
        walking an index on completed_at in search of the maximum. Without that index, over the range of the log
        given by ``low`` and ``high`` (of `_range_of`).
        """
        credential = sql.Identifier(self._shape.credential_key)
        newest = sql.SQL(
            "max({completed}) FILTER (WHERE status::text = 'completed' AND completed_at BETWEEN {sane}"
            " AND {completed} <= %(as_of)s)::timestamptz"
        ).format(completed=self._time("completed_at"), sane=sql.SQL(SANE_YEARS))
        if self._shape.is_credential_indexed:
            query = sql.SQL(
                "SELECT q.id, x.at FROM unnest(%(credentials)s::{kind}[]) AS q (id)"
                " CROSS JOIN LATERAL (SELECT {newest} AS at FROM {table} WHERE {credential} = q.id) AS x"
            )
        else:
            query = sql.SQL(
                "SELECT {credential}, {newest} FROM {table} WHERE {range} AND {credential} = ANY (%(credentials)s::{kind}[])"
                " GROUP BY {credential}"
            )
        return query.format(
            credential=credential,
            newest=newest,
            table=self._table,
            kind=sql.SQL("int8" if self._shape.credential_id_key == "integer" else "uuid"),
            range=self._range_of("started_at" if self._shape.search == "completed_at" else self._shape.search),
        ).as_bytes()

    def runs(
        self,
        rows: str,
        *,
        only_failed: bool,
        by_credential: bool,
        by_environment: bool,
        counts: Sequence[str] = (),
        details: Sequence[str] = (),
    ) -> bytes:
        """
        Return the statement of one row of packed columns: id and credential (`packed_groups`), code, started, completed,
        late, texts.

        ``rows`` is ``window`` (the range, prefiltered with `from_raw`, `as_of_raw` and `future_raw`: a superset
        of the rows finished in the window or open at its end), ``days`` (the range, prefiltered likewise for the rows
        that belong to a range of days) or ``keys`` (rows by primary key). ``counts`` names columns whose numbers
        follow as further columns, ``details`` columns of JSON, of which two more columns follow (`detail_columns`).
        Two of them hold fewer rows, in the same order: ``late`` (what stands in for completed_at) those failed or
        cancelled without completed_at; ``texts`` (JSON) those failed with a text.
        """
        key = (rows, only_failed, by_credential, by_environment, tuple(counts), tuple(details))
        if key not in self._runs:
            chosen = {"window": self._window, "days": self._days, "keys": self._by_keys}
            conditions: list[sql.Composable] = [chosen[rows]]
            if only_failed:
                conditions.append(sql.SQL("status::text = 'failed'"))
            credential = sql.Identifier(self._shape.credential_key)
            if by_credential:
                kind = "int8" if self._shape.credential_id_key == "integer" else "uuid"
                conditions.append(sql.SQL("{} = ANY (%(credentials)s::{}[])").format(credential, sql.SQL(kind)))
            if by_environment:
                conditions.append(
                    sql.SQL("{} IN (SELECT id FROM {} WHERE environment::text = %(environment)s)").format(
                        credential, self._credentials
                    )
                )
            query = self._run_columns(counts, details) + sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
            self._runs[key] = query.as_bytes()
        return self._runs[key]

    @cached_property
    def credential_ids(self) -> bytes:
        """The ids of all credentials, as one packed column."""
        kind = cast("KeyType", self._shape.credentials.types["id"])  # `describe_source` has checked it
        return sql.SQL("SELECT {} FROM {}").format(packed(sql.Identifier("id"), kind), self._credentials).as_bytes()

    def details(self, columns: Sequence[str]) -> bytes:
        """Return the statement of the details of rows by primary key, as far as they are there: id, texts (JSON)."""
        return (
            sql.SQL("SELECT {id}, {texts} FROM {table} WHERE {keys}")
            .format(id=self._key("id"), texts=detail_texts(columns), table=self._table, keys=self._by_keys)
            .as_bytes()
        )

    @cached_property
    def credentials(self) -> bytes:
        """Every credential with its company's name and, where it can be known, whether its secrets are present."""
        shape = self._shape
        table = shape.credentials
        times = [
            sql.SQL("{} AS {}").format(self._credential_time(column), sql.Identifier(column))
            for column in ("token_expires_at", *CREDENTIAL_OPTIONAL)
        ]
        query = sql.SQL(
            "SELECT k.id AS credential_id, k.company_id, c.{name} AS company_name, k.environment::text AS environment,"
            " coalesce(k.connection_status::text, '') AS connection_status, {times}, {presence}"
            " FROM {credentials} AS k LEFT JOIN {companies} AS c ON c.id = k.company_id"
        ).format(
            name=sql.Identifier(shape.company_name),
            times=sql.SQL(", ").join(times),
            presence=sql.SQL(", ").join(self._presence(secret) for secret in SECRETS),
            credentials=self._credentials,
            companies=sql.Identifier(shape.schema, shape.companies.name),
        )
        if shape.presence is not None and shape.presence is not table:
            query += sql.SQL(" LEFT JOIN {} AS p ON p.id = k.id").format(
                sql.Identifier(shape.schema, shape.presence.name)
            )
        return (query + sql.SQL(" ORDER BY k.id")).as_bytes()

    def _presence(self, secret: str) -> sql.Composed:
        alias = sql.Identifier(f"has_{secret}")
        if self._shape.presence is None:
            return sql.SQL("true AS {}").format(alias)
        if self._shape.presence is self._shape.credentials:
            # Evaluated in the database: the value itself does not leave it.
            return sql.SQL("coalesce(k.{} ~ '[^[:space:]]', false) AS {}").format(sql.Identifier(secret), alias)
        return sql.SQL("coalesce(p.{}, false) AS {}").format(alias, alias)

    def _credential_time(self, column: str) -> sql.Composable:
        table, name = self._shape.credentials, sql.SQL("k.") + sql.Identifier(column)
        if not table.has(column):
            return sql.SQL("NULL::timestamptz")
        at = name if table.is_aware(column) else sql.SQL("({} AT TIME ZONE %(zone)s::text)").format(name)
        return sql.SQL("CASE WHEN {} BETWEEN {} THEN {} END").format(name, sql.SQL(SANE_YEARS), at)

    @cached_property
    def _plausible(self) -> sql.Composed:
        """A condition on started_at; its limit is a subquery, so that it is computed once per statement."""
        limit: sql.Composable = sql.SQL("greatest(now(), %(as_of)s::timestamptz) + interval '1 day'")
        if not self._shape.runs.is_aware("started_at"):
            limit = sql.SQL("({}) AT TIME ZONE %(zone)s::text").format(limit)
        return sql.SQL("started_at > {} AND started_at < (SELECT {})").format(sql.SQL(f"'{FIRST_PLAUSIBLE}'"), limit)

    @cached_property
    def _block(self) -> sql.Composed:
        return sql.SQL(
            "SELECT min(id)::int8 AS first_id, max(id)::int8 AS last_id,"
            " CASE WHEN count(*) FILTER (WHERE {plausible}) >= {least} THEN"
            " percentile_disc(0.5) WITHIN GROUP (ORDER BY started_at) FILTER (WHERE {plausible}) END AS median"
            " FROM (SELECT id, started_at FROM {table} WHERE id >= q.pivot ORDER BY id LIMIT {limit}) AS x"
        ).format(
            plausible=self._plausible,
            least=sql.SQL(str(TELLING_ROWS)),
            table=self._table,
            limit=sql.SQL(str(BLOCK_ROWS)),
        )

    def _newest(self, order_by: str) -> sql.Composed:
        return sql.SQL(
            "(SELECT (array_agg({started} ORDER BY started_at DESC))[least({rank}, count(*))]::timestamptz FROM"
            " (SELECT started_at FROM {table} {known} ORDER BY {order} DESC LIMIT {limit}) AS x WHERE {plausible})"
        ).format(
            started=self._time("started_at"),
            rank=sql.SQL(str(NEWEST_RANK)),
            table=self._table,
            known=sql.SQL("WHERE ") + self._plausible if order_by == "started_at" else sql.SQL(""),
            order=sql.Identifier(order_by),
            limit=sql.SQL(str(BLOCK_ROWS)),
            plausible=self._plausible,
        )

    def _run_columns(self, counts: Sequence[str], details: Sequence[str]) -> sql.Composed:
        runs = self._shape.runs
        return sql.SQL(
            "SELECT {keys}, {code}, {started}, {completed},"
            " {late} FILTER (WHERE (completed_at BETWEEN {sane}) IS NOT TRUE AND status::text IN ({badly})),"
            " json_agg(left(error_message::text, {limit})) FILTER (WHERE error_message IS NOT NULL AND status::text = 'failed')"
            "{counts}{details} FROM {table}"
        ).format(
            counts=self._counts(counts),
            details=detail_columns(details),
            keys=sql.SQL(", ").join(
                packed_groups([sql.Identifier(key) for key in self._shape.keys], self._shape.key_types)
            ),
            code=packed(sql.SQL("({})::int2").format(packed_code(details)), "int2"),
            started=self._started_or_completed("started_at"),
            completed=self._started_or_completed("completed_at"),
            late=self._or_never(*(["updated_at"] if runs.has("updated_at") else []), "started_at"),
            sane=sql.SQL(SANE_YEARS),
            badly=sql.SQL(", ").join(sql.Literal(status) for status in FINISHED_BADLY),
            limit=sql.SQL(str(ERROR_TEXT_LIMIT)),
            table=self._table,
        )

    def _counts(self, columns: Sequence[str]) -> sql.Composable:
        kinds = count_types(self._shape, columns)
        values = [
            sql.SQL("coalesce({}::{kind}, ({})::{kind})").format(
                sql.Identifier(column), sql.SQL(NULL_COUNTS[kind]), kind=sql.SQL(kind)
            )
            for column, kind in zip(columns, kinds, strict=True)
        ]
        return sql.SQL("").join(sql.SQL(", ") + group for group in packed_groups(values, kinds))

    @property
    def _days(self) -> sql.Composed:
        # An end that is no time is none. All of it can be answered by an index on completed_at, where there is one.
        first, last = sql.Literal(SANE_FROM), sql.Literal(SANE_UNTIL)
        belonging = sql.SQL(
            "(completed_at >= %(from_raw)s AND completed_at < %(to_raw)s"
            " OR (completed_at IS NULL OR completed_at < {} OR completed_at > {})"
            " AND started_at >= %(start_from_raw)s AND started_at < %(start_to_raw)s)"
        ).format(first, last)
        if self._shape.search == "completed_at":
            return belonging
        return self._range_of(self._shape.search) + sql.SQL(" AND ") + belonging

    @staticmethod
    def _range_of(search: str) -> sql.Composed:
        column = sql.Identifier("id" if search == "id" else "started_at")
        return sql.SQL("{column} >= %(low)s AND {column} < %(high)s").format(column=column)

    @cached_property
    def _window(self) -> sql.Composed:
        ranges = {
            "id": "id >= %(low)s AND id < %(high)s",
            "started_at": "started_at >= %(low)s AND started_at < %(high)s",
            "scan": "started_at >= %(low)s AND started_at < %(high)s",
            "completed_at": "(completed_at > %(from_raw)s OR (completed_at IS NULL AND started_at >= %(low)s))",
        }
        return sql.SQL(
            "{} AND ((completed_at > %(from_raw)s OR completed_at IS NULL) AND started_at <= %(as_of_raw)s"
            " OR started_at > %(future_raw)s)"
        ).format(sql.SQL(ranges[self._shape.search]))

    @property
    def _by_keys(self) -> sql.Composed:
        kind = "int8" if self._shape.run_key == "integer" else "uuid"
        return sql.SQL("id = ANY (%(keys)s::{}[])").format(sql.SQL(kind))

    def _sane_time(self, column: str) -> sql.Composed:
        name = sql.Identifier(column)
        return sql.SQL("CASE WHEN {} BETWEEN {} THEN {} END").format(name, sql.SQL(SANE_YEARS), self._time(column))

    def _time(self, column: str) -> sql.Composable:
        return instant(column, is_aware=self._shape.runs.is_aware(column), zone=self._zone)

    def _key(self, column: str) -> sql.Composable:
        return packed(sql.Identifier(column), self._shape.key_type(column))

    def _started_or_completed(self, column: str) -> sql.Composed:
        """Return a packed column of a time, ``infinity`` where it is not known, or is no time."""
        is_aware = self._shape.runs.is_aware(column)
        if not is_bare(is_aware=is_aware, zone=self._zone):
            return self._or_never(column)
        # What is no time is told by whoever decodes it, which costs nothing there.
        value = sql.SQL("coalesce({}, 'infinity')").format(sql.Identifier(column))
        return packed(value, "timestamptz" if is_aware else "timestamp")

    def _or_never(self, *columns: str) -> sql.Composed:
        """Return a packed column of the first of some times that is one, ``infinity`` where none is."""
        # A naive time in UTC is not converted: both types have one binary form.
        is_naive = self._zone in UTC_NAMES and not any(self._shape.runs.is_aware(column) for column in columns)
        times = sql.SQL(", ").join(self._sane_time(column) for column in columns)
        return packed(sql.SQL("coalesce({}, 'infinity')").format(times), "timestamp" if is_naive else "timestamptz")

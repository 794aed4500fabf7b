"""
What the source database really contains: its tables, keys, columns and time zones, looked up once per session.

Hub Plus exists in several shapes (reference: its migrations, its entities, two documents). `describe_source` finds
the one at hand from fixed lists of names, so that every identifier in our SQL comes from this module, or raises one
`SourceError` that names what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from include.sync_health.durations import describe
from include.sync_health.errors import CountsUnreadable, SourceError
from include.sync_health.policy import SourcePolicy
from include.sync_health.record_counts import OUTCOMES
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_time import checked_zone

SYNC_LOG_TABLES = ("servicetitan_sync_logs", "servicetitan_sync_log")
CREDENTIAL_TABLE = "servicetitan_credentials"
COMPANY_TABLES = ("company", "companies")
PRESENCE_VIEW = "servicetitan_credentials_monitor"
"""A view that tells whether secrets are present without showing them; optional, see docs/deployment.md."""

CREDENTIAL_KEYS = ("service_titan_credential_id", "servicetitan_credential_id", "credential_id")
"""Names of the sync log's foreign key, most likely first."""

COMPANY_NAMES = ("company_name", "name")

RUN_REQUIRED = ("id", "data_type", "status", "started_at", "completed_at", "error_message")
RUN_OPTIONAL = ("updated_at",)
COUNTS = {
    "records_processed": "records_processed",
    "records_successful": "records_successful",
    "records_failed": "records_failed",
    "processing_time_seconds": "processing_seconds",
}
"""The sync log's columns that only reads with counts ask for, and what `COUNT_COLUMNS` calls them, in its order."""

DETAILS = ("error_details", "metadata")
"""Optional JSON columns of the sync log that may tell which fields failed."""

DETAIL_TYPES = frozenset({"json", "jsonb", "text", "varchar"})
"""Accepted types of details; what is no JSON is counted when it is read."""

COUNTS_REQUIRED = ("records_processed",)
"""Every shape has it; without the others their counts are not a number."""

COUNT_TYPES: dict[str, Literal["int4", "int8"]] = {"int2": "int4", "int4": "int4", "int8": "int8"}
"""Accepted types of counts, and the type they are read as."""

CREDENTIAL_REQUIRED = ("id", "company_id", "environment", "connection_status", "token_expires_at")
CREDENTIAL_OPTIONAL = ("last_connection_attempt", "created_at", "updated_at")
SECRETS = ("client_id", "client_secret")
"""Only whether they are present is asked, never their value; the tokens are not even asked for."""

TIME_TYPES = {"timestamp": False, "timestamptz": True}
"""Accepted types of time columns, and whether they know their zone."""

KeyType = Literal["int2", "int4", "int8", "uuid"]

KEY_TYPES: dict[str, Literal["integer", "uuid"]] = {
    "int2": "integer",
    "int4": "integer",
    "int8": "integer",
    "uuid": "uuid",
}

COLUMNS_OF_CANDIDATES = """
SELECT c.relname, a.attname, t.typname,
       has_column_privilege(c.oid, a.attnum, 'SELECT')
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %(schema)s AND c.relname = ANY (%(names)s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
ORDER BY c.relname, a.attnum
"""

LEADING_INDEX_COLUMNS = """
SELECT DISTINCT a.attname
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = x.relam
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
  AND i.indisvalid AND i.indisready AND i.indpred IS NULL AND m.amname = 'btree'
"""
"""An index that covers only some rows (indpred) is of no use: which rows we need is not what it was made for."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view of the source: its columns' types, and which of them we may read."""

    name: str
    types: dict[str, str]  # column -> PostgreSQL's name of its type
    readable: frozenset[str]

    def is_aware(self, column: str) -> bool:
        """Return whether a time column knows its zone; KeyError when it is absent."""
        return TIME_TYPES[self.types[column]]

    def has(self, column: str) -> bool:
        """Return whether the column exists and may be read."""
        return column in self.readable


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShape:
    """
    The source as it was found.

    Args:
        schema: the schema all tables are in.
        runs: the sync log.
        credential_key: the sync log's foreign key to the credentials.
        run_key, credential_id_key: kinds of the two tables' keys.
        credentials: the credentials table.
        companies, company_name: the companies and the column of their name.
        presence: what tells whether secrets are present: the credentials table itself, the view
            `PRESENCE_VIEW`, or None where we may read neither.
        is_credential_indexed: an index leads with ``credential_key``, so that one credential's runs are found cheaply.
        search: how a window of the sync log is found: by bisection over ``id``, by an index on ``started_at``
            or ``completed_at``, or by ``scan`` (no ordered key and no index: the whole table is read).
        notes: sentences for people, about what is unusual.
    """

    schema: str
    runs: Table
    credential_key: str
    run_key: Literal["integer", "uuid"]
    credential_id_key: Literal["integer", "uuid"]
    credentials: Table
    companies: Table
    company_name: str
    presence: Table | None
    is_credential_indexed: bool
    search: Literal["id", "started_at", "completed_at", "scan"]
    notes: tuple[str, ...]

    def key_type(self, column: str) -> KeyType:
        """Return the type of a key column of the sync log: its own, or that of its credential."""
        # `_key_kind` has checked it.
        return cast(KeyType, self.runs.types[column])

    @property
    def keys(self) -> tuple[str, str]:
        """The key columns of the sync log: its own, and that of its credential."""
        return "id", self.credential_key

    @property
    def key_types(self) -> tuple[KeyType, KeyType]:
        """The types of `keys`."""
        return self.key_type("id"), self.key_type(self.credential_key)


def count_types(shape: SourceShape, counts: Sequence[str]) -> list[Literal["int4", "int8"]]:
    """Return the types that some of `COUNTS` are read as."""
    return [COUNT_TYPES[shape.runs.types[column]] for column in counts]


def describe_source(session: Session, policy: SourcePolicy) -> SourceShape:
    """
    Look the source up and return its shape.

    Raises:
        SourceError: ``missing_table``, ``ambiguous_table``, ``missing_column``, ``permission`` (naming the GRANT to
            give), ``wrong_time_zone`` (source.timezone is none), ``invalid`` (a column of an unusable type), or
            what `source_errors` maps.
    """
    zone = checked_zone(policy.timezone)
    tables = _candidates(session, policy)
    runs = _sync_log(tables, policy)
    credentials = _only_table(tables, (CREDENTIAL_TABLE,), policy)
    companies = _only_table(tables, COMPANY_TABLES, policy)
    credential_key = _first_column(runs, CREDENTIAL_KEYS, policy)
    company_name = _first_column(companies, COMPANY_NAMES, policy)
    _require(runs, (*RUN_REQUIRED, credential_key), policy)
    _require(credentials, CREDENTIAL_REQUIRED, policy)
    _require(companies, ("id", company_name), policy)
    _require_times(runs, ("started_at", "completed_at", *RUN_OPTIONAL))
    _require_times(credentials, ("token_expires_at", *CREDENTIAL_OPTIONAL))
    run_key, credential_id_key = _key_kind(runs), _key_kind(credentials)
    _key_kind(runs, credential_key)
    indexed = _indexed(session, policy, runs)
    search, notes = _search(runs, run_key, indexed)
    if credential_key not in indexed:
        notes += (
            f"{runs.name}: no index leads with {credential_key}; a credential's last success is looked for in the last "
            f"{describe(policy.open_lookback)} only (source.open_lookback)",
        )
    presence, presence_notes = _presence(credentials, tables.get(PRESENCE_VIEW))
    notes += presence_notes
    if "updated_at" in runs.types and not runs.has("updated_at"):
        notes += (f"{runs.name}.updated_at may not be read; a failed run without completed_at counts by started_at",)
    if hidden := [name for name in DETAILS if name in runs.types and not runs.has(name)]:
        notes += (f"{runs.name}: {' and '.join(hidden)} may not be read; what they tell of fields is not known",)
    naive = [name for name in ("started_at", "completed_at") if not runs.is_aware(name)]
    if naive:
        notes += (f"{runs.name}: {' and '.join(naive)} without time zone, read as {zone} (source.timezone)",)
    return SourceShape(
        schema=policy.schema,
        runs=runs,
        credential_key=credential_key,
        run_key=run_key,
        credential_id_key=credential_id_key,
        credentials=credentials,
        companies=companies,
        company_name=company_name,
        presence=presence,
        is_credential_indexed=credential_key in indexed,
        search=search,
        notes=notes,
    )


def require_counts(shape: SourceShape, policy: SourcePolicy) -> tuple[str, ...]:
    """
    Return those of `COUNTS` that the sync log has, in their order.

    Raises:
        CountsUnreadable: ``missing_column`` (not even `COUNTS_REQUIRED`, or one of `OUTCOMES` without the other), or
            ``permission`` (naming the GRANT to give).
        SourceError: ``invalid`` (one that is no whole number).
    """
    found = tuple(column for column in COUNTS if column in shape.runs.types)
    # One alone was dropped, and no quality can be judged without it.
    outcomes = OUTCOMES if set(OUTCOMES) & set(found) else ()
    try:
        _require(shape.runs, tuple(dict.fromkeys((*COUNTS_REQUIRED, *outcomes, *found))), policy)
    except SourceError as error:
        raise CountsUnreadable(str(error), cause=error.cause) from error
    for column in found:
        if shape.runs.types[column] not in COUNT_TYPES:
            raise SourceError(
                f"{shape.runs.name}.{column} is of type {shape.runs.types[column]}; expected an integer",
                cause="invalid",
            )
    return found


def known_details(shape: SourceShape) -> tuple[str, ...]:
    """Return those of `DETAILS` that the sync log has, in their order, as far as we may read them."""
    runs = shape.runs
    return tuple(column for column in DETAILS if runs.has(column) and runs.types[column] in DETAIL_TYPES)


def _candidates(session: Session, policy: SourcePolicy) -> dict[str, Table]:
    names = [*SYNC_LOG_TABLES, CREDENTIAL_TABLE, *COMPANY_TABLES, PRESENCE_VIEW]
    with source_errors("looking up the tables of the source", policy):
        rows = session.execute(COLUMNS_OF_CANDIDATES, {"schema": policy.schema, "names": names}).fetchall()
        usage = session.execute(
            "SELECT has_schema_privilege(oid, 'USAGE'), current_user FROM pg_catalog.pg_namespace WHERE nspname = %s",
            [policy.schema],
        ).fetchone()
    if usage is None:
        raise SourceError(
            f"the source has no schema {policy.schema!r}; name the right one in source.schema", cause="missing_table"
        )
    if not usage[0]:
        raise SourceError(
            f"we may not use the schema {policy.schema!r}; GRANT USAGE ON SCHEMA {policy.schema} TO {usage[1]}",
            cause="permission",
        )
    types: dict[str, dict[str, str]] = {}
    readable: dict[str, set[str]] = {}
    for table, column, type_name, may_read in rows:
        types.setdefault(str(table), {})[str(column)] = str(type_name)
        if may_read:
            readable.setdefault(str(table), set()).add(str(column))
    return {name: Table(name, columns, frozenset(readable.get(name, ()))) for name, columns in types.items()}


def _sync_log(tables: dict[str, Table], policy: SourcePolicy) -> Table:
    chosen = policy.sync_log_table
    if chosen is not None and chosen not in SYNC_LOG_TABLES:
        raise SourceError(
            f"source.sync_log_table is {chosen!r}; it may be {' or '.join(SYNC_LOG_TABLES)}", cause="missing_table"
        )
    found = [name for name in SYNC_LOG_TABLES if name in tables]
    if chosen is None and len(found) > 1:
        raise SourceError(
            f"schema {policy.schema!r} has both {' and '.join(found)}; "
            "name the one that Hub Plus writes in source.sync_log_table",
            cause="ambiguous_table",
        )
    return _only_table(tables, SYNC_LOG_TABLES if chosen is None else (chosen,), policy)


def _only_table(tables: dict[str, Table], names: tuple[str, ...], policy: SourcePolicy) -> Table:
    found = [tables[name] for name in names if name in tables]
    if not found:
        there = ", ".join(sorted(tables)) or "none of the tables we know"
        key = ", or source.sync_log_table," if names[0] in SYNC_LOG_TABLES else ""
        raise SourceError(
            f"schema {policy.schema!r} of the source has no table {' or '.join(names)} (found: {there}); "
            f"check connection {policy.connection!r}{key} and source.schema",
            cause="missing_table",
        )
    # Of company and companies only one can be the real one; Hub Plus' own code uses the first.
    return found[0]


def _first_column(table: Table, names: tuple[str, ...], policy: SourcePolicy) -> str:
    for name in names:
        if name in table.types:
            return name
    raise _missing(table, " or ".join(names), policy)


def _require(table: Table, columns: tuple[str, ...], policy: SourcePolicy) -> None:
    for column in columns:
        if column not in table.types:
            raise _missing(table, column, policy)
    if hidden := [column for column in dict.fromkeys(columns) if column not in table.readable]:
        raise SourceError(
            f"we may not read {', '.join(hidden)} of {policy.schema}.{table.name}; "
            f"GRANT SELECT ({', '.join(hidden)}) ON {policy.schema}.{table.name} to the user of connection "
            f"{policy.connection!r} (docs/deployment.md)",
            cause="permission",
        )


def _missing(table: Table, column: str, policy: SourcePolicy) -> SourceError:
    return SourceError(
        f"{policy.schema}.{table.name} has no column {column} (found: {', '.join(sorted(table.types))}); "
        "the source's schema has changed, or this is another application's table",
        cause="missing_column",
    )


def _require_times(table: Table, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column in table.types and table.types[column] not in TIME_TYPES:
            raise SourceError(
                f"{table.name}.{column} is of type {table.types[column]}; expected timestamp or timestamptz",
                cause="invalid",
            )


def _key_kind(table: Table, column: str = "id") -> Literal["integer", "uuid"]:
    kind = KEY_TYPES.get(table.types[column])
    if kind is None:
        raise SourceError(
            f"{table.name}.{column} is of type {table.types[column]}; expected an integer or uuid", cause="invalid"
        )
    return kind


def _indexed(session: Session, policy: SourcePolicy, runs: Table) -> frozenset[str]:
    with source_errors("looking up the indexes of the source", policy):
        rows = session.execute(LEADING_INDEX_COLUMNS, {"schema": policy.schema, "table": runs.name}).fetchall()
    return frozenset(str(row[0]) for row in rows)


def _search(
    runs: Table, key: Literal["integer", "uuid"], indexed: frozenset[str]
) -> tuple[Literal["id", "started_at", "completed_at", "scan"], tuple[str, ...]]:
    # By completed_at is exact even for runs longer than the slack, so it comes first.
    if "completed_at" in indexed:
        return "completed_at", (f"{runs.name}: the index on completed_at is used",)
    if "started_at" in indexed:
        return "started_at", (f"{runs.name}: the index on started_at is used",)
    if key == "integer" and "id" in indexed:
        return "id", ()
    reason = "its key is a UUID, which does not rise with time" if key == "uuid" else "its id has no index"
    return "scan", (
        f"{runs.name}: {reason}, and no index leads with started_at or completed_at; every read scans the table",
    )


def _presence(credentials: Table, view: Table | None) -> tuple[Table | None, tuple[str, ...]]:
    if all(credentials.has(secret) for secret in SECRETS):
        return credentials, ()
    if view is not None and all(view.has(column) for column in ("id", "has_client_id", "has_client_secret")):
        return view, ()
    return None, (
        f"{credentials.name}: we may not see whether client id and secret are present, so all credentials count as "
        f"complete; create the view {PRESENCE_VIEW} (docs/deployment.md) to know",
    )

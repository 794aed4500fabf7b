"""
The application's table of API calls, where it has one: its columns, found by introspection.

``servicetitan_api_calls`` is no table of Hub Plus' own: `docs/api-calls.md` offers it, with a recorder, to those who keep
the application. Without it, API calls are unavailable from the source, which is no trouble of anybody's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from include.sync_health.errors import SourceError
from include.sync_health.policy import SourcePolicy
from include.warehouse.source_schema import (
    COLUMNS_OF_CANDIDATES,
    CREDENTIAL_KEYS,
    KEY_TYPES,
    LEADING_INDEX_COLUMNS,
    TIME_TYPES,
    KeyType,
    Table,
)
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_time import checked_zone

CALL_TABLE = "servicetitan_api_calls"

COLUMNS: dict[str, tuple[str, ...]] = {
    "credential": CREDENTIAL_KEYS,
    "endpoint": ("endpoint", "api_endpoint"),
    "response_time": ("response_time", "response_time_ms", "duration_ms"),
    "status_code": ("status_code", "response_code"),
    "called_at": ("called_at", "created_at"),
}
"""What is read, and what the column may be called, most likely first."""

NUMBER_TYPES = frozenset({"int2", "int4", "int8", "float4", "float8", "numeric"})
TEXT_TYPES = frozenset({"text", "varchar", "bpchar"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTable:
    """
    The table as it was found.

    Args:
        schema: of the table.
        table: its columns' types.
        credential, endpoint, response_time, status_code, called_at: names of its columns.
        search: how a window is found: by an index on ``called_at``, by bisection over ``id``, or by ``scan`` (the whole
            table is read each time).
        notes: sentences for people, about what is unusual.
    """

    schema: str
    table: Table
    credential: str
    endpoint: str
    response_time: str
    status_code: str
    called_at: str
    search: Literal["called_at", "id", "scan"]
    notes: tuple[str, ...]

    @property
    def is_aware(self) -> bool:
        """Whether ``called_at`` knows its zone."""
        return self.table.is_aware(self.called_at)

    @property
    def credential_type(self) -> KeyType:
        """The type of the credential's id."""
        return cast("KeyType", self.table.types[self.credential])


def describe_calls(session: Session, policy: SourcePolicy) -> CallTable | None:
    """
    Look the table up; None where the source has none.

    Raises:
        SourceError: ``missing_column``, ``permission`` (naming the GRANT to give), ``invalid`` (a column of an unusable
            type), ``wrong_time_zone`` (source.timezone is none), or what `source_errors` maps.
    """
    zone = checked_zone(policy.timezone)
    with source_errors(f"looking up {CALL_TABLE}", policy):
        rows = session.execute(COLUMNS_OF_CANDIDATES, {"schema": policy.schema, "names": [CALL_TABLE]}).fetchall()
        indexes = session.execute(LEADING_INDEX_COLUMNS, {"schema": policy.schema, "table": CALL_TABLE}).fetchall()
    if not rows:
        return None
    table = Table(
        CALL_TABLE,
        {str(column): str(kind) for _, column, kind, _ in rows},
        frozenset(str(column) for _, column, _, may_read in rows if may_read),
    )
    found = {name: _column(table, names, policy) for name, names in COLUMNS.items()}
    if "id" not in table.types:
        raise _missing(table, ("id",), policy)
    _require_readable(table, ["id", *found.values()], policy)
    _require_types(table, found)
    search, notes = _search(table, found["called_at"], {str(row[0]) for row in indexes})
    if not table.is_aware(found["called_at"]):
        notes += (f"{CALL_TABLE}: {found['called_at']} without time zone, read as {zone} (source.timezone)",)
    return CallTable(schema=policy.schema, table=table, search=search, notes=notes, **found)


def _column(table: Table, names: Sequence[str], policy: SourcePolicy) -> str:
    for name in names:
        if name in table.types:
            return name
    raise _missing(table, names, policy)


def _missing(table: Table, names: Sequence[str], policy: SourcePolicy) -> SourceError:
    return SourceError(
        f"{policy.schema}.{table.name} has no column {' or '.join(names)} (found: {', '.join(sorted(table.types))}); "
        "add it as docs/api-calls.md has it, or set api_calls.table to false",
        cause="missing_column",
    )


def _require_readable(table: Table, columns: Sequence[str], policy: SourcePolicy) -> None:
    if hidden := [column for column in columns if not table.has(column)]:
        raise SourceError(
            f"we may not read {', '.join(hidden)} of {policy.schema}.{table.name}; GRANT SELECT ({', '.join(hidden)}) ON "
            f"{policy.schema}.{table.name} to the user of connection {policy.connection!r}, or set api_calls.table to false",
            cause="permission",
        )


def _require_types(table: Table, found: dict[str, str]) -> None:
    accepted = {
        "credential": (KEY_TYPES, "an integer or uuid"),
        "endpoint": (TEXT_TYPES, "a text"),
        "response_time": (NUMBER_TYPES, "a number of milliseconds"),
        "status_code": (("int2", "int4", "int8"), "an integer"),
        "called_at": (TIME_TYPES, "timestamp or timestamptz"),
    }
    for name, (types, words) in accepted.items():
        if table.types[found[name]] not in types:
            raise SourceError(
                f"{table.name}.{found[name]} is of type {table.types[found[name]]}; expected {words}", cause="invalid"
            )


def _search(
    table: Table, called_at: str, indexed: set[str]
) -> tuple[Literal["called_at", "id", "scan"], tuple[str, ...]]:
    if called_at in indexed:
        return "called_at", ()
    if KEY_TYPES.get(table.types["id"]) == "integer" and "id" in indexed:
        return "id", ()
    return "scan", (
        f"{table.name}: no index leads with {called_at}, and id is no rising key with one; every read scans the table",
    )

"""How far each log file is read, in ``monitoring.log_position``; moved in the transaction that counts what was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json, storable_text

_READ = "SELECT file_key, path, offset_bytes, lines, state, updated_at FROM monitoring.log_position ORDER BY file_key"

_INSERT = """
    INSERT INTO monitoring.log_position (file_key, path, offset_bytes, lines, state, updated_at)
    VALUES (%(key)s, %(path)s, %(offset)s, %(lines)s, %(state)s, %(now)s)
    ON CONFLICT (file_key) DO NOTHING RETURNING true
"""

# `moves` counts the writes of a row: whoever has read an older one has read the same lines as somebody else.
_MOVE = """
    UPDATE monitoring.log_position
    SET path = %(path)s, offset_bytes = %(offset)s, lines = %(lines)s, state = %(state)s, updated_at = %(now)s
    WHERE file_key = %(key)s AND (state ->> 'moves')::bigint = %(expected)s
    RETURNING true
"""

_DELETE = """
    DELETE FROM monitoring.log_position WHERE updated_at < %(before)s AND NOT file_key = ANY (%(kept)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPosition:
    """
    How far a file is read.

    Args:
        key: of the file, whatever its name.
        path: where it was seen last.
        offset: bytes that are read, unpacked.
        lines: that were read.
        state: what its reader needs to go on, of what JSON can hold.
        moves: writes of this row so far.
        updated_at: when it was seen last.
    """

    key: str
    path: str
    offset: int = 0
    lines: int = 0
    state: Mapping[str, Any] = field(default_factory=dict)
    moves: int = 0
    updated_at: datetime | None = None


@storage_errors()
def read_positions(conn: psycopg.Connection[Any]) -> list[LogPosition]:
    """
    Return all positions, by key.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return [
        LogPosition(
            key=key,
            path=path,
            offset=offset,
            lines=lines,
            state={name: value for name, value in state.items() if name != "moves"},
            moves=state.get("moves", 0),
            updated_at=updated_at,
        )
        for key, path, offset, lines, state, updated_at in conn.execute(_READ).fetchall()
    ]


@storage_errors(table="log_position")
def add_position(conn: psycopg.Connection[Any], position: LogPosition, *, now: datetime) -> bool:
    """
    Store the position of a file that is read for the first time; False where its key is there already.

    Nothing is committed.

    Raises:
        ValueError: ``now`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    return conn.execute(_INSERT, _values(position, now)).fetchone() is not None


@storage_errors(table="log_position")
def move_position(conn: psycopg.Connection[Any], position: LogPosition, *, now: datetime) -> bool:
    """
    Store a position in place of the one with one move less; False where another reader has moved it meanwhile.

    The row stays locked until the transaction ends; nothing is committed. After False the caller must count nothing of
    what it has read.

    Raises:
        ValueError: ``now`` is naive.
        StorageError: the schema is missing, the database unreachable, or another transaction held the row for too long.
    """
    values = {**_values(position, now), "expected": position.moves - 1}
    return conn.execute(_MOVE, values).fetchone() is not None


@storage_errors()
def delete_positions(conn: psycopg.Connection[Any], *, before: datetime, kept: Collection[str]) -> int:
    """
    Delete positions that were seen last before a time, except those of ``kept``; return how many.

    Raises:
        ValueError: ``before`` is naive.
        StorageError: the schema is missing or the database unreachable.
    """
    return conn.execute(_DELETE, {"before": aware(before), "kept": sorted(kept)}).rowcount


def _values(position: LogPosition, now: datetime) -> dict[str, Any]:
    return {
        "key": position.key,
        "path": storable_text(position.path),
        "offset": position.offset,
        "lines": position.lines,
        "state": storable_json({**position.state, "moves": position.moves}),
        "now": aware(now),
    }

"""
Where calls of the ServiceTitan API are told: ``api_source``, a row each for the application's table, its logs and our probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import psycopg

from include.warehouse.monitoring_session import storage_errors
from include.warehouse.stored_values import aware, storable_json, stored_moment

Source = Literal["table", "log", "probe"]

API_LOCK = 7_305_551
"""First key of the advisory lock of a source, the second being its place in `SOURCES`; arbitrary, but never to change."""

SOURCES: tuple[Source, ...] = ("table", "log", "probe")

_RECORD = """
    INSERT INTO monitoring.api_source (source, status, has_timings, detail, read_until, counts, updated_at)
    VALUES (%(source)s, %(status)s, %(has_timings)s, %(detail)s, %(read_until)s, %(counts)s, %(updated_at)s)
    ON CONFLICT (source) DO UPDATE SET
        status = excluded.status, has_timings = excluded.has_timings, detail = excluded.detail,
        read_until = coalesce(excluded.read_until, api_source.read_until), counts = excluded.counts,
        updated_at = excluded.updated_at
"""

_SOURCES = "SELECT source, status, has_timings, detail, read_until, counts, updated_at FROM monitoring.api_source"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSource:
    """
    What is known of one source of API calls.

    Args:
        source: ``table``, ``log`` or ``probe``.
        status: ``available``; ``unavailable``, nobody set it up; ``failing``, it is there and could not be read.
        has_timings: whether it tells response times.
        detail: one line for people: what was found, or why nothing, and how to switch it on. No secret.
        read_until: up to when all of it has been read (aware); None keeps what is stored.
        counts: what the last run read and passed over, by name.
        updated_at: when; aware.
    """

    source: Source
    status: Literal["available", "unavailable", "failing"]
    has_timings: bool
    detail: str
    read_until: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    updated_at: datetime


@storage_errors()
def read_sources(conn: psycopg.Connection[Any]) -> dict[Source, ApiSource]:
    """
    Return what is stored of each source, by its name; a source that nobody ever looked for is not among them.

    Raises:
        StorageError: the schema is missing or the database unreachable.
    """
    return {
        source: ApiSource(
            source=source,
            status=status,
            has_timings=has_timings,
            detail=detail,
            read_until=stored_moment(read_until),
            counts=counts,
            updated_at=updated_at,
        )
        for source, status, has_timings, detail, read_until, counts, updated_at in conn.execute(_SOURCES)
    }


@storage_errors()
def lock_source(conn: psycopg.Connection[Any], source: Source) -> ApiSource | None:
    """
    Return what is stored of a source, None if nothing is, and keep others from it until the transaction ends.

    Raises:
        StorageError: the schema is missing, the database unreachable, or another transaction held it for too long.
    """
    conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", (API_LOCK, SOURCES.index(source)))
    return read_sources(conn).get(source)


@storage_errors(table="api_source")
def record_source(conn: psycopg.Connection[Any], source: ApiSource) -> None:
    """
    Store what is known of a source in place of what was; nothing is committed.

    Raises:
        ValueError: a time is naive.
        StorageError: the schema is missing, the database unreachable, or a value cannot be stored.
    """
    conn.execute(
        _RECORD,
        {
            "source": source.source,
            "status": source.status,
            "has_timings": source.has_timings,
            "detail": source.detail,
            "read_until": None if source.read_until is None else aware(source.read_until),
            "counts": storable_json(dict(source.counts)),
            "updated_at": aware(source.updated_at),
        },
    )

"""A drain's session of our schema, which outlives a restart of the database."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from include.sync_health.errors import StorageError

if TYPE_CHECKING:
    import psycopg

P = ParamSpec("P")
T = TypeVar("T")

RECONNECT_PAUSES = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each attempt to connect again: half a minute in all, as long as a restart of PostgreSQL takes."""


class OutboxSession:
    """
    One session, opened at once and closed at the end of the ``with``.

    Args:
        conninfo: libpq conninfo of our schema's database.
        sleep: waits so many seconds.

    Raises:
        StorageError: the database cannot be reached.
    """

    def __init__(self, conninfo: str, *, sleep: Callable[[float], None]) -> None:
        self._conninfo, self._sleep = conninfo, sleep
        self._conn = self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._conn.close()

    def ask(self, call: Callable[Concatenate[psycopg.Connection[Any], P], T], *args: P.args, **options: P.kwargs) -> T:
        """Return what a function of `include.warehouse` answers; committed by it."""
        return call(self._conn, *args, **options)

    def record(
        self, call: Callable[Concatenate[psycopg.Connection[Any], P], T], *args: P.args, **options: P.kwargs
    ) -> T:
        """
        Do the same for what must not be forgotten: what has become of a message that is on its way already.

        Where the session is lost, on a new one, and again until `RECONNECT_PAUSES` are over. So ``call`` may be done
        twice, the first time without our knowing: it must be one that then changes nothing.

        Raises:
            StorageError: the database refuses it, or is not back in time.
        """
        for pause in RECONNECT_PAUSES:
            try:
                return call(self._conn, *args, **options)
            except StorageError:
                if not self._conn.closed:
                    raise
            self._sleep(pause)
            with suppress(StorageError):  # not yet back
                self._conn = self._connect()
        return call(self._conn, *args, **options)

    def _connect(self) -> psycopg.Connection[Any]:
        from include.warehouse.monitoring_session import connect

        return connect(self._conninfo)

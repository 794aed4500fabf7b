"""
The simulated Hub Plus kept alive by a thread, and caught up after a pause.

A file beside the database remembers when one began to look, from which everything else follows; it exists only once the
history is complete. Up to when the world is written, the database itself remembers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from include.simulation.demo_script import DemoWorld
from include.simulation.hub_plus import create_source
from include.simulation.postgres import EmbeddedPostgres

TICK_SECONDS = 1.0


def wall_clock() -> datetime:
    """Return the present instant, aware."""
    return datetime.now(UTC)


class RunningWorld:
    """
    The world in the database ``dbname`` of ``postgres``; a context manager.

    Args:
        since_file: remembers when the history ended and the rounds began, ISO 8601 UTC.
        tell: called with a line for everything that breaks or recovers, from the world's own thread.
        clock: the present.
    """

    def __init__(
        self,
        postgres: EmbeddedPostgres,
        *,
        dbname: str,
        since_file: Path,
        tell: Callable[[str], None],
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._postgres = postgres
        self._dbname = dbname
        self._since_file = since_file
        self._tell = tell
        self._clock = clock
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def prepare(self) -> None:
        """Create the source and its history up to now, unless an earlier start has completed that."""
        if self._since_file.exists():
            return
        self._postgres.drop_database(self._dbname)  # whatever a start that was cut short has left
        dsn = self._postgres.create_database(self._dbname)
        create_source(dsn)
        now = self._clock()
        with DemoWorld(dsn, since=now) as world:
            world.seed()
        fresh = self._since_file.with_suffix(".new")
        fresh.write_text(now.isoformat(), encoding="ascii")
        fresh.replace(self._since_file)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._live, name="running-world", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def require_alive(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._error is not None:
            raise self._error

    def _live(self) -> None:
        try:
            since = datetime.fromisoformat(self._since_file.read_text(encoding="ascii"))
            with DemoWorld(self._postgres.dsn(self._dbname), since=since) as world:
                world.advance(self._clock())  # the past, which nobody was told of when it happened
                while not self._stopping.wait(TICK_SECONDS):
                    for line in world.advance(self._clock()):
                        self._tell(line)
        except Exception as error:  # noqa: BLE001  raised again in the main thread by require_alive
            self._error = error

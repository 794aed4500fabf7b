"""
The simulated Hub Plus kept alive by a thread, and caught up after a pause.

A file beside the database remembers up to when the world has been written; it exists only once the history is complete.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from include.simulation.history import seed_history
from include.simulation.hub_plus import HubPlus, create_source
from include.simulation.living_world import LivingWorld
from include.simulation.postgres import EmbeddedPostgres

TICK_SECONDS = 1.0
CATCH_UP = timedelta(days=2)  # after a longer pause nothing is made up for the time before


class RunningWorld:
    """
    The world in the database ``dbname`` of ``postgres``; a context manager.

    Args:
        reached_file: remembers the instant up to which the world is written, ISO 8601 UTC.
        tell: called with a line for everything that breaks or recovers, from the world's own thread.
    """

    def __init__(
        self, postgres: EmbeddedPostgres, *, dbname: str, reached_file: Path, tell: Callable[[str], None]
    ) -> None:
        self._postgres = postgres
        self._dbname = dbname
        self._reached_file = reached_file
        self._tell = tell
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def prepare(self) -> None:
        """Create the source and its history up to now, unless an earlier start has completed that."""
        if self._reached_file.exists():
            return
        self._postgres.drop_database(self._dbname)  # whatever a start that was cut short has left
        dsn = self._postgres.create_database(self._dbname)
        create_source(dsn)
        now = datetime.now(UTC)
        with HubPlus(dsn) as world:
            seed_history(world, as_of=now)
        self._remember(now)

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
            now = datetime.now(UTC)
            since = max(datetime.fromisoformat(self._reached_file.read_text(encoding="ascii")), now - CATCH_UP)
            with HubPlus(self._postgres.dsn(self._dbname)) as world:
                living = LivingWorld(world, since=since)
                living.advance(now)  # the past, which nobody was told of when it happened
                while not self._stopping.wait(TICK_SECONDS):
                    now = datetime.now(UTC)
                    for line in living.advance(now):
                        self._tell(line)
                    self._remember(now)
        except Exception as error:  # noqa: BLE001  raised again in the main thread by require_alive
            self._error = error

    def _remember(self, reached: datetime) -> None:
        fresh = self._reached_file.with_suffix(".new")
        fresh.write_text(reached.isoformat(), encoding="ascii")
        fresh.replace(self._reached_file)

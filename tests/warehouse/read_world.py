"""A small source to read: the world of the reader's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from include.simulation.hub_plus import HubPlus, RowId, create_source
from include.sync_health.policy import SourcePolicy
from include.warehouse.source_reader import RunsRead, SourceReader

AS_OF = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WINDOW_START = AS_OF - HOUR
ZONES = ("UTC", "America/New_York", "Asia/Kolkata")

MakeWorld = Callable[..., "World"]


@dataclass
class World:
    """A source with one production and one sandbox credential, its writer, and how to read it."""

    hub: HubPlus
    policy: SourcePolicy
    production: RowId
    sandbox: RowId

    def add(self, *, started: timedelta, ended: timedelta | None = None, **values: object) -> str:
        """Add a run of the production credential by its age at `AS_OF`; return its id as text."""
        values.setdefault("status", "running" if ended is None else "completed")
        values.setdefault("credential", self.production)
        credential = values.pop("credential")
        completed_at = None if ended is None else AS_OF - ended
        return str(
            self.hub.add_run(credential, started_at=AS_OF - started, completed_at=completed_at, **values)  # type: ignore[arg-type]
        )

    def read(self, *, remembered: list[str] | None = None, as_of: datetime = AS_OF, **filters: object) -> RunsRead:
        """Read the hour before ``as_of`` on a fresh session."""
        with SourceReader.connect(self.hub.dsn, self.policy) as reader:
            return reader.read_runs(
                finished_from=as_of - HOUR,
                as_of=as_of,
                remembered_open=remembered,
                **filters,  # type: ignore[arg-type]
            )

    def ids(self, **arguments: object) -> list[str]:
        """Return the ids that `read` finds, as text, in its order."""
        return self.read(**arguments).runs["sync_id"].astype(str).tolist()  # type: ignore[arg-type]

    def sql(self, statement: str) -> None:
        """Execute as the owner."""
        with psycopg.connect(self.hub.dsn, autocommit=True) as owner:
            owner.execute(statement.encode())


def build_world(dsn: str, *, shape: str = "migrations", zone: str = "UTC") -> World:
    """Create the tables of a shape in an empty database, and two credentials of one company."""
    create_source(dsn, shape=shape)
    hub = HubPlus(dsn, shape=shape, timezone=zone)
    company = hub.add_company("Northern Heating")
    return World(
        hub,
        SourcePolicy(timezone=zone),
        hub.add_credential(company),
        hub.add_credential(company, environment="integration"),
    )

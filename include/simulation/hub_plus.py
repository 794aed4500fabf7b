"""
The simulated Hub Plus: its tables in any of the four shapes, and a writer that fills them as the upstream does.

`HubPlus` takes aware instants and writes what Doctrine would: naive wall time of PHP's zone where a column has no
zone, whole seconds where its format has no more, NULL where the upstream leaves NULL. Ids follow the order of
insertion. Secret columns get values that look like secrets; `HubPlus.secrets` lists them, so that a test can prove
that none of them travelled.
"""

from __future__ import annotations

import random
import uuid
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from zoneinfo import ZoneInfo

import psycopg
from psycopg.types.json import Json

from include.simulation.source_rows import RowId, SourceRows
from include.simulation.source_shapes import CREDENTIALS, SHAPES, shape_named
from include.sync_health.frames import CANCELLED_BY_USER

__all__ = ["GENERATED", "SHAPES", "HubPlus", "RowId", "Run", "create_source"]

GENERATED = "<generated>"
"""As a secret's value: make up one that looks real."""

LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)
"""When companies and credentials were created, unless said otherwise."""


def create_source(dsn: str, *, shape: str = "migrations") -> None:
    """
    Create the source's tables, empty, in the database's ``public`` schema.

    Raises:
        ValueError: ``shape`` is not one of `SHAPES`.
        psycopg.Error: the tables exist already, or the database cannot be reached.
    """
    ddl = shape_named(shape).ddl_path.read_bytes()
    with psycopg.connect(dsn) as conn:
        conn.execute(ddl)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """
    One sync run to be written. Times are aware; ``records`` is (processed, successful, failed).

    ``updated_at`` defaults to the end, else the start; ``created_at`` is the start. Columns that a shape lacks are
    left out. ``processing_time_seconds`` stays NULL unless given: upstream never sets it.
    """

    credential: RowId
    data_type: str = "both"
    status: str = "completed"
    started_at: datetime
    completed_at: datetime | None = None
    error_message: str | None = None
    records: tuple[int, int, int] = (0, 0, 0)
    sync_type: str | None = "scheduled"
    updated_at: datetime | None = None
    processing_time_seconds: int | None = None
    error_details: Any = None
    metadata: Any = None


class HubPlus:
    """
    The writer of one simulated Hub Plus, whose tables `create_source` made.

    Args:
        dsn: the source's database.
        shape: one of `SHAPES`.
        timezone: IANA name of PHP's zone, in which naive columns are written.
        seed: of the made-up UUIDs and secrets: the same seed and calls give the same rows.

    Every call commits. Use it as a context manager, or call `close`.
    """

    def __init__(self, dsn: str, *, shape: str = "migrations", timezone: str = "UTC", seed: int = 1) -> None:
        self.dsn, self.seed, self.timezone = dsn, seed, timezone
        self.shape = shape_named(shape)
        self.secrets: list[str] = []
        self._rows = SourceRows(dsn, shape=self.shape, zone=ZoneInfo(timezone), make_uuid=self._uuid)
        self._finalizer = weakref.finalize(self, self._rows.close)
        # A second writer on the same database must not repeat the first one's UUIDs.
        self._random = random.Random(f"{seed}:{self._rows.measure()}")  # noqa: S311  simulated data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._finalizer()

    # -- companies -------------------------------------------------------------------------------

    def add_company(self, name: str, *, intacct_id: str | None = None, created_at: datetime = LONG_AGO) -> RowId:
        """Add a company and return its id. Names need not be unique."""
        return self._rows.insert(
            self.shape.company_table,
            {
                self.shape.company_name: name,
                "intacct_id": intacct_id,
                "uuid": self._uuid(),
                "created_at": created_at,
                "updated_at": created_at,
            },
        )

    def rename_company(self, company: RowId, name: str, *, at: datetime) -> None:
        """Rename a company, as the roster sync from Salesforce does."""
        self._rows.update(self.shape.company_table, company, {self.shape.company_name: name, "updated_at": at})

    def delete_company(self, company: RowId) -> None:
        """Delete a company; its credentials and runs go with it where the shape cascades."""
        self._rows.delete(self.shape.company_table, company)

    # -- credentials -----------------------------------------------------------------------------

    def add_credential(
        self,
        company: RowId,
        *,
        environment: str = "production",
        connection_status: str = "active",
        client_id: str | None = GENERATED,
        client_secret: str | None = GENERATED,
        access_token: str | None = GENERATED,
        refresh_token: str | None = "",
        token_expires_at: datetime | None = None,
        last_connection_attempt: datetime | None = None,
        created_at: datetime = LONG_AGO,
        updated_at: datetime | None = None,
    ) -> RowId:
        """
        Add a credential and return its id.

        Statuses that the shape knows by another word (active and connected, inactive and pending) are translated.
        ``refresh_token`` is empty, not NULL, as upstream leaves it after a handshake without one.
        """
        if access_token == GENERATED and token_expires_at is None:
            access_token = None  # never authenticated
        return self._rows.insert(
            CREDENTIALS,
            {
                "company_id": company,
                "environment": environment,
                "client_id": self._secret(client_id, "cid.{}"),
                "client_secret": self._secret(client_secret, "cs1.{}{}"),
                "access_token": self._secret(access_token, "eyJhbGciOiJSUzI1NiJ9.{}{}.{}"),
                "refresh_token": self._secret(refresh_token, "rt.{}{}"),
                "token_expires_at": token_expires_at,
                "connection_status": self.shape.statuses.get(connection_status, connection_status),
                "last_connection_attempt": last_connection_attempt,
                "tenant_id": str(self._random.randrange(10**8, 10**9)),
                "uuid": self._uuid(),
                "created_at": created_at,
                "updated_at": updated_at or created_at,
            },
        )

    def set_status(self, credential: RowId, status: str, *, at: datetime) -> None:
        """Change a credential's connection status."""
        self._rows.update(
            CREDENTIALS,
            credential,
            {"connection_status": self.shape.statuses.get(status, status), "updated_at": at},
        )

    def set_token(self, credential: RowId, *, expires_at: datetime | None, at: datetime) -> None:
        """Record a handshake at ``at`` whose token lasts until ``expires_at`` (None: the token is cleared)."""
        self._rows.update(
            CREDENTIALS,
            credential,
            {
                "access_token": self._secret(GENERATED, "eyJhbGciOiJSUzI1NiJ9.{}{}.{}") if expires_at else None,
                "token_expires_at": expires_at,
                "last_connection_attempt": at,
                "updated_at": at,
            },
        )

    def delete_credential(self, credential: RowId) -> None:
        """Delete a credential; its runs go with it where the shape cascades, else they forbid it."""
        self._rows.delete(CREDENTIALS, credential)

    # -- runs ------------------------------------------------------------------------------------

    def add_run(
        self,
        credential: RowId,
        *,
        started_at: datetime,
        data_type: str = "both",
        status: str = "completed",
        completed_at: datetime | None = None,
        error_message: str | None = None,
        records: tuple[int, int, int] = (0, 0, 0),
        sync_type: str | None = "scheduled",
        updated_at: datetime | None = None,
        processing_time_seconds: int | None = None,
        error_details: Any = None,
        metadata: Any = None,
    ) -> RowId:
        """Add one run (see `Run`) exactly as given, an inconsistent one too, and return its id."""
        run = Run(
            credential=credential,
            data_type=data_type,
            status=status,
            started_at=started_at,
            completed_at=completed_at,
            error_message=error_message,
            records=records,
            sync_type=sync_type,
            updated_at=updated_at,
            processing_time_seconds=processing_time_seconds,
            error_details=error_details,
            metadata=metadata,
        )
        return self._rows.insert(self.shape.log_table, self._run_values(run))

    def copy_runs(self, runs: Iterable[Run]) -> int:
        """Add many runs fast, ids in their order, and return how many."""
        return self._rows.copy(self.shape.log_table, map(self._run_values, runs))

    def finish_run(
        self,
        run: RowId,
        *,
        at: datetime,
        status: str = "completed",
        error_message: str | None = None,
        records: tuple[int, int, int] | None = None,
    ) -> None:
        """End a run as markAsCompleted and markAsFailed do: an empty message stays NULL, processing time too."""
        processed, successful, failed = records or (None, None, None)
        counts = {"records_processed": processed, "records_successful": successful, "records_failed": failed}
        self._rows.update(
            self.shape.log_table,
            run,
            {
                "status": status,
                "completed_at": at,
                "error_message": error_message or None,
                "updated_at": at,
                **(counts if records is not None else {}),
            },
        )

    def cancel_run(self, run: RowId, *, at: datetime) -> None:
        """Cancel a run as cancelSync does: it is recorded as failed."""
        self.finish_run(run, at=at, status="failed", error_message=CANCELLED_BY_USER)

    def delete_run(self, run: RowId) -> None:
        """Delete one run."""
        self._rows.delete(self.shape.log_table, run)

    def delete_runs_before(self, cutoff: datetime) -> int:
        """Delete the runs started before ``cutoff``, as upstream's retention does, and return how many."""
        return self._rows.delete_runs_before(cutoff)

    def runs_of(self, credential: RowId, *, status: str) -> list[RowId]:
        """Return the ids of a credential's runs in that status, oldest first."""
        return self._rows.runs_in(status, credential=credential)

    def open_runs(self) -> list[tuple[RowId, datetime]]:
        """Return ``(id, started_at)`` of every running run, the oldest first; the times are aware."""
        return self._rows.open_runs()

    def credentials(self) -> list[tuple[RowId, str, str]]:
        """Return ``(id, company name, environment)`` of every credential, by id."""
        return self._rows.credentials()

    # -- values ----------------------------------------------------------------------------------

    def _run_values(self, run: Run) -> dict[str, Any]:
        processed, successful, failed = run.records
        return {
            self.shape.credential_key: run.credential,
            "sync_type": run.sync_type,
            "data_type": run.data_type,
            "status": run.status,
            "started_at": run.started_at,
            "completed_at": run.completed_at,
            "records_processed": processed,
            "records_successful": successful,
            "records_failed": failed,
            "error_message": run.error_message,
            "error_details": None if run.error_details is None else Json(run.error_details),
            "metadata": None if run.metadata is None else Json(run.metadata),
            "processing_time_seconds": run.processing_time_seconds,
            "uuid": self._uuid(),
            "created_at": run.started_at,
            "updated_at": run.updated_at or run.completed_at or run.started_at,
        }

    def _uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def _secret(self, value: str | None, pattern: str) -> str | None:
        if value == GENERATED:
            value = pattern.format(*(f"{self._random.getrandbits(96):024x}" for _ in range(pattern.count("{}"))))
        if value:
            self.secrets.append(value)
        return value

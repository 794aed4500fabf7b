"""
A generated Hub Plus, written: loaded at once as it is at an instant, and carried on from there.

Both ways write the same rows, ids too, so that a world seeded at noon is the one seeded in the morning and carried on.
The log table's comment remembers, in the same transaction as the rows, up to when the world is written.
"""

from __future__ import annotations

import random
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from uuid import uuid4
from zoneinfo import ZoneInfo

from psycopg.types.json import Json

from include.simulation.generated_timeline import Generated, made_uuid, row_id
from include.simulation.source_rows import SourceRows
from include.simulation.source_shapes import CREDENTIALS, shape_named
from include.simulation.timeline import Changes, Fold, RowName, Table

SECRETS = {
    "client_id": "cid.{}",
    "client_secret": "cs1.{}{}",
    "access_token": "eyJhbGciOiJSUzI1NiJ9.{}{}.{}",
}


class GeneratedWorld:
    """
    The writer of a generated world into the tables of `create_source`; a context manager.

    The tables are empty, or hold what an earlier writer of the same plan has written: it goes on from there.

    Args:
        dsn: the source's database.
        generated: what happens.

    ``secrets`` lists the secret values it wrote; ``reached`` is up to when the world is written, None before.
    """

    def __init__(self, dsn: str, generated: Generated) -> None:
        self.generated = generated
        self.secrets: list[str] = []
        self._shape = shape_named(generated.plan.shape)
        self._tables = {
            Table.COMPANY: self._shape.company_table,
            Table.CREDENTIAL: CREDENTIALS,
            Table.RUN: self._shape.log_table,
        }
        zone = ZoneInfo(generated.plan.timezone)
        self._rows = SourceRows(dsn, shape=self._shape, zone=zone, make_uuid=uuid4)
        self._finalizer = weakref.finalize(self, self._rows.close)
        noted = self._rows.noted()
        self.reached = None if noted is None else datetime.fromisoformat(noted)
        self._fold = Fold(generated.writes)
        if self.reached is not None:
            self._fold.play(self.reached)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._finalizer()

    def seed(self, until: datetime) -> None:
        """
        Fill the empty tables with the world as it is at ``until``.

        Raises:
            ValueError: something was written before, or see `advance`.
        """
        if self.reached is not None:
            raise ValueError(f"the world was written up to {self.reached.isoformat()} already; advance it")
        self.advance(until)

    def advance(self, now: datetime) -> list[str]:
        """
        Write what happened since the last call, up to and including ``now``, in one transaction.

        An earlier ``now`` than before writes nothing. Returns a line for everything that broke or recovered.

        Raises:
            ValueError: ``now`` is naive, before the world begins or after what was generated.
        """
        if now.tzinfo is None:
            raise ValueError("now must be timezone-aware")
        if not self.generated.plan.begin <= now or now.replace(microsecond=0) > self.generated.until:
            raise ValueError(f"{now.isoformat()} is not within what was generated")
        if self.reached is not None and now <= self.reached:
            return []
        changes = self._fold.play(now)
        if changes == Changes():
            return []
        with self._rows.transaction():
            for table, name in self._tables.items():
                numbers = sorted(number for kind, number in changes.inserted if kind is table)
                if numbers:
                    self._rows.copy_as(name, ((self._id(table, n), self._inserted((table, n))) for n in numbers))
                    self._rows.follow_ids(name)
            for (table, number), values in changes.updated.items():
                self._rows.update(self._tables[table], self._id(table, number), self._values(values))
            for table, number in changes.deleted:
                self._rows.delete(self._tables[table], self._id(table, number))
            self._rows.note(now.astimezone(UTC).isoformat())
        self.reached = now
        return changes.told

    def _id(self, table: Table, number: int) -> int | str:
        return row_id(self.generated.plan, table, number)

    def _inserted(self, name: RowName) -> dict[str, Any]:
        """Return a new row's values, with those columns that nothing later changes."""
        table, number = name
        values = self._values(self._fold.rows[name])
        values["uuid"] = made_uuid(self.generated.plan, f"{table} uuid", number)
        if table is Table.CREDENTIAL:
            values |= self._secrets(number, is_there=self._fold.rows[name]["has_secrets"])
        return values

    def _secrets(self, number: int, *, is_there: bool) -> dict[str, Any]:
        source = random.Random(f"secrets:{self.generated.plan.seed}:{number}")  # noqa: S311  simulated data
        made = {
            column: pattern.format(*(f"{source.getrandbits(96):024x}" for _ in range(pattern.count("{}"))))
            for column, pattern in SECRETS.items()
        }
        if not is_there:
            return dict.fromkeys((*made, "refresh_token"))
        self.secrets += made.values()
        # Empty, not NULL, as upstream leaves it after a handshake without one.
        return {**made, "refresh_token": "", "tenant_id": str(source.randrange(10**8, 10**9))}

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a write's values in this shape's names and words."""
        written = dict(values)
        if "company_name" in written:
            written[self._shape.company_name] = written["company_name"]
        if "company_id" in written:
            written["company_id"] = self._id(Table.COMPANY, written["company_id"])
        if "credential" in written:
            written[self._shape.credential_key] = self._id(Table.CREDENTIAL, written["credential"])
        if "connection_status" in written:
            status = written["connection_status"]
            written["connection_status"] = self._shape.statuses.get(status, status)
        for column in ("error_details", "metadata"):
            if written.get(column) is not None:
                written[column] = Json(written[column])
        return written

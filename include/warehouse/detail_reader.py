"""The large details of runs, read by key and in batches: one answer of PostgreSQL holds at most 1 GB."""

from __future__ import annotations

from dataclasses import replace

from include.sync_health.policy import SourcePolicy
from include.warehouse.binary_arrays import raw_row_in_one_call
from include.warehouse.run_rows import RawRows
from include.warehouse.run_search import Reading
from include.warehouse.source_schema import SourceShape
from include.warehouse.source_session import Session, source_errors
from include.warehouse.source_statements import SourceStatements

BYTES_PER_BATCH = 32_000_000
KEYS_PER_BATCH = 5_000


class DetailReader:
    """Reads details on one session."""

    def __init__(
        self, session: Session, policy: SourcePolicy, *, shape: SourceShape, statements: SourceStatements
    ) -> None:
        self._session = session
        self._policy = policy
        self._shape = shape
        self._statements = statements

    def added(self, reading: Reading, rows: RawRows) -> RawRows:
        """
        Return the rows with their large details, where their statement asked for details.

        What has changed since the rows were fetched is as it is now, and what is gone since has no text.

        Raises:
            SourceError: what `source_errors` maps.
        """
        if not rows.details:
            return rows
        statement = self._statements.details(rows.details)
        batches = []
        for keys in rows.detail_keys(bytes_at_most=BYTES_PER_BATCH, rows_at_most=KEYS_PER_BATCH):
            reading.round_trips += 1
            with source_errors(f"reading the details of {self._shape.runs.name}", self._policy):
                batches.append(raw_row_in_one_call(self._session, statement, {"keys": keys}))
        return replace(rows, detail_batches=batches)

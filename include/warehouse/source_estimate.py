"""
How much a read of some days would be, asked of the source without reading them: the dry run of a backfill.

Rows are counted over the range of keys that the days lie in, which an index answers; what one day comes to is told by
reading one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Self

from psycopg import sql

from include.sync_health.policy import SourcePolicy
from include.warehouse.run_search import Reading, RunSearch
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_session import Session, open_session
from include.warehouse.source_statements import SourceStatements

_COLUMNS = {"id": "id", "completed_at": "completed_at"}
"""The column that a range is counted by, where the log is searched by it; otherwise ``started_at``."""


class SourceEstimator:
    """One session on the source; use it as a context manager. Use `connect`."""

    def __init__(self, session: Session, policy: SourcePolicy) -> None:
        self._session = session
        self._policy = policy
        self._reader = SourceReader(session, policy)
        shape = self._reader.shape
        self._shape = shape
        self._search = RunSearch(session, policy, shape=shape, statements=SourceStatements(shape, zone=policy.timezone))

    @classmethod
    def connect(cls, conninfo: str, policy: SourcePolicy) -> Self:
        """
        Connect and look the source up.

        Raises:
            SourceError: as `SourceReader.connect` does.
        """
        session = open_session(conninfo, policy)
        try:
            return cls(session, policy)
        except BaseException:
            session.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()

    def oldest_start(self) -> datetime | None:
        """Return when the oldest runs still there started, as `SourceReader.oldest_start` does."""
        return self._reader.oldest_start()

    def rows_between(self, start: datetime, end: datetime, *, as_of: datetime) -> int:
        """
        Return about how many rows of the log belong to ``[start, end)``: those started in it.

        A sixteenth more, or a few hundred, since the ends of the range are not searched for exactly; exact where the log
        is read by an index on a time.

        Args:
            start, end: aware, start before end.
            as_of: aware; the present moment.

        Raises:
            SourceError: what `source_errors` maps.
        """
        search, reading = self._search, Reading(as_of)
        column = _COLUMNS.get(self._shape.search, "started_at")
        if column == "id":
            low, high = search.range_of(reading, oldest=start, newest=end)
        else:
            low, high = (search.raw(column, at, towards="past") for at in (start, end))
        statement = sql.SQL("SELECT count(*) FROM {table} WHERE {column} >= %(low)s AND {column} < %(high)s").format(
            table=sql.Identifier(self._shape.schema, self._shape.runs.name), column=sql.Identifier(column)
        )
        ((rows,),) = search.fetch(reading, statement.as_bytes(), {"low": low, "high": high})
        return int(rows)

    def keys_of(self, day: date, bounds: tuple[datetime, datetime], *, as_of: datetime) -> int:
        """
        Return how many credentials' data types had a sync on a day: the rows of ``quality_daily`` that it gives.

        Args:
            day: in the reporting time zone.
            bounds: its instants ``[from, to)``; aware.
            as_of: aware; the present moment.

        Raises:
            SourceError: as `SourceReader.stream_days` does.
        """
        days: Mapping[date, tuple[datetime, datetime]] = {day: bounds}
        chunks = self._reader.stream_days(days, slack=self._policy.id_slack, as_of=as_of, clock=lambda: as_of)
        return sum(chunk.runs.groupby(["credential_id", "data_type"], observed=True).ngroups for chunk in chunks)

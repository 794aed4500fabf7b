"""
How far back the log goes, and how much a read of some days would be, told without reading them: the dry run of a backfill.

Rows are counted over the range of keys that the days lie in, which an index answers; what one day comes to is told by
reading one (`keys_in`). Where there is no such index, what counts is how often the whole log is gone through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

from psycopg import sql

from include.sync_health.log_start import FirstRow, LogStart, log_start
from include.warehouse.day_stream import DAY, DAYS_PER_READ, DaysRead, stretches
from include.warehouse.run_search import Reading, RunSearch
from include.warehouse.source_schema import SourceShape
from include.warehouse.source_statements import SourceStatements

_COLUMNS = {"id": "id", "completed_at": "completed_at"}
"""The column that a range is counted by, where the log is searched by it; otherwise ``started_at``."""

SCANS_PER_READ = 2
"""Of a log without key or index to search by: one finds the newest start, one the rows."""

SCANS_BEFORE = 1
"""Of such a log, before the first read: it finds the oldest start."""


def oldest_start(*, search: RunSearch, statements: SourceStatements) -> LogStart:
    """
    Return where the log begins, in UTC.

    Looked for among the first rows by key (`SourceStatements.oldest`): a few imported with an old date are strays, and do
    not pass for a past that is gone.

    Args:
        search, statements: of the session.

    Raises:
        SourceError: what `source_errors` maps.
    """
    # Plausible is what does not lie after the database's own now.
    reading = Reading(datetime(2000, 1, 1, tzinfo=UTC))
    rows = search.fetch(reading, statements.oldest, search.clock(reading))
    return log_start(
        [FirstRow(started_at=started.astimezone(UTC), belongs_at=belongs.astimezone(UTC)) for started, belongs in rows]
    )


def rows_between(start: datetime, end: datetime, *, as_of: datetime, shape: SourceShape, search: RunSearch) -> int:
    """
    Return about how many rows of the log belong to ``[start, end)``: those started in it.

    A sixteenth more, or a few hundred, since the ends of the range are not searched for exactly; exact where the log
    is read by an index on a time.

    Args:
        start, end: aware, start before end.
        as_of: aware; the present moment.
        shape, search: of the session.

    Raises:
        SourceError: what `source_errors` maps.
    """
    reading = Reading(as_of)
    column = _COLUMNS.get(shape.search, "started_at")
    if column == "id":
        low, high = search.range_of(reading, oldest=start, newest=end)
    else:
        low, high = (search.raw(column, at, towards="past") for at in (start, end))
    statement = sql.SQL("SELECT count(*) FROM {table} WHERE {column} >= %(low)s AND {column} < %(high)s").format(
        table=sql.Identifier(shape.schema, shape.runs.name), column=sql.Identifier(column)
    )
    ((rows,),) = search.fetch(reading, statement.as_bytes(), {"low": low, "high": high})
    return int(rows)


def keys_in(chunks: Iterable[DaysRead]) -> int:
    """Return how many credentials' data types had a sync in each chunk: of a day, its rows of ``quality_daily``."""
    return sum(chunk.runs.groupby(["credential_id", "data_type"], observed=True).ngroups for chunk in chunks)


def scans_of(
    days: Sequence[date], *, rows_per_day: int, rows_per_read: int, id_slack: timedelta, shape: SourceShape
) -> int:
    """
    Return how often the whole log is gone through to restate days; 0 where a key or an index finds them.

    As `SourceReader.stream_days` reads them, and about: days are taken to have equally many rows, and few details, many
    of which make the reads smaller.

    Args:
        days: sorted.
        rows_per_day: 0 or more.
        rows_per_read: as `SourceReader.stream_days` takes it.
        id_slack: ``source.id_slack``: so much more than its day the first read of a stretch of days goes on for.
        shape: of the source.
    """
    if shape.search != "scan" or not days:
        return 0
    reads, fitting = 0, 1  # the first read is of one day: nothing is known yet of how many rows a day has
    for stretch in stretches(days):
        done, beyond = 0, rows_per_day * (id_slack / DAY)
        while done < len(stretch):
            taken = min(fitting, len(stretch) - done)
            rows = round(rows_per_day + beyond / taken)
            done, beyond, reads = done + taken, 0.0, reads + 1
            fitting = max(1, min(rows_per_read // max(1, rows), DAYS_PER_READ))
    return SCANS_BEFORE + SCANS_PER_READ * reads

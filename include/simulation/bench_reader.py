"""
How much the source reader costs against the least and the most that PostgreSQL can do with the same question.

The question: which runs failed in the last hour? Asked of tables of several sizes at one rate of rows per day, in
an embedded PostgreSQL, over warm connections, interleaved round by round:

    ours      `SourceReader.read_failed_runs`: search, read and frame, nothing remembered between calls
    floor     the same rows through a partial index made for the question, on a copy of the table (an index on the
              table itself would help ours), into the same frame by the same code
    tuples    the floor's rows alone, as Python tuples: what PostgreSQL and the driver take, without any frame
    read_sql  ``pandas.read_sql`` over the window of keys that ours found, filtered in pandas; its search is free
    scan      the same rows from the table without an index, into the same frame
    tick      what the 15-minute check reads: all runs finished in 7 days, and open ones

Only ratios are claimed; milliseconds depend on the machine. ``python -m include.simulation.bench_reader`` prints
them against the targets and exits 1 when one is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd
import psycopg
import sqlalchemy

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import create_source
from include.simulation.postgres import EmbeddedPostgres
from include.sync_health.frames import DATA_TYPES, ERROR_TEXT_LIMIT, RUN_COLUMNS, RUN_STATUSES
from include.sync_health.policy import SourcePolicy
from include.warehouse.binary_arrays import raw_row
from include.warehouse.run_rows import RawRows
from include.warehouse.source_reader import RunsRead, SourceReader
from include.warehouse.source_session import open_session
from include.warehouse.source_statements import SourceStatements

UNTIL = datetime(2026, 3, 2, 12, tzinfo=UTC)
ROWS_PER_DAY = 10_000
WINDOW, TICK_WINDOW = timedelta(hours=1), timedelta(days=7)
ROUNDS, SHORT_READS = 15, 7

FLOOR_MOST, SCAN_LEAST, GROWTH_MOST = 8.0, 50.0, 1.3
"""The targets: ours at most so many floors, so many times cheaper than the scan, and its growth from 1 to 10 million."""

SERVER = {"fsync": "off", "max_wal_size": "8GB", "shared_buffers": "512MB"}

EXPLAIN = (
    "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 -c auto_explain.log_analyze=on"
    " -c auto_explain.log_buffers=on -c auto_explain.log_format=json -c auto_explain.log_level=notice"
)
"""Makes the server send EXPLAIN (ANALYZE, BUFFERS) of every statement of a session as a notice."""

FLOOR = "floor.servicetitan_sync_logs"

CONDITION = "status = 'failed' AND completed_at > %(finished_from)s AND completed_at <= %(as_of)s"

ANSWER = f"""
SELECT id, service_titan_credential_id, data_type, status, started_at, completed_at, left(error_message, {ERROR_TEXT_LIMIT})
FROM {{table}} WHERE {CONDITION} ORDER BY completed_at, id
"""  # noqa: S608 - constants and two table names of this module

PARAMETERS = {"finished_from": (UNTIL - WINDOW).replace(tzinfo=None), "as_of": UNTIL.replace(tzinfo=None)}


@dataclass(slots=True)
class Measured:
    """
    One table's measurements: milliseconds by kind of read, one per round; what ours and the scan touched.

    ``touched`` holds, for ours, the tick and the scan, rows and shared buffers over all statements of one read.
    """

    rows: int
    ms: dict[str, list[float]] = field(default_factory=dict)
    touched: dict[str, tuple[int, int]] = field(default_factory=dict)
    answer_rows: int = 0
    tick_rows: int = 0
    round_trips: int = 0

    def median(self, kind: str) -> float:
        """Return the median milliseconds of one kind of read."""
        return statistics.median(self.ms[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A ratio and what it must keep to."""

    name: str
    ratio: float
    limit: float
    is_at_most: bool

    @property
    def is_met(self) -> bool:
        """Return whether the ratio keeps to its limit."""
        return self.ratio <= self.limit if self.is_at_most else self.ratio >= self.limit


def run(rows: Sequence[int] = (1_000_000, 10_000_000), *, rounds: int = ROUNDS) -> list[Measured]:
    """
    Build tables of these sizes in a private server, measure, and return the measurements in the order given.

    Raises:
        AssertionError: two ways of asking gave different rows.
    """
    with tempfile.TemporaryDirectory(prefix="bench-reader-") as home:
        Path(home).chmod(0o755)  # the server's account must be able to enter
        with EmbeddedPostgres(Path(home) / "data", settings=SERVER) as server:
            benches = [_Bench(_build(server, count), Measured(count)) for count in rows]
            for bench in benches:
                bench.check_answers()
                bench.explain()
            for number in range(rounds):
                for bench in benches if number % 2 else reversed(benches):
                    bench.measure()
            for bench in benches:
                bench.close()
            return [bench.measured for bench in benches]


def targets(measured: Sequence[Measured]) -> list[Target]:
    """Return the targets, judged at the largest table; growth only where there are two."""
    smallest, largest = min(measured, key=lambda m: m.rows), max(measured, key=lambda m: m.rows)
    found = [
        Target(
            name="ours / floor",
            ratio=largest.median("ours") / largest.median("floor"),
            limit=FLOOR_MOST,
            is_at_most=True,
        ),
        Target(
            name="scan / ours",
            ratio=largest.median("scan") / largest.median("ours"),
            limit=SCAN_LEAST,
            is_at_most=False,
        ),
    ]
    if smallest is not largest:
        ratio = largest.median("ours") / smallest.median("ours")
        found.append(Target(name="ours, largest / smallest", ratio=ratio, limit=GROWTH_MOST, is_at_most=True))
    return found


class _Bench:
    """One table with its warm connections."""

    def __init__(self, dsn: str, measured: Measured) -> None:
        self.measured = measured
        self._dsn = dsn
        self._reader = SourceReader.connect(dsn, SourcePolicy())
        self._plain = psycopg.connect(dsn, autocommit=True)
        self._plain.execute("SET max_parallel_workers_per_gather = 0")  # as ours
        self._engine = sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))
        self._alchemy = self._engine.connect()
        ours = SourceStatements(self._reader.shape, zone="UTC").runs(
            "window", only_failed=True, by_credential=False, by_environment=False
        )
        self._floor_arrays = ours.rpartition(b" FROM ")[0] + f" FROM {FLOOR} WHERE {CONDITION}".encode()
        self._low = int(self._ours().runs["sync_id"].min()) - ROWS_PER_DAY

    def close(self) -> None:
        self._reader.close()
        self._plain.close()
        self._alchemy.close()
        self._engine.dispose()

    def check_answers(self) -> None:
        """Compare the frames of every way of asking."""
        read = self._ours()
        self.measured.answer_rows, self.measured.round_trips = len(read.runs), read.round_trips
        self.measured.tick_rows = len(self._tick().runs)
        pd.testing.assert_frame_equal(self._floor(), read.runs)
        for answer in (self._read_sql(), self._scan()):
            pd.testing.assert_frame_equal(answer, read.runs.drop(columns=["is_cancelled", "finished_at"]))

    def explain(self) -> None:
        """Sum up what PostgreSQL says each read touched."""
        plans: list[dict[str, Any]] = []

        def keep(diagnostic: psycopg.errors.Diagnostic) -> None:
            _, _, plan = (diagnostic.message_primary or "").partition("plan:")
            if plan:
                plans.append(json.loads(plan)["Plan"])

        session = open_session(f"{self._dsn}?{_query(options=EXPLAIN)}", SourcePolicy())
        reader = SourceReader(session, SourcePolicy())
        session.add_notice_handler(keep)
        with reader:
            for kind, read in (("ours", self._ours), ("tick", self._tick)):
                plans.clear()
                read(reader)
                self.measured.touched[kind] = _touched(plans)
            plans.clear()
            session.execute(ANSWER.format(table="servicetitan_sync_logs").encode(), PARAMETERS)
            self.measured.touched["scan"] = _touched(plans)

    def measure(self) -> None:
        """Time each read, the short ones several times: a single one is at the mercy of what else the machine does."""
        reads: dict[str, tuple[Callable[[], object], int]] = {
            "ours": (self._ours, SHORT_READS),
            "floor": (self._floor, SHORT_READS),
            "tuples": (self._tuples, SHORT_READS),
            "read_sql": (self._read_sql, 1),
            "tick": (self._tick, 1),
            "scan": (self._scan, 1),
        }
        for kind, (read, times) in reads.items():
            if times > 1:
                read()  # untimed: the scan before has emptied the processor's caches
            for _ in range(times):
                began = perf_counter()
                read()
                self.measured.ms.setdefault(kind, []).append((perf_counter() - began) * 1_000)

    def _ours(self, reader: SourceReader | None = None) -> RunsRead:
        return (reader or self._reader).read_failed_runs(finished_from=UNTIL - WINDOW, as_of=UNTIL)

    def _tick(self, reader: SourceReader | None = None) -> RunsRead:
        return (reader or self._reader).read_runs(finished_from=UNTIL - TICK_WINDOW, as_of=UNTIL, remembered_open=[])

    def _floor(self) -> pd.DataFrame:
        cursor = self._plain.cursor(binary=True)
        cursor.execute(self._floor_arrays, {**PARAMETERS, "zone": "UTC"}, prepare=True)
        return RawRows(buffers=raw_row(cursor), shape=self._reader.shape, zone="UTC").decoded().frame()

    def _tuples(self) -> list[Any]:
        cursor = self._plain.cursor(binary=True)
        return cursor.execute(ANSWER.format(table=FLOOR).encode(), PARAMETERS, prepare=True).fetchall()

    def _scan(self) -> pd.DataFrame:
        return self._answer("servicetitan_sync_logs")

    def _answer(self, table: str) -> pd.DataFrame:
        cursor = self._plain.cursor(binary=True)
        cursor.execute(ANSWER.format(table=table).encode(), PARAMETERS, prepare=True)
        columns = [column for column in RUN_COLUMNS if column not in ("is_cancelled", "finished_at")]
        order = ["sync_id", "credential_id", "data_type", "status", "started_at", "completed_at", "error_message"]
        return _typed(pd.DataFrame(cursor.fetchall(), columns=order)[columns])

    def _read_sql(self) -> pd.DataFrame:
        window = pd.read_sql(
            sqlalchemy.text(
                "SELECT id AS sync_id, service_titan_credential_id AS credential_id, data_type, status, started_at,"
                " completed_at, error_message FROM servicetitan_sync_logs WHERE id >= :low"
            ),
            self._alchemy,
            params={"low": self._low},
        )
        is_answer = (window["status"] == "failed") & (window["completed_at"] > PARAMETERS["finished_from"])
        return _typed(window[is_answer].sort_values(["completed_at", "sync_id"], ignore_index=True))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Give a plain frame the types of `RUN_COLUMNS`."""
    for column in ("started_at", "completed_at"):
        frame[column] = frame[column].astype("datetime64[us]").dt.tz_localize("UTC")
    frame["data_type"] = pd.Categorical(frame["data_type"], categories=list(DATA_TYPES))
    frame["status"] = pd.Categorical(frame["status"], categories=list(RUN_STATUSES))
    frame["error_message"] = frame["error_message"].astype(object)
    return frame


def _build(server: EmbeddedPostgres, rows: int) -> str:
    dsn = server.create_database(f"source_{rows}")
    create_source(dsn, shape="migrations")
    bulk_history(dsn, shape="migrations", rows=rows, rows_per_day=ROWS_PER_DAY, until=UNTIL)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA floor")
        conn.execute(f"CREATE TABLE {FLOOR} AS TABLE servicetitan_sync_logs")
        conn.execute(f"CREATE INDEX ON {FLOOR} (completed_at) WHERE status = 'failed'")
        conn.execute(f"VACUUM (ANALYZE) {FLOOR}")
    return dsn


def _query(**parameters: str) -> str:
    from urllib.parse import quote, urlencode

    return urlencode(parameters, quote_via=quote)


def _touched(plans: list[dict[str, Any]]) -> tuple[int, int]:
    """Return rows read from tables and shared buffers, summed over plans."""
    rows = 0
    pending = list(plans)
    while pending:
        node = pending.pop()
        pending += node.get("Plans", ())
        if "Relation Name" in node:
            rows += round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    return rows, sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)


def _print_report(measured: Sequence[Measured], found: Sequence[Target]) -> None:
    kinds = ("ours", "floor", "tuples", "read_sql", "scan", "tick")
    print(f"failed runs of the last hour; medians of {len(measured[0].ms['scan'])} rounds, milliseconds")
    print(f"{'table rows':>12}" + "".join(f"{kind:>10}" for kind in kinds) + f"{'round trips':>13}")
    for one in measured:
        print(f"{one.rows:>12,}" + "".join(f"{one.median(kind):>10.2f}" for kind in kinds) + f"{one.round_trips:>13}")
    print("\nrows and shared buffers touched (EXPLAIN ANALYZE, all statements of one read)")
    for one in measured:
        parts = (f"{kind} {rows:,} rows {buffers:,} buffers" for kind, (rows, buffers) in one.touched.items())
        print(f"{one.rows:>12,} " + "; ".join(parts))
    largest = max(measured, key=lambda m: m.rows)
    print(f"\nthe answer has {largest.answer_rows} rows, the same in every way; the tick's {largest.tick_rows:,}")
    ours = largest.median("ours")
    print(
        f"read_sql / ours: {largest.median('read_sql') / ours:.1f}; ours / tuples: {ours / largest.median('tuples'):.1f}"
    )
    for target in found:
        sign = "<=" if target.is_at_most else ">="
        verdict = "pass" if target.is_met else "MISS"
        print(f"{verdict}  {target.name}: {target.ratio:.2f} ({sign} {target.limit:g})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench from a shell and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m include.simulation.bench_reader",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the docstring holds a table
    )
    parser.add_argument("--rows", type=int, action="append", help="a table's size; repeatable (1 and 10 million)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(arguments)
    measured = run(given.rows or (1_000_000, 10_000_000), rounds=given.rounds)
    found = targets(measured)
    _print_report(measured, found)
    return 0 if all(target.is_met for target in found) else 1


if __name__ == "__main__":
    sys.exit(main())

"""
How much the daily aggregates and the 6-hour quality check cost against what PostgreSQL and pandas take for the same.

One embedded PostgreSQL with one source of so many rows, days and credentials, its settings the same for all; by rounds,
interleaved:

    ours            `restate_days` over all days into empty tables: read, aggregate, write. In a process of its own, whose
                    memory above that of the loaded process is told, for all days and for half of them
    read+aggregate  the same without writing
    read            the same without aggregating
    copy            the bare binary COPY of the needed columns, thrown away
    insert select   one INSERT ... SELECT ... ON CONFLICT DO UPDATE of all the same columns inside PostgreSQL
    read_sql        pandas.read_sql, groupby and executemany of upserts, which would take gigabytes and many minutes: over
                    the last days only, and ours over the same days beside it

and of the last 24 hours, without an index upstream:

    check           `SourceReader.read_runs` and `judge_data_quality`
    aggregate       what it judges by, as one aggregate over the same range of the primary key
    check read_sql  ``pandas.read_sql`` over that range; its search is free

All answers are compared: exactly, floats within 1e-9 of themselves. Only ratios are claimed.
``python -m include.simulation.bench_quality`` prints them against the targets and exits 1 when one is missed. Memory is
read from /proc: Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
import sqlalchemy

from include.orchestration.day_restatement import aggregated_days
from include.simulation.bench_check import CheckWays, require_same
from include.simulation.bench_reader import Target
from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import create_source
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.quality_baselines import Days, copy_out, differing, insert_select, read_and_upsert
from include.sync_health.daily_quality import DAILY_COLUMNS, DAILY_KEY, day_bounds
from include.sync_health.policy import Policy
from include.warehouse.migration import upgrade
from include.warehouse.quality_daily import days_between
from include.warehouse.quality_merge import DAILY_TYPES
from include.warehouse.source_reader import SourceReader

UNTIL = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)
ROUNDS, CHECK_ROUNDS = 2, 15
SLICE_DAYS = 40

READ_SQL_LEAST, INSERT_MOST, COPY_MOST, CHECK_MOST = 4.0, 1.0, 1.3, 1.2
MEMORY_MOST_MIB, GROWTH_MOST = 256.0, 1.1
"""The targets: read_sql at least so many times ours, and ours at most so many times the others; memory above the loaded
process, and its growth from half of the days to all."""

SERVER = {
    "fsync": "off",
    "shared_buffers": "512MB",
    "work_mem": "256MB",
    "max_wal_size": "8GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "30min",
}
"""The same for all: the INSERT ... SELECT sorts and hashes in memory."""

OURS, INSERTED, UPSERTED = "monitoring.quality_daily", "baseline.inserted", "baseline.upserted"
FLOATS = tuple(column for column, kind in DAILY_TYPES.items() if kind == "float8")
EXACT = tuple(column for column in DAILY_COLUMNS if column not in (*DAILY_KEY, *FLOATS))


@dataclass(slots=True)
class Measured:
    """
    What was measured.

    Args:
        rows, days, credentials: of the source.
        slice_days: over which read_sql was measured.
        seconds: by way, one per round.
        memory_mib: peak of ours above the loaded process, by number of days.
        aggregates: rows that ours wrote.
        check_rows: runs that the check read.
    """

    rows: int
    days: int
    credentials: int
    slice_days: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: dict[int, float] = field(default_factory=dict)
    aggregates: int = 0
    check_rows: int = 0

    def median(self, way: str) -> float:
        """Return the median seconds of one way."""
        return statistics.median(self.seconds[way])


def run(
    rows: int = 10_000_000,
    *,
    days: int = 400,
    credentials: int = 10_000,
    slice_days: int = SLICE_DAYS,
    rounds: int = ROUNDS,
    check_rounds: int = CHECK_ROUNDS,
    tell: Callable[[str], None] = lambda line: None,
) -> Measured:
    """
    Build the source in a private server, measure, and return the measurements.

    Raises:
        AssertionError: two ways gave different rows.
    """
    measured = Measured(rows, days, credentials, min(slice_days, days))
    with tempfile.TemporaryDirectory(prefix="bench-quality-") as home:
        Path(home).chmod(0o755)  # the server's account must be able to enter
        with EmbeddedPostgres(Path(home) / "data", settings=SERVER) as server:
            dsn = server.create_database("source")
            create_source(dsn, shape="migrations")
            bulk_history(
                dsn,
                shape="migrations",
                rows=rows,
                rows_per_day=rows / days,
                until=UNTIL,
                credentials=credentials,
                one_data_type=True,
            )
            upgrade(dsn)
            tell(f"made {rows:,} rows")
            with _Bench(dsn, measured, tell=tell) as bench:
                bench.measure_check(check_rounds)
                for _ in range(rounds):
                    bench.measure_days()
                bench.measure_slice()
                bench.measure_memory()
    return measured


def targets(measured: Measured) -> list[Target]:
    """Return the targets, judged by medians."""
    ours, memory = measured.median("ours"), measured.memory_mib
    half, whole = memory[min(memory)], memory[max(memory)]
    given = (
        ("read_sql / ours", measured.median("read_sql") / measured.median("ours, slice"), READ_SQL_LEAST, False),
        ("ours / insert select", ours / measured.median("insert select"), INSERT_MOST, True),
        ("read+aggregate / copy", measured.median("read+aggregate") / measured.median("copy"), COPY_MOST, True),
        ("memory of ours, MiB", whole, MEMORY_MOST_MIB, True),
        ("memory, all days / half of them", whole / max(half, 1.0), GROWTH_MOST, True),
        ("check / aggregate", measured.median("check") / measured.median("aggregate"), CHECK_MOST, True),
    )
    return [Target(name=name, ratio=ratio, limit=limit, is_at_most=at_most) for name, ratio, limit, at_most in given]


class _Bench:
    """The source and the tables beside it, with warm connections."""

    def __init__(self, dsn: str, measured: Measured, *, tell: Callable[[str], None]) -> None:
        self.measured, self._dsn, self._tell = measured, dsn, tell
        self._policy = Policy()
        self._last = (UNTIL - DAY).date()
        self._conn = psycopg.connect(dsn, autocommit=True)
        self._conn.execute("SET max_parallel_workers_per_gather = 0")  # as ours
        self._conn.execute("CREATE SCHEMA baseline")
        for table in (INSERTED, UPSERTED):
            self._conn.execute(f"CREATE TABLE {table} (LIKE {OURS} INCLUDING ALL)".encode())
        self._engine = sqlalchemy.create_engine(dsn.replace("postgresql://", "postgresql+psycopg://"))

    def __enter__(self) -> _Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._conn.close()
        self._engine.dispose()

    def days(self, count: int) -> Days:
        """Return the last days of the source."""
        policy = self._policy
        return Days(
            first=self._last - (count - 1) * DAY,
            last=self._last,
            zone=policy.reporting_timezone,
            as_of=UNTIL,
            late_data_days=policy.late_data_days,
        )

    def measure_days(self) -> None:
        """Time one round of all days; where both wrote, compare."""
        days = self.days(self.measured.days)
        self._time("copy", lambda: copy_out(self._conn, days))
        self._time("read", lambda: read_days(self._dsn, days, policy=self._policy, aggregate=False))
        self._time("read+aggregate", lambda: read_days(self._dsn, days, policy=self._policy, aggregate=True))
        self._empty(INSERTED)
        self._time("insert select", lambda: insert_select(self._conn, days, table=INSERTED))
        self._ours("ours", self.measured.days)
        self.measured.aggregates = self._count(OURS)
        self._compare(INSERTED)
        self._empty(INSERTED)

    def measure_slice(self) -> None:
        """Time the usual way in Python against ours over the last days, and compare."""
        with self._engine.connect() as alchemy:
            self._time(
                "read_sql",
                lambda: read_and_upsert(alchemy, self._conn, self.days(self.measured.slice_days), table=UPSERTED),
            )
        self._ours("ours, slice", self.measured.slice_days)
        self._compare(UPSERTED)

    def measure_memory(self) -> None:
        """Run ours over half of the days; all of them were measured before."""
        self._ours("ours, half", max(1, self.measured.days // 2))

    def measure_check(self, rounds: int) -> None:
        """Time the quality check of the last 24 hours."""
        with SourceReader.connect(self._dsn, self._policy.source) as reader, self._engine.connect() as alchemy:
            cursor = self._conn.cursor(binary=True)
            ways = CheckWays(reader, cursor, alchemy, policy=self._policy.rules.data_quality, until=UNTIL)
            self.measured.check_rows = ways.rows
            for _ in range(rounds):
                self._time("check", ways.check, quiet=True)
                self._time("aggregate", ways.aggregate, quiet=True)
                self._time("check read_sql", ways.read_sql, quiet=True)

    def _ours(self, way: str, count: int) -> None:
        for table in ("quality_daily", "field_quality_daily", "quality_day", "quality_revision"):
            self._empty(f"monitoring.{table}")
        days = self.days(count)
        # The password is not for the process list.
        child = subprocess.run(
            [sys.executable, "-m", "include.simulation.bench_quality", "--child", f"{days.first}", f"{days.last}"],
            env={**os.environ, "BENCH_DSN": self._dsn},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        said = json.loads(child.stdout.splitlines()[-1])
        self._keep(way, said["seconds"])
        if count in (self.measured.days, max(1, self.measured.days // 2)):
            before = self.measured.memory_mib.get(count, 0.0)
            self.measured.memory_mib[count] = max(before, said["memory_mib"])

    def _time(self, way: str, work: Callable[[], object], *, quiet: bool = False) -> None:
        began = perf_counter()
        work()
        self._keep(way, perf_counter() - began, quiet=quiet)

    def _keep(self, way: str, seconds: float, *, quiet: bool = False) -> None:
        self.measured.seconds.setdefault(way, []).append(seconds)
        if not quiet:
            self._tell(f"{way}: {seconds:.1f} s")

    def _empty(self, table: str) -> None:
        self._conn.execute(f"TRUNCATE {table}".encode())

    def _count(self, table: str) -> int:
        row = self._conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()  # noqa: S608 - constants of this module
        return int(row[0]) if row else 0

    def _compare(self, table: str) -> None:
        # Without statistics the join of two tables that were just filled is planned as if they were empty.
        self._conn.execute(f"ANALYZE {OURS}, {table}".encode())
        require_same(self._count(OURS), self._count(table), what=f"rows of {table}")
        require_same(
            differing(self._conn, one=OURS, other=table, exact=EXACT, floats=FLOATS),
            0,
            what=f"different rows in {table}",
        )


def read_days(dsn: str, days: Days, *, policy: Policy, aggregate: bool) -> int:
    """Read days as `restate_days` does, aggregate them or not, and return the rows of the last step."""
    bounds = {day: day_bounds(day, timezone=days.zone) for day in days_between(days.first, days.last)}
    with SourceReader.connect(dsn, policy.source) as reader:
        slack = policy.source.id_slack
        if aggregate:
            found = aggregated_days(
                reader, bounds, policy=policy, as_of=days.as_of, clock=lambda: datetime.now(UTC), slack=slack
            )
            return sum(len(aggregates.daily) for _, aggregates in found)
        chunks = reader.stream_days(bounds, slack=slack, as_of=days.as_of, clock=lambda: datetime.now(UTC))
        return sum(len(chunk.runs) for chunk in chunks)


def _restate(dsn: str, first: date, last: date) -> dict[str, float]:
    """Restate days in this process; return seconds, and mebibytes of memory above what was loaded before."""
    from include.orchestration.day_restatement import restate_days

    policy = Policy()
    before = _memory_mib("VmRSS")
    began = perf_counter()
    restate_days(
        dsn,
        dsn,
        policy=policy,
        days=days_between(first, last),
        as_of=UNTIL,
        clock=lambda: datetime.now(UTC),
        slack=policy.source.id_slack,
    )
    return {"seconds": perf_counter() - began, "memory_mib": _memory_mib("VmHWM") - before}


def _memory_mib(name: str) -> float:
    # Not getrusage: its peak is that of the parent at first, who is larger.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines())
    return int(lines[name].split()[0]) / 1024


def _print_report(measured: Measured, found: Sequence[Target]) -> None:
    print(
        f"{measured.rows:,} rows over {measured.days} days and {measured.credentials:,} credentials: "
        f"{measured.aggregates:,} aggregates, the same in every way"
    )
    print("PostgreSQL, for all: " + ", ".join(f"{name} {value}" for name, value in SERVER.items()))
    titles: Mapping[str, str] = {
        "copy": "all days",
        "read": "all days",
        "read+aggregate": "all days",
        "ours": "all days, with the write",
        "insert select": "all days",
        "ours, half": "half of the days",
        "read_sql": f"last {measured.slice_days} days",
        "ours, slice": f"last {measured.slice_days} days",
        "check": f"{measured.check_rows:,} runs of 24 hours",
        "aggregate": "the same",
        "check read_sql": "the same",
    }
    for way, what in titles.items():
        times = measured.seconds[way]
        print(
            f"{way:>16} {measured.median(way):>10.3f} s  ({len(times)}: {min(times):.3f} to {max(times):.3f})  {what}"
        )
    for days, mib in sorted(measured.memory_mib.items()):
        print(f"memory of ours above the loaded process, {days} days: {mib:.0f} MiB")
    ours = measured.median("ours")
    parts: Sequence[tuple[str, Any]] = (
        ("read", measured.median("read")),
        ("aggregate", measured.median("read+aggregate") - measured.median("read")),
        ("write beyond what overlaps", ours - measured.median("read+aggregate")),
    )
    print("of ours: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts))
    for target in found:
        verdict = "pass" if target.is_met else "MISS"
        print(f"{verdict}  {target.name}: {target.ratio:.2f} ({'<=' if target.is_at_most else '>='} {target.limit:g})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench from a shell and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m include.simulation.bench_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the docstring holds a table
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--credentials", type=int, default=10_000)
    parser.add_argument("--slice-days", type=int, default=SLICE_DAYS, help="days for read_sql")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--check-rounds", type=int, default=CHECK_ROUNDS)
    parser.add_argument("--child", nargs=2, type=date.fromisoformat, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps(_restate(os.environ["BENCH_DSN"], *given.child)))
        return 0
    measured = run(
        given.rows,
        days=given.days,
        credentials=given.credentials,
        slice_days=given.slice_days,
        rounds=given.rounds,
        check_rounds=given.check_rounds,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    found = targets(measured)
    _print_report(measured, found)
    return 0 if all(target.is_met for target in found) else 1


if __name__ == "__main__":
    sys.exit(main())

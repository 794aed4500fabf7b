"""
How fast the application's log is read and counted, against what parsing its lines takes alone.

A file of so many lines, as the application writes them, and one of half as many; by rounds, interleaved, in processes of
their own:

    ours        `ingest_logs` into an embedded PostgreSQL: read, counted, committed chunk by chunk. Its memory above that of
                the loaded process is told
    half        the same of half as many lines, for its memory
    json        ``json.loads`` of each line, thrown away
    orjson      ``orjson.loads`` of each line, thrown away

What ours has counted is compared with what was planned when the file was written. Only ratios are claimed.
``python -m include.simulation.bench_monolog`` prints them against the targets and exits 1 when one is missed. Memory is
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import psycopg

from include.simulation.bench_reader import Target
from include.simulation.monolog_files import START, LogPlan, write_log
from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.migration import upgrade

LINES, ROUNDS = 5_000_000, 5

JSON_LEAST, MEMORY_MOST_MIB, GROWTH_MOST = 2.5, 256.0, 1.1
"""The targets: json at least so many times ours; memory above the loaded process, and its growth from half to whole."""

_WAYS = ("ours", "json", "orjson", "half")


@dataclass(slots=True)
class Measured:
    """
    What was measured.

    Args:
        lines, size: of the file; bytes.
        requests: that ours counted, as many as were planned.
        seconds: by way, one per round.
        memory_mib: peak above the loaded process, by way, one per round.
    """

    lines: int
    size: int = 0
    requests: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: dict[str, list[float]] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Return the median seconds of one way."""
        return statistics.median(self.seconds[way])

    def memory(self, way: str) -> float:
        """Return the median mebibytes of one way."""
        return statistics.median(self.memory_mib[way])


def run(lines: int = LINES, *, rounds: int = ROUNDS, tell: Callable[[str], None] = lambda line: None) -> Measured:
    """
    Write the files, measure, and return the measurements.

    Raises:
        AssertionError: what ours counted is not what was planned.
    """
    measured = Measured(lines)
    with tempfile.TemporaryDirectory(prefix="bench-monolog-") as home:
        Path(home).chmod(0o755)  # the server's account must be able to enter
        whole, half = Path(home) / "servicetitan.log", Path(home) / "half.log"
        plan = LogPlan(lines=lines, credentials=200, processes=8, gap=86_400 / lines, ordinary=0.99)
        truth = write_log(whole, plan)
        write_log(half, replace(plan, lines=lines // 2))
        measured.size, measured.requests = whole.stat().st_size, sum(truth.requests.values())
        tell(f"wrote {truth.lines:,} lines, {measured.size / 2**20:,.0f} MiB")
        with EmbeddedPostgres(Path(home) / "data", settings={"fsync": "off"}) as server:
            for number in range(rounds):
                for way in _WAYS:
                    dsn = _fresh(server, f"{way}_{number}") if way in ("ours", "half") else ""
                    found = _child(way, half if way == "half" else whole, dsn)
                    measured.seconds.setdefault(way, []).append(found["seconds"])
                    measured.memory_mib.setdefault(way, []).append(found["memory_mib"])
                    tell(f"{way}: {found['seconds']:.1f} s")
                    if way == "ours":
                        _require_truth(dsn, measured.requests)
    return measured


def targets(measured: Measured) -> list[Target]:
    """Return the targets, judged by medians."""
    half, whole = measured.memory("half"), measured.memory("ours")
    given = (
        ("json.loads / ours", measured.median("json") / measured.median("ours"), JSON_LEAST, False),
        ("memory of ours, MiB", whole, MEMORY_MOST_MIB, True),
        ("memory, all lines / half of them", whole / max(half, 1.0), GROWTH_MOST, True),
    )
    return [Target(name=name, ratio=ratio, limit=limit, is_at_most=at_most) for name, ratio, limit, at_most in given]


def _fresh(server: EmbeddedPostgres, name: str) -> str:
    dsn = server.create_database(name)
    upgrade(dsn)
    return dsn


def _require_truth(dsn: str, requests: int) -> None:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("SELECT coalesce(sum(requests), 0) FROM monitoring.api_call_hourly").fetchone()
    if row is None or row[0] != requests:
        raise AssertionError(f"{row and row[0]} requests were counted, {requests} were written")


def _child(way: str, file: Path, dsn: str) -> dict[str, float]:
    told = subprocess.run(
        [sys.executable, "-m", "include.simulation.bench_monolog", "--child", way, str(file)],
        check=True,
        capture_output=True,
        env={**os.environ, "BENCH_DSN": dsn},
        text=True,
    )
    found: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return found


def _measure(way: str, file: Path) -> dict[str, float]:
    """Do one way in this process; return seconds, and mebibytes of memory above what was loaded before."""
    if way in ("ours", "half"):
        work = _ours(file)
    elif way == "json":
        work = _loop(file, json.loads)
    else:
        import orjson

        work = _loop(file, orjson.loads)
    before, began = _memory_mib("VmRSS"), perf_counter()
    work()
    return {"seconds": perf_counter() - began, "memory_mib": _memory_mib("VmHWM") - before}


def _ours(file: Path) -> Callable[[], None]:
    import include.sync_health.api_calls
    import include.sync_health.log_calls
    import include.sync_health.log_reader
    import include.warehouse.api_hours
    import include.warehouse.log_positions  # noqa: F401 - loaded before it is measured
    from include.orchestration.log_ingestion import ingest_logs
    from include.sync_health.measuring_policies import ApiCallsPolicy

    def work() -> None:
        ingest_logs(
            os.environ["BENCH_DSN"],
            policy=ApiCallsPolicy(logs=(str(file),)),
            names={},
            zone=UTC,
            clock=lambda: datetime(START.year + 1, 1, 1, tzinfo=UTC),
        )

    return work


def _loop(file: Path, loads: Callable[[bytes], object]) -> Callable[[], None]:
    def work() -> None:
        with file.open("rb") as lines:
            for line in lines:
                try:
                    loads(line)
                except ValueError:
                    continue

    return work


def _memory_mib(name: str) -> float:
    # Not getrusage: its peak is that of the parent at first, who is larger.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines())
    return int(lines[name].split()[0]) / 1024


def _print_report(measured: Measured, found: Sequence[Target]) -> None:
    print(
        f"{measured.lines:,} lines, {measured.size / 2**20:,.0f} MiB, "
        f"{measured.requests:,} requests, counted as they were written"
    )
    titles = {
        "ours": "read, counted and committed",
        "json": "json.loads alone",
        "orjson": "orjson.loads alone",
        "half": "ours of half the lines",
    }
    for way, what in titles.items():
        times = measured.seconds[way]
        print(f"{way:>8} {measured.median(way):>9.2f} s  ({len(times)}: {min(times):.2f} to {max(times):.2f})  {what}")
    for way, lines in (("ours", measured.lines), ("half", measured.lines // 2)):
        print(f"memory of ours above the loaded process, {lines:,} lines: {measured.memory(way):.0f} MiB")
    for target in found:
        verdict = "pass" if target.is_met else "MISS"
        print(f"{verdict}  {target.name}: {target.ratio:.2f} ({'<=' if target.is_at_most else '>='} {target.limit:g})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench from a shell and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m include.simulation.bench_monolog",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the docstring holds a table
    )
    parser.add_argument("--lines", type=int, default=LINES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(json.dumps(_measure(given.child[0], Path(given.child[1]))))
        return 0
    measured = run(given.lines, rounds=given.rounds, tell=lambda line: print(line, file=sys.stderr, flush=True))
    found = targets(measured)
    _print_report(measured, found)
    return 0 if all(target.is_met for target in found) else 1


if __name__ == "__main__":
    sys.exit(main())

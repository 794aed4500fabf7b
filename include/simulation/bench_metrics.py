"""
How much ``/metrics`` costs against the bare queries that it rests on.

One embedded PostgreSQL with what the monitor has stored of so many credentials and days; the web app beside it in a process
of its own, asked over HTTP with its token, as Prometheus does; by rounds, interleaved:

    bare      the queries, over a warm connection, executed and fetched, and nothing done with the rows
    cold      GET /metrics of an app that keeps no page (``metrics.cache: 0s``), until the last byte is read: a new connection,
              the policy file, the queries, the text, gzip as Prometheus asks for it
    cached    the same of an app that keeps its page
    plain     as cold, but without gzip
    uncapped  as cold, but with every series that there is: no family is left out by ``metrics.series_cap``
    library   ``prometheus_client.generate_latest`` over the very families of ``uncapped``, in this process, without the queries

Every page is read back, and what ``library`` writes is the same as ours. Only ratios are claimed.
``python -m include.simulation.bench_metrics`` prints them against the targets and exits 1 when one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from time import perf_counter

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from include.dashboard.exposition import Buckets, Family, written
from include.dashboard.metric_families import metric_families
from include.simulation.bench_reader import Target
from include.simulation.metrics_history import CHECKS, fill_history
from include.simulation.metrics_server import MetricsServer
from include.simulation.postgres import EmbeddedPostgres
from include.sync_health.policy import MonitoringLevel, Policy
from include.warehouse.metric_reader import MetricRows, read_metric_rows
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect

ROUNDS = 7

COLD_MOST, CACHED_LEAST = 3.0, 20.0
"""The targets: cold at most so many times the bare queries, and at least so many times cached."""

SERVER = {
    "fsync": "off",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}
"""The same for all."""

GZIP, PLAIN = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}

UNCAPPED = 5_000_000


@dataclass(slots=True)
class Measured:
    """
    What was measured.

    Args:
        credentials, days: of the history.
        cap: of series.
        series: that were told with the cap.
        all_series: that there were.
        seconds: by way, one per round.
        bytes_sent: by way, of one answer's body.
    """

    credentials: int
    days: int
    cap: int
    series: int = 0
    all_series: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    bytes_sent: dict[str, int] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Return the median seconds of one way."""
        return statistics.median(self.seconds[way])


class FamilyCollector(Collector):
    """Our families as `prometheus_client` collects them: what its writer costs, and an oracle of ours."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Yield one of its metrics for each family that has a series."""
        for family in self._families:
            if not family.series:
                continue
            metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
            for samples in family.samples:
                if isinstance(samples, Buckets):
                    _add_buckets(metric, family.name, samples)
                    continue
                for labels, value in zip(samples.labels.values, samples.values, strict=True):
                    if value is not None:
                        named = dict(zip(samples.labels.names, labels, strict=True))
                        metric.add_sample(family.name + samples.suffix, named, value)
            yield metric


def _add_buckets(metric: Metric, name: str, samples: Buckets) -> None:
    for labels, counts, total in zip(samples.labels.values, samples.counts, samples.sums, strict=True):
        named = dict(zip(samples.labels.names, labels, strict=True))
        for bound, within in zip(samples.bounds, accumulate(counts), strict=True):
            metric.add_sample(f"{name}_bucket", {**named, "le": bound}, within)
        metric.add_sample(f"{name}_sum", named, total)
        metric.add_sample(f"{name}_count", named, sum(counts))


def library_text(families: Sequence[Family]) -> bytes:
    """Return the exposition as `prometheus_client` writes it."""
    registry = CollectorRegistry()
    registry.register(FamilyCollector(families))
    return generate_latest(registry)


def run(
    credentials: int = 10_000,
    *,
    days: int = 365,
    rounds: int = ROUNDS,
    tell: Callable[[str], None] = lambda line: None,
) -> Measured:
    """
    Fill a private server, measure, and return the measurements.

    Raises:
        AssertionError: a page is not what the rows say.
    """
    measured = Measured(credentials, days, Policy().metrics.series_cap)
    with tempfile.TemporaryDirectory(prefix="bench-metrics-") as home, ExitStack() as stack:
        Path(home).chmod(0o755)  # the server's account must be able to enter
        server = stack.enter_context(EmbeddedPostgres(Path(home) / "data", settings=SERVER))
        dsn = server.create_database("monitoring")
        upgrade(dsn)
        fill_history(dsn, credentials=credentials, days=days, now=datetime.now(UTC))
        tell(f"made {days} days of {credentials:,} credentials")

        def served(name: str, overlay: str) -> MetricsServer:
            return stack.enter_context(MetricsServer(Path(home) / name, monitoring_dsn=dsn, overlay=overlay))

        cold = served("cold", "metrics: {cache: 0s}\n")
        cached = served("cached", "metrics: {cache: 10m}\n")
        uncapped = served("uncapped", f"metrics: {{cache: 0s, series_cap: {UNCAPPED}}}\n")
        for app in (cold, cached, uncapped):
            _get(app, GZIP)  # what is imported by the first request, and the page that is kept
        rows = _read(dsn, measured)
        families = metric_families(rows, level=MonitoringLevel.STANDARD, now=datetime.now(UTC))
        for number in range(1, rounds + 1):
            _read(dsn, measured)
            for way, app, encoding in (
                ("cold", cold, GZIP),
                ("cached", cached, GZIP),
                ("plain", cold, PLAIN),
                ("uncapped", uncapped, GZIP),
            ):
                _time(measured, way, app, encoding)
            began = perf_counter()
            library_text(families)
            measured.seconds.setdefault("library", []).append(perf_counter() - began)
            tell(f"round {number} of {rounds}")
        measured.series = _contract_series(_get(cold, PLAIN))
        measured.all_series = sum(family.series for family in families)
        _compare(families)
    return measured


def targets(measured: Measured) -> list[Target]:
    """Return the targets, judged by medians."""
    bare, cold = measured.median("bare"), measured.median("cold")
    return [
        Target(name="cold / bare", ratio=cold / bare, limit=COLD_MOST, is_at_most=True),
        Target(name="uncapped / bare", ratio=measured.median("uncapped") / bare, limit=COLD_MOST, is_at_most=True),
        Target(name="cold / cached", ratio=cold / measured.median("cached"), limit=CACHED_LEAST, is_at_most=False),
        Target(name="series / cap", ratio=measured.series / measured.cap, limit=1.0, is_at_most=True),
    ]


def _read(dsn: str, measured: Measured) -> MetricRows:
    with connect(dsn) as conn:
        conn.execute("SELECT 1")
        conn.commit()
        began = perf_counter()
        rows = read_metric_rows(conn, checks=CHECKS, level=MonitoringLevel.STANDARD, now=datetime.now(UTC))
        measured.seconds.setdefault("bare", []).append(perf_counter() - began)
    return rows


def _time(measured: Measured, way: str, app: MetricsServer, encoding: dict[str, str]) -> None:
    began = perf_counter()
    with app.http.stream("GET", "/metrics", headers=encoding) as answer:
        # As it comes: unpacking is Prometheus' work, not ours.
        size = sum(map(len, answer.iter_raw()))
    measured.seconds.setdefault(way, []).append(perf_counter() - began)
    measured.bytes_sent[way] = size


def _get(app: MetricsServer, encoding: dict[str, str]) -> str:
    answer = app.http.get("/metrics", headers=encoding)
    if answer.status_code != 200:
        raise AssertionError(f"/metrics answered {answer.status_code}: {answer.text[:300]}")
    return answer.text


def _contract_series(text: str) -> int:
    lines = (line for line in text.splitlines() if not line.startswith(("#", "servicetitan_monitor_")))
    return sum(1 for _ in lines)


def _compare(families: Sequence[Family]) -> None:
    """
    Compare what the library writes with ours.

    Raises:
        AssertionError: a sample differs.
    """
    if _samples(written(families)) != _samples(library_text(families)):
        raise AssertionError("the library writes other samples than ours")


def _samples(text: bytes) -> dict[tuple[str, ...], float]:
    """Return values by name and labels, in whatever order and notation they are written; no label here has a comma."""
    pairs = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line[0] != "#")
    return {tuple(sorted(name.rstrip("}").replace("{", ",").split(","))): float(value) for name, value in pairs}


def _print_report(measured: Measured, found: Sequence[Target]) -> None:
    print(
        f"{measured.credentials:,} credentials, {measured.days} days: {measured.series:,} series of "
        f"{measured.all_series:,} with a cap of {measured.cap:,}"
    )
    print("PostgreSQL, for all: " + ", ".join(f"{name} {value}" for name, value in SERVER.items()))
    for way, times in measured.seconds.items():
        size = measured.bytes_sent.get(way)
        told = "" if size is None else f"  {size / 1e6:.2f} MB"
        print(f"{way:>10} {measured.median(way):>8.4f} s  ({len(times)}: {min(times):.4f} to {max(times):.4f}){told}")
    for target in found:
        verdict = "pass" if target.is_met else "MISS"
        print(f"{verdict}  {target.name}: {target.ratio:.2f} ({'<=' if target.is_at_most else '>='} {target.limit:g})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench from a shell and return the exit code: 1 when a target is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m include.simulation.bench_metrics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,  # the docstring holds a table
    )
    parser.add_argument("--credentials", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(arguments)
    measured = run(
        given.credentials,
        days=given.days,
        rounds=given.rounds,
        tell=lambda line: print(line, file=sys.stderr, flush=True),
    )
    found = targets(measured)
    _print_report(measured, found)
    return 0 if all(target.is_met for target in found) else 1


if __name__ == "__main__":
    sys.exit(main())

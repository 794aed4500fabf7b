"""The bench itself: that every way gives the same aggregates, and that a missed target is a failure."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from include.simulation import bench_quality
from include.simulation.bench_quality import Measured, targets
from include.simulation.quality_baselines import differing

LIMITS = {
    "read_sql": 4.0,
    "ours, slice": 1.0,
    "ours": 100.0,
    "insert select": 100.0,
    "read+aggregate": 1.3,
    "copy": 1.0,
    "check": 1.2,
    "aggregate": 1.0,
}
"""Seconds that are exactly at every limit."""


def measured(*, memory_mib: tuple[float, float] = (220.0, 242.0), **seconds: float) -> Measured:
    """Return measurements of three rounds, one of them disturbed, at the limits except where other ``seconds`` are given."""
    found = Measured(rows=10, days=400, credentials=2, slice_days=40)
    found.seconds = {way: [each, each, each * 50] for way, each in {**LIMITS, **seconds}.items()}
    found.memory_mib = {400: memory_mib[1], 200: memory_mib[0]}
    return found


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        pytest.param(measured(), [], id="exactly at the limits is met"),
        pytest.param(measured(read_sql=3.9), ["read_sql / ours"], id="less than four times faster than pandas"),
        pytest.param(measured(ours=101.0), ["ours / insert select"], id="slower than inside PostgreSQL"),
        pytest.param(measured(copy=0.9), ["read+aggregate / copy"], id="more than 1.3 times the bare copy"),
        pytest.param(measured(check=1.3), ["check / aggregate"], id="a check more than 1.2 times its aggregate"),
        pytest.param(measured(memory_mib=(257.0, 257.0)), ["memory of ours, MiB"], id="too much memory"),
        pytest.param(measured(memory_mib=(100.0, 111.0)), ["memory, all days / half of them"], id="memory that grows"),
    ],
)
def test_targets_are_judged_by_medians(given: Measured, missed: list[str]) -> None:
    """Each by itself."""
    assert [target.name for target in targets(given) if not target.is_met] == missed


def test_the_bench_runs_compares_and_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """With so few rows what is fixed weighs most, and some target is missed: the exit code says so."""
    sizes = ["--rows", "6000", "--days", "6", "--credentials", "500", "--slice-days", "2"]
    code = bench_quality.main([*sizes, "--rounds", "1", "--check-rounds", "2"])
    told = capsys.readouterr().out

    assert "6,000 rows over 6 days and 500 credentials: 3,000 aggregates, the same in every way" in told
    assert code == (1 if "MISS" in told else 0)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        pytest.param("score = score + 1e-12", 0, id="a float's last digits are no difference"),
        pytest.param("score = score + 1e-6", 2, id="more of it is"),
        pytest.param("score = NULL", 2, id="nor is none a number"),
        pytest.param("syncs = syncs + 1 WHERE key = 'a'", 1, id="a count is exact"),
        pytest.param("key = key || 'x'", 4, id="rows of one side alone count on both sides"),
    ],
)
def test_differences_are_seen(make_database: Callable[..., str], change: str, count: int) -> None:
    """The comparison itself can fail."""
    with psycopg.connect(make_database(), autocommit=True) as conn:
        conn.execute("CREATE TABLE one (key text, syncs int, score float8)")
        conn.execute("INSERT INTO one VALUES ('a', 1, 50), ('b', 2, 60)")
        conn.execute("CREATE TABLE other AS TABLE one")
        conn.execute(f"UPDATE other SET {change}".encode())
        found = differing(conn, one="one", other="other", key=("key",), exact=("syncs",), floats=("score",))

    assert found == count

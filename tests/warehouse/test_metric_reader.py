"""The rows behind ``/metrics``: that their cost follows the series, not the history, and that they are of one moment."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.policy import MonitoringLevel
from include.warehouse import metric_reader
from include.warehouse.metric_reader import STATUS_KEPT, read_metric_rows, told_sources

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def test_old_snapshots_are_not_read(conn: psycopg.Connection[Any]) -> None:
    """A thousand snapshots of each of 50 credentials: a handful of rows of each are looked at."""
    conn.execute(
        "INSERT INTO monitoring.credential_snapshot SELECT n::text, %(now)s - back * interval '6 hours', '1', 'Acme',"
        " 'production', 'active', %(now)s, true, true, false FROM generate_series(1, 50) AS n,"
        " generate_series(0, 999) AS back",
        {"now": NOW},
    )
    conn.commit()
    conn.autocommit = True
    conn.execute("VACUUM (ANALYZE) monitoring.credential_snapshot")
    values = {"unknown": "unknown", "statuses": ["active"], "since": NOW - STATUS_KEPT}
    explained = conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {metric_reader._CREDENTIALS}", values).fetchone()
    assert explained is not None

    assert rows_touched(explained[0][0]["Plan"]) < 50 * 20
    assert "Seq Scan" not in json.dumps(explained[0])


def rows_touched(plan: dict[str, Any]) -> float:
    """Return how many rows the scans of a plan gave and threw away."""
    mine = 0.0
    if plan.get("Relation Name") == "credential_snapshot":
        mine = plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    return mine + sum(rows_touched(each) for each in plan.get("Plans", ()))


def test_classes_of_failures_are_read_only_where_they_are_told(conn: psycopg.Connection[Any]) -> None:
    """Below ``detailed`` nobody asks for them."""
    conn.execute(
        "INSERT INTO monitoring.sync_counter (environment, company_id, credential_id, data_type, status, syncs,"
        " failed_by_class, updated_at) VALUES ('production', '1', '7', 'customers', 'failed', 3,"
        ' \'{"auth": 2, "server": 1}\', now())'
    )
    conn.commit()

    failures = {
        level: sorted(read_metric_rows(conn, checks=(), level=level, now=NOW).failures) for level in MonitoringLevel
    }

    assert failures == {
        MonitoringLevel.MINIMAL: [],
        MonitoringLevel.STANDARD: [],
        MonitoringLevel.DETAILED: [
            ("production", "customers", "auth", "1", "7", 2),
            ("production", "customers", "server", "1", "7", 1),
        ],
    }


def test_a_naive_now_is_refused(conn: psycopg.Connection[Any]) -> None:
    """A token's time would be wrong by hours."""
    with pytest.raises(ValueError, match="aware"):
        read_metric_rows(conn, checks=(), level=MonitoringLevel.STANDARD, now=NOW.replace(tzinfo=None))


def test_rows_are_of_one_moment(conn: psycopg.Connection[Any], dsn: str) -> None:
    """What is committed between two of the statements is seen by neither."""
    later = NOW + timedelta(seconds=1)
    with psycopg.connect(dsn, autocommit=True) as other:

        def write(statement: str) -> None:
            other.execute(statement.encode(), {"at": later})

        class Meddler(psycopg.Cursor[Any]):
            """Commits a row of another session behind every statement."""

            def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
                found = super().execute(query, params, **options)
                if "sync_counter" in str(query):
                    write(
                        "INSERT INTO monitoring.quality_gauge VALUES ('production', '1', '7', 'customers', %(at)s, 1, 1, 0)"
                    )
                return found

        conn.cursor_factory = Meddler
        first = read_metric_rows(conn, checks=(), level=MonitoringLevel.STANDARD, now=NOW)
        second = other.execute("SELECT count(*) FROM monitoring.quality_gauge").fetchone()

    assert list(first.quality) == []
    assert second == (1,)


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        pytest.param([], (None, None), id="none"),
        pytest.param([("table", "available", True, True)], ("table", "table"), id="the table"),
        pytest.param(
            [("log", "available", False, True), ("probe", "available", True, False)],
            ("log", "probe"),
            id="the probe's times",
        ),
        pytest.param(
            [("table", "failing", True, True), ("log", "available", True, True)],
            ("table", "table"),
            id="one that fails stays",
        ),
        pytest.param(
            [("table", "failing", True, False), ("log", "available", True, True)],
            ("log", "log"),
            id="one that fails and was never read has told nothing",
        ),
        pytest.param(
            [("log", "failing", False, False), ("probe", "failing", True, False)],
            ("probe", "probe"),
            id="our probe's calls are counted, whatever became of them",
        ),
        pytest.param(
            [("table", "unavailable", True, True), ("log", "available", True, True)],
            ("log", "log"),
            id="one that is gone",
        ),
    ],
)
def test_one_source_is_told(sources: list[tuple[str, str, bool, bool]], told: tuple[str | None, str | None]) -> None:
    """Of calls, and of response times."""
    assert told_sources(sources) == told

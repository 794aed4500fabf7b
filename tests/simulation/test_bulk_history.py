"""The bench's millions, tried with thousands."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import SHAPES, HubPlus, create_source
from include.simulation.source_shapes import shape_named

UNTIL = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
ROWS = 20_000
ZONE = "America/New_York"


def loaded(make_database: Callable[..., str], *, shape: str = "migrations") -> str:
    dsn = make_database(shape)
    create_source(dsn, shape=shape)
    bulk_history(dsn, shape=shape, rows=ROWS, rows_per_day=10_000, until=UNTIL, credentials=500, timezone=ZONE)
    return dsn


def select(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(statement.encode()).fetchall()


@pytest.mark.parametrize("shape", SHAPES)
def test_every_run_has_its_credential_and_company(make_database: Callable[..., str], shape: str) -> None:
    dsn = loaded(make_database, shape=shape)
    form = shape_named(shape)
    joined = (
        f"SELECT count(*), count(DISTINCT credential.id), count(DISTINCT company.id) FROM {form.log_table} AS log"
        f" JOIN servicetitan_credentials AS credential ON credential.id = log.{form.credential_key}"
        f" JOIN {form.company_table} AS company ON company.id = credential.company_id"
    )
    assert select(dsn, joined) == [(ROWS, 500, 400)]
    environments = "SELECT environment, count(*) FROM servicetitan_credentials GROUP BY 1 ORDER BY 1"
    assert select(dsn, environments) == [("integration", 100), ("production", 400)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_times_end_at_the_instant_asked(make_database: Callable[..., str], shape: str) -> None:
    dsn = loaded(make_database, shape=shape)
    form = shape_named(shape)
    zone = "UTC" if (form.log_table, "started_at") in form.aware_times else ZONE
    newest, oldest, ended = (
        f"SELECT {what} AT TIME ZONE '{zone}' FROM {form.log_table}"
        for what in ("max(started_at)", "min(started_at)", "max(completed_at)")
    )
    if zone == "UTC":  # an aware column becomes naive in UTC
        newest, oldest, ended = (f"SELECT ({query}) AT TIME ZONE 'UTC'" for query in (newest, oldest, ended))
    ((newest_at,),), ((oldest_at,),), ((ended_at,),) = (select(dsn, query) for query in (newest, oldest, ended))
    assert newest_at == UNTIL
    assert UNTIL - timedelta(days=2) <= oldest_at < UNTIL - timedelta(days=2) + timedelta(seconds=10)
    assert UNTIL - timedelta(minutes=2) < ended_at <= UNTIL


def test_ids_rise_with_the_start_and_go_on_rising(make_database: Callable[..., str]) -> None:
    dsn = loaded(make_database)
    out_of_order = (
        "SELECT count(*) FROM (SELECT started_at, lag(started_at) OVER (ORDER BY id) AS before"
        " FROM servicetitan_sync_logs) AS pairs WHERE before > started_at"
    )
    assert select(dsn, out_of_order) == [(0,)]
    with HubPlus(dsn, timezone=ZONE) as world:
        assert world.add_run(1, started_at=UNTIL) == ROWS + 1
        assert world.add_company("one more") == 401


def test_failures_carry_texts_and_open_runs_are_recent(make_database: Callable[..., str]) -> None:
    dsn = loaded(make_database)
    by_status = {
        status: (count, messages, details)
        for status, count, messages, details in select(
            dsn,
            "SELECT status, count(*), count(error_message), count(error_details) FROM servicetitan_sync_logs GROUP BY 1",
        )
    }
    failed, messages, details = by_status["failed"]
    assert 0.02 < failed / ROWS < 0.04
    assert messages == failed > details > 0
    assert by_status["completed"][1:] == (0, 0)
    oldest_open = (
        "SELECT min(started_at) AT TIME ZONE 'America/New_York' FROM servicetitan_sync_logs WHERE status = 'running'"
    )
    assert select(dsn, oldest_open)[0][0] > UNTIL - timedelta(minutes=10)


def test_indexes_are_those_from_before_and_statistics_are_fresh(make_database: Callable[..., str]) -> None:
    fresh = make_database()
    create_source(fresh)
    dsn = loaded(make_database)
    indexes = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexdef"
    assert select(dsn, indexes) == select(fresh, indexes)
    assert select(dsn, "SELECT reltuples FROM pg_class WHERE relname = 'servicetitan_sync_logs'") == [(ROWS,)]


def test_two_loads_hold_the_same_rows(make_database: Callable[..., str]) -> None:
    digest = "SELECT md5(string_agg(log::text, '' ORDER BY id)) FROM servicetitan_sync_logs AS log"
    assert select(loaded(make_database), digest) == select(loaded(make_database), digest)


def test_a_source_with_rows_is_refused(make_database: Callable[..., str]) -> None:
    dsn = loaded(make_database)
    with pytest.raises(ValueError, match="needs the empty tables"):
        bulk_history(dsn, rows=1, rows_per_day=1, until=UNTIL)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"rows": 0}, id="no rows"),
        pytest.param({"rows_per_day": 0}, id="no rows a day"),
        pytest.param({"failed_share": 1.5}, id="more failures than rows"),
        pytest.param({"until": UNTIL.replace(tzinfo=None)}, id="a naive end"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make_database: Callable[..., str], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        bulk_history(make_database(), **{"rows": 1, "rows_per_day": 1, "until": UNTIL, **wrong})


def test_a_credential_has_one_data_type_where_that_is_asked(make_database: Callable[..., str]) -> None:
    """All three occur, and a day has one key for each credential."""
    dsn = make_database()
    create_source(dsn)
    bulk_history(dsn, rows=3_000, rows_per_day=1_000, until=UNTIL, credentials=300, one_data_type=True)

    pairs = "SELECT DISTINCT service_titan_credential_id, data_type FROM servicetitan_sync_logs"
    assert select(dsn, f"SELECT data_type, count(*) FROM ({pairs}) AS pair GROUP BY 1 ORDER BY 1") == [
        ("both", 100),
        ("customers", 100),
        ("invoices", 100),
    ]

"""The seeded past: the same every time, mostly healthy, with the planted faults in the rows as claimed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest

from include.simulation.history import (
    DAY,
    HOSTILE_COMPANY,
    HOSTILE_ERROR,
    HOUR,
    INVALID_CLIENT,
    MINUTE,
    PlantedFaults,
    seed_history,
)
from include.simulation.hub_plus import SHAPES, HubPlus, RowId, create_source
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.source_shapes import shape_named
from include.sync_health.frames import CANCELLED_BY_USER

AS_OF = datetime(2026, 3, 8, 12, 3, 7, tzinfo=UTC)
"""Half a day after New York's spring change, so that naive columns are tried across it."""

ZONE = "America/New_York"


def seeded(
    make_database: Callable[..., str], *, shape: str = "migrations", **options: Any
) -> tuple[str, PlantedFaults]:
    dsn = make_database(shape)
    create_source(dsn, shape=shape)
    with HubPlus(dsn, shape=shape, timezone=ZONE, seed=options.pop("seed", 1)) as world:
        return dsn, seed_history(world, as_of=AS_OF, **options)


def runs_of(dsn: str, *, shape: str = "migrations", zone: str = ZONE) -> pd.DataFrame:
    """Return the runs by id, with aware times, and ids as text."""
    form = shape_named(shape)
    is_aware = (form.log_table, "started_at") in form.aware_times
    at = "{0}" if is_aware else f"{{0}} AT TIME ZONE '{zone}'"
    with psycopg.connect(dsn, options="-c timezone=UTC") as conn:
        cursor = conn.execute(
            f"SELECT log.id::text AS id, {form.credential_key}::text AS credential, environment, data_type, status,"
            f" {at.format('started_at')} AS started_at, {at.format('completed_at')} AS completed_at, error_message,"
            f" sync_type, records_processed FROM {form.log_table} AS log"
            f" JOIN servicetitan_credentials AS credential ON credential.id = {form.credential_key} ORDER BY log.id"
        )
        names = [column.name for column in cursor.description or ()]
        frame = pd.DataFrame(cursor.fetchall(), columns=names)
    for column in ("started_at", "completed_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True)
    return frame


def own(runs: pd.DataFrame, credential: RowId) -> pd.DataFrame:
    return runs[runs["credential"] == str(credential)].sort_values("started_at")


@pytest.fixture(scope="module")
def planted(postgres_server: EmbeddedPostgres) -> Callable[[str], tuple[pd.DataFrame, PlantedFaults]]:
    """Return a function ``shape -> (runs, faults)`` of a small seeded source, made once per shape."""

    @functools.cache
    def make(shape: str) -> tuple[pd.DataFrame, PlantedFaults]:
        name = f"planted_{shape}"
        dsn, faults = seeded(lambda _: postgres_server.create_database(name), shape=shape, companies=8)
        runs = runs_of(dsn, shape=shape)
        postgres_server.drop_database(name)
        return runs, faults

    return make


@pytest.mark.parametrize("shape", SHAPES)
class TestPlantedFaults:
    """Whatever the shape, the faults are there."""

    @pytest.fixture
    def source(
        self, planted: Callable[[str], tuple[pd.DataFrame, PlantedFaults]], shape: str
    ) -> tuple[pd.DataFrame, PlantedFaults]:
        return planted(shape)

    def test_they_belong_to_five_credentials_of_production(
        self, source: tuple[pd.DataFrame, PlantedFaults], shape: str
    ) -> None:
        runs, faults = source
        owners = {str(value) for name, value in asdict(faults).items() if name != "stuck_run"}
        assert len(owners) == 5
        assert set(runs.loc[runs["credential"].isin(owners), "environment"]) == {"production"}

    def test_failing_failed_three_times_in_the_last_hour_only(
        self, source: tuple[pd.DataFrame, PlantedFaults], shape: str
    ) -> None:
        runs, faults = source
        failing = own(runs, faults.failing)
        failed = failing[failing["status"] == "failed"]
        assert list(failed["error_message"]) == [INVALID_CLIENT] * 3
        assert ((failed["completed_at"] > AS_OF - HOUR) & (failed["completed_at"] <= AS_OF)).all()
        assert set(failing["status"].iloc[:-3]) == {"completed"}
        assert len(failing) > 7 * 24

    def test_daily_failing_failed_its_invoices_on_each_of_five_days(
        self, source: tuple[pd.DataFrame, PlantedFaults], shape: str
    ) -> None:
        runs, faults = source
        daily = own(runs, faults.daily_failing)
        invoices = daily[daily["data_type"] == "invoices"]
        failed = invoices[invoices["status"] == "failed"]
        assert list(invoices["status"].iloc[-5:]) == ["failed"] * 5
        assert set(invoices["status"].iloc[:-5]) == {"completed"}
        assert list(failed["started_at"].diff().dropna().unique()) == [pd.Timedelta(DAY)]
        assert failed["completed_at"].iloc[-1] > AS_OF - DAY
        assert set(daily.loc[daily["data_type"] == "customers", "status"]) == {"completed"}

    def test_stuck_has_been_running_for_ninety_minutes(
        self, source: tuple[pd.DataFrame, PlantedFaults], shape: str
    ) -> None:
        runs, faults = source
        newest = own(runs, faults.stuck).iloc[-1]
        assert (newest["id"], newest["status"]) == (str(faults.stuck_run), "running")
        assert newest["started_at"] == AS_OF - 90 * MINUTE
        assert pd.isna(newest["completed_at"])

    def test_hostile_texts_are_stored_as_they_are(self, source: tuple[pd.DataFrame, PlantedFaults], shape: str) -> None:
        runs, faults = source
        assert list(own(runs, faults.hostile)["error_message"].iloc[-3:]) == [HOSTILE_ERROR] * 3

    def test_cancelled_runs_are_marked_as_upstream_marks_them(
        self, source: tuple[pd.DataFrame, PlantedFaults], shape: str
    ) -> None:
        runs, faults = source
        last = own(runs, faults.cancelled).iloc[-3:]
        has_the_status = not shape_named(shape).checks_enumerations
        middle = ("cancelled", "") if has_the_status else ("failed", CANCELLED_BY_USER)
        by_user = ("failed", CANCELLED_BY_USER)
        told = zip(last["status"], last["error_message"].fillna(""), strict=True)
        assert list(told) == [by_user, middle, by_user]

    def test_nobody_else_would_alert(self, source: tuple[pd.DataFrame, PlantedFaults], shape: str) -> None:
        runs, faults = source
        others = runs[~runs["credential"].isin({str(value) for value in asdict(faults).values()})]
        in_order = others.sort_values("started_at")
        failed = (in_order["status"] == "failed").astype(int)
        keys = [in_order["credential"], in_order["data_type"]]
        assert failed.groupby(keys).rolling(2).sum().max() < 2
        open_runs = others[others["completed_at"].isna()]
        assert (open_runs["started_at"] > AS_OF - 10 * MINUTE).all()
        assert set(open_runs["status"]) <= {"running"}


@pytest.mark.parametrize("shape", ["migrations", "entities", "architecture"])
def test_ids_rise_with_the_start(make_database: Callable[..., str], shape: str) -> None:
    dsn, _ = seeded(make_database, shape=shape, companies=8)
    runs = runs_of(dsn, shape=shape)
    by_id = runs.sort_values("id", key=lambda ids: ids.astype(int))
    assert by_id["started_at"].is_monotonic_increasing
    assert runs["started_at"].max() <= AS_OF


def test_a_seed_gives_the_same_rows_and_another_one_others(make_database: Callable[..., str]) -> None:
    def dump(seed: int) -> list[tuple[Any, ...]]:
        dsn, _ = seeded(make_database, seed=seed, companies=8)
        with psycopg.connect(dsn) as conn:
            tables = ("company", "servicetitan_credentials", "servicetitan_sync_logs")
            return [row for table in tables for row in conn.execute(f"SELECT {table}::text FROM {table} ORDER BY id")]

    assert dump(5) == dump(5)
    assert dump(5) != dump(6)


def test_the_past_is_varied_and_mostly_healthy(make_database: Callable[..., str]) -> None:
    dsn, _ = seeded(make_database, shape="entities")
    runs = runs_of(dsn, shape="entities")
    assert len(runs) > 5_000
    assert set(runs["environment"]) == {"production", "integration"}
    assert set(runs["data_type"]) == {"invoices", "customers", "both"}
    assert set(runs["sync_type"].dropna()) == {"manual", "scheduled"}
    assert runs["sync_type"].isna().mean() > 0.01
    assert 0.05 < (runs["records_processed"] == 0).mean() < 0.30
    assert 0.001 < (runs["status"] == "failed").mean() < 0.02
    assert runs["started_at"].min() < AS_OF - timedelta(days=7, hours=20)


def test_the_hostile_company_keeps_its_name(make_database: Callable[..., str]) -> None:
    dsn, faults = seeded(make_database, companies=8)
    with HubPlus(dsn, timezone=ZONE) as world:
        assert (faults.hostile, HOSTILE_COMPANY, "production") in world.credentials()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"companies": 5}, "at least 6 companies", id="too few companies for the faults"),
        pytest.param({"days": 5}, "6 days", id="too few days for five failures and a healthy one before"),
    ],
)
def test_a_world_too_small_for_its_faults_is_refused(
    make_database: Callable[..., str], options: dict[str, int], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        seeded(make_database, **options)

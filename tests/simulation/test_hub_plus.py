"""The simulated Hub Plus writes what the upstream would, in each of its shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.simulation.hub_plus import LONG_AGO, SHAPES, HubPlus, Run, create_source
from include.simulation.source_shapes import CREDENTIALS, shape_named
from include.sync_health.frames import CANCELLED_BY_USER

MakeDatabase = Callable[..., str]
START = datetime(2026, 7, 1, 12, 0, 7, 654_321, tzinfo=UTC)
END = START + timedelta(minutes=5)


def select(dsn: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a query in a session whose own time zone must not matter."""
    with psycopg.connect(dsn, options="-c timezone=Asia/Tokyo") as conn:
        return conn.execute(statement.encode(), values).fetchall()


def columns_of(dsn: str, table: str) -> dict[str, tuple[str, str]]:
    """Return each column's type and nullability."""
    rows = select(
        dsn,
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = %s",
        table,
    )
    return {name: (data_type, is_nullable) for name, data_type, is_nullable in rows}


def new_world(make_database: MakeDatabase, *, shape: str = "migrations", **options: Any) -> HubPlus:
    dsn = make_database(shape)
    create_source(dsn, shape=shape)
    return HubPlus(dsn, shape=shape, **options)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_writer_knows_every_column_of_its_shape(make_database: MakeDatabase, shape: str) -> None:
    dsn = make_database()
    create_source(dsn, shape=shape)
    form = shape_named(shape)
    left_to_the_database = {"id", "marketing_enabled", "certain_path"}
    for table in (form.company_table, CREDENTIALS, form.log_table):
        columns = columns_of(dsn, table)
        assert set(form.columns_of(table)) == set(columns) - left_to_the_database
        aware = {name for name, (data_type, _) in columns.items() if data_type == "timestamp with time zone"}
        assert {(table, name) for name in aware} == {at for at in form.aware_times if at[0] == table}


@pytest.mark.parametrize(
    ("shape", "table", "column", "expected"),
    [
        pytest.param(
            "migrations", "servicetitan_sync_logs", "sync_type", ("character varying", "NO"), id="A: NOT NULL"
        ),
        pytest.param("migrations", "servicetitan_sync_logs", "metadata", None, id="A: no metadata"),
        pytest.param(
            "migrations", "servicetitan_sync_logs", "updated_at", ("timestamp without time zone", "NO"), id="A: naive"
        ),
        pytest.param("entities", "servicetitan_sync_log", "sync_type", ("character varying", "YES"), id="B: nullable"),
        pytest.param("entities", "servicetitan_sync_log", "metadata", ("json", "YES"), id="B: JSON, not JSONB"),
        pytest.param(
            "entities", "servicetitan_sync_log", "updated_at", ("timestamp with time zone", "NO"), id="B: aware update"
        ),
        pytest.param(
            "entities",
            "servicetitan_sync_log",
            "started_at",
            ("timestamp without time zone", "NO"),
            id="B: naive start",
        ),
        pytest.param("architecture", "servicetitan_sync_logs", "credential_id", ("integer", "NO"), id="C: its own key"),
        pytest.param("architecture", "servicetitan_sync_logs", "updated_at", None, id="C: no update time"),
        pytest.param("architecture", "servicetitan_sync_logs", "records_failed", None, id="C: only processed"),
        pytest.param("architecture", "companies", "name", ("character varying", "NO"), id="C: companies have a name"),
        pytest.param("uuid", "servicetitan_sync_logs", "servicetitan_credential_id", ("uuid", "NO"), id="D: UUID keys"),
        pytest.param("uuid", "servicetitan_sync_logs", "created_at", None, id="D: no creation time"),
    ],
)
def test_each_shape_differs_as_the_reference_says(
    make_database: MakeDatabase, shape: str, table: str, column: str, expected: tuple[str, str] | None
) -> None:
    dsn = make_database()
    create_source(dsn, shape=shape)
    assert columns_of(dsn, table).get(column) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_no_log_has_an_index_on_time_or_status(make_database: MakeDatabase, shape: str) -> None:
    """Upstream has none, and the reader must live with it."""
    dsn = make_database()
    create_source(dsn, shape=shape)
    form = shape_named(shape)
    indexed = {
        definition.rsplit("(", 1)[1].rstrip(")")
        for (definition,) in select(dsn, "SELECT indexdef FROM pg_indexes WHERE tablename = %s", form.log_table)
    }
    has_key_index = shape in ("migrations", "entities")
    assert indexed == ({"id", form.credential_key} if has_key_index else {"id"})


@pytest.mark.parametrize(
    "zone", [pytest.param("America/New_York", id="west of UTC"), pytest.param("Asia/Kolkata", id="half an hour off")]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_comes_back_at_its_instant(make_database: MakeDatabase, shape: str, zone: str) -> None:
    with new_world(make_database, shape=shape, timezone=zone) as world:
        form = world.shape
        credential = world.add_credential(world.add_company("Acme"))
        run = world.add_run(
            credential,
            data_type="invoices",
            status="failed",
            started_at=START,
            completed_at=END,
            error_message="HTTP 401 invalid_client",
            records=(10, 8, 2),
        )
        is_aware = (form.log_table, "started_at") in form.aware_times
        in_utc = "started_at" if is_aware else f"started_at AT TIME ZONE '{zone}'"
        ((found_id, key, started_at, data_type, status, processed, message),) = select(
            world.dsn,
            f"SELECT id, {form.credential_key}, {in_utc}, data_type, status, records_processed, error_message"
            f" FROM {form.log_table}",
        )
    assert (found_id, key) == ((run, credential) if isinstance(run, int) else (found_id, key))
    assert (str(found_id), str(key)) == (str(run), str(credential))
    assert started_at == (START.replace(microsecond=0) if form.whole_seconds else START)
    assert (data_type, status, processed, message) == ("invoices", "failed", 10, "HTTP 401 invalid_client")


def test_the_two_instants_of_a_repeated_hour_are_written_alike(make_database: MakeDatabase) -> None:
    """Naive wall time cannot tell them apart: a run across the change seems to end before it began."""
    first = datetime(2026, 11, 1, 5, 50, tzinfo=UTC)  # 01:50 in New York, summer time
    with new_world(make_database, timezone="America/New_York") as world:
        credential = world.add_credential(world.add_company("Acme"))
        world.add_run(credential, started_at=first, completed_at=first + timedelta(minutes=20))
        world.add_run(credential, started_at=first + timedelta(hours=1))
        (before, after) = select(world.dsn, "SELECT started_at, completed_at FROM servicetitan_sync_logs ORDER BY id")
    assert before == (datetime(2026, 11, 1, 1, 50), datetime(2026, 11, 1, 1, 10))  # noqa: DTZ001  naive, as written
    assert after[0] == before[0]


def test_only_the_entities_shape_stores_update_times_with_a_zone(make_database: MakeDatabase) -> None:
    with new_world(make_database, shape="entities", timezone="America/New_York") as world:
        world.add_run(world.add_credential(world.add_company("Acme")), started_at=START, completed_at=END)
        (row,) = select(world.dsn, "SELECT started_at, updated_at, created_at FROM servicetitan_sync_log")
    assert row[0] == datetime(2026, 7, 1, 8, 0, 7)  # noqa: DTZ001  naive, as written
    assert row[1:] == (END.replace(microsecond=0), START.replace(microsecond=0))


class TestRunsAsUpstreamLeavesThem:
    """NULLs, retries and deletions, as the upstream's own code does them."""

    @pytest.fixture
    def world(self, make_database: MakeDatabase) -> HubPlus:
        return new_world(make_database)

    @pytest.fixture
    def credential(self, world: HubPlus) -> int | str:
        return world.add_credential(world.add_company("Acme"))

    def row(self, world: HubPlus, run: int | str) -> tuple[Any, ...]:
        statement = (
            "SELECT status, completed_at AT TIME ZONE 'UTC', error_message, processing_time_seconds, records_failed,"
            " updated_at AT TIME ZONE 'UTC' FROM servicetitan_sync_logs WHERE id = %s"
        )
        (found,) = select(world.dsn, statement, run)
        return found

    def test_a_finished_run_has_no_processing_time_and_no_empty_message(
        self, world: HubPlus, credential: int | str
    ) -> None:
        run = world.add_run(credential, status="running", started_at=START)
        world.finish_run(run, at=END, status="failed", error_message="", records=(9, 6, 3))
        end = END.replace(microsecond=0)
        assert self.row(world, run) == ("failed", end, None, None, 3, end)

    def test_finishing_without_counts_keeps_them(self, world: HubPlus, credential: int | str) -> None:
        run = world.add_run(credential, status="running", started_at=START, records=(9, 6, 3))
        world.finish_run(run, at=END)
        assert self.row(world, run)[4] == 3

    def test_a_cancelled_run_is_recorded_as_failed(self, world: HubPlus, credential: int | str) -> None:
        run = world.add_run(credential, status="running", started_at=START)
        world.cancel_run(run, at=END)
        assert self.row(world, run)[:3] == ("failed", END.replace(microsecond=0), CANCELLED_BY_USER)

    def test_an_open_run_was_updated_when_it_started(self, world: HubPlus, credential: int | str) -> None:
        run = world.add_run(credential, status="running", started_at=START)
        assert self.row(world, run)[1::4] == (None, START.replace(microsecond=0))
        assert world.open_runs() == [(run, START.replace(microsecond=0))]

    def test_ids_rise_and_a_deleted_one_is_not_given_again(self, world: HubPlus, credential: int | str) -> None:
        first, second = (world.add_run(credential, started_at=START) for _ in range(2))
        world.delete_run(second)
        assert world.add_run(credential, started_at=START) == 3 > 2 == second > first
        with pytest.raises(LookupError, match="has no row 2"):
            world.finish_run(second, at=END)

    def test_a_deleted_credential_takes_its_runs_along(self, world: HubPlus, credential: int | str) -> None:
        world.add_run(credential, started_at=START)
        world.delete_credential(credential)
        assert select(world.dsn, "SELECT count(*) FROM servicetitan_sync_logs") == [(0,)]

    def test_retention_deletes_by_start(self, world: HubPlus, credential: int | str) -> None:
        world.copy_runs([Run(credential=credential, started_at=START - timedelta(days=day)) for day in (3, 2, 1)])
        assert world.delete_runs_before(START - timedelta(days=2)) == 1

    def test_a_naive_time_is_refused(self, world: HubPlus, credential: int | str) -> None:
        with pytest.raises(ValueError, match="started_at must be timezone-aware"):
            world.add_run(credential, started_at=datetime(2026, 1, 1))  # noqa: DTZ001  what is refused

    def test_details_of_any_form_are_stored_as_json(self, world: HubPlus, credential: int | str) -> None:
        details = {"api_error": "x", "nested": {"key": [1, None]}}
        world.add_run(credential, started_at=START, status="failed", error_details=details)
        ((stored,),) = select(world.dsn, "SELECT error_details::text FROM servicetitan_sync_logs")
        assert json.loads(stored) == details

    def test_sync_type_may_be_null_only_where_the_shape_allows(self, world: HubPlus, credential: int | str) -> None:
        with pytest.raises(psycopg.errors.NotNullViolation):
            world.add_run(credential, started_at=START, sync_type=None)


@pytest.mark.parametrize(
    ("shape", "asked", "stored"),
    [
        pytest.param("migrations", "active", "active", id="the code says active"),
        pytest.param("architecture", "active", "connected", id="the architecture document says connected"),
        pytest.param("architecture", "inactive", "pending", id="and pending before the first handshake"),
        pytest.param("uuid", "connected", "active", id="the stories say active"),
        pytest.param("uuid", "error", "error", id="error is error everywhere"),
    ],
)
def test_a_status_is_written_in_the_words_of_its_shape(
    make_database: MakeDatabase, shape: str, asked: str, stored: str
) -> None:
    with new_world(make_database, shape=shape) as world:
        company = world.add_company("Acme")
        given = world.add_credential(company, connection_status=asked)
        changed = world.add_credential(company, environment="integration", connection_status="error")
        world.set_status(changed, asked, at=START)
        found = select(world.dsn, "SELECT id::text, connection_status FROM servicetitan_credentials")
    assert dict(found) == {str(given): stored, str(changed): stored}


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_look_real_and_every_one_is_known(make_database: MakeDatabase, shape: str) -> None:
    with new_world(make_database, shape=shape) as world:
        credential = world.add_credential(
            world.add_company("Acme"), token_expires_at=START, refresh_token="rt.given", updated_at=START
        )
        before = select(
            world.dsn, "SELECT client_id, client_secret, access_token, refresh_token FROM servicetitan_credentials"
        )
        world.set_token(credential, expires_at=END, at=START)
        after = select(world.dsn, "SELECT access_token FROM servicetitan_credentials")
        assert set(before[0]) | set(after[0]) == set(world.secrets)
        assert all(len(secret) > 20 for secret in world.secrets if secret != "rt.given")
        world.set_token(credential, expires_at=None, at=END)
        assert select(world.dsn, "SELECT access_token, token_expires_at FROM servicetitan_credentials") == [
            (None, None)
        ]


def test_a_credential_that_never_shook_hands_has_no_token(make_database: MakeDatabase) -> None:
    with new_world(make_database) as world:
        world.add_credential(world.add_company("Acme"))
        row = select(
            world.dsn,
            "SELECT access_token, refresh_token, token_expires_at, created_at AT TIME ZONE 'UTC'"
            " FROM servicetitan_credentials",
        )
    assert row == [(None, "", None, LONG_AGO)]


def test_companies_are_renamed_and_deleted_with_all_they_have(make_database: MakeDatabase) -> None:
    with new_world(make_database) as world:
        company = world.add_company("Acme")
        credential = world.add_credential(company)
        world.rename_company(company, "Acme Holdings", at=START)
        assert world.credentials() == [(credential, "Acme Holdings", "production")]
        world.delete_company(company)
        assert world.credentials() == []


def test_without_a_cascade_the_runs_forbid_the_deletion(make_database: MakeDatabase) -> None:
    with new_world(make_database, shape="architecture") as world:
        credential = world.add_credential(world.add_company("Acme"))
        run = world.add_run(credential, started_at=START)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            world.delete_credential(credential)
        world.delete_run(run)
        world.delete_credential(credential)
        assert world.credentials() == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_second_writer_repeats_no_uuid(make_database: MakeDatabase, shape: str) -> None:
    with new_world(make_database, shape=shape) as world:
        world.add_run(world.add_credential(world.add_company("Acme")), started_at=START)
        with HubPlus(world.dsn, shape=shape) as second:
            second.add_run(second.add_credential(second.add_company("Bolt")), started_at=START)
        assert select(world.dsn, f"SELECT count(*) FROM {world.shape.log_table}") == [(2,)]


def test_an_unknown_shape_is_named_with_those_there_are(make_database: MakeDatabase) -> None:
    with pytest.raises(ValueError, match="shape 'mysql' is not one of migrations, entities, architecture, uuid"):
        create_source(make_database(), shape="mysql")


@settings(max_examples=200)
@given(
    at=st.datetimes(
        min_value=datetime(2000, 1, 1),  # noqa: DTZ001  hypothesis adds the zone
        max_value=datetime(2037, 1, 1),  # noqa: DTZ001  same
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=7))]),
    ),
    shape=st.sampled_from(SHAPES),
)
def test_what_is_written_names_the_instant_within_a_second_and_an_hour_of_dst(at: datetime, shape: str) -> None:
    """Aware columns keep the instant; naive ones lose at most the fold."""
    zone = ZoneInfo("America/New_York")
    form = shape_named(shape)
    written = form.written_time(at, table=form.log_table, column="started_at", zone=zone)
    assert (written.tzinfo is not None) == ((form.log_table, "started_at") in form.aware_times)
    read = written if written.tzinfo else written.replace(tzinfo=zone)
    lost = at - read.astimezone(UTC)
    assert min(lost, abs(lost - timedelta(hours=1))) < timedelta(seconds=1)
    assert lost >= timedelta(0)

"""``doctor`` about the two databases, both real: rights, shape, time zone, clocks, and our own schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from include.orchestration import diagnosis
from include.orchestration.diagnosis import diagnose
from include.orchestration.findings import Status
from include.simulation.hub_plus import HubPlus
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import working_rights
from tests.commands.doctor_surroundings import READER, Surroundings, add_syncs, as_reader, doctor


@pytest.mark.parametrize(
    ("timezone", "setting", "status", "says"),
    [
        pytest.param("UTC", "UTC", "pass", "read as UTC", id="both in UTC"),
        pytest.param("America/New_York", "America/New_York", "pass", "read as America/New_York", id="both in New York"),
        pytest.param("America/New_York", "UTC", "warn", "America/New_York would explain it", id="written in New York"),
        pytest.param("Asia/Tokyo", "UTC", "warn", "in the future", id="written in Tokyo, ahead"),
    ],
)
def test_a_wrong_time_zone_is_noticed(
    place: Surroundings,
    source: str,
    capsys: pytest.CaptureFixture[str],
    timezone: str,
    setting: str,
    status: str,
    says: str,
) -> None:
    add_syncs(source, timezone=timezone)
    place.policy(f"source: {{timezone: {setting}}}")

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.timezone"]["status"] == status
    assert says in found["source.timezone"]["detail"]


def test_one_stray_stamp_in_an_old_row_is_not_the_newest(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    with HubPlus(source) as hub:
        credential = hub.add_credential(hub.add_company("Acme"))
        hub.add_run(credential, started_at=now + timedelta(hours=6), completed_at=now + timedelta(hours=7))
    add_syncs(source)

    _, found = doctor(capsys)

    assert found["source.timezone"]["status"] == "pass"


def test_a_source_without_any_sync_cannot_tell_its_zone(
    place: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = doctor(capsys)

    assert code == 0
    assert found["source.timezone"]["status"] == "warn"


def test_a_source_user_that_may_write_is_warned_of(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.connection("hub_plus_db", source)

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.grants"]["status"] == "warn"
    assert "company, servicetitan_credentials, servicetitan_sync_logs" in found["source.grants"]["detail"]


def test_a_source_that_shows_secrets_is_warned_of(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute(f"GRANT SELECT ON servicetitan_credentials TO {READER}")

    _, found = doctor(capsys)

    assert found["source.secrets"]["status"] == "warn"
    assert "client_secret, access_token, refresh_token" in found["source.secrets"]["detail"]


def test_what_a_source_cannot_give_is_told(
    place: Surroundings, source: str, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute("DROP VIEW servicetitan_credentials_monitor")
        conn.execute(f"REVOKE SELECT ON servicetitan_sync_logs FROM {READER}")
        conn.execute(
            "GRANT SELECT (id, service_titan_credential_id, data_type, status, started_at, completed_at, error_message,"
            " records_processed, records_successful, records_failed, processing_time_seconds)"
            f" ON servicetitan_sync_logs TO {READER}"
        )
        conn.execute("ALTER TABLE servicetitan_sync_logs DROP CONSTRAINT servicetitan_sync_logs_pkey")

    code, found = doctor(capsys)

    assert code == 0
    assert found["source.index"]["status"] == "warn"
    assert "a backfill does for each chunk of days" in found["source.index"]["detail"]
    assert "index on started_at" in found["source.index"]["fix"]
    assert found["source.completeness"]["status"] == "warn"
    assert "GRANT SELECT (updated_at)" in found["source.updated_at"]["fix"]


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        pytest.param(
            f"REVOKE SELECT ON servicetitan_sync_logs FROM {READER};"
            "GRANT SELECT (id, service_titan_credential_id, data_type, status, started_at, completed_at, updated_at,"
            f" error_message, records_processed, records_successful) ON servicetitan_sync_logs TO {READER}",
            "GRANT SELECT (records_failed, processing_time_seconds) ON public.servicetitan_sync_logs",
            id="with the grant of an earlier release, and the grant to give",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs DROP records_processed",
            "the source's schema has changed",
            id="where the column is gone",
        ),
    ],
)
def test_counts_that_cannot_be_read_are_told_and_the_rest_is_looked_at(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str], statement: str, says: str
) -> None:
    """A whole check would be blind, and say so every time."""
    with psycopg.connect(source) as conn:
        conn.execute(statement.encode())

    code, found = doctor(capsys)

    assert code == 2
    assert found["source.counts"]["status"] == "fail"
    assert says in found["source.counts"]["fix"]
    assert found["source.grants"]["status"] == "pass"


def test_a_source_that_may_not_be_read_names_the_grant(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute(f"REVOKE SELECT ON servicetitan_sync_logs FROM {READER}")

    code, found = doctor(capsys)

    assert code == 2
    assert found["source.connection"]["status"] == "fail"
    assert "GRANT SELECT" in found["source.connection"]["fix"]
    assert found["storage.grants"]["status"] == "pass"


@pytest.mark.parametrize(
    ("policy", "limit", "fix"),
    [
        pytest.param(
            "1s", 60, "'hub_plus_db' (source.connection), or raise source.statement_timeout", id="the policy's"
        ),
        pytest.param("60s", 1, "'hub_plus_db' (source.connection)", id="its own, which no key raises"),
    ],
)
def test_a_source_that_is_too_slow_is_told_by_the_limit_in_force(
    place: Surroundings,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    policy: str,
    limit: int,
    fix: str,
) -> None:
    """``doctor`` waits less long than a check: a person waits for the answer."""
    monkeypatch.setattr(diagnosis, "STATEMENT_TIMEOUT", timedelta(seconds=limit))
    place.policy(f"source: {{statement_timeout: {policy}}}")
    with psycopg.connect(source) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs RENAME TO kept_logs")
        conn.execute("CREATE VIEW servicetitan_sync_logs AS SELECT kept_logs.* FROM pg_sleep(5), kept_logs")
        conn.execute(f"GRANT SELECT ON servicetitan_sync_logs TO {READER}")

    code, found = doctor(capsys)

    assert code == 2
    assert "no answer within 1 s" in found["source.connection"]["detail"]
    assert found["source.connection"]["fix"].endswith(fix)


def test_a_storage_that_was_never_migrated_says_so(
    place: Surroundings, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    place.connection("monitoring_db", make_database("bare"))

    code, found = doctor(capsys)

    assert code == 2
    assert found["storage.connection"]["status"] == "pass"
    assert found["storage.schema"]["status"] == "fail"
    assert "include.cli migrate" in found["storage.schema"]["fix"]


@pytest.mark.parametrize(
    ("spoil", "lacks"),
    [
        pytest.param(
            f"REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA monitoring FROM {READER}",
            ("INSERT on alert", "UPDATE on quality_daily"),
            id="one that may only read",
        ),
        pytest.param(
            'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC',
            ("lacks TEMPORARY on database {database}",),
            id="one that may make no temporary tables",
        ),
        pytest.param(
            f"REVOKE DELETE ON monitoring.delivery FROM {READER}; "
            'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC',
            ("DELETE on delivery, TEMPORARY on database {database}",),
            id="both",
        ),
    ],
)
def test_a_storage_user_without_rights_is_told_which_and_mended_by_the_sql_that_is_named(
    place: Surroundings,
    make_database: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    spoil: str,
    lacks: tuple[str, ...],
) -> None:
    """Storing a day again needs temporary tables, which everybody may make, unless it was revoked."""
    storage = make_database("rights")
    upgrade(storage)
    with psycopg.connect(storage) as conn:
        database = conn.info.dbname
        conn.execute(working_rights(READER).encode())
        conn.execute(spoil.format(database=database).encode())
    place.connection("monitoring_db", as_reader(storage))

    code, found = doctor(capsys)

    assert code == 2
    assert found["storage.grants"]["status"] == "fail"
    assert [word for word in lacks if word.format(database=database) not in found["storage.grants"]["detail"]] == []
    with psycopg.connect(storage) as conn:
        conn.execute(found["storage.grants"]["fix"].partition("run: ")[2].encode())
    code, found = doctor(capsys)
    assert code == 0
    assert found["storage.grants"]["status"] == "pass"


def test_clocks_that_differ_are_warned_of(place: Surroundings) -> None:
    """A frozen clock of ours, an hour behind the servers'."""
    found = {finding.name: finding for finding in diagnose(now=datetime.now(UTC) - timedelta(hours=1))}

    assert found["source.clock"].status is found["storage.clock"].status is Status.WARN
    assert re.search(r"3[56]\d\d seconds apart", found["source.clock"].detail)


@pytest.mark.parametrize(
    ("right", "table"),
    [
        pytest.param("UPDATE (status)", "servicetitan_sync_logs", id="one column may be changed"),
        pytest.param("INSERT (company_name)", "company", id="rows of one column may be added"),
        pytest.param("TRUNCATE", "servicetitan_credentials", id="a table may be emptied"),
    ],
)
def test_one_right_to_write_is_enough_to_be_warned_of(
    place: Surroundings, source: str, capsys: pytest.CaptureFixture[str], right: str, table: str
) -> None:
    with psycopg.connect(source) as conn:
        conn.execute(f"GRANT {right} ON {table} TO {READER}")

    _, found = doctor(capsys)

    assert found["source.grants"]["status"] == "warn"
    assert found["source.grants"]["detail"].endswith(f"tables {table}")


def test_a_storage_that_may_not_be_read_is_mended_by_the_sql_that_is_named(
    place: Surroundings, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    storage = make_database("closed")
    upgrade(storage)
    place.connection("monitoring_db", as_reader(storage))

    code, found = doctor(capsys)

    assert code == 2
    assert found["storage.schema"]["status"] == "fail"
    fix = found["storage.schema"]["fix"]
    with psycopg.connect(storage) as conn:
        conn.execute(fix.partition("run: ")[2])
    code, found = doctor(capsys)
    assert code == 0
    assert found["storage.grants"]["status"] == "pass"


def test_a_storage_that_is_not_utf8_is_not_sent_to_migrate(
    place: Surroundings, make_database: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = make_database("beside")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE DATABASE doctor_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            place.connection("monitoring_db", dsn.rpartition("/")[0] + "/doctor_latin1")
            code, found = doctor(capsys)
        finally:
            conn.execute("DROP DATABASE doctor_latin1")

    assert code == 2
    assert "encoded in LATIN1" in found["storage.schema"]["detail"]
    assert "ENCODING 'UTF8'" in found["storage.schema"]["fix"]
    assert "migrate" not in found["storage.schema"]["fix"]

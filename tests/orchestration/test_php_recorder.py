"""What the application's team is offered to record its API calls: real PHP, Doctrine and PostgreSQL, and our reader."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from include.simulation.ports import free_port
from include.sync_health.policy import SourcePolicy
from include.warehouse.api_call_reader import CallsRead, read_calls
from include.warehouse.api_call_schema import describe_calls
from include.warehouse.source_session import open_session
from tests.php.real_php import OFFERED, PROJECT, php, run_php
from tests.warehouse.call_world import create_calls

DOCS = (PROJECT / "docs" / "api-calls.md").read_text(encoding="utf-8")
WITHOUT_ZONE = "ALTER TABLE servicetitan_api_calls ALTER called_at TYPE timestamp(3)"
WORK = "CREATE TABLE sync_work (customer int)"
HOUR = timedelta(hours=1)

CALL = {"credential": 7, "endpoint": "/crm/v2/tenant/829374/customers", "response_time": 120, "status_code": 200}


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """The application's database, with the table as it is offered."""
    dsn = make_database("hub_plus")
    create_calls(dsn)
    return dsn


def connection_of(dsn: str, **changes: Any) -> dict[str, Any]:
    """Return Doctrine's parameters of a database."""
    given = conninfo_to_dict(dsn)
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "dbname"}
    return {"driver": "pdo_pgsql", **{name: given[key] for name, key in names.items()}, **changes}


def record(dsn: str, log: Path, *calls: dict[str, Any], timezone: str = "UTC", **more: Any) -> dict[str, Any]:
    """Have PHP record calls."""
    plan = {"connection": connection_of(dsn), "log": str(log), "calls": list(calls), **more}
    return run_php("record_calls.php", plan, timezone=timezone)


def rows(dsn: str, columns: str, *, table: str = "servicetitan_api_calls") -> list[tuple[Any, ...]]:
    """Return what is stored, in the order of the keys."""
    with psycopg.connect(dsn) as conn:
        return conn.execute(f"SELECT {columns} FROM {table}".encode()).fetchall()


def read(dsn: str, *, since: datetime, until: datetime, zone: str = "UTC", role: str | None = None) -> CallsRead:
    """Read the calls as the monitor does."""
    policy = SourcePolicy(timezone=zone)
    with open_session(dsn, policy) as session:
        if role is not None:
            session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
        table = describe_calls(session, policy)
        assert table is not None
        return read_calls(session, policy, table=table, since=since, until=until, late=3 * HOUR)


def told_by_hour(found: CallsRead) -> dict[datetime, int]:
    """Return how many calls were found in each hour."""
    requests = found.hours.groupby("hour", observed=True)["requests"].sum()
    return {hour.to_pydatetime(): int(number) for hour, number in requests.items()}


@pytest.mark.parametrize("program", [pytest.param(path, id=path.name) for path in sorted(OFFERED.glob("*.php"))])
def test_php_takes_what_is_offered(program: Path) -> None:
    checked = php("-l", str(program))

    assert checked.returncode == 0, checked.stdout


def test_the_signature_is_that_of_the_story(dsn: str, tmp_path: Path) -> None:
    promised = re.findall(r"^    (recordApiCall\(.*)$", DOCS, flags=re.MULTILINE)

    assert [record(dsn, tmp_path / "log")["signature"]] == promised


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        pytest.param({}, (7, CALL["endpoint"], 120, 200), id="as it was given"),
        pytest.param(
            {"endpoint": "/jpm/v2/jobs?email=ada.lovelace%40example.com&page=2"},
            (7, "/jpm/v2/jobs", 120, 200),
            id="a query string is cut off",
        ),
        pytest.param({"endpoint": "?a=1"}, (7, "", 120, 200), id="nothing but a query string"),
        pytest.param(
            {"endpoint": "/" + "Ünïcödé☕😀" * 30},
            (7, ("/" + "Ünïcödé☕😀" * 30)[:255], 120, 200),
            id="255 characters are kept, of several bytes each",
        ),
        pytest.param({"endpoint": "/" + "a" * 254}, (7, "/" + "a" * 254, 120, 200), id="255 characters fit"),
        pytest.param({"endpoint": '/it\'s "%s" :id'}, (7, '/it\'s "%s" :id', 120, 200), id="what SQL might mind"),
        pytest.param({"response_time": -5}, (7, CALL["endpoint"], 0, 200), id="a negative time is 0"),
        pytest.param({"status_code": 0}, (7, CALL["endpoint"], 120, 0), id="no answer is status 0"),
        pytest.param({"status_code": 503}, (7, CALL["endpoint"], 120, 503), id="an error's status"),
    ],
)
def test_a_call_is_one_row(dsn: str, tmp_path: Path, changes: dict[str, Any], stored: tuple[Any, ...]) -> None:
    done = record(dsn, tmp_path / "log", CALL | changes)

    assert done["thrown"] == []
    assert not (tmp_path / "log").exists(), "nothing is logged"
    assert rows(dsn, "service_titan_credential_id, endpoint, response_time, status_code") == [stored]


@pytest.mark.parametrize(
    ("php_zone", "column", "source_zone"),
    [
        pytest.param("UTC", "", "UTC", id="PHP in UTC"),
        pytest.param(
            "America/New_York", "", "UTC", id="PHP in New York: the column has the zone, the policy is not asked"
        ),
        pytest.param("Asia/Kolkata", "", "America/New_York", id="PHP in Kolkata, whatever the policy says"),
        pytest.param(
            "America/Bogota", WITHOUT_ZONE, "America/Bogota", id="a column without a zone, told by the policy"
        ),
        pytest.param("UTC", WITHOUT_ZONE, "UTC", id="a column without a zone, in UTC"),
    ],
)
def test_the_monitor_reads_what_php_recorded_at_its_time(
    dsn: str, tmp_path: Path, php_zone: str, column: str, source_zone: str
) -> None:
    """Also where the database session of the application is in another zone than PHP."""
    if column:
        with psycopg.connect(dsn) as conn:
            conn.execute(column.encode())
    calls = [CALL, CALL | {"status_code": 404}, CALL | {"status_code": 0, "response_time": -1}]

    done = record(dsn, tmp_path / "log", *calls, timezone=php_zone, session=["SET TIME ZONE 'Asia/Tokyo'"])

    assert done["timezone"] == php_zone
    meant = f"called_at AT TIME ZONE '{source_zone}'" if column else "called_at"
    at = [float(seconds) for (seconds,) in rows(dsn, f"extract(epoch FROM {meant})")]
    assert [done["from"] - 0.001 <= each <= done["to"] for each in at] == [True] * 3, (done, at)
    hours = [datetime.fromtimestamp(each, UTC).replace(minute=0, second=0, microsecond=0) for each in at]
    found = read(dsn, since=hours[0] - HOUR, until=hours[-1] + HOUR, zone=source_zone)
    assert told_by_hour(found) == {hour: hours.count(hour) for hour in hours}
    assert found.anomalies == {}
    totals = found.hours.groupby("status_code")[["requests", "errors", "response_ms_sum"]].sum()
    wanted = pd.DataFrame(
        {"requests": [1, 1, 1], "errors": [1, 0, 1], "response_ms_sum": [0.0, 120.0, 120.0]}, index=[0, 200, 404]
    )
    pd.testing.assert_frame_equal(totals, wanted, check_dtype=False, check_names=False)
    assert set(found.hours["credential_id"]) == {"7"}
    assert set(found.hours["endpoint"]) == {"/crm/v2/tenant/{id}/customers"}


@pytest.mark.parametrize(
    ("column", "hours"),
    [
        pytest.param("", [5, 6], id="the column has the zone: each in its own hour"),
        pytest.param(WITHOUT_ZONE, [6, 6], id="without a zone both are read as standard time"),
    ],
)
def test_the_hour_that_clocks_repeat(dsn: str, tmp_path: Path, column: str, hours: list[int]) -> None:
    """In New York on 2 November 2025, half past one was twice: at 05:30 and at 06:30 UTC."""
    if column:
        with psycopg.connect(dsn) as conn:
            conn.execute(column.encode())
    first = datetime(2025, 11, 2, 5, 30, tzinfo=UTC)
    instants = [int(first.timestamp()), int((first + HOUR).timestamp())]

    record(dsn, tmp_path / "log", timezone="America/New_York", instants=instants)

    midnight = first.replace(hour=0, minute=0)
    found = told_by_hour(read(dsn, since=midnight, until=midnight + 24 * HOUR, zone="America/New_York"))
    assert found == {midnight + hour * HOUR: hours.count(hour) for hour in hours}


def test_a_table_without_the_zone_gets_it_by_what_is_documented(dsn: str, tmp_path: Path) -> None:
    (statement,) = re.findall(r"^    (ALTER TABLE servicetitan_api_calls\n.*;)$", DOCS, re.MULTILINE)
    with psycopg.connect(dsn) as conn:
        conn.execute(WITHOUT_ZONE)
    noon = datetime(2025, 7, 2, 16, tzinfo=UTC)
    record(dsn, tmp_path / "log", timezone="America/New_York", instants=[int(noon.timestamp())])

    with psycopg.connect(dsn) as conn:
        conn.execute(statement.encode())
    record(dsn, tmp_path / "log", timezone="Asia/Kolkata", instants=[int((noon + HOUR).timestamp())])

    assert told_by_hour(read(dsn, since=noon - 6 * HOUR, until=noon + 6 * HOUR)) == {noon: 1, noon + HOUR: 1}


def test_the_grant_that_is_documented_is_all_that_the_monitor_needs(dsn: str, tmp_path: Path) -> None:
    (grant,) = re.findall(r"^    (GRANT SELECT [^;]*ON servicetitan_api_calls TO )monitor_reader;$", DOCS, re.MULTILINE)
    record(dsn, tmp_path / "log", CALL)
    now = datetime.now(UTC)
    with psycopg.connect(dsn) as conn:
        conn.execute(f"CREATE ROLE php_calls_reader; {grant} php_calls_reader".encode())
    try:
        found = read(dsn, since=now - 2 * HOUR, until=now + HOUR, role="php_calls_reader")
    finally:
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP OWNED BY php_calls_reader; DROP ROLE php_calls_reader")

    assert found.hours["requests"].sum() == 1


REFUSALS: list[Any] = [
    pytest.param({"change": "DROP TABLE servicetitan_api_calls"}, {}, "servicetitan_api_calls", id="no table"),
    pytest.param({"change": "ALTER TABLE servicetitan_api_calls DROP called_at"}, {}, "called_at", id="no column"),
    pytest.param({"session": ["SET ROLE php_calls_writer"]}, {}, "permission denied", id="no right to insert"),
    pytest.param({"session": ["SET default_transaction_read_only = on"]}, {}, "read-only", id="a read-only database"),
    pytest.param({"is_away": True}, {}, "refused", id="no server"),
    pytest.param({}, {"credential": None}, "service_titan_credential_id", id="a credential that is not stored yet"),
    pytest.param({}, {"status_code": 99_999}, "out of range", id="a status that is none"),
]


@pytest.mark.parametrize(("world", "call", "reason"), REFUSALS)
def test_a_call_that_cannot_be_recorded_is_one_warning_and_no_error(
    dsn: str, tmp_path: Path, world: dict[str, Any], call: dict[str, Any], reason: str
) -> None:
    """Monolog tells it; the sync goes on, and neither a password nor a query string is in the log."""
    connection = connection_of(dsn, **({"port": free_port()} if world.get("is_away") else {}))
    with psycopg.connect(dsn) as conn:
        conn.execute(world.get("change", "SELECT 1").encode())
        conn.execute("CREATE ROLE php_calls_writer")
    try:
        done = record(
            dsn,
            tmp_path / "log",
            CALL | {"endpoint": "/jobs?email=ada.lovelace%40example.com"} | call,
            connection=connection,
            session=world.get("session", []),
        )
    finally:
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP ROLE php_calls_writer")

    assert done["thrown"] == []
    (line,) = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    told = json.loads(line)
    assert (told["level_name"], told["message"]) == ("WARNING", "ServiceTitan API call not recorded")
    assert reason in told["context"]["error"]
    assert not [secret for secret in (connection["password"], "ada.lovelace") if secret in line]


def test_a_call_stays_when_the_sync_rolls_back(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(WORK)

    done = record(dsn, tmp_path / "log", CALL, sync={"before": "INSERT INTO sync_work VALUES (1)", "after": "SELECT 1"})

    assert (done["thrown"], done["refused"]) == ([], None)
    assert rows(dsn, "endpoint") == [(CALL["endpoint"],)]
    assert rows(dsn, "*", table="sync_work") == []


def test_a_call_that_is_refused_leaves_the_transaction_of_the_sync_alone(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(f"{WORK}; DROP TABLE servicetitan_api_calls".encode())

    done = record(dsn, tmp_path / "log", CALL, sync={"before": "INSERT INTO sync_work VALUES (1)", "after": "SELECT 1"})

    assert (done["thrown"], done["refused"]) == ([], None)


def test_on_the_connection_of_the_sync_both_would_be_lost(dsn: str, tmp_path: Path) -> None:
    """Which is why the recorder asks for one of its own."""
    with psycopg.connect(dsn) as conn:
        conn.execute(WORK)
    sync = {"before": "INSERT INTO sync_work VALUES (1)", "after": "SELECT 1", "is_shared": True}

    record(dsn, tmp_path / "log", CALL, sync=sync)
    refused = record(dsn, tmp_path / "log", CALL | {"status_code": 99_999}, sync=sync)

    assert rows(dsn, "endpoint") == []
    assert "current transaction is aborted" in refused["refused"]

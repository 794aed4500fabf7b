"""A value that cannot be stored is one line that names the table and what refused it, and never the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from include.sync_health.errors import StorageError
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect, storage_errors
from tests.warehouse.monitoring_records import NOW
from tests.warehouse.replaced_days import LATER, TODAY, daily, field, replace, stored

SECRET = "Acme of 12 Main Street"


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("unstorable")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


def told(caught: pytest.ExceptionInfo[StorageError]) -> str:
    """Return the line; nothing of the row is in it, nor in what a traceback would show."""
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return message


HUGE = dict.fromkeys(("syncs_completed", "syncs_clean", "syncs_cancelled"), 2_000_000_000)


@pytest.mark.parametrize("is_first", [True, False], ids=["a day without rows", "a day that has rows"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"syncs_clean": 5}, "monitoring.quality_daily: constraint quality_daily_", id="a contradiction"),
        pytest.param(
            {"quality_score": 101.0}, "constraint quality_daily_quality_score_check refuses it", id="beyond its limits"
        ),
        pytest.param(
            {"credential_id": None}, "column credential_id must not be NULL", id="nothing where it must not be"
        ),
        pytest.param(HUGE, "monitoring.quality_daily: a number is out of range", id="a sum that no column can hold"),
    ],
)
def test_a_row_that_is_refused_is_named_by_what_refused_it(
    conn: psycopg.Connection[Any], is_first: bool, changes: dict[str, Any], reason: str
) -> None:
    """And the day stays as it was."""
    if not is_first:
        replace(conn, daily())
    before = stored(conn)

    with pytest.raises(StorageError) as caught:
        replace(conn, daily(company_name=SECRET, **changes), at=LATER)

    message = told(caught)
    assert message.startswith("a value cannot be stored in monitoring.quality_daily: ")
    assert reason in message
    assert stored(conn) == before


@pytest.mark.parametrize("is_first", [True, False], ids=["a day without rows", "a day that has rows"])
def test_a_field_that_is_refused_is_named_by_what_refused_it(conn: psycopg.Connection[Any], is_first: bool) -> None:
    if not is_first:
        replace(conn, daily(), with_fields=[field()])

    with pytest.raises(StorageError, match=r"monitoring\.field_quality_daily: constraint \w+ refuses it$") as caught:
        replace(conn, daily(), with_fields=[field(missing=9, sample=SECRET)], at=LATER)
    told(caught)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        pytest.param(
            "INSERT INTO monitoring.policy_version VALUES ('v', 'Acme of 12 Main Street', %(at)s, %(at)s)",
            "in monitoring.policy_version: constraint policy_version_pkey refuses it",
            id="a key that is there already",
        ),
        pytest.param(
            "SELECT 3000000000::int8::int4, 'Acme of 12 Main Street'",
            "in a table of schema monitoring: a number is out of range",
            id="of no table that anybody knows",
        ),
        pytest.param(
            "SELECT 'Acme of 12 Main Street'::text, timestamptz '294276-12-31' + interval '9 years'",
            "in a table of schema monitoring: a date or time is out of range",
            id="a time beyond all calendars",
        ),
    ],
)
def test_every_store_says_it_so(conn: psycopg.Connection[Any], statement: str, message: str) -> None:
    conn.execute("INSERT INTO monitoring.policy_version VALUES ('v', 'text', %s, %s)", (NOW, NOW))
    with pytest.raises(StorageError) as caught, storage_errors():
        conn.execute(statement.encode(), {"at": NOW})
    assert told(caught) == f"a value cannot be stored {message}"
    conn.rollback()


def test_a_copy_names_the_column_and_not_its_value(conn: psycopg.Connection[Any]) -> None:
    """The server's own line quotes it."""
    statement = "COPY monitoring.quality_daily (day, credential_id, syncs_total) FROM STDIN"
    with pytest.raises(StorageError) as caught, storage_errors(), conn.cursor().copy(statement) as copy:
        copy.write_row((TODAY, SECRET, 3_000_000_000))

    message = told(caught)
    assert (
        message
        == "a value cannot be stored in monitoring.quality_daily: a number is out of range, in column syncs_total"
    )
    conn.rollback()

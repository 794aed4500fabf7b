"""What was once told of fields stays where the source's details can no longer be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import MINUTE
from tests.warehouse.replaced_days import LATER, TODAY, daily, field, replace, stored, table

UNREAD: dict[str, Any] = {
    "syncs_with_detail": 0,
    "records_with_detail": 0,
    "missing_required": 0,
    "completeness": float("nan"),
}
"""Of a day whose details are not read."""

DETAIL = ", ".join(UNREAD)
KNOWN = {"syncs_with_detail": 1, "records_with_detail": 10, "missing_required": 3, "completeness": 90.0}
NONE = {**UNREAD, "completeness": None}


@pytest.fixture
def conn(make_database: Callable[..., str]) -> Iterator[psycopg.Connection[Any]]:
    """A session with a migrated database."""
    dsn = make_database("details")
    upgrade(dsn)
    with connect(dsn) as conn:
        yield conn


@pytest.mark.parametrize(
    ("has_details", "before", "detail", "field_names"),
    [
        pytest.param(False, {}, KNOWN, ["customerId"], id="details that cannot be read now: those that were read stay"),
        pytest.param(True, {}, NONE, ["name"], id="details that are read, and tell nothing any more"),
        pytest.param(False, UNREAD, NONE, ["name"], id="there were none: the error messages tell their fields anew"),
    ],
)
def test_details_that_cannot_be_read_now_are_kept(
    conn: psycopg.Connection[Any],
    has_details: bool,
    before: dict[str, Any],
    detail: dict[str, Any],
    field_names: list[str],
) -> None:
    """All else of the row is what the source says now; and doing it again writes nothing."""
    replace(conn, daily(**before), with_fields=[field()])
    fresh = daily(records_failed=6, **UNREAD)
    named = [field(name="name")]

    replaced = replace(conn, fresh, with_fields=named, at=LATER, has_details=has_details)
    assert replaced.rows == 1
    assert stored(conn, f"{DETAIL}, records_failed") == [{**detail, "records_failed": 6}]
    assert [row[1] for row in table(conn, "day, field", "field_quality_daily")] == field_names

    rows, fields = (table(conn, "*, xmin::text", name) for name in ("quality_daily", "field_quality_daily"))
    again = replace(conn, fresh, with_fields=named, at=LATER + MINUTE, has_details=has_details)
    assert (again.rows, again.unchanged) == (0, 1)
    assert table(conn, "*, xmin::text", "quality_daily") == rows
    assert table(conn, "*, xmin::text", "field_quality_daily") == fields


def test_a_row_whose_only_difference_is_its_details_is_left_alone(conn: psycopg.Connection[Any]) -> None:
    """It keeps when it was computed."""
    replace(conn, daily(), with_fields=[field()])
    before = table(conn, "*, xmin::text", "quality_daily")

    assert replace(conn, daily(**UNREAD), at=LATER, has_details=False).unchanged == 1
    assert table(conn, "*, xmin::text", "quality_daily") == before


def test_a_row_of_the_first_definition_has_no_details_to_keep(conn: psycopg.Connection[Any]) -> None:
    """It knows nothing of them, which is not that there were some."""
    replace(conn, daily())
    conn.execute(
        "UPDATE monitoring.quality_daily SET calc_version = 1, syncs_with_detail = NULL, records_with_detail = NULL,"
        " missing_required = NULL, completeness = NULL"
    )
    conn.commit()

    replace(conn, daily(**UNREAD), at=LATER, has_details=False)
    assert stored(conn, DETAIL) == [NONE]


def test_a_new_row_has_the_details_that_came_with_it(conn: psycopg.Connection[Any]) -> None:
    """Beside one that keeps its own: a part of the details may still be readable."""
    replace(conn, daily("7"), with_fields=[field("7")])

    rows = [daily("7", **UNREAD), daily("8", syncs_with_detail=2, records_with_detail=20, missing_required=0)]
    replace(conn, *rows, with_fields=[field("8", "name")], at=LATER, has_details=False)

    assert stored(conn, "credential_id, syncs_with_detail") == [
        {"credential_id": "7", "syncs_with_detail": 1},
        {"credential_id": "8", "syncs_with_detail": 2},
    ]
    assert table(conn, "credential_id, field", "field_quality_daily") == [("7", "customerId"), ("8", "name")]


def test_details_go_with_a_row_that_is_removed(conn: psycopg.Connection[Any]) -> None:
    """Its syncs are of another key: there is no row that could keep them."""
    replace(conn, daily(), with_fields=[field()])

    moved = daily(data_type="invoices", **UNREAD)
    assert replace(conn, moved, at=LATER, has_details=False, credential_ids=["7"]).removed == 1
    assert table(conn, "day, data_type", "quality_daily") == [(TODAY, "invoices")]
    assert table(conn, "day, data_type", "field_quality_daily") == []

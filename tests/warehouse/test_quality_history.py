"""What was stored is read back as it was, whole or in part."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest

from include.sync_health.daily_quality import DAILY_COLUMNS, DAILY_KEY
from include.sync_health.errors import RequestError, StorageError
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_history import (
    DAILY_STORED_COLUMNS,
    LEDGER_COLUMNS,
    REVISION_STORED_COLUMNS,
    VIEWS,
    computed_days,
    read_daily,
    read_fields,
    read_revisions,
    stream_view,
)
from tests.sync_health.stored_quality_days import day_row, days_frame, random_days
from tests.warehouse.monitoring_records import NOW
from tests.warehouse.stored_history import store_days, store_field, store_revision

DAY = date(2026, 3, 2)


def test_every_column_is_read_as_it_was_computed(conn: psycopg.Connection[Any]) -> None:
    """NaN where there is none, also in rows of the first definition; in the order of their keys."""
    daily = random_days(3)
    daily.loc[0, ["company_name", "company_id"]] = None
    daily.loc[1, "company_name"] = 'two\nlines, "quoted" \\ Ünïon'
    store_days(conn, daily.sample(frac=1, random_state=1), vanished=True)

    found = read_daily(conn)

    assert tuple(found) == DAILY_STORED_COLUMNS
    expected = daily.sort_values(list(DAILY_KEY)).reset_index(drop=True)
    expected = expected.astype(dict.fromkeys(("company_id", "company_name"), object))
    expected = expected.where(expected.notna() | expected.dtypes.ne(object), None)
    pd.testing.assert_frame_equal(found[list(DAILY_COLUMNS)], expected, check_dtype=False)
    assert found["is_vanished"].all()
    assert (found["computed_at"] == NOW).all()
    assert daily["syncs_timed"].isna().any()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({}, [(0, "10"), (0, "7"), (1, "7"), (2, "7")], id="all"),
        pytest.param({"days": [DAY, DAY + timedelta(days=2)]}, [(0, "10"), (0, "7"), (2, "7")], id="some days"),
        pytest.param({"days": []}, [], id="no day"),
        pytest.param({"first": DAY + timedelta(days=1)}, [(1, "7"), (2, "7")], id="from a day, included"),
        pytest.param({"last": DAY + timedelta(days=1)}, [(0, "10"), (0, "7"), (1, "7")], id="to a day, included"),
        pytest.param({"credential_ids": ["10"]}, [(0, "10")], id="a credential"),
        pytest.param({"credential_ids": []}, [], id="no credential"),
    ],
)
def test_what_is_asked_for_is_read(
    conn: psycopg.Connection[Any], asked: dict[str, Any], expected: list[tuple[int, str]]
) -> None:
    store_days(conn, days_frame(*(day_row(DAY, n=n) for n in range(3)), day_row(DAY, credential="10")))
    found = read_daily(conn, **asked)
    assert [
        ((day - DAY).days, each) for day, each in zip(found["day"], found["credential_id"], strict=True)
    ] == expected
    assert tuple(found) == DAILY_STORED_COLUMNS


def test_some_columns_can_be_asked_for_and_the_key_comes_with_them(conn: psycopg.Connection[Any]) -> None:
    store_days(conn, days_frame(day_row(DAY)))
    assert list(read_daily(conn, columns=["quality_score"])) == [*DAILY_KEY, "quality_score"]
    with pytest.raises(RequestError, match="columns: colour are not stored"):
        read_daily(conn, columns=["colour"])


def test_fields_and_revisions_and_the_ledger_are_read(conn: psycopg.Connection[Any]) -> None:
    store_days(conn, days_frame(day_row(DAY), day_row(DAY, n=1)))
    store_field(conn, DAY, field="total", sample=None, share=None)
    store_field(conn, DAY, field="customer\nId", sample="is empty", share=2.5)
    store_revision(conn, DAY)

    fields, revisions, ledger = read_fields(conn), read_revisions(conn), computed_days(conn, first=DAY, last=DAY)

    assert fields[["field", "sample", "failures"]].values.tolist() == [
        ["customer\nId", "is empty", 5],
        ["total", None, 5],
    ]
    assert fields["share"].isna().tolist() == [False, True]
    assert tuple(revisions) == REVISION_STORED_COLUMNS
    assert revisions[["day", "verdict_before", "verdict_after", "revised_at"]].values.tolist() == [
        [DAY, "absent", "poor", NOW]
    ]
    assert revisions["processed_before"].isna().all()
    assert tuple(ledger) == LEDGER_COLUMNS
    assert ledger[["day", "rows", "is_final", "timezone"]].values.tolist() == [[DAY, 1, True, "UTC"]]
    assert read_fields(conn, days=[DAY + timedelta(days=1)]).empty


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_comes_in_chunks_as_of_one_moment(conn: psycopg.Connection[Any], dsn: str, view: str) -> None:
    """What is stored meanwhile is not in it."""
    store_days(conn, days_frame(*(day_row(DAY, credential=str(n)) for n in range(5)), day_row(DAY)))
    store_field(conn, DAY, field="total", sample=None, share=None)
    store_revision(conn, DAY)
    count = conn.execute(f"SELECT count(*) FROM monitoring.{VIEWS[view][0]}".encode()).fetchone()
    conn.commit()
    with stream_view(conn, view, chunk_rows=2) as found, connect(dsn) as other:
        other.execute("DELETE FROM monitoring.quality_daily")
        other.execute("DELETE FROM monitoring.field_quality_daily")
        other.execute("DELETE FROM monitoring.quality_revision")
        other.commit()
        chunks = list(found.chunks)
    assert count == (sum(map(len, chunks)),)
    assert max(map(len, chunks)) <= 2
    assert all(len(row) == len(found.columns) for chunk in chunks for row in chunk)


def test_an_unknown_view_and_a_missing_schema_are_said(make_database: Callable[..., str]) -> None:
    with connect(make_database("empty")) as conn:
        with (
            pytest.raises(RequestError, match="view: 'hourly' is unknown; use one of daily"),
            stream_view(conn, "hourly"),
        ):
            pass
        with pytest.raises(StorageError):
            read_daily(conn)

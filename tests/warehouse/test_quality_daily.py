"""Whole days are replaced, and nothing that was once known is erased."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pandas as pd
import psycopg
import pytest
from psycopg.rows import dict_row

from include.sync_health.daily_quality import DAILY_COLUMNS
from include.sync_health.errors import FrameError, RequestError, StorageError
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_daily import QUALITY_LOCK, replace_days, unfinished_days
from tests.warehouse.monitoring_records import MINUTE, NOW

TODAY, YESTERDAY = date(2026, 3, 2), date(2026, 3, 1)
LATER = NOW + MINUTE


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """A migrated database."""
    dsn = make_database("quality")
    upgrade(dsn)
    return dsn


@pytest.fixture
def conn(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with it."""
    with connect(dsn) as conn:
        yield conn


def daily(credential: str = "7", day: date = TODAY, **changes: Any) -> dict[str, Any]:
    """Return one row of an aggregate: two completed syncs of ten records."""
    return {
        "day": day,
        "credential_id": credential,
        "data_type": "both",
        "company_id": "3",
        "company_name": "Acme",
        "environment": "production",
        "syncs_total": 2,
        "syncs_completed": 2,
        "syncs_clean": 1,
        "syncs_partial": 1,
        "syncs_failed": 0,
        "syncs_cancelled": 0,
        "syncs_open": 0,
        "records_processed": 20,
        "records_successful": 15,
        "records_failed": 5,
        "quality_score": 75.0,
        "inconsistent": 0,
        "score_low": 53.1,
        "score_high": 88.8,
        "duration_avg_seconds": 1.5,
        "duration_p95_seconds": 2.0,
        "is_final": False,
        "calc_version": 1,
        **changes,
    }


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return an aggregate."""
    return pd.DataFrame(rows, columns=list(DAILY_COLUMNS))


def stored(conn: psycopg.Connection[Any], columns: str = "*") -> list[dict[str, Any]]:
    """Return what is stored, by key."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"SELECT {columns} FROM monitoring.quality_daily ORDER BY day, credential_id").fetchall()
    conn.commit()
    return rows


def replace(conn: psycopg.Connection[Any], *rows: dict[str, Any], at: datetime = NOW, **options: Any) -> Any:
    """Replace today by these rows."""
    return replace_days(conn, frame(*rows), computed_at=at, **{"days": [TODAY], **options})


def test_every_column_is_stored_as_it_was_computed(conn: psycopg.Connection[Any]) -> None:
    """Missing values as NULL."""
    nothing = {
        "quality_score": float("nan"),
        "score_low": float("nan"),
        "score_high": float("nan"),
        "duration_avg_seconds": float("nan"),
        "duration_p95_seconds": float("nan"),
        "company_id": None,
        "company_name": None,
    }
    replaced = replace(conn, daily("7"), daily("8", **nothing))

    more = {"is_vanished": False, "computed_at": NOW}
    assert stored(conn) == [
        {**daily("7"), **more},
        {**daily("8"), **dict.fromkeys(nothing), **more},
    ]
    assert (replaced.days, replaced.rows, replaced.vanished, replaced.superseded) == (1, 2, 0, ())


def test_doing_it_again_changes_nothing(conn: psycopg.Connection[Any]) -> None:
    """A retry of the task."""
    replace(conn, daily("7"), daily("8"))
    replace(conn, daily("8"))
    before = stored(conn)

    assert replace(conn, daily("8")).vanished == 0
    assert stored(conn) == before


def test_a_key_that_is_gone_keeps_its_numbers_and_is_marked_until_it_is_back(conn: psycopg.Connection[Any]) -> None:
    """And other days are not touched."""
    replace(conn, daily("7"), daily("7", YESTERDAY), days=[TODAY, YESTERDAY])

    gone = replace(conn, at=LATER)
    assert (gone.rows, gone.vanished) == (0, 1)
    assert stored(conn, "day, is_vanished, records_processed, computed_at") == [
        {"day": YESTERDAY, "is_vanished": False, "records_processed": 20, "computed_at": NOW},
        {"day": TODAY, "is_vanished": True, "records_processed": 20, "computed_at": NOW},
    ]

    replace(conn, daily("7", records_processed=30), at=LATER)
    assert stored(conn, "is_vanished, records_processed")[1] == {"is_vanished": False, "records_processed": 30}


@pytest.mark.parametrize(
    ("before", "after", "is_final"),
    [
        pytest.param(False, False, False, id="provisional stays so"),
        pytest.param(False, True, True, id="provisional becomes final"),
        pytest.param(True, False, True, id="final stays final"),
    ],
)
def test_final_is_for_ever(conn: psycopg.Connection[Any], before: bool, after: bool, is_final: bool) -> None:
    """A late change of a final day is written, and the day stays final."""
    replace(conn, daily(is_final=before))
    replace(conn, daily(is_final=after, records_failed=9), at=LATER)

    assert stored(conn, "is_final, records_failed") == [{"is_final": is_final, "records_failed": 9}]


def test_a_vanished_row_becomes_final_with_its_day(conn: psycopg.Connection[Any]) -> None:
    """Nobody computes it any more, and yet its day is over."""
    replace(conn, daily())
    replace(conn, at=LATER)
    assert unfinished_days(conn, since=YESTERDAY, before=TODAY + timedelta(days=1)) == [TODAY]

    replace(conn, at=LATER, final_before=TODAY + timedelta(days=1))
    assert stored(conn, "is_final, is_vanished") == [{"is_final": True, "is_vanished": True}]
    assert unfinished_days(conn, since=YESTERDAY, before=TODAY + timedelta(days=1)) == []


def test_the_later_of_two_readings_wins_whichever_is_stored_first(conn: psycopg.Connection[Any]) -> None:
    """A slow worker must not put an older state back."""
    replace(conn, daily(records_processed=30), at=LATER)

    assert replace(conn, daily(records_processed=20), at=NOW).superseded == (TODAY,)
    assert stored(conn, "records_processed") == [{"records_processed": 30}]


@pytest.mark.parametrize(
    ("syncs", "kept"),
    [
        pytest.param(1, 1, id="fewer syncs than are stored: the source's retention took some"),
        pytest.param(2, 0, id="as many: a correction"),
        pytest.param(3, 0, id="more: a late sync"),
    ],
)
def test_a_day_at_the_edge_of_the_source_only_grows(conn: psycopg.Connection[Any], syncs: int, kept: int) -> None:
    """History is never erased."""
    replace(conn, daily())

    replaced = replace(
        conn,
        daily(syncs_total=syncs, syncs_completed=0, syncs_clean=0, syncs_partial=0),
        at=LATER,
        only_growing=[TODAY],
    )

    assert replaced.kept == kept
    assert stored(conn, "syncs_total") == [{"syncs_total": 2 if kept else syncs}]


def test_days_before_the_broken_one_stay_replaced(conn: psycopg.Connection[Any]) -> None:
    """A transaction each: a day is never half there."""
    impossible = daily("9", syncs_clean=5)
    with pytest.raises(psycopg.errors.CheckViolation):
        replace(conn, daily("7", YESTERDAY), daily("7"), impossible, days=[TODAY, YESTERDAY])

    assert stored(conn, "day, credential_id") == [{"day": YESTERDAY, "credential_id": "7"}]


def test_a_day_is_locked_while_it_is_replaced_and_no_other_is(conn: psycopg.Connection[Any], dsn: str) -> None:
    """Two runs that restate one day go one after the other."""
    with connect(dsn) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s, %s)", (QUALITY_LOCK, TODAY.toordinal()))
        replace(conn, daily("7", YESTERDAY), days=[YESTERDAY])
        conn.execute("SET lock_timeout = '100ms'")
        conn.commit()
        with pytest.raises(StorageError, match="safe to try again"):
            replace(conn, daily())
        conn.execute("SET lock_timeout = '60s'")
        conn.commit()
        waiting = threading.Thread(target=replace, args=(conn, daily()))
        waiting.start()
        other.rollback()
        waiting.join(timeout=60)

    assert [row["day"] for row in stored(conn, "day")] == [YESTERDAY, TODAY]


def test_a_big_day_is_a_few_round_trips(conn: psycopg.Connection[Any]) -> None:
    """Ten thousand credentials in one statement."""
    replaced = replace(conn, *(daily(str(number)) for number in range(10_000)))

    assert replaced.rows == 10_000
    assert len(stored(conn, "credential_id")) == 10_000


def test_names_that_postgresql_cannot_hold_are_stored_as_well_as_can_be(conn: psycopg.Connection[Any]) -> None:
    """A company's name is somebody else's text."""
    replace(conn, daily(company_name="Ac\x00me"))

    assert stored(conn, "company_name") == [{"company_name": "Ac\N{REPLACEMENT CHARACTER}me"}]


def test_a_row_of_a_day_that_is_not_replaced_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be one key of a day whose others are not known."""
    with pytest.raises(RequestError, match="2026-03-01"):
        replace(conn, daily(day=YESTERDAY))


def test_a_frame_that_lacks_a_column_is_refused(conn: psycopg.Connection[Any]) -> None:
    """Rather than storing NULL."""
    with pytest.raises(FrameError, match="quality_score"):
        replace_days(conn, frame(daily()).drop(columns="quality_score"), days=[TODAY], computed_at=NOW)


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be read in the session's zone."""
    with pytest.raises(ValueError, match="naive"):
        replace(conn, at=NOW.replace(tzinfo=None))

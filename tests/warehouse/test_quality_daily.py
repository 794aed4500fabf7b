"""Whole days are replaced, and no sync that was once known is erased."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.errors import FrameError, RequestError, StorageError
from include.sync_health.rule_policies import DataQualityPolicy
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_daily import QUALITY_LOCK, replace_days, unfinished_days
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.replaced_days import LATER, TODAY, YESTERDAY, daily, field, fields, frame, replace, stored, table


def test_every_column_is_stored_as_it_was_computed(conn: psycopg.Connection[Any]) -> None:
    """Missing values as NULL."""
    nothing: dict[str, Any] = {
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
        pytest.param(1, 1, id="fewer finished syncs than are stored: the source's retention took some"),
        pytest.param(2, 0, id="as many: a correction"),
        pytest.param(3, 0, id="more: a late sync"),
    ],
)
def test_a_day_at_the_edge_of_the_source_only_grows(conn: psycopg.Connection[Any], syncs: int, kept: int) -> None:
    """History is never erased."""
    replace(conn, daily())

    replaced = replace(
        conn,
        daily(syncs_total=syncs, syncs_completed=0, syncs_clean=0, syncs_partial=0, syncs_empty=0, syncs_timed=0),
        at=LATER,
        only_growing=[TODAY],
    )

    assert replaced.kept == kept
    assert stored(conn, "syncs_total") == [{"syncs_total": 2 if kept else syncs}]


def test_days_before_the_broken_one_stay_replaced(conn: psycopg.Connection[Any]) -> None:
    """A transaction each: a day is never half there."""
    impossible = daily("9", syncs_clean=5)
    with pytest.raises(StorageError, match=r"in monitoring\.quality_daily: constraint"):
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
    """Ten thousand credentials at once, and nothing is written when they are there already."""
    replaced = replace(conn, *(daily(str(number)) for number in range(10_000)))

    assert replaced.rows == 10_000
    again = replace(conn, *(daily(str(number)) for number in range(10_000)), at=LATER)
    assert (again.rows, again.unchanged) == (0, 10_000)
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
        replace_days(
            conn,
            frame(daily()).drop(columns="quality_score"),
            fields(),
            days=[TODAY],
            read_at=NOW,
            timezone="UTC",
            quality=DataQualityPolicy(),
        )


def test_a_naive_time_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be read in the session's zone."""
    with pytest.raises(ValueError, match="naive"):
        replace(conn, at=NOW.replace(tzinfo=None))


def test_rows_that_did_not_change_are_not_written_again(conn: psycopg.Connection[Any]) -> None:
    """Only the ledger says that somebody looked."""
    replace(conn, daily("7"), daily("8"), with_fields=[field()])
    before = table(conn, "credential_id, data_type, xmin::text, computed_at", "quality_daily")
    fields_before = table(conn, "*, xmin::text", "field_quality_daily")

    replaced = replace(conn, daily("7"), daily("8", records_failed=6), with_fields=[field()], at=LATER)

    after = table(conn, "credential_id, data_type, xmin::text, computed_at", "quality_daily")
    assert (replaced.rows, replaced.unchanged, replaced.vanished) == (1, 1, 0)
    assert after[0] == before[0]
    assert after[1][3] == LATER
    assert table(conn, "*, xmin::text", "field_quality_daily") == fields_before
    assert table(conn, "day, read_at, rows", "quality_day") == [(TODAY, LATER, 2)]


def test_a_row_of_the_first_definition_is_computed_again(conn: psycopg.Connection[Any]) -> None:
    """NULL is another value than 0, and a new version of the same verdict is no revision."""
    replace(conn, daily(is_final=True))
    conn.execute(
        "UPDATE monitoring.quality_daily SET calc_version = 1, syncs_empty = NULL, failed_auth = NULL, completeness = NULL"
    )
    conn.commit()

    replaced = replace(conn, daily(is_final=True), at=LATER)

    assert (replaced.rows, replaced.revised) == (1, 0)
    assert stored(conn, "calc_version, failed_auth") == [{"calc_version": 2, "failed_auth": 0}]


def test_fields_go_with_the_row_of_their_key(conn: psycopg.Connection[Any]) -> None:
    """Replaced with it, kept with it when it vanishes, and kept when it may only grow."""
    replace(conn, daily("7"), daily("8"), daily("9"), with_fields=[field("7"), field("8"), field("9")])

    replace(
        conn,
        daily("7", records_failed=6),
        daily("9", syncs_total=1, syncs_completed=1, syncs_partial=0, syncs_timed=1),
        with_fields=[
            field("7", failures=6),
            field("7", "name", sample=None, share=float("nan")),
            field("9", failures=1),
        ],
        at=LATER,
        only_growing=[TODAY],
    )
    assert table(conn, "credential_id, field, failures, share", "field_quality_daily") == [
        ("7", "customerId", 6, 25.0),
        ("7", "name", 5, None),
        ("8", "customerId", 5, 25.0),
        ("9", "customerId", 5, 25.0),
    ]

    replace(conn, daily("7"), at=LATER + MINUTE)
    assert table(conn, "credential_id, field", "field_quality_daily") == [("8", "customerId"), ("9", "customerId")]


def test_a_field_without_its_row_is_refused(conn: psycopg.Connection[Any]) -> None:
    """It would be in no sum."""
    with pytest.raises(RequestError, match="8, both has fields but no row"):
        replace(conn, daily("7"), with_fields=[field("8")])


def test_a_role_that_may_not_make_temporary_tables_is_told_the_grant(conn: psycopg.Connection[Any]) -> None:
    """Where rows are there already; a first backfill needs none."""
    replace(conn, daily())
    database = conn.info.dbname
    conn.execute("CREATE ROLE quality_plain")
    conn.execute(f'REVOKE TEMPORARY ON DATABASE "{database}" FROM PUBLIC'.encode())
    conn.execute("GRANT USAGE ON SCHEMA monitoring TO quality_plain")
    conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA monitoring TO quality_plain")
    conn.execute("SET ROLE quality_plain")
    conn.commit()
    try:
        replace(conn, daily(day=YESTERDAY), days=[YESTERDAY])
        with pytest.raises(StorageError, match="GRANT TEMPORARY ON DATABASE"):
            replace(conn, daily(), at=LATER)
    finally:
        conn.execute("RESET ROLE")
        conn.execute("DROP OWNED BY quality_plain")
        conn.execute("DROP ROLE quality_plain")
        conn.commit()


def test_two_at_once_come_to_the_later_reading(conn: psycopg.Connection[Any], dsn: str) -> None:
    """Whichever of them is first at the lock."""
    replace(conn, daily())
    with connect(dsn) as other:
        readings = ((conn, NOW + MINUTE, 6), (other, NOW + 2 * MINUTE, 7))
        threads = [
            threading.Thread(target=replace, args=(session, daily(records_failed=lost)), kwargs={"at": at})
            for session, at, lost in readings
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(timeout=60)

    assert stored(conn, "records_failed") == [{"records_failed": 7}]
    assert table(conn, "day, read_at", "quality_day") == [(TODAY, NOW + 2 * MINUTE)]

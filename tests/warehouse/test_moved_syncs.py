"""A sync that moves to another data type or day counts once: where it is now; what the source has lost stays."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.sync_health.quality_rollups import Period, roll_up
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_daily import Replaced
from include.warehouse.quality_history import read_daily
from tests.warehouse.monitoring_records import MINUTE, NOW
from tests.warehouse.replaced_days import LATER, TODAY, YESTERDAY, daily, field, replace, stored, table

DAYS = [TODAY - timedelta(days=number) for number in range(3)]
OVER = TODAY + timedelta(days=1)


def counts(total: int, *, still_open: int = 0) -> dict[str, Any]:
    """Return the numbers of so many syncs of ten clean records, some of them open."""
    done = total - still_open
    return {
        **dict.fromkeys(("syncs_completed", "syncs_clean", "syncs_timed"), done),
        **dict.fromkeys(("records_processed", "records_successful"), 10 * done),
        "syncs_total": total,
        "syncs_open": still_open,
        "syncs_partial": 0,
        "records_failed": 0,
    }


def test_a_corrected_data_type_counts_once_in_every_roll_up(conn: psycopg.Connection[Any]) -> None:
    """As `both` it is no more, with its fields; what it was called is in no sum."""
    replace(conn, daily("7"), daily("8"), with_fields=[field("7"), field("8")])

    replaced = replace(
        conn,
        daily("7", data_type="invoices"),
        daily("8"),
        with_fields=[field("7", data_type="invoices"), field("8")],
        at=LATER,
        credential_ids={"7", "8"},
    )

    assert (replaced.rows, replaced.unchanged, replaced.removed, replaced.vanished) == (1, 1, 1, 0)
    for name in ("quality_daily", "field_quality_daily"):
        assert table(conn, "credential_id, data_type", name) == [("7", "invoices"), ("8", "both")]
    for view in ("bi_quality_weekly", "bi_quality_28_days"):
        assert table(conn, "sum(records_processed), sum(days_vanished)", view) == [(40, 0)]
    assert roll_up(read_daily(conn), period=Period.WEEK)["records_processed"].sum() == 40


def test_an_open_sync_that_ends_on_the_next_day_leaves_its_own(conn: psycopg.Connection[Any]) -> None:
    """It was the only one of its day, at five to midnight."""
    replace(conn, daily(day=YESTERDAY, **counts(1, still_open=1)), days=[YESTERDAY])

    replaced = replace(conn, daily(**counts(1)), days=[YESTERDAY, TODAY], at=LATER, credential_ids=["7"])

    assert (replaced.rows, replaced.removed) == (1, 1)
    assert stored(conn, "day, syncs_total, syncs_open") == [{"day": TODAY, "syncs_total": 1, "syncs_open": 0}]


@pytest.mark.parametrize(
    ("options", "removed"),
    [
        pytest.param({"credential_ids": ["7"]}, 1, id="its credential is there, so its syncs moved"),
        pytest.param({"credential_ids": ["8"]}, 0, id="its credential is gone"),
        pytest.param({"credential_ids": []}, 0, id="all credentials are gone"),
        pytest.param({}, 0, id="nobody knows which credentials there are"),
        pytest.param(
            {"credential_ids": ["7"], "only_growing": [TODAY]}, 0, id="the source's retention may have taken its syncs"
        ),
        pytest.param({"credential_ids": ["7"], "only_growing": [YESTERDAY]}, 1, id="only another day may only grow"),
        pytest.param(
            {"credential_ids": ["7"], "only_growing": [TODAY], "timezone": "Asia/Tokyo"},
            1,
            id="its syncs are beyond another zone's midnight",
        ),
    ],
)
def test_a_key_without_syncs_is_removed_only_where_they_moved(
    conn: psycopg.Connection[Any], options: dict[str, Any], removed: int
) -> None:
    """Else it is marked, with the numbers that were last known; and doing it again writes nothing."""
    replace(conn, daily(), with_fields=[field()])

    first = replace(conn, at=LATER, **options)
    before = table(conn, "*, xmin::text", "quality_daily")
    again = replace(conn, at=LATER, **options)

    assert (first.removed, first.vanished) == (removed, 1 - removed)
    assert (again.removed, again.vanished, again.rows) == (0, 0, 0)
    assert table(conn, "*, xmin::text", "quality_daily") == before
    assert [row["is_vanished"] for row in stored(conn, "is_vanished")] == [True] * (1 - removed)
    assert len(table(conn, "day, field", "field_quality_daily")) == 1 - removed


def test_a_row_that_an_earlier_version_marked_is_removed_too(conn: psycopg.Connection[Any]) -> None:
    """Days that count a sync twice are mended when they are computed again."""
    replace(conn, daily())
    replace(conn, at=LATER)
    assert stored(conn, "is_vanished") == [{"is_vanished": True}]

    assert replace(conn, at=LATER + MINUTE, credential_ids=["7"]).removed == 1
    assert stored(conn) == []


@pytest.mark.parametrize(
    ("before", "after", "total"),
    [
        pytest.param(counts(3, still_open=1), counts(2), 2, id="an open one ended elsewhere"),
        pytest.param(counts(3, still_open=1), counts(3), 3, id="an open one ended here"),
        pytest.param(counts(3, still_open=1), counts(3, still_open=2), 3, id="a finished one is gone, another began"),
        pytest.param(counts(1, still_open=1), None, None, id="the only one was open and ended elsewhere"),
    ],
)
def test_a_day_that_may_only_grow_still_loses_its_open_syncs(
    conn: psycopg.Connection[Any], before: dict[str, Any], after: dict[str, Any] | None, total: int | None
) -> None:
    """Of a finished sync there is something to lose."""
    replace(conn, daily(**before))

    rows = [] if after is None else [daily(**after)]
    replace(conn, *rows, at=LATER, only_growing=[TODAY], credential_ids=["7"])

    finished_before = before["syncs_total"] - before["syncs_open"]
    found = stored(conn, "syncs_total, syncs_total - syncs_open AS finished")
    assert [row["syncs_total"] for row in found] == ([] if total is None else [total])
    assert sum(row["finished"] for row in found) >= finished_before


def test_a_row_that_keeps_its_numbers_is_written_once(conn: psycopg.Connection[Any]) -> None:
    """When its day is over: from then on there is nothing to write."""
    replace(conn, daily(**counts(2)))
    options: dict[str, Any] = {"only_growing": [TODAY], "credential_ids": ["7"]}

    for is_final in (False, True, True):
        before = table(conn, "is_final, xmin::text", "quality_daily")
        assert replace(conn, daily(is_final=is_final, **counts(1)), at=LATER, **options).kept == 1
        after = table(conn, "is_final, xmin::text", "quality_daily")
        assert (after == before) is (before[0][0] is is_final)
        assert after[0][0] is is_final


@pytest.mark.parametrize(
    ("recorded", "now", "total"),
    [
        pytest.param("UTC", "Asia/Tokyo", 1, id="another zone: its syncs are on the day beside it"),
        pytest.param("UTC", "UTC", 2, id="the same zone: the source has lost one"),
        pytest.param(None, "Asia/Tokyo", 2, id="nobody recorded the zone"),
    ],
)
def test_a_day_that_was_cut_by_other_midnights_may_shrink(
    conn: psycopg.Connection[Any], recorded: str | None, now: str, total: int
) -> None:
    """Once: from then on it is cut by these."""
    replace(conn, daily(**counts(2)))
    conn.execute("UPDATE monitoring.quality_day SET timezone = %s", (recorded,))
    conn.commit()

    replace(conn, daily(**counts(1)), at=LATER, only_growing=[TODAY], timezone=now, credential_ids=["7"])
    assert stored(conn, "syncs_total") == [{"syncs_total": total}]

    replace(conn, at=LATER + MINUTE, only_growing=[TODAY], timezone=now, credential_ids=["7"])
    assert stored(conn, "syncs_total, is_vanished") == [{"syncs_total": total, "is_vanished": True}]


@pytest.mark.parametrize("is_late_first", [True, False])
def test_of_two_readings_the_later_one_knows_what_moved(conn: psycopg.Connection[Any], is_late_first: bool) -> None:
    """A slow worker neither puts a key back nor takes one away."""
    replace(conn, daily())
    readings: list[Callable[[], Replaced]] = [
        lambda: replace(conn, daily(), at=LATER, credential_ids=["7"]),
        lambda: replace(conn, daily(data_type="invoices"), at=LATER + MINUTE, credential_ids=["7"]),
    ]
    for read in reversed(readings) if is_late_first else readings:
        read()

    assert stored(conn, "data_type, is_vanished") == [{"data_type": "invoices", "is_vanished": False}]


def test_two_at_once_remove_what_the_later_reading_says(conn: psycopg.Connection[Any], dsn: str) -> None:
    """Whichever of them is first at the lock."""
    replace(conn, daily(), final_before=OVER)
    with connect(dsn) as other:
        readings = (
            (conn, [daily()], NOW + MINUTE),
            (other, [daily(data_type="invoices")], NOW + 2 * MINUTE),
        )
        threads = [
            threading.Thread(target=replace, args=(session, *rows), kwargs={"at": at, "credential_ids": ["7"]})
            for session, rows, at in readings
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join(timeout=60)

    assert stored(conn, "data_type, is_vanished") == [{"data_type": "invoices", "is_vanished": False}]


Syncs = dict[int, tuple[str, str, int, bool]]
"""Credential, data type, number of the day, and whether it is open, by the sync's id."""


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Syncs, set[str]]]:
    """Return readings one after the other: where each sync is, and which credentials there are; none comes back."""
    steps = []
    present = {"7", "8", "9"}
    for _ in range(draw(st.integers(2, 4))):
        places = st.tuples(
            st.sampled_from(sorted(present)), st.sampled_from(["both", "invoices"]), st.integers(0, 2), st.booleans()
        )
        steps.append((draw(st.dictionaries(st.integers(0, 5), places)), set(present)))
        present -= draw(st.sets(st.sampled_from(sorted(present)), max_size=1)) if len(present) > 1 else set()
    return steps


def take(conn: psycopg.Connection[Any], syncs: Syncs, present: set[str], *, number: int) -> None:
    """Replace all days by a reading."""
    total = Counter(place[:3] for place in syncs.values())
    opened = Counter(place[:3] for place in syncs.values() if place[3])
    replace(
        conn,
        *(
            daily(credential, DAYS[day], data_type=kind, **counts(many, still_open=opened[credential, kind, day]))
            for (credential, kind, day), many in total.items()
        ),
        with_fields=[field(credential, data_type=kind, day=DAYS[day]) for credential, kind, day in total],
        days=DAYS,
        at=NOW + number * MINUTE,
        credential_ids=present,
    )


def kept(conn: psycopg.Connection[Any], *, of: set[str]) -> dict[tuple[str, str, date], tuple[int, int]]:
    """Return total and open syncs by key of some credentials; each row has its field, and there is no other field."""
    key = "credential_id, data_type, day"
    rows = table(conn, f"{key}, syncs_total, syncs_open, is_vanished", "quality_daily")
    assert sorted(table(conn, key, "field_quality_daily")) == sorted(row[:3] for row in rows)
    assert all(row[5] != (row[0] in of) for row in rows)
    return {row[:3]: row[3:5] for row in rows if row[0] in of}


def of_source(syncs: Syncs) -> dict[tuple[str, str, date], tuple[int, int]]:
    """Return total and open syncs by key."""
    found: dict[tuple[str, str, date], tuple[int, int]] = {}
    for credential, kind, day, is_open in syncs.values():
        total, opened = found.get((credential, kind, DAYS[day]), (0, 0))
        found[credential, kind, DAYS[day]] = (total + 1, opened + is_open)
    return found


@given(data=st.data(), steps=histories())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_syncs_move_each_counts_once(
    conn: psycopg.Connection[Any], data: st.DataObject, steps: list[tuple[Syncs, set[str]]]
) -> None:
    """In whatever order the readings are stored, and stored twice: what is kept of a credential is what the source has."""
    conn.execute("TRUNCATE monitoring.quality_daily, monitoring.field_quality_daily, monitoring.quality_day")
    conn.commit()
    order = data.draw(st.permutations(range(len(steps))))
    for number in (*order, order[0]):
        take(conn, *steps[number], number=number)

    newest, present = steps[-1]
    assert kept(conn, of=present) == of_source(newest)


@given(steps=histories())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_credential_that_is_gone_keeps_what_was_last_known(
    conn: psycopg.Connection[Any], steps: list[tuple[Syncs, set[str]]]
) -> None:
    """Each of its syncs, once."""
    conn.execute("TRUNCATE monitoring.quality_daily, monitoring.field_quality_daily, monitoring.quality_day")
    conn.commit()
    expected: dict[tuple[str, str, date], tuple[int, int]] = {}
    for number, (syncs, present) in enumerate(steps):
        take(conn, syncs, present, number=number)
        expected = {key: value for key, value in expected.items() if key[0] not in present} | of_source(syncs)

    rows = table(conn, "credential_id, data_type, day, syncs_total, syncs_open", "quality_daily")
    assert {row[:3]: row[3:] for row in rows} == expected

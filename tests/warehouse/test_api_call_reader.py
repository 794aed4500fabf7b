"""Reading the application's table of API calls: which rows, at what cost, and what is odd."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import psycopg
import pytest

from include.sync_health.api_calls import collapse
from include.sync_health.errors import RequestError, SourceError
from include.sync_health.policy import SourcePolicy
from include.warehouse.api_call_reader import hours_between, read_calls
from include.warehouse.api_call_schema import describe_calls
from include.warehouse.source_session import open_session
from tests.sync_health.call_rows import T0, Call, calls_frame
from tests.warehouse.call_world import NO_INDEX, NO_INDEXES, NO_ZONE, create_calls, read, write_calls

MakeDatabase = Callable[..., str]
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)

WAYS = [
    pytest.param((), id="by the index on its time"),
    pytest.param((NO_INDEX,), id="by its key"),
    pytest.param((NO_INDEXES,), id="by looking at every row"),
]


def many_calls(count: int, *, first: timedelta, last: timedelta, seed: int = 5) -> list[Call]:
    """Calls spread over a time, in order, of several credentials, endpoints and statuses."""
    dice = random.Random(seed)  # noqa: S311 -- a test's world
    return [
        Call(
            at=T0 + first + (last - first) * number / count,
            credential=str(dice.randint(1, 5)),
            endpoint=dice.choice(["/customers", f"/jobs/{dice.randint(1, 999)}"]),
            status=dice.choice([200, 200, 200, 404, 429, 500]),
            ms=dice.choice([None, float(dice.randint(0, 9_000))]),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize(
    "column", [pytest.param((), id="times with their zone"), pytest.param((NO_ZONE,), id="times without a zone")]
)
@pytest.mark.parametrize("changes", WAYS)
def test_every_way_and_zone_gives_the_calls_of_the_hours(
    make_database: MakeDatabase, changes: tuple[str, ...], column: tuple[str, ...], zone: str
) -> None:
    """As counting them one by one does; also in several chunks."""
    dsn = make_database("calls")
    create_calls(dsn, *column, *changes)
    calls = many_calls(2_000, first=-6 * HOUR, last=6 * HOUR)
    write_calls(dsn, calls, zone=zone)

    found = read(dsn, zone=zone, rows_per_read=300)

    wanted = collapse(calls_frame(each for each in calls if T0 <= each.at < T0 + 3 * HOUR))
    pd.testing.assert_frame_equal(found.hours, wanted, check_dtype=False)
    assert found.anomalies["no_response_time"] == wanted["requests"].sum() - wanted["response_count"].sum()


@pytest.mark.parametrize("changes", WAYS)
@pytest.mark.parametrize(
    ("after", "is_read"),
    [
        pytest.param(-MILLISECOND, False, id="just before the first hour"),
        pytest.param(timedelta(0), True, id="at its beginning"),
        pytest.param(3 * HOUR - MILLISECOND, True, id="just before the end"),
        pytest.param(3 * HOUR, False, id="at the end"),
    ],
)
def test_the_edges_of_the_window(
    make_database: MakeDatabase, changes: tuple[str, ...], after: timedelta, is_read: bool
) -> None:
    """Closed at its beginning, open at its end, whichever way it is found."""
    dsn = make_database("calls")
    create_calls(dsn, *changes)
    write_calls(dsn, [Call(at=T0 + after)])

    assert read(dsn).hours["requests"].sum() == is_read


@pytest.mark.parametrize("changes", WAYS[:2])
def test_the_cost_follows_the_window_not_the_table(make_database: MakeDatabase, changes: tuple[str, ...]) -> None:
    """Of 60,000 calls in as many minutes, hardly more than the window's leave the database."""
    dsn = make_database("calls")
    create_calls(dsn, *changes)
    write_calls(dsn, many_calls(60_000, first=-40 * 24 * HOUR, last=3 * HOUR))
    inside = 180

    found = read(dsn)

    assert found.hours["requests"].sum() == pytest.approx(inside, abs=10)
    assert found.rows_read < 5 * inside


def test_a_row_that_was_written_late_is_found_by_key(make_database: MakeDatabase) -> None:
    """Its key is later than those of the hours after it, and that of an early one is earlier by as much."""
    dsn = make_database("calls")
    create_calls(dsn, NO_INDEX)
    early = [Call(at=T0 + number * MINUTE, ms=1.0) for number in range(10)]
    others = many_calls(3_000, first=-3 * HOUR, last=3 * HOUR)
    late = [Call(at=T0 + number * MINUTE, ms=2.0) for number in range(10)]
    write_calls(dsn, [*others[:100], *early, *others[100:], *late])

    found = read(dsn)

    wanted = [*early, *late, *(each for each in others if each.at >= T0)]
    pd.testing.assert_frame_equal(found.hours, collapse(calls_frame(wanted)), check_dtype=False)


def test_odd_rows_are_counted_and_not_trusted(make_database: MakeDatabase) -> None:
    """None is lost: what cannot be known of a call is told as not known."""
    dsn = make_database("calls")
    create_calls(
        dsn,
        *(
            f"ALTER TABLE servicetitan_api_calls ALTER {column} DROP NOT NULL"
            for column in ("service_titan_credential_id", "endpoint", "status_code", "called_at")
        ),
        NO_INDEX,
    )
    with psycopg.connect(dsn) as conn:
        for values in (
            (1, "/a", -5, 200, T0),
            (1, "/a", 10, 77, T0),
            (1, "/a", 10, None, T0),
            (1, "/a", 10, 0, T0),
            (None, "/a", None, 200, T0),
            (1, None, 10, 200, T0),
            (1, "/a\n/b", 10, 200, T0),
            (1, "/late", 10, 200, None),
            (1, "/future", 10, 200, T0 + 9 * HOUR),
            (1, "/never", 10, 200, "infinity"),
        ):
            conn.execute(
                "INSERT INTO servicetitan_api_calls (service_titan_credential_id, endpoint, response_time, status_code,"
                " called_at) VALUES (%s, %s, %s, %s, %s::timestamptz AT TIME ZONE 'UTC')",
                values,
            )

    found = read(dsn)

    assert found.anomalies == {
        "in_future": 1,
        "negative_time": 1,
        "no_credential": 1,
        "no_endpoint": 1,
        "no_response_time": 1,
        "no_status": 1,
        "no_time": 2,
        "odd_status": 1,
    }
    told = found.hours.set_index(["credential_id", "endpoint", "status_code"])
    assert told["requests"].sum() == 7
    assert told.loc[("1", "/a", 0), "requests"] == 3, "an odd status, none, and no answer"
    assert told.loc[("1", "/a", 0), "errors"] == 1, "no answer is an error"
    assert told.loc[("1", "/a", 200), "response_count"] == 0
    assert ("", "/a", 200) in told.index
    assert ("1", "", 200) in told.index
    assert ("1", "/a/{id}", 200) not in told.index, "a line break does not shift the rows"


def test_too_many_endpoints_share_one_name(make_database: MakeDatabase) -> None:
    """Two hundred are told, whatever the chunks; one told before is among them."""
    dsn = make_database("calls")
    create_calls(dsn)
    names = ["/" + "".join(chr(97 + int(digit)) for digit in f"{number:03}") for number in range(300)]
    write_calls(dsn, [Call(at=T0 + number * MINUTE / 10, endpoint=name) for number, name in enumerate(names)])

    found = read(dsn, known=[names[299]], rows_per_read=50)

    told = set(found.hours["endpoint"])
    assert len(told) == 201
    assert {"other", names[299]} <= told
    assert found.anomalies["other_endpoint"] == 100
    assert found.hours["requests"].sum() == 300


def test_uuid_keys(make_database: MakeDatabase) -> None:
    """Their text is the credential's id."""
    dsn = make_database("calls")
    create_calls(
        dsn,
        "ALTER TABLE servicetitan_api_calls DROP COLUMN id, ADD COLUMN id uuid PRIMARY KEY DEFAULT gen_random_uuid(),"
        " DROP COLUMN service_titan_credential_id, ADD COLUMN credential_id uuid",
        "INSERT INTO servicetitan_api_calls (credential_id, endpoint, response_time, status_code, called_at) VALUES"
        " ('6f9619ff-8b86-d011-b42d-00cf4fc964ff', '/a', 5, 200, '2026-03-10 12:30'), (NULL, '/a', 5, 200, '2026-03-10 12:30')",
    )

    assert set(read(dsn).hours["credential_id"]) == {"", "6f9619ff-8b86-d011-b42d-00cf4fc964ff"}


def test_other_names_and_types_that_are_understood(make_database: MakeDatabase) -> None:
    """A duration as a number with a fraction, a time that knows its zone."""
    dsn = make_database("calls")
    create_calls(
        dsn,
        "ALTER TABLE servicetitan_api_calls RENAME response_time TO duration_ms",
        "ALTER TABLE servicetitan_api_calls ALTER duration_ms TYPE numeric(10, 3)",
        "INSERT INTO servicetitan_api_calls (service_titan_credential_id, endpoint, duration_ms, status_code, called_at)"
        " VALUES (1, '/a', 12.345, 200, '2026-03-10 14:30+02'), (1, '/a', 'NaN', 200, '2026-03-10 14:30+02')",
    )

    hours = read(dsn, zone="Asia/Kolkata").hours

    assert list(hours["hour"]) == [T0]
    assert hours["requests"][0] == 2


@pytest.mark.parametrize(
    ("change", "cause", "told"),
    [
        pytest.param(
            "ALTER TABLE servicetitan_api_calls DROP status_code",
            "missing_column",
            "public.servicetitan_api_calls has no column status_code or response_code (found: called_at, endpoint, id, "
            "response_time, service_titan_credential_id); add it as docs/api-calls.md has it, or set api_calls.table to false",
            id="a column is missing",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_api_calls ALTER status_code TYPE text",
            "invalid",
            "servicetitan_api_calls.status_code is of type text; expected an integer",
            id="a status is a text",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_api_calls ALTER called_at TYPE text",
            "invalid",
            "servicetitan_api_calls.called_at is of type text; expected timestamp or timestamptz",
            id="a time is a text",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_api_calls DROP id",
            "missing_column",
            "has no column id (found:",
            id="it has no key",
        ),
    ],
)
def test_a_table_of_another_shape_is_told_in_one_line(
    make_database: MakeDatabase, change: str, cause: str, told: str
) -> None:
    """What was found, and the fix."""
    dsn = make_database("calls")
    create_calls(dsn, change)

    with open_session(dsn, SourcePolicy()) as session, pytest.raises(SourceError) as caught:
        describe_calls(session, SourcePolicy())

    assert caught.value.cause == cause
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_that_we_may_not_read_names_the_grant(make_database: MakeDatabase) -> None:
    """With the columns that are missing."""
    dsn = make_database("calls")
    create_calls(
        dsn, "CREATE ROLE call_watcher LOGIN", "GRANT SELECT (id, endpoint) ON servicetitan_api_calls TO call_watcher"
    )
    try:
        policy = SourcePolicy()
        with open_session(dsn, policy) as session:
            session.execute("SET ROLE call_watcher")
            with pytest.raises(SourceError) as caught:
                describe_calls(session, policy)
    finally:
        with psycopg.connect(dsn) as conn:
            conn.execute("DROP OWNED BY call_watcher; DROP ROLE call_watcher")

    assert caught.value.cause == "permission"
    assert "GRANT SELECT (service_titan_credential_id, response_time, status_code, called_at)" in str(caught.value)


def test_a_source_without_the_table_has_none(make_database: MakeDatabase) -> None:
    """Which is no error."""
    with open_session(make_database("calls"), SourcePolicy()) as session:
        assert describe_calls(session, SourcePolicy()) is None


def test_an_empty_table_has_no_calls(make_database: MakeDatabase) -> None:
    """By any way."""
    dsn = make_database("calls")
    create_calls(dsn, NO_INDEX)

    assert read(dsn).hours.empty


def test_a_naive_time_is_refused(make_database: MakeDatabase) -> None:
    """It would be read in nobody's zone."""
    dsn = make_database("calls")
    create_calls(dsn)
    policy = SourcePolicy()
    with open_session(dsn, policy) as session:
        table = describe_calls(session, policy)
        assert table is not None
        with pytest.raises(RequestError, match="since"):
            read_calls(session, policy, table=table, since=T0.replace(tzinfo=None), until=T0, late=HOUR)


@pytest.mark.parametrize(
    ("since", "until", "count"),
    [
        pytest.param(timedelta(0), HOUR, 1, id="one whole hour"),
        pytest.param(30 * MINUTE, HOUR, 1, id="half of one"),
        pytest.param(30 * MINUTE, HOUR + MINUTE, 2, id="parts of two"),
        pytest.param(HOUR, HOUR, 0, id="nothing"),
    ],
)
def test_hours_that_a_window_touches(since: timedelta, until: timedelta, count: int) -> None:
    """Each by its beginning."""
    assert len(hours_between(T0 + since, T0 + until)) == count

"""The figures of API calls against single calls, and what they say where no source tells them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.api_availability import SWITCH_ON, ApiMeasure
from include.sync_health.errors import RequestError
from include.sync_health.response_times import ACCURACY
from include.warehouse.api_figures import (
    ENDPOINT_COLUMNS,
    RESPONSE_HOUR_COLUMNS,
    Incidents,
    ResponseTimes,
    circuit_openings,
    errors_by_endpoint,
    rate_limit_incidents,
    response_times,
    response_times_by_hour,
)
from tests.warehouse.figure_rows import (
    DAY,
    HOUR,
    NOW,
    START,
    analyze,
    call,
    random_calls,
    rows_touched,
    store_calls,
    store_source,
)

FIRST_HOUR, END = START + 5 * HOUR, START + 48 * HOUR
RANGE = {"start": FIRST_HOUR, "end": END}
INVOICES = "/accounting/v2/tenant/{id}/invoices"
EVERYTHING = (response_times, errors_by_endpoint, rate_limit_incidents, circuit_openings)


def hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def of_source(calls: list[dict[str, Any]], source: str, **asked: str | None) -> list[dict[str, Any]]:
    """Return a source's calls of the range that are asked for."""
    return [
        each
        for each in calls
        if each["source"] == source
        and FIRST_HOUR <= hour_of(each["at"]) < END
        and all(each[name] == value for name, value in asked.items())
    ]


def nearest_rank(times: list[float]) -> float:
    return sorted(times)[math.ceil(len(times) * 95 / 100) - 1]


def all_there(conn: psycopg.Connection[Any]) -> None:
    for source in ("table", "log", "probe"):
        store_source(conn, source)


SCOPES = [
    pytest.param({}, id="all"),
    pytest.param({"environment": "integration"}, id="an environment"),
    pytest.param({"credential_id": "2"}, id="a credential"),
    pytest.param({"credential_id": "99"}, id="one that made no call"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("asked", [*SCOPES, pytest.param({"endpoint": INVOICES}, id="an endpoint")])
def test_response_times_are_those_of_the_calls(conn: psycopg.Connection[Any], asked: dict[str, str], seed: int) -> None:
    """Mean and maximum exact, the 95th percentile of all calls within 2 %; of the table, and nothing of other sources."""
    calls = random_calls(seed)
    store_calls(conn, calls)
    all_there(conn)
    timed = [each for each in of_source(calls, "table", **asked) if each["response_ms"] is not None]
    times = [each["response_ms"] for each in timed]

    found = response_times(conn, **RANGE, **asked)
    told, by_hour = response_times_by_hour(conn, **RANGE, **asked)

    assert told == found.told
    assert (told.source, told.unavailable, told.doubt, told.read_until) == ("table", None, None, NOW)
    assert found.timed == len(times)
    assert tuple(by_hour) == RESPONSE_HOUR_COLUMNS
    if not times:
        assert (found.average_ms, found.p95_ms, found.longest_ms) == (None, None, None)
        assert by_hour.empty
        return
    assert found.average_ms == pytest.approx(sum(times) / len(times))
    assert found.p95_ms == pytest.approx(nearest_rank(times), rel=ACCURACY, abs=1)
    assert found.longest_ms == pytest.approx(max(times))
    hours: dict[datetime, list[float]] = {}
    for each in timed:
        hours.setdefault(hour_of(each["at"]), []).append(each["response_ms"])
    assert list(by_hour["hour"]) == sorted(hours)
    for row in by_hour.to_dict("records"):
        mine = hours[row["hour"].to_pydatetime()]
        assert row["timed"] == len(mine)
        assert row["average_ms"] == pytest.approx(sum(mine) / len(mine))
        assert row["p95_ms"] == pytest.approx(nearest_rank(mine), rel=ACCURACY, abs=1)


def test_a_percentile_is_of_all_calls_and_no_mean_of_hours(conn: psycopg.Connection[Any]) -> None:
    """A quiet slow hour beside a busy fast one: 96 of 100 calls take 100 ms, so 95 of them do."""
    store_calls(conn, [call(FIRST_HOUR) for _ in range(96)])
    store_calls(conn, [call(FIRST_HOUR + HOUR, response_ms=9_000.0, credential_id="8") for _ in range(4)])
    all_there(conn)
    found = response_times(conn, **RANGE)
    assert found.p95_ms == pytest.approx(100, rel=ACCURACY)
    assert found.average_ms == pytest.approx(456)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("asked", SCOPES)
def test_errors_are_told_by_endpoint(conn: psycopg.Connection[Any], asked: dict[str, str], seed: int) -> None:
    calls = random_calls(seed)
    store_calls(conn, calls)
    all_there(conn)
    mine = of_source(calls, "table", **asked)
    requests = Counter(each["endpoint"] for each in mine)
    errors = Counter(each["endpoint"] for each in mine if each["status_code"] >= 400)
    order = sorted(requests, key=lambda name: (-errors[name], -requests[name], name))

    found = errors_by_endpoint(conn, **RANGE, **asked)

    assert tuple(found.endpoints) == ENDPOINT_COLUMNS
    assert found.endpoints.values.tolist() == [
        [name, requests[name], errors[name], pytest.approx(100 * errors[name] / requests[name])] for name in order
    ]
    assert (found.requests, found.errors) == (requests.total(), errors.total())
    whole = requests.total()
    assert found.error_rate == (pytest.approx(100 * errors.total() / whole) if whole else None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("asked", SCOPES)
@pytest.mark.parametrize(
    ("figure", "source", "number"),
    [
        pytest.param(rate_limit_incidents, "table", "rate_limited", id="rate limits of the table"),
        pytest.param(circuit_openings, "log", "circuit_opened", id="circuit breakers of the log"),
    ],
)
def test_incidents_are_counted_by_credential(
    conn: psycopg.Connection[Any],
    figure: Callable[..., Incidents],
    source: str,
    number: str,
    asked: dict[str, str],
    seed: int,
) -> None:
    calls = random_calls(seed)
    store_calls(conn, calls)
    all_there(conn)
    mine = [each for each in of_source(calls, source, **asked) if each[number]]
    expected = Counter(each["credential_id"] for each in mine)

    found = figure(conn, **RANGE, **asked)

    assert found.told.source == source
    assert found.total == len(mine)
    order = sorted(expected.items(), key=lambda each: (-each[1], each[0]))
    assert list(found.by_credential.items()) == order
    assert found.last_hour == max((hour_of(each["at"]) for each in mine), default=None)


@pytest.mark.parametrize("status", ["unavailable", None])
def test_what_no_source_tells_is_unavailable_and_not_zero(conn: psycopg.Connection[Any], status: str | None) -> None:
    """Whether a source was looked for and not found, or never looked for; calls that are stored change nothing."""
    if status:
        for source in ("table", "log", "probe"):
            store_source(conn, source, status)
    store_calls(conn, random_calls(1, number=50))

    times, errors = response_times(conn, **RANGE), errors_by_endpoint(conn, **RANGE)
    limits, circuits = rate_limit_incidents(conn, **RANGE), circuit_openings(conn, **RANGE)

    assert (times.timed, times.average_ms, times.p95_ms, times.longest_ms) == (None, None, None, None)
    assert (errors.requests, errors.errors, errors.error_rate) == (None, None, None)
    assert tuple(errors.endpoints) == ENDPOINT_COLUMNS
    assert errors.endpoints.empty
    assert (limits.total, limits.by_credential, circuits.total, circuits.by_credential) == (None, {}, None, {})
    assert times.told.unavailable == SWITCH_ON[ApiMeasure.RESPONSE_TIMES]
    assert errors.told.unavailable == SWITCH_ON[ApiMeasure.CALLS]
    assert limits.told.unavailable == SWITCH_ON[ApiMeasure.RATE_LIMITS]
    assert circuits.told.unavailable == SWITCH_ON[ApiMeasure.CIRCUIT_OPENINGS]
    told, by_hour = response_times_by_hour(conn, **RANGE)
    assert told == times.told
    assert tuple(by_hour) == RESPONSE_HOUR_COLUMNS
    assert by_hour.empty


def test_a_source_without_a_call_tells_zero_and_no_ratio(conn: psycopg.Connection[Any]) -> None:
    """That is what zero is for."""
    all_there(conn)
    times, errors = response_times(conn, **RANGE), errors_by_endpoint(conn, **RANGE)
    assert times == ResponseTimes(told=times.told, timed=0)
    assert (errors.requests, errors.errors, errors.error_rate) == (0, 0, None)
    for found in (rate_limit_incidents(conn, **RANGE), circuit_openings(conn, **RANGE)):
        assert (found.total, found.by_credential, found.last_hour) == (0, {}, None)
    assert all(figure(conn, **RANGE).told.unavailable is None for figure in EVERYTHING)


def test_an_endpoint_of_retries_alone_has_no_rate(conn: psycopg.Connection[Any]) -> None:
    """A log tells errors of calls whose request it does not tell: no division by zero."""
    store_source(conn, "log")
    conn.execute(
        "INSERT INTO monitoring.api_call_hourly (hour, source, credential_id, environment, company_id, endpoint,"
        " status_code, requests, errors, updated_at) VALUES (%s, 'log', '7', 'production', '3', '/x', 0, 0, 2, %s)",
        (FIRST_HOUR, NOW),
    )
    found = errors_by_endpoint(conn, **RANGE)
    assert found.endpoints[["endpoint", "requests", "errors"]].values.tolist() == [["/x", 0, 2]]
    assert found.endpoints["error_rate"].isna().all()
    assert (found.requests, found.errors, found.error_rate) == (0, 2, None)


def test_a_failing_source_tells_what_it_told_and_says_so(conn: psycopg.Connection[Any]) -> None:
    store_calls(conn, [call(FIRST_HOUR)])
    store_source(conn, "table", "failing", detail="permission denied", read_until=FIRST_HOUR)
    found = response_times(conn, **RANGE)
    assert found.timed == 1
    assert found.told.doubt == "The source table cannot be read at present: permission denied"
    assert found.told.read_until == FIRST_HOUR


def test_a_failing_source_that_was_never_read_is_not_there_and_says_why(conn: psycopg.Connection[Any]) -> None:
    """The next one tells; without any the sentence says what is in the way, where that one would tell."""
    store_source(conn, "table", "failing", detail="permission denied", read_until=None)
    limits, circuits = rate_limit_incidents(conn, **RANGE), circuit_openings(conn, **RANGE)
    store_source(conn, "log")
    store_calls(conn, [call(FIRST_HOUR, source="log", response_ms=None)])

    assert (limits.total, circuits.total) == (None, None)
    assert limits.told.unavailable == f"{SWITCH_ON[ApiMeasure.RATE_LIMITS]} The table cannot be read: permission denied"
    assert circuits.told.unavailable == SWITCH_ON[ApiMeasure.CIRCUIT_OPENINGS]
    errors = errors_by_endpoint(conn, **RANGE)
    assert (errors.told.source, errors.told.doubt, errors.requests) == ("log", None, 1)


def test_without_the_table_each_figure_is_of_the_next_source(conn: psycopg.Connection[Any]) -> None:
    """Our probe's times, the log's errors and incidents."""
    store_calls(
        conn,
        [
            call(FIRST_HOUR),
            call(FIRST_HOUR, source="probe", response_ms=300.0),
            call(FIRST_HOUR, source="log", response_ms=None, status_code=429, rate_limited=1, circuit_opened=1),
        ],
    )
    for source in ("log", "probe"):
        store_source(conn, source)
    times, errors = response_times(conn, **RANGE), errors_by_endpoint(conn, **RANGE)
    assert (times.told.source, times.timed, times.average_ms) == ("probe", 1, 300.0)
    assert (errors.told.source, errors.requests, errors.error_rate) == ("log", 1, 100.0)
    for found in (rate_limit_incidents(conn, **RANGE), circuit_openings(conn, **RANGE)):
        assert (found.told.source, found.total, found.last_hour) == ("log", 1, FIRST_HOUR)


@pytest.mark.parametrize("figure", [*EVERYTHING, response_times_by_hour])
def test_a_range_that_is_none_is_refused(conn: psycopg.Connection[Any], figure: Callable[..., object]) -> None:
    with pytest.raises(RequestError, match=r"end: .* is not after start"):
        figure(conn, start=END, end=END)
    with pytest.raises(RequestError, match="end: 2026-03-04T00:00:00 has no time zone"):
        figure(conn, start=START, end=END.replace(tzinfo=None))


@pytest.mark.parametrize("figure", [*EVERYTHING, response_times_by_hour])
def test_the_cost_follows_the_range(conn: psycopg.Connection[Any], figure: Callable[..., object]) -> None:
    """Of 90 days of six rows an hour, a day's are read, by as many statements as the docstring says."""
    all_there(conn)
    conn.execute(
        "INSERT INTO monitoring.api_call_hourly (hour, source, credential_id, environment, company_id, endpoint,"
        " status_code, requests, errors, rate_limited, circuit_opened, response_count, response_ms_sum, response_buckets,"
        " updated_at)"
        " SELECT hour, source, credential::text, 'production', '3', '/x', 200, 1, 0, (credential = 1)::int,"
        " (credential = 1)::int, 1, 100, '{\"115\": 1}', %s"
        " FROM generate_series(%s::timestamptz, %s, interval '1 hour') AS hour, generate_series(1, 3) AS credential,"
        " unnest(ARRAY['table', 'log']) AS source",
        (NOW, START, START + 90 * DAY - timedelta(seconds=1)),
    )
    analyze(conn, "api_call_hourly")
    day = {"start": START + 50 * DAY, "end": START + 51 * DAY}
    assert 0 < rows_touched(conn, lambda watched: figure(watched, **day))["api_call_hourly"] <= 2 * 6 * 24

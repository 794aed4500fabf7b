"""Results of probes: stored once, counted once, and read back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.api_probes import SIGN_IN_PATH, ProbeResult
from include.sync_health.errors import StorageError
from include.sync_health.verdicts import ErrorClass
from include.warehouse.api_sources import read_sources
from include.warehouse.probe_results import ERROR_LIMIT, newest_probes, store_probes

NOW = datetime(2026, 7, 1, 12, 40, tzinfo=UTC)
UNITS = "/settings/v2/tenant/{id}/business-units"


def result(credential_id: str = "7", **changes: Any) -> ProbeResult:
    values: dict[str, Any] = {
        "at": NOW,
        "status_code": 200,
        "response_ms": 120.5,
        "endpoint": UNITS,
        "environment": "production",
        "company_id": "42",
    }
    return ProbeResult(credential_id=credential_id, **(values | changes))


def failure(credential_id: str = "7", **changes: Any) -> ProbeResult:
    values = {"status_code": 429, "error_class": ErrorClass.RATE_LIMIT, "error": "ServiceTitan answered 429"}
    return result(credential_id, **(values | changes))


UNANSWERED = failure("8", status_code=None, response_ms=None, error_class=ErrorClass.TIMEOUT, error="no answer")
NOT_CALLED = failure("9", status_code=None, response_ms=None, endpoint=None, error_class=ErrorClass.VALIDATION)


def counted(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return conn.execute(
        "SELECT credential_id, environment, company_id, endpoint, status_code, requests, errors, rate_limited, "
        "response_count, response_ms_sum "
        "FROM monitoring.api_counter WHERE source = 'probe' ORDER BY credential_id, status_code"
    ).fetchall()


def test_results_are_read_back_as_they_were(conn: psycopg.Connection[Any]) -> None:
    given = [result("1"), failure("2"), UNANSWERED, NOT_CALLED]
    store_probes(conn, given, NOW)
    read = newest_probes(conn, NOW)

    kept = ("credential_id", "at", "environment", "status_code", "response_ms", "error_class", "error", "status")
    assert [[getattr(each, name) for name in kept] for each in read] == [
        [getattr(each, name) for name in kept] for each in given
    ]


def test_the_newest_of_each_credential_is_read_and_none_before_the_time_given(conn: psycopg.Connection[Any]) -> None:
    earlier, early = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    store_probes(conn, [failure("1", at=early), result("1"), result("2", at=early), result("3", at=earlier)], NOW)

    assert [(each.credential_id, each.at, each.status) for each in newest_probes(conn, early)] == [
        ("1", NOW, "success"),
        ("2", early, "success"),
    ]


def test_each_call_is_counted_where_it_was_made(conn: psycopg.Connection[Any]) -> None:
    signing_in = failure("6", status_code=400, response_ms=None, endpoint=SIGN_IN_PATH, error_class=ErrorClass.AUTH)
    store_probes(conn, [signing_in, result("7"), failure("7", at=NOW - timedelta(minutes=15)), UNANSWERED], NOW)

    assert counted(conn) == [
        ("6", "production", "42", SIGN_IN_PATH, 400, 1, 1, 0, 0, 0.0),
        ("7", "production", "42", UNITS, 200, 1, 0, 0, 1, 120.5),
        ("7", "production", "42", UNITS, 429, 1, 1, 1, 1, 120.5),
        ("8", "production", "42", UNITS, 0, 1, 1, 0, 0, 0.0),
    ]


def test_what_was_not_called_is_stored_and_not_counted(conn: psycopg.Connection[Any]) -> None:
    store_probes(conn, [NOT_CALLED], NOW)

    assert counted(conn) == []
    assert [each.credential_id for each in newest_probes(conn, NOW)] == ["9"]


def test_an_answer_that_could_not_be_read_was_answered_all_the_same(conn: psycopg.Connection[Any]) -> None:
    store_probes(conn, [result(error_class=ErrorClass.DECODE, error="no JSON")], NOW)

    assert [row[4:7] for row in counted(conn)] == [(200, 1, 0)]
    assert newest_probes(conn, NOW)[0].status == "error"


def test_a_result_that_comes_again_counts_nothing(conn: psycopg.Connection[Any]) -> None:
    first = store_probes(conn, [result("1")], NOW)
    again = store_probes(conn, [result("1", response_ms=999.0), result("2")], NOW)

    assert list(first["credential_id"]) == ["1"]
    assert list(again["credential_id"]) == ["2"]
    assert [(row[0], row[5], row[9]) for row in counted(conn)] == [("1", 1, 120.5), ("2", 1, 120.5)]


def test_nothing_is_committed(conn: psycopg.Connection[Any]) -> None:
    store_probes(conn, [result()], NOW)
    conn.rollback()

    assert (newest_probes(conn, NOW), counted(conn), read_sources(conn)) == ([], [], {})


def test_no_result_writes_nothing(conn: psycopg.Connection[Any]) -> None:
    assert store_probes(conn, [], NOW).empty
    assert read_sources(conn) == {}


@pytest.mark.parametrize(
    ("results", "status", "has_timings", "detail"),
    [
        pytest.param([result()], "available", True, "1 of 1 probes were answered, 0 failed", id="all is well"),
        pytest.param(
            [failure(), UNANSWERED], "available", True, "1 of 2 probes were answered, 2 failed", id="one was answered"
        ),
        pytest.param(
            [UNANSWERED, NOT_CALLED], "failing", False, "0 of 2 probes were answered, 2 failed", id="none was answered"
        ),
    ],
)
def test_the_source_says_how_it_went(
    conn: psycopg.Connection[Any], results: list[ProbeResult], status: str, has_timings: bool, detail: str
) -> None:
    store_probes(conn, results, NOW)
    source = read_sources(conn)["probe"]

    assert (source.status, source.has_timings, source.detail) == (status, has_timings, detail)


def test_an_error_is_redacted_and_cut_before_it_is_stored(conn: psycopg.Connection[Any]) -> None:
    text = "client_secret=cs1.abcdefghijklmnop\x00 " + "word " * 500
    store_probes(conn, [failure(error=text)], NOW)
    (read,) = newest_probes(conn, NOW)

    assert read.error is not None
    assert len(read.error) <= ERROR_LIMIT
    assert "cs1." not in read.error


def test_a_class_of_a_newer_version_is_unknown_here(conn: psycopg.Connection[Any]) -> None:
    store_probes(conn, [failure()], NOW)
    conn.execute("UPDATE monitoring.probe_result SET error_class = 'brand_new'")

    assert newest_probes(conn, NOW)[0].error_class is ErrorClass.UNKNOWN


def test_naive_times_are_refused(conn: psycopg.Connection[Any]) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match="naive"):
        newest_probes(conn, naive)
    with pytest.raises(ValueError, match="naive"):
        store_probes(conn, [result(at=naive)], NOW)


def test_a_schema_that_is_missing_is_told(make_database: Any) -> None:
    with psycopg.connect(make_database("empty")) as conn, pytest.raises(StorageError, match="missing or older"):
        newest_probes(conn, NOW)

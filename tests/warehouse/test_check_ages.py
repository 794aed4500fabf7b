"""When each check ran last: its newest live run over everybody, and no other."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.sync_health.checks import CREDENTIAL_HEALTH, SYNC_FAILURES
from include.sync_health.health_resources import CheckState
from include.warehouse.check_ages import check_states
from include.warehouse.check_runs import CheckRun, record_check_run
from tests.warehouse.monitoring_records import MINUTE, NOW

QUARTER = 15 * MINUTE


def run(*, ago: int = 0, **changes: Any) -> CheckRun:
    """A live run whose window ended so many quarters of an hour ago."""
    values: dict[str, Any] = {
        "check": "sync_failures",
        "window_from": NOW - (ago + 1) * QUARTER,
        "window_to": NOW - ago * QUARTER,
        "mode": "live",
        "filters": {},
        "status": "seen",
        "computed_at": NOW,
    }
    return CheckRun.of(**{**values, **changes})


BLIND = {"status": "blind", "error_cause": "missing_table", "error": "gone"}


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        pytest.param([], None, id="it never ran"),
        pytest.param([run(ago=1), run(), run(ago=2)], (0, None), id="the newest of three"),
        pytest.param([run(ago=1), run(**BLIND)], (0, "missing_table"), id="the newest could not see"),
        pytest.param([run(ago=1, **BLIND), run()], (0, None), id="it sees again"),
        pytest.param([run(ago=3), run(mode="historical")], (3, None), id="a backfill says nothing of the present"),
        pytest.param([run(ago=3), run(filters={"credential": "42"})], (3, None), id="nor does a run over a few"),
        pytest.param([run(check="data_quality")], None, id="nor does another check"),
    ],
)
def test_a_check(conn: psycopg.Connection[Any], runs: list[CheckRun], found: tuple[int, str] | None) -> None:
    """What is known of it."""
    for each in runs:
        record_check_run(conn, each)

    expected = CheckState(every=QUARTER)
    if found is not None:
        ago, blind = found
        expected = CheckState(every=QUARTER, window_to=NOW - ago * QUARTER, blind=blind)
    assert check_states(conn, [SYNC_FAILURES]) == {"sync_failures": expected}


def test_every_check_that_is_asked_for_is_there(conn: psycopg.Connection[Any]) -> None:
    """With its own interval, in the order asked."""
    record_check_run(conn, run())

    found = check_states(conn, [CREDENTIAL_HEALTH, SYNC_FAILURES])

    assert list(found) == ["credential_health", "sync_failures"]
    assert found["credential_health"] == CheckState(every=CREDENTIAL_HEALTH.every)

"""Runs that never end."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given

from include.sync_health.rule_policies import StuckSyncPolicy
from include.sync_health.stuck_syncs import judge_stuck_syncs
from tests.sync_health import oracle
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, subject, sync_rows
from tests.sync_health.oracle import Row

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUBJECTS = {str(number): subject(number) for number in range(1, 4)}


def row(age: timedelta, *, status: str = "running", ended_at: datetime | None = None) -> Row:
    """Run 7 of credential 1, started so long before AS_OF."""
    return Row(
        id=7,
        credential=1,
        data_type="both",
        status=status,
        started_at=AS_OF - age,
        completed_at=ended_at,
        updated_at=ended_at or AS_OF - age,
    )


def judged(*rows: Row, **options: object) -> pd.DataFrame:
    return judge_stuck_syncs(
        runs_frame(rows),
        subjects=SUBJECTS,
        policy=StuckSyncPolicy(),
        as_of=AS_OF,
        open_lookback=30 * DAY,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        pytest.param(row(HOUR), [], id="open for exactly an hour is not stuck"),
        pytest.param(row(HOUR + SECOND), [("breach", "medium")], id="past an hour"),
        pytest.param(row(HOUR + SECOND, status="pending"), [("breach", "medium")], id="a pending run as well"),
        pytest.param(row(2 * HOUR), [("breach", "medium")], id="exactly two hours is medium"),
        pytest.param(row(2 * HOUR + SECOND), [("breach", "high")], id="past two hours is high"),
        pytest.param(row(30 * DAY), [("breach", "high")], id="exactly thirty days is followed"),
        pytest.param(row(30 * DAY + SECOND), [], id="older is abandoned"),
        pytest.param(row(-HOUR), [], id="a start in the future is no open run"),
        pytest.param(
            row(3 * HOUR, status="completed", ended_at=AS_OF + SECOND),
            [("breach", "high")],
            id="a run that ended only after as_of was stuck then",
        ),
        pytest.param(row(3 * HOUR, status="completed", ended_at=AS_OF), [], id="one that ended at as_of was not"),
        pytest.param(
            row(3 * HOUR, status="completed"), [], id="completed without an end is a contradiction, not stuck"
        ),
        pytest.param(row(3 * HOUR, status="unknown"), [], id="an unknown status is not judged"),
    ],
)
def test_how_long_is_stuck(run: Row, expected: list[tuple[str, str]]) -> None:
    """Open for more than an hour since started_at."""
    found = judged(run)

    assert list(zip(found["verdict"], found["severity"], strict=True)) == expected


@pytest.mark.parametrize(
    ("rows", "missing", "verdict"),
    [
        pytest.param([row(3 * HOUR, status="completed", ended_at=AS_OF - SECOND)], [], "clear", id="finished"),
        pytest.param(
            [row(3 * HOUR, status="failed", ended_at=AS_OF - SECOND)], [], "clear", id="failed is finished too"
        ),
        pytest.param([], ["7"], "removed", id="its row was deleted"),
        pytest.param([], [], "no_data", id="its row was not read"),
        pytest.param([row(31 * DAY)], [], "expired", id="abandoned"),
        pytest.param([row(HOUR)], [], "band", id="restarted, and not stuck yet"),
        pytest.param([row(3 * HOUR, status="unknown")], [], "band", id="a status that we do not know proves nothing"),
        pytest.param(
            [row(3 * HOUR, ended_at=AS_OF - SECOND)], [], "band", id="an end on a row that still says running neither"
        ),
        pytest.param(
            [row(3 * HOUR, status="completed", ended_at=AS_OF - 4 * HOUR)], [], "band", id="nor an end before the start"
        ),
        pytest.param([row(3 * HOUR, status="completed")], [], "clear", id="completed, if without a time"),
        pytest.param([row(-DAY)], [], "band", id="a start that has moved to the future"),
    ],
)
def test_how_an_open_alert_ends(rows: list[Row], missing: list[str], verdict: str) -> None:
    """Only a finished row is evidence."""
    found = judged(*rows, open_keys={("1", "7")}, missing_sync_ids=missing)

    assert list(found["verdict"]) == [verdict]


def test_a_row_without_a_start_is_no_crash() -> None:
    """Its alert stays as it is."""
    frame = runs_frame([row(3 * HOUR)])
    frame["started_at"] = pd.Series([pd.NaT], dtype="datetime64[us, UTC]")

    found = judge_stuck_syncs(
        frame,
        subjects=SUBJECTS,
        policy=StuckSyncPolicy(),
        as_of=AS_OF,
        open_lookback=30 * DAY,
        open_keys={("1", "7")},
    )

    assert list(found["verdict"]) == ["band"]


def test_a_stuck_run_is_never_high_where_the_policy_says_so() -> None:
    """The story's fixed severity."""
    found = judge_stuck_syncs(
        runs_frame([row(20 * DAY)]),
        subjects=SUBJECTS,
        policy=StuckSyncPolicy(high_after=None),
        as_of=AS_OF,
        open_lookback=30 * DAY,
    )

    assert list(found["severity"]) == ["medium"]


def test_words() -> None:
    """The message says who, what and for how long."""
    found = judged(row(95 * timedelta(minutes=1))).iloc[0]

    assert found["title"] == "ServiceTitan Sync Stuck"
    assert found["message"] == "ServiceTitan both sync for Acme (production) has been running for 1 hour 35 minutes"
    assert found["metadata"] == {
        "credential_id": "1",
        "company_name": "Acme",
        "environment": "production",
        "sync_id": "7",
        "data_type": "both",
        "started_at": "2026-03-10T10:25:00+00:00",
    }


@given(rows=sync_rows())
def test_agrees_with_the_oracle(rows: list[Row]) -> None:
    """Plain Python over the same rows says the same."""
    found = judged(*rows)

    assert {
        (identity["credential"], identity["sync"]): (verdict, severity)
        for identity, verdict, severity in zip(found["identity"], found["verdict"], found["severity"], strict=True)
    } == oracle.stuck_syncs(rows, as_of=AS_OF)

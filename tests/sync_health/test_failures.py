"""Several failures in an hour, and several in a row: at the boundaries, and against the oracle."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given

from include.sync_health.errors import FrameError
from include.sync_health.failures import judge_consecutive_failures, judge_sync_failures
from include.sync_health.rule_policies import ConsecutiveFailuresPolicy, SyncFailuresPolicy
from tests.sync_health import oracle
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, subject, sync_rows
from tests.sync_health.oracle import Row

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUBJECTS = {str(number): subject(number) for number in range(1, 4)}


def run(number: int, status: str, ago: timedelta, **known: object) -> Row:
    """A run of credential 1 that ended so long before AS_OF."""
    end = AS_OF - ago
    values: dict[str, object] = {
        "id": number,
        "credential": 1,
        "data_type": "invoices",
        "status": status,
        "started_at": end - timedelta(minutes=5),
        "completed_at": end,
        "updated_at": end,
        "error_message": "HTTP 401 invalid_client" if status == "failed" else None,
    }
    return Row(**{**values, **known})  # type: ignore[arg-type]


def in_an_hour(*rows: Row, **options: object) -> pd.DataFrame:
    return judge_sync_failures(
        runs_frame(rows),
        subjects=SUBJECTS,
        policy=SyncFailuresPolicy(),
        as_of=AS_OF,
        **options,  # type: ignore[arg-type]
    )


def in_a_row(*rows: Row, **options: object) -> pd.DataFrame:
    return judge_consecutive_failures(
        runs_frame(rows),
        subjects=SUBJECTS,
        policy=ConsecutiveFailuresPolicy(),
        as_of=AS_OF,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        pytest.param([run(n, "failed", n * SECOND) for n in range(3)], "breach", id="exactly three failures breach"),
        pytest.param(
            [run(n, "failed", n * SECOND) for n in range(2)], "band", id="two failures, the latest failed: band"
        ),
        pytest.param(
            [run(1, "failed", 2 * SECOND), run(2, "failed", SECOND), run(3, "completed", timedelta(0))],
            "clear",
            id="two failures, then a success: clear",
        ),
        pytest.param(
            [run(1, "failed", HOUR), run(2, "failed", SECOND), run(3, "failed", SECOND)],
            "band",
            id="a failure exactly an hour old is outside",
        ),
        pytest.param(
            [run(1, "failed", HOUR - SECOND), run(2, "failed", SECOND), run(3, "failed", timedelta(0))],
            "breach",
            id="just under an hour old, and exactly at as_of, are inside",
        ),
        pytest.param(
            [run(1, "failed", -SECOND), run(2, "failed", SECOND), run(3, "failed", SECOND)],
            "band",
            id="a failure after as_of is not known yet",
        ),
        pytest.param(
            [run(n, "failed", 5 * SECOND, completed_at=None) for n in range(3)],
            "breach",
            id="without completed_at a failure counts by updated_at",
        ),
        pytest.param(
            [run(n, "failed", SECOND, error_message="Sync cancelled by user") for n in range(3)],
            None,
            id="cancelled runs are no failures, and say nothing of health",
        ),
        pytest.param(
            [run(1, "completed", SECOND), run(2, "failed", SECOND)],
            "band",
            id="at equal times the higher id is the latest",
        ),
        pytest.param([run(1, "completed", DAY)], None, id="a run exactly a day old is no evidence any more"),
        pytest.param([run(1, "completed", DAY - SECOND)], "clear", id="a run just under a day old is"),
    ],
)
def test_failures_within_an_hour(rows: list[Row], verdict: str | None) -> None:
    """BREACH at 3 in (as_of - 1 h, as_of]; else the latest finished run of 24 h decides."""
    assert list(in_an_hour(*rows)["verdict"]) == ([verdict] if verdict else [])


def test_the_storys_words_and_metadata() -> None:
    """Title, message and keys are the story's."""
    rows = [run(n, "failed", (4 - n) * SECOND, error_message=f"HTTP 401 number {n}") for n in range(1, 4)]

    found = in_an_hour(*rows).iloc[0]

    assert found["title"] == "Multiple ServiceTitan Sync Failures"
    assert found["message"] == "ServiceTitan integration for Acme (production) has failed 3 times in the last hour"
    assert found["metadata"] == {
        "credential_id": "1",
        "company_name": "Acme",
        "environment": "production",
        "failure_count": 3,
        "latest_error": "HTTP 401 number 3",
    }
    assert found["error_class"] == "auth"
    assert found["severity"] == "high"


def test_a_credential_without_a_row_is_not_judged() -> None:
    """Where upstream deletes a credential and leaves its runs, nobody is left to tell of."""
    rows = [run(n, "failed", SECOND) for n in range(3)]

    judged = judge_sync_failures(runs_frame(rows), subjects={}, policy=SyncFailuresPolicy(), as_of=AS_OF)

    assert judged.empty


def test_cancelled_runs_count_where_the_policy_says_so() -> None:
    """The story's literal behaviour."""
    rows = [run(n, "failed", SECOND, error_message="Sync cancelled by user") for n in range(3)]

    judged = judge_sync_failures(
        runs_frame(rows), subjects=SUBJECTS, policy=SyncFailuresPolicy(count_cancelled=True), as_of=AS_OF
    )

    assert list(judged["verdict"]) == ["breach"]


@pytest.mark.parametrize(
    ("subjects", "verdict"),
    [
        pytest.param(SUBJECTS, "no_data", id="an open alert without any run cannot be told"),
        pytest.param({}, "removed", id="an open alert whose credential is gone is removed"),
    ],
)
def test_open_alerts_are_judged_without_runs(subjects: dict, verdict: str) -> None:
    """Silence is no evidence."""
    judged = judge_sync_failures(
        runs_frame([]), subjects=subjects, policy=SyncFailuresPolicy(), as_of=AS_OF, open_since={"1": None}
    )

    assert list(judged["verdict"]) == [verdict]


@pytest.mark.parametrize(
    ("success", "verdict"),
    [
        pytest.param(
            run(1, "completed", 3 * HOUR), "band", id="a success before the failures that were told proves nothing"
        ),
        pytest.param(run(1, "completed", HOUR), "clear", id="one since them does"),
        pytest.param(run(1, "completed", 2 * HOUR), "clear", id="so does a failure corrected in place"),
    ],
)
def test_recovery_needs_a_success_since_the_failures_that_were_told(success: Row, verdict: str) -> None:
    """Their rows may have been deleted or restated upstream."""
    known = AS_OF - 2 * HOUR

    assert list(in_an_hour(success, open_since={"1": known})["verdict"]) == [verdict]
    assert list(in_a_row(success, open_since={("1", "invoices"): known})["verdict"]) == [verdict]


@pytest.mark.parametrize(
    ("rows", "verdict", "severity"),
    [
        pytest.param([run(n, "failed", n * HOUR) for n in range(3)], "breach", "medium", id="three in a row"),
        pytest.param([run(n, "failed", n * HOUR) for n in range(2)], "band", "medium", id="two in a row"),
        pytest.param([run(n, "failed", n * HOUR) for n in range(9)], "breach", "medium", id="nine are medium"),
        pytest.param([run(n, "failed", n * HOUR) for n in range(10)], "breach", "high", id="ten are high"),
        pytest.param(
            [run(9, "completed", HOUR), *(run(n, "failed", n * DAY) for n in range(2, 6))],
            "clear",
            "medium",
            id="a success ends the row",
        ),
        pytest.param(
            [run(1, "failed", 7 * DAY), run(2, "failed", DAY), run(3, "failed", HOUR)],
            "band",
            "medium",
            id="exactly seven days old is outside",
        ),
        pytest.param(
            [
                run(1, "failed", 3 * HOUR),
                run(2, "failed", 2 * HOUR, error_message="Sync cancelled by user"),
                run(3, "failed", HOUR),
                run(4, "failed", SECOND),
            ],
            "breach",
            "medium",
            id="a cancelled run neither counts nor interrupts",
        ),
    ],
)
def test_failures_in_a_row(rows: list[Row], verdict: str, severity: str) -> None:
    """The last runs of one data type, counted back to the latest success."""
    judged = in_a_row(*rows).iloc[0]

    assert (judged["verdict"], judged["severity"]) == (verdict, severity)


def test_a_row_of_failures_is_never_high_where_the_policy_says_so() -> None:
    """The story's fixed severity."""
    rows = runs_frame(run(n, "failed", n * HOUR) for n in range(20))
    policy = ConsecutiveFailuresPolicy(high_from=None)

    judged = judge_consecutive_failures(rows, subjects=SUBJECTS, policy=policy, as_of=AS_OF)
    assert list(judged["severity"]) == ["medium"]


def test_each_data_type_has_its_own_row() -> None:
    """Invoices may fail while customers succeed."""
    rows = [run(n, "failed", n * HOUR) for n in range(1, 4)] + [run(9, "completed", SECOND, data_type="customers")]

    judged = in_a_row(*rows)

    assert dict(zip(judged["data_type"], judged["verdict"], strict=True)) == {
        "customers": "clear",
        "invoices": "breach",
    }
    assert judged.iloc[1]["message"] == (
        "ServiceTitan invoices sync for Acme (production) has failed 3 times in a row since 2026-03-10 09:00 UTC"
    )


@given(rows=sync_rows())
def test_both_rules_agree_with_the_oracle(rows: list[Row]) -> None:
    """Plain Python over the same rows says the same, at every boundary."""
    hour, row = in_an_hour(*rows), in_a_row(*rows)

    assert {
        (each["credential"],): (verdict, numbers["failures"])
        for each, verdict, numbers in zip(hour["identity"], hour["verdict"], hour["evidence"], strict=True)
    } == oracle.sync_failures(rows, as_of=AS_OF)
    assert {
        (each["credential"], each["data_type"]): (verdict, numbers["in_a_row"])
        for each, verdict, numbers in zip(row["identity"], row["verdict"], row["evidence"], strict=True)
    } == oracle.consecutive_failures(rows, as_of=AS_OF)


@given(rows=sync_rows())
def test_the_order_of_rows_does_not_matter(rows: list[Row]) -> None:
    """A frame is a set."""
    pd.testing.assert_frame_equal(in_an_hour(*rows), in_an_hour(*reversed(rows)))
    pd.testing.assert_frame_equal(in_a_row(*rows), in_a_row(*reversed(rows)))


def test_what_is_refused() -> None:
    """A missing column is named; a naive instant is not guessed at."""
    with pytest.raises(FrameError, match="finished_at"):
        judge_sync_failures(
            runs_frame([]).drop(columns="finished_at"), subjects={}, policy=SyncFailuresPolicy(), as_of=AS_OF
        )
    with pytest.raises(ValueError, match="timezone-aware"):
        judge_sync_failures(runs_frame([]), subjects={}, policy=SyncFailuresPolicy(), as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test

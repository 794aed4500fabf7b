"""What a run says of a duty of the monitor, and what a lasting outage makes of it; each row is a run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.orchestration.duties import (
    API_CALLS,
    CHECK_DUTIES,
    DAILY_QUALITY,
    EVALUATION,
    HEALTH_CHECK,
    LATE_PASS,
    QUALITY_METRICS,
    RETENTION,
    SYNC_METRICS,
    Duty,
    Outcome,
    after_success,
    is_news,
    outcome_of,
)
from include.orchestration.failure_notice import failure_message
from include.sync_health.links import Links
from include.sync_health.message_parts import LINE
from include.sync_health.visibility import NO_ROWS, STALE_SOURCE

DONE, FAILED, UNKNOWN = Outcome.DONE, Outcome.FAILED, Outcome.UNKNOWN
LIVE, PAST = {"mode": "live", "blind": None}, {"mode": "historical", "blind": None}
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
OFTEN, SELDOM = "servicetitan_sync_failures", "servicetitan_credential_health"


@pytest.mark.parametrize(
    ("state", "judged", "outcome"),
    [
        pytest.param("success", LIVE, DONE, id="updated"),
        pytest.param("failed", LIVE, FAILED, id="not updated, though the check could see"),
        pytest.param("upstream_failed", LIVE, UNKNOWN, id="what failed before it is the cause"),
        pytest.param("upstream_failed", None, UNKNOWN, id="the evaluation failed before it"),
        pytest.param("skipped", LIVE, UNKNOWN, id="somebody let it be skipped"),
        pytest.param(None, LIVE, UNKNOWN, id="a DAG without the table"),
        pytest.param("failed", PAST, UNKNOWN, id="history that could not be written"),
        pytest.param("success", PAST, UNKNOWN, id="history that was written"),
        pytest.param("failed", LIVE | {"blind": "unreachable"}, UNKNOWN, id="the source is down, and has an alert"),
        pytest.param("failed", LIVE | {"blind": NO_ROWS}, UNKNOWN, id="the source is empty, and has an alert"),
        pytest.param("success", LIVE | {"blind": "timeout"}, DONE, id="updated, though the check could not see"),
        pytest.param("failed", LIVE | {"blind": STALE_SOURCE}, FAILED, id="a source that stands still can be read"),
        pytest.param("failed", LIVE | {"blind": "evaluation_quality_drop"}, FAILED, id="a rule that raised is another"),
    ],
)
def test_of_the_daily_quality(state: str | None, judged: Mapping[str, Any] | None, outcome: Outcome) -> None:
    """One run of a check; of a backfill, nothing."""
    states = {"evaluate": "success"} | ({"update_daily": state} if state else {})

    assert outcome_of(DAILY_QUALITY, states=states, is_backfill=False, judged=judged) is outcome
    assert outcome_of(DAILY_QUALITY, states=states, is_backfill=True, judged=judged) is UNKNOWN


@pytest.mark.parametrize(
    ("duty", "state", "judged", "outcome"),
    [
        pytest.param(SYNC_METRICS, "success", LIVE, DONE, id="syncs were counted"),
        pytest.param(SYNC_METRICS, "failed", LIVE, FAILED, id="syncs were not counted"),
        pytest.param(SYNC_METRICS, "skipped", LIVE, UNKNOWN, id="a run that leaves credentials out counts nothing"),
        pytest.param(SYNC_METRICS, "failed", LIVE | {"blind": "timeout"}, UNKNOWN, id="nor what cannot be read"),
        pytest.param(QUALITY_METRICS, "failed", LIVE, FAILED, id="quality was not summed"),
        pytest.param(HEALTH_CHECK, "success", LIVE, DONE, id="the health check was made"),
        pytest.param(HEALTH_CHECK, "failed", LIVE, FAILED, id="it was not"),
        pytest.param(
            HEALTH_CHECK, "failed", LIVE | {"blind": "timeout"}, FAILED, id="a blind check does not excuse it"
        ),
        pytest.param(HEALTH_CHECK, "failed", PAST, UNKNOWN, id="of the past it says nothing"),
        pytest.param(API_CALLS, "failed", LIVE, FAILED, id="API calls were not read"),
        pytest.param(API_CALLS, "success", LIVE, DONE, id="they were"),
    ],
)
def test_of_what_stands_beside_a_check(duty: Duty, state: str, judged: Mapping[str, Any], outcome: Outcome) -> None:
    """Each by its own task; a DAG without it says nothing."""
    [task] = duty.tasks

    assert outcome_of(duty, states={"evaluate": "success", task: state}, is_backfill=False, judged=judged) is outcome
    assert outcome_of(duty, states={"evaluate": "success"}, is_backfill=False, judged=judged) is UNKNOWN


@pytest.mark.parametrize(
    ("others", "retention", "late_pass"),
    [
        pytest.param({}, DONE, DONE, id="all is done"),
        pytest.param({"delete_deliveries": "failed"}, FAILED, DONE, id="one deletion failed"),
        pytest.param({"late_data": "failed"}, DONE, FAILED, id="only the late pass failed"),
        pytest.param({"delete_deliveries": "failed", "late_data": "failed"}, FAILED, FAILED, id="both"),
        pytest.param({"delete_deliveries": "skipped"}, UNKNOWN, DONE, id="a deletion was not tried"),
        pytest.param(
            {"delete_deliveries": "failed", "delete_check_runs": "skipped"},
            FAILED,
            DONE,
            id="one failed, one not tried",
        ),
    ],
)
def test_of_the_housekeeping(others: dict[str, str], retention: Outcome, late_pass: Outcome) -> None:
    """One run of it; of a backfill, nothing."""
    states = dict.fromkeys((*RETENTION.tasks, *LATE_PASS.tasks), "success") | others

    found = [outcome_of(duty, states=states, is_backfill=False) for duty in (RETENTION, LATE_PASS)]
    assert found == [retention, late_pass]
    assert {outcome_of(duty, states=states, is_backfill=True) for duty in (RETENTION, LATE_PASS)} == {UNKNOWN}


@pytest.mark.parametrize(
    ("outage", "news", "after"),
    [
        pytest.param({}, True, {}, id="no outage lasts"),
        pytest.param({OFTEN: "run 1"}, False, {}, id="this DAG told of it"),
        pytest.param({SELDOM: "run 1"}, False, {SELDOM: "run 1", OFTEN: None}, id="another DAG told of it"),
        pytest.param(
            {SELDOM: "run 1", OFTEN: None}, True, {SELDOM: "run 1", OFTEN: None}, id="it succeeded since another told"
        ),
        pytest.param({SELDOM: None, OFTEN: "run 2"}, False, {}, id="the other one succeeded since"),
        pytest.param({SELDOM: None}, True, {}, id="whoever told of one has succeeded since"),
    ],
)
def test_a_failure_is_news_unless_its_outage_was_told(
    outage: Mapping[str, str | None], news: bool, after: Mapping[str, str | None]
) -> None:
    """Seen from one DAG: whether its failure is told, and what its success leaves."""
    assert is_news(outage, dag_id=OFTEN) is news
    assert after_success(outage, dag_id=OFTEN) == after


OUTAGES = st.dictionaries(st.sampled_from([OFTEN, SELDOM, "third"]), st.sampled_from([None, "run 1", "run 2"]))


@given(outage=OUTAGES)
def test_after_a_success_the_next_failure_is_news_and_after_a_notice_it_is_not(
    outage: Mapping[str, str | None],
) -> None:
    """Whatever other DAGs told."""
    assert is_news(after_success(outage, dag_id=OFTEN), dag_id=OFTEN)
    assert not is_news({**outage, OFTEN: "run 3"}, dag_id=OFTEN)


def test_each_duty_has_an_outage_of_its_own() -> None:
    """The evaluation's bears its old name, so that what is remembered stays so."""
    duties = (EVALUATION, *CHECK_DUTIES, RETENTION, LATE_PASS)

    assert len({duty.outage for duty in duties}) == len(duties)
    assert EVALUATION.outage == "servicetitan_monitor_outage"


RUN = "scheduled__2026-11-27T03:30:00.123456+00:00_AbCdEfGh"


@pytest.mark.parametrize(
    "duties",
    [
        pytest.param([EVALUATION], id="the evaluation"),
        pytest.param([DAILY_QUALITY], id="the daily quality"),
        pytest.param([SYNC_METRICS], id="the count of syncs"),
        pytest.param([HEALTH_CHECK], id="the health check"),
        pytest.param([SYNC_METRICS, HEALTH_CHECK], id="both that stand beside the 15-minute check"),
        pytest.param([DAILY_QUALITY, QUALITY_METRICS], id="both that stand beside the quality check"),
        pytest.param([API_CALLS], id="the reading of API calls"),
        pytest.param([RETENTION], id="the retention"),
        pytest.param([LATE_PASS], id="the late pass"),
        pytest.param([RETENTION, LATE_PASS], id="the whole housekeeping"),
    ],
)
def test_a_notice_is_whole(duties: list[Duty]) -> None:
    """With every task failed and a long run id its sentence is not cut, and says what is affected and what to do."""
    failed = {duty: duty.tasks for duty in duties}
    message = failure_message(failed, dag_id="servicetitan_credential_health", run_id=RUN, state=None, now=NOW)

    assert len(message.sentence) <= LINE
    assert all(clause in message.sentence for duty in duties for clause in duty.affects)
    assert "python -m include.cli doctor" in message.sentence
    tasks = [task for duty in duties for task in duty.tasks]
    assert message.sentence.endswith(f" {tasks[0]}." if len(tasks) == 1 else " the failed tasks.")


def test_a_notice_leads_where_its_reader_goes_on() -> None:
    """To the run and to its line of the runbook."""
    links = Links(runbook="https://wiki.example.com/runbook", run="https://airflow.example.com/dags/d/runs/r")
    message = failure_message({EVALUATION: ["evaluate"]}, dag_id=OFTEN, run_id="r", now=NOW, links=links)

    assert message.links == (
        ("Runbook", "https://wiki.example.com/runbook#monitor-health"),
        ("Airflow run", "https://airflow.example.com/dags/d/runs/r"),
    )


def test_the_notice_of_the_evaluation_keeps_its_words() -> None:
    """Mail rules go by them."""
    message = failure_message({EVALUATION: ["evaluate"]}, dag_id=OFTEN, run_id="run 1", state="failed", now=NOW)

    assert message.title == "High: ServiceTitan Monitor Cannot See"
    assert message.sentence == (
        "servicetitan_sync_failures: the check itself failed (failed) in run run 1; no alert is raised until it runs "
        "again. Run `python -m include.cli doctor` and look at the log of the task evaluate."
    )
    assert [(fact.label, fact.value) for fact in message.facts if fact.label in ("Check", "Cause")] == [
        ("Check", ("servicetitan_sync_failures",)),
        ("Cause", ("task_failed",)),
    ]
    assert message.advice is not None
    assert message.advice.likely_cause.startswith("The monitor cannot read the source")

"""The health check's recent_syncs: each row is an hour of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.alerts import Alert, AlertState
from include.sync_health.errors import FrameError
from include.sync_health.health import HealthPart, Unseen
from include.sync_health.health_syncs import MESSAGES_SHOWN, finished_by_environment, syncs_part
from include.sync_health.measuring_policies import HealthPolicy
from include.sync_health.policy import Policy
from include.sync_health.visibility import STALE_SOURCE, WRONG_TIME_ZONE
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, sync_rows
from tests.sync_health.message_alerts import alert
from tests.sync_health.oracle import Row, outcomes

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
POLICY = Policy()
UNCAPPED = Policy(severity_caps={})
ENVIRONMENTS = {"1": "production", "2": "integration"}


def run(number: int, status: str, *, ended: datetime = AS_OF - MINUTE, credential: int = 1, **known: Any) -> Row:
    """A sync that ended then."""
    return Row(
        id=number,
        credential=credential,
        data_type="invoices",
        status=status,
        started_at=ended - 10 * MINUTE,
        completed_at=ended,
        updated_at=ended,
        **known,
    )


def syncs(completed: int, failed: int, *, credential: int = 1, **known: Any) -> list[Row]:
    """So many syncs of the last hour."""
    statuses = ["completed"] * completed + ["failed"] * failed
    return [
        run(1000 * credential + number, each, credential=credential, **known) for number, each in enumerate(statuses)
    ]


def part(rows: Sequence[Row] = (), *, alerts: Sequence[Alert] | Unseen = (), policy: Policy = POLICY) -> HealthPart:
    """The part of these syncs and alerts."""
    return syncs_part(runs_frame(rows), environment_of=ENVIRONMENTS, alerts=alerts, policy=policy, as_of=AS_OF)


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        pytest.param([], "healthy", id="nothing finished: whether that is silence, its rule says"),
        pytest.param(syncs(100, 0), "healthy", id="all completed"),
        pytest.param(syncs(90, 10), "healthy", id="exactly 10 percent failed"),
        pytest.param(syncs(89, 11), "warning", id="more than 10 percent failed"),
        pytest.param(syncs(80, 20), "warning", id="exactly 20 percent failed"),
        pytest.param(syncs(79, 21), "unhealthy", id="more than 20 percent failed"),
        pytest.param(syncs(0, 5), "unhealthy", id="all of five failed"),
        pytest.param(syncs(0, 4), "healthy", id="all of four failed: too few to tell a share"),
        pytest.param(syncs(0, 50, ended=AS_OF - HOUR), "healthy", id="failures that ended exactly an hour ago"),
        pytest.param(syncs(0, 50, ended=AS_OF - HOUR + SECOND), "unhealthy", id="failures of just within the hour"),
        pytest.param(syncs(0, 50, ended=AS_OF), "unhealthy", id="failures of this very instant"),
        pytest.param(syncs(0, 50, ended=AS_OF + SECOND), "healthy", id="failures that come after"),
        pytest.param(
            syncs(0, 50, error_message="Sync cancelled by user"), "healthy", id="syncs that somebody cancelled"
        ),
        pytest.param(
            syncs(10, 0) + syncs(0, 50, credential=2), "healthy", id="the sandbox fails, the platform does not"
        ),
        pytest.param(
            syncs(10, 0) + syncs(0, 50, credential=3), "unhealthy", id="a credential that has no row any more"
        ),
    ],
)
def test_a_share_of_failures(rows: list[Row], status: str) -> None:
    """Above a limit, not at it; of those that completed or failed; with enough of them."""
    found = part(rows)

    assert str(found.status) == status
    assert bool(found.reasons) is (status != "healthy")


def test_the_sandbox_counts_where_the_policy_lets_its_alerts_be_more_than_low() -> None:
    """And its numbers are there in any case."""
    rows = syncs(10, 0) + syncs(0, 50, credential=2)

    capped, uncapped = part(rows), part(rows, policy=UNCAPPED)

    assert (str(capped.status), str(uncapped.status)) == ("healthy", "unhealthy")
    assert (capped.details["finished"], uncapped.details["finished"]) == (10, 60)
    assert capped.details["environments"] == {
        "integration": {"finished": 50, "completed": 0, "failed": 50, "failed_share": 100.0},
        "production": {"finished": 10, "completed": 10, "failed": 0, "failed_share": 0.0},
    }


def test_limits_are_the_policys() -> None:
    """Each of the three."""
    policy = Policy(health=HealthPolicy(failed_share=40, unhealthy_share=60, min_syncs=10))

    assert str(part(syncs(5, 4), policy=policy).status) == "healthy"
    assert str(part(syncs(5, 5), policy=policy).status) == "warning"
    assert str(part(syncs(3, 7), policy=policy).status) == "unhealthy"


def of(rule: str, **changes: Any) -> Alert:
    """An open alert of a rule."""
    return alert(rule, **changes)


def blind(check: str, cause: str) -> Alert:
    """An open alert of a check that cannot see."""
    return alert("monitor_health", identity={"check": check, "cause": cause})


@pytest.mark.parametrize(
    ("alerts", "status"),
    [
        pytest.param([], "healthy", id="nothing is open"),
        pytest.param([of("stale_sync")], "warning", id="a stale credential"),
        pytest.param([of("stale_sync", environment="integration")], "healthy", id="a stale credential of the sandbox"),
        pytest.param([of("platform_outage")], "unhealthy", id="an outage"),
        pytest.param([of("no_syncs")], "unhealthy", id="silence"),
        pytest.param([of("no_syncs"), of("stale_sync")], "unhealthy", id="silence, and a stale credential"),
        pytest.param([of("no_syncs", state=AlertState.RECOVERING)], "unhealthy", id="silence that is not yet over"),
        pytest.param([of("no_syncs", state=AlertState.PENDING)], "healthy", id="silence that is no alert yet"),
        pytest.param([of("no_syncs", state=AlertState.INACTIVE)], "healthy", id="silence that is over"),
        pytest.param([of("sync_failures"), of("data_quality")], "healthy", id="alerts that are about something else"),
        pytest.param([blind("sync_failures", "timeout")], "unknown", id="the check of the syncs cannot see"),
        pytest.param([blind("data_quality", WRONG_TIME_ZONE)], "unknown", id="stamps are off, as another check found"),
        pytest.param([blind("sync_failures", STALE_SOURCE)], "unknown", id="rows stopped coming"),
        pytest.param([blind("data_quality", "missing_column")], "healthy", id="another check's own trouble"),
        pytest.param(
            [blind("sync_failures", "timeout"), of("stale_sync")], "unknown", id="a warning does not hide that"
        ),
        pytest.param(
            [blind("sync_failures", "timeout"), of("platform_outage")], "unhealthy", id="an outage that was seen before"
        ),
        pytest.param(Unseen(reason="our database cannot be reached"), "unknown", id="nobody knows what is open"),
    ],
)
def test_open_alerts(alerts: list[Alert] | Unseen, status: str) -> None:
    """Of an hour in which all went well."""
    found = part(syncs(100, 0), alerts=alerts)

    assert str(found.status) == status
    assert bool(found.reasons) is (status != "healthy")


def test_syncs_that_could_not_be_read_leave_what_alerts_say() -> None:
    """Unknown, unless worse is known."""
    unread = Unseen(reason="the source cannot be read")

    def of_alerts(*alerts: Alert) -> HealthPart:
        return syncs_part(unread, environment_of={}, alerts=alerts, policy=POLICY, as_of=AS_OF)

    assert str(of_alerts().status) == "unknown"
    assert of_alerts().reasons == ("the source cannot be read",)
    assert str(of_alerts(of("platform_outage")).status) == "unhealthy"
    assert "failed" not in of_alerts().details


def test_reasons_are_few_short_and_hold_no_secret() -> None:
    """An alert's message quotes what others wrote."""
    outages = [
        of("platform_outage", message=f"{number}: password=hunter2hunter2 {'x' * 500}")
        for number in range(MESSAGES_SHOWN + 4)
    ]
    found = part(alerts=[*outages, of("stale_sync"), of("stale_sync")])

    assert found.reasons[MESSAGES_SHOWN:] == (
        "and 4 more alerts of this kind",
        "2 credentials have completed no sync for too long (stale_sync)",
    )
    assert not any("hunter2" in reason or len(reason) > 300 for reason in found.reasons)
    assert (found.details["outages"], found.details["stale_credentials"]) == (MESSAGES_SHOWN + 4, 2)


def test_a_frame_without_its_columns_is_refused() -> None:
    """Rather than counted as nothing."""
    with pytest.raises(FrameError, match="finished_at"):
        finished_by_environment(runs_frame([]).drop(columns="finished_at"), environment_of={}, as_of=AS_OF)


@given(rows=sync_rows())
def test_what_finished_in_the_hour_is_what_the_oracle_counts(rows: list[Row]) -> None:
    """At every boundary, of every status."""
    found = finished_by_environment(runs_frame(rows), environment_of={}, as_of=AS_OF)

    expected = outcomes(rows, after=AS_OF - HOUR, until=AS_OF)
    failed = sum(status == "failed" for _, _, status, _ in expected)
    total = found.get("unknown")
    assert (total.total, total.failed) == (len(expected), failed) if total else not expected


@given(completed=st.integers(0, 60), failed=st.integers(0, 60))
def test_more_failures_never_look_better(completed: int, failed: int) -> None:
    """One more of them is no improvement."""
    policy = replace(POLICY, health=HealthPolicy(min_syncs=1))
    before, after = (part(syncs(completed, number), policy=policy) for number in (failed, failed + 1))

    assert before.status.rank <= after.status.rank

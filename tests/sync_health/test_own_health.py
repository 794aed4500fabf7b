"""What three checks over one source say of their blindness: each cause once, and over when it is seen to be over."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from include.sync_health.alerts import Alert
from include.sync_health.checks import CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES, Check
from include.sync_health.lifecycle import step
from include.sync_health.own_health import judge_health, judge_surroundings
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import MonitorHealthPolicy, RuleMode
from include.sync_health.verdicts import Verdict
from include.sync_health.visibility import Blindness

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=15)


@dataclass
class Health:
    """The monitor-health alerts from tick to tick."""

    alerts: dict[str, Alert] = field(default_factory=dict)
    policy: MonitorHealthPolicy = field(default_factory=MonitorHealthPolicy)

    def tick(self, check: Check, *causes: str, at: int = 0) -> set[tuple[str, str]]:
        """One check finds these causes at the given tick after noon; returns what is open then."""
        as_of = NOON + at * TICK
        observations = judge_health(
            [Blindness(check=check.name, cause=cause, detail="found it so") for cause in causes],
            check=check,
            open_alerts={key: alert for key, alert in self.alerts.items() if alert.state.is_open},
            policy=self.policy,
            as_of=as_of,
        )
        self.alerts |= step(self.alerts, observations, policy=Policy(), as_of=as_of).alerts
        return {
            (alert.identity["check"], alert.identity["cause"]) for alert in self.alerts.values() if alert.state.is_open
        }


def test_a_cause_that_one_check_told_is_not_told_by_another() -> None:
    """Whichever came first."""
    health = Health()

    assert health.tick(CREDENTIAL_HEALTH, "unreachable") == {("credential_health", "unreachable")}
    assert health.tick(DATA_QUALITY, "unreachable", at=1) == {("credential_health", "unreachable")}
    assert health.tick(SYNC_FAILURES, "unreachable", at=2) == {("credential_health", "unreachable")}


def test_what_the_15_minute_check_confirms_goes_on() -> None:
    """Else it would never be repeated."""
    health = Health()
    health.tick(DATA_QUALITY, "unreachable")
    health.tick(SYNC_FAILURES, "unreachable", at=2)

    assert [alert.last_breach_at for alert in health.alerts.values()] == [NOON + 2 * TICK]


@pytest.mark.parametrize(
    ("cause", "is_over"),
    [
        pytest.param("unreachable", True, id="a source that was down is up for all"),
        pytest.param("no_rows", True, id="a table that has rows again has them for all"),
        pytest.param("missing_column", False, id="a column that only the quality check needs"),
        pytest.param("permission", False, id="a grant that only the quality check needs"),
        pytest.param("timeout", False, id="a statement that only the quality check sends"),
    ],
)
def test_that_the_15_minute_check_sees_is_evidence_for_the_others(cause: str, is_over: bool) -> None:
    """For what concerns the source as a whole."""
    health = Health()
    health.tick(DATA_QUALITY, cause)

    assert health.tick(SYNC_FAILURES, at=1) == (set() if is_over else {("data_quality", cause)})
    assert health.tick(DATA_QUALITY, at=24) == set()


def test_a_6_hour_check_says_nothing_of_the_other_checks() -> None:
    """It cannot know."""
    health = Health()
    health.tick(SYNC_FAILURES, "timeout")

    assert health.tick(CREDENTIAL_HEALTH, at=1) == {("sync_failures", "timeout")}


def test_two_causes_are_two_alerts() -> None:
    """A cause is part of the identity."""
    health = Health()
    health.tick(SYNC_FAILURES, "timeout")

    assert health.tick(DATA_QUALITY, "missing_column", at=1) == {
        ("sync_failures", "timeout"),
        ("data_quality", "missing_column"),
    }


def test_a_wrong_policy_file_is_not_confused_with_an_unreadable_source() -> None:
    """Both have a cause named ``invalid``."""
    health = Health()
    told = judge_surroundings(
        policy_error="rulez: no", alerts={}, policy=health.policy, as_of=NOON, now=NOON, check="sync_failures"
    )
    health.alerts |= step({}, told, policy=Policy(), as_of=NOON).alerts

    assert health.tick(SYNC_FAILURES, "invalid", at=1) == {("policy", "invalid"), ("sync_failures", "invalid")}


def test_off_retires_what_is_open() -> None:
    """Whatever check it belongs to."""
    health = Health()
    health.tick(SYNC_FAILURES, "timeout")
    health.policy = MonitorHealthPolicy(mode=RuleMode.OFF)
    said = judge_health([], check=DATA_QUALITY, open_alerts=health.alerts, policy=health.policy, as_of=NOON + TICK)

    assert [each.verdict for each in said] == [Verdict.RETIRED]

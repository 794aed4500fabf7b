"""Alerts as a tick leaves them, and what keeps messages about them back: the values of the tables of `decide`."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

from include.sync_health.alerting_policies import Mute, Receiver
from include.sync_health.alerts import Alert, Delivery, NotifyReason, Told
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence, Suppressors
from include.sync_health.notifications import NOWHERE, Decision, decide
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import POLICY, SLACK, T0, TICK, saw, with_timers

B, C = Verdict.BREACH, Verdict.CLEAR
HOUR = timedelta(hours=1)
FAILURES = Matcher(rule=frozenset({"sync_failures"}))
FIRST, SECOND = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def opened(credential: str = "1", *, severity: Severity = Severity.HIGH, **changes: Any) -> Alert:
    """An alert that opened at T0, of which nobody was told."""
    result = step({}, [saw(B, credential=credential, severity=severity)], policy=with_timers(), as_of=T0)
    return replace(next(iter(result.alerts.values())), **changes)


def closed(alert: Alert) -> Alert:
    """The alert after a clear at T0 + TICK."""
    over = replace(saw(C), rule=alert.rule, identity=alert.identity)
    result = step({alert.fingerprint: alert}, [over], policy=with_timers(), as_of=T0 + TICK)
    return result.alerts[alert.fingerprint]


def decided(*alerts: Alert, policy: Policy = POLICY, as_of: datetime = T0, **options: Any) -> Decision:
    """What is decided of these, with both channels connected and everything else as by default."""
    given = {alert.fingerprint: alert for alert in alerts}
    return decide(given, policy=policy, as_of=as_of, **{"configured": {"slack", "email"}, **options})


def of_slack(decision: Decision) -> list[Delivery]:
    """What Slack is sent but for edits, and what is not sent there."""
    return [
        each
        for each in decision.deliveries
        if each.channel in (SLACK, NOWHERE) and each.reason is not NotifyReason.UPDATED
    ]


def told(reason: NotifyReason, *, at: datetime = T0, **changes: Any) -> Told:
    """What a channel was told, in a thread whose first message shows an alert that fires, and is high."""
    values: dict[str, Any] = {"severity": Severity.HIGH, "thread": "the thread", "shown": "firing-high"}
    return Told(reason=reason, at=at, **{**values, **changes})


TOLD = told(NotifyReason.FIRST)


def silenced(number: int = 1, **changes: Any) -> Suppressors:
    """A silence of sync failures, for a day from T0."""
    values: dict[str, Any] = {"match": FAILURES, "starts_at": T0, "ends_at": T0 + 24 * HOUR, "created_at": T0}
    silence = Silence(id=uuid.UUID(int=number), author="Kim", reason="x", **{**values, **changes})
    return Suppressors(at=T0, silences=[silence])


def muted(name: str = "noon") -> Suppressors:
    """A mute of sync failures, at noon."""
    mute = Mute(name=name, match=FAILURES, start=time(12), end=time(13), timezone="UTC", reason="lunch")
    return Suppressors(at=T0, mutes=[mute])


def limited(budget: int) -> Policy:
    """The test policy with a budget."""
    return replace(POLICY, alerting=replace(POLICY.alerting, budget=budget))


def to_slack(policy: Policy) -> Policy:
    """The same policy, with no receiver but Slack."""
    return replace(policy, receivers={"ops": Receiver(slack=("#ops",))})

"""Observations and policies for the tests of the life cycle, and strategies that make histories of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from include.sync_health.alerting_policies import LifecyclePolicy, Receiver, Route
from include.sync_health.alerts import HOLDING, Alert, AlertEvent, Delivery, Held, NotifyReason
from include.sync_health.lifecycle import step
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence, Suppressors
from include.sync_health.notifications import decide, owes_a_close
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RulePolicies, SyncFailuresPolicy
from include.sync_health.speeches import BUDGETED
from include.sync_health.verdicts import ErrorClass, Severity, Verdict

T0 = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
TICK = timedelta(minutes=15)
SLACK, MAIL = "slack:#ops", "email:ops@example.com"

POLICY = Policy(
    receivers={"ops": Receiver(slack=("#ops",), email=("ops@example.com",))},
    routes=(Route(match=Matcher(severity=frozenset({Severity.CRITICAL, Severity.HIGH, Severity.MEDIUM})), to="ops"),),
)


BELIEVING = LifecyclePolicy(settle_after=timedelta(0))
"""Every recovery is believed at once."""


def with_timers(
    *,
    for_: timedelta = timedelta(0),
    keep_firing_for: timedelta = timedelta(0),
    lifecycle: LifecyclePolicy = BELIEVING,
) -> Policy:
    """The test policy with other timers."""
    rule = SyncFailuresPolicy(for_=for_, keep_firing_for=keep_firing_for)
    alerting = replace(POLICY.alerting, lifecycle=lifecycle)
    return replace(POLICY, rules=RulePolicies(sync_failures=rule), alerting=alerting)


def saw(verdict: Verdict, *, credential: str = "1", severity: Severity = Severity.HIGH) -> Observation:
    """What sync_failures says of a credential."""
    return Observation(
        rule="sync_failures",
        identity={"credential": credential},
        verdict=verdict,
        severity=severity,
        title="Multiple ServiceTitan Sync Failures",
        message=f"credential {credential} failed",
        reason=f"because {verdict}",
        credential_id=credential,
        environment="production",
    )


IDENTITIES: Mapping[str, Mapping[str, str]] = {
    "monitor_health": {"check": "sync_failures", "cause": "unreachable"},
    "platform_outage": {"environment": "production", "error_class": "server"},
    "no_syncs": {"environment": "production"},
    "token_expiry": {"credential": "1"},
    "connection_error": {"credential": "1"},
    "sync_failures": {"credential": "1"},
    "consecutive_failures": {"credential": "1", "data_type": "jobs"},
    "stuck_sync": {"credential": "1", "sync": "7"},
    "stale_sync": {"credential": "1"},
    "data_quality": {"credential": "1", "data_type": "jobs"},
    "quality_drop": {"credential": "1", "data_type": "jobs"},
    "empty_syncs": {"credential": "1", "data_type": "jobs"},
    "api_errors": {"environment": "production", "endpoint": "/customers"},
    "api_latency": {"environment": "production", "endpoint": "/customers"},
    "api_incidents": {"credential": "1", "kind": "rate_limit"},
    "error_budget": {"objective": "quality", "environment": "production"},
}
"""One alert of each rule; those of one world explain each other where the rules do."""


def rule_saw(
    rule: str, verdict: Verdict = Verdict.BREACH, *, severity: Severity = Severity.HIGH, **changes: Any
) -> Observation:
    """What a rule says; by default of credential 1 in production, which fails with server errors."""
    identity = changes.pop("identity", IDENTITIES[rule])
    values: dict[str, Any] = {
        "credential_id": identity.get("credential"),
        "environment": None if rule == "monitor_health" else identity.get("environment", "production"),
        "error_class": None if rule == "monitor_health" else ErrorClass.SERVER,
        **changes,
    }
    return Observation(
        rule=rule,
        identity=identity,
        verdict=verdict,
        severity=severity,
        title=rule,
        message=rule,
        reason=f"because {verdict}",
        **values,
    )


@dataclass
class World:
    """The alerts, events and deliveries of a monitor whose storage never fails."""

    policy: Policy = POLICY
    alerts: dict[str, Alert] = field(default_factory=dict)
    events: list[AlertEvent] = field(default_factory=list)
    outbox: dict[str, Delivery] = field(default_factory=dict)
    edits: list[Delivery] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)

    def tick(self, as_of: datetime, *observations: Observation, **options: Any) -> list[Delivery]:
        """
        One evaluation, with options for `decide`; returns the deliveries that are new in the outbox.

        Edits of a thread's first message are no messages: they go to ``edits``.
        """
        result = step(self.alerts, observations, policy=self.policy, as_of=as_of)
        owed = {key: alert for key, alert in self.alerts.items() if owes_a_close(alert) and key not in result.alerts}
        around = {
            "configured": {"slack", "email"},
            "suppressors": Suppressors(at=as_of, silences=self.silences, mutes=self.policy.alerting.mutes),
            "spent": self.spent_on(as_of),
            "held": self.held(),
        }
        decision = decide(
            {**result.alerts, **owed},
            policy=self.policy,
            as_of=as_of,
            open_alerts={key: alert for key, alert in self.alerts.items() if alert.state.is_open},
            **{**around, **options},
        )
        self.alerts |= decision.alerts
        self.events += result.events
        self.edits += [each for each in decision.deliveries if each.reason is NotifyReason.UPDATED]
        new = [
            delivery
            for delivery in decision.deliveries
            if delivery.key not in self.outbox and delivery.reason is not NotifyReason.UPDATED
        ]
        self.outbox |= {delivery.key: delivery for delivery in new}
        return new

    def spent_on(self, as_of: datetime) -> dict[str, int]:
        """Messages to each channel that cost budget, on the day of an instant."""
        return Counter(
            each.channel
            for each in self.outbox.values()
            if each.reason in BUDGETED
            and each.severity is not None
            and each.severity.rank < Severity.HIGH.rank
            and each.as_of.date() == as_of.date()
        )

    def held(self) -> list[Held]:
        """What was kept back, and no summary has told of."""
        told = {key for each in self.outbox.values() for key in each.accounts_for}
        return [
            Held(
                key=each.key,
                channel=each.channel,
                why=each.silent,
                by=each.by,
                member=each.members[0],
                as_of=each.as_of,
                rule=self.rule_of(each),
            )
            for each in self.outbox.values()
            if each.silent in HOLDING and each.key not in told
        ]

    def sent(self, deliveries: list[Delivery], *, channel: str = SLACK) -> list[str]:
        """The reasons of those that are messages to one channel."""
        return [str(each.reason) for each in deliveries if each.reason is not None and each.channel == channel]

    def rule_of(self, delivery: Delivery) -> str:
        """The rule of a delivery's first member."""
        return self.alerts[delivery.members[0].fingerprint].rule

    def said(self, deliveries: list[Delivery], *, channel: str = SLACK) -> list[str]:
        """What a channel was told, and what it was not told, in words: "token_expiry first"."""
        return [f"{self.rule_of(each)} {each.reason or each.silent}" for each in deliveries if each.channel == channel]


VERDICTS = st.sampled_from(list(Verdict))


def histories(*, credentials: int = 3, ticks: int = 20) -> st.SearchStrategy[list[Mapping[str, Verdict]]]:
    """Lists of ticks; each tick maps some credentials to a verdict."""
    names = st.sampled_from([str(number) for number in range(1, credentials + 1)])
    return st.lists(st.dictionaries(names, VERDICTS), max_size=ticks)

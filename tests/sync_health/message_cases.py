"""Alerts in every state that a message can meet: one list for all renderers."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from include.sync_health.alerts import AlertState, CloseReason, NotifyReason
from include.sync_health.quality import SYNC_LEFT
from include.sync_health.verdicts import ErrorClass, Severity
from tests.sync_health.conversation_cases import LINKS, NOW, Case, conversation_cases
from tests.sync_health.message_alerts import (
    AS_OF,
    EVIDENCE_OF_RECOVERY,
    EXPIRED_TOKEN,
    NEVER_COMPLETED,
    RULES,
    alert,
    broken_already,
    closed,
    storm,
)

__all__ = ["CASES", "LINKS", "NOW", "Case"]

OTHER_EVIDENCE = {
    "stuck_sync": "the run ended as completed at 2026-11-24 11:50 UTC",
    "monitor_health": "the check was made again",
}


def _cases() -> list[Case]:
    cases = []
    for rule in RULES:
        firing = alert(rule)
        evidence = EVIDENCE_OF_RECOVERY.get(rule) or OTHER_EVIDENCE.get(
            rule, "the latest run completed at 2026-11-24 11:50 UTC"
        )
        recovered = closed(firing, why=CloseReason.RECOVERED, reason=evidence)
        expired = closed(firing, why=CloseReason.EXPIRED, reason="open for longer than 30 days")
        removed = closed(firing, why=CloseReason.TARGET_REMOVED, reason="the credential was deleted upstream")
        changed = closed(firing, why=CloseReason.RULE_CHANGED, reason="the threshold is now 10")
        recovering = replace(firing, state=AlertState.RECOVERING, state_since=AS_OF - timedelta(minutes=15), flaps=2)
        fresh = replace(firing, opened_at=AS_OF)
        for kind, one, reason in (
            ("first", fresh, NotifyReason.FIRST),
            ("first_recovering", recovering, NotifyReason.FIRST),
            ("first_closed_meanwhile", recovered, NotifyReason.FIRST),
            ("repeat", replace(firing, peak_severity=Severity.CRITICAL), NotifyReason.REPEAT),
            ("recovered", recovered, NotifyReason.CLOSED),
            ("expired", expired, NotifyReason.CLOSED),
            ("target_removed", removed, NotifyReason.CLOSED),
            ("rule_changed", changed, NotifyReason.CLOSED),
            ("closed_but_open_again", fresh, NotifyReason.CLOSED),
            ("test", firing, NotifyReason.TEST),
        ):
            if rule not in EVIDENCE_OF_RECOVERY or kind in ("first", "repeat", "recovered"):
                cases.append(Case(name=f"{rule}-{kind}", alerts=(one,), reason=reason))
    late = replace(alert("sync_failures"), stale_since=AS_OF - timedelta(hours=1))
    some = storm(23)
    ended = [closed(each, why=CloseReason.RECOVERED, reason="the latest run completed") for each in storm(22)]
    mixed = [*ended[:-1], closed(storm(22)[-1], why=CloseReason.EXPIRED, reason="nothing seen for 30 days")]
    return [
        *cases,
        Case(
            name="sync_failures-late_and_possible_repeat",
            alerts=(late,),
            reason=NotifyReason.REPEAT,
            as_of=AS_OF - timedelta(hours=2),
            possible_repeat=True,
        ),
        Case(name="summary-first", alerts=tuple(some), reason=NotifyReason.FIRST),
        Case(name="summary-first_some_closed", alerts=(*some[:20], *ended[20:]), reason=NotifyReason.FIRST),
        Case(name="summary-repeat", alerts=tuple(alert(rule) for rule in RULES), reason=NotifyReason.REPEAT),
        *_special_cases(),
        Case(name="summary-recovered", alerts=tuple(ended), reason=NotifyReason.CLOSED),
        Case(name="summary-closed_mixed", alerts=tuple(mixed), reason=NotifyReason.CLOSED),
        *conversation_cases(),
        Case(name="test-bare", alerts=(), reason=NotifyReason.TEST),
    ]


def _special_cases() -> list[Case]:
    """Return what only some rules can say, and the baseline."""
    expired = alert("token_expiry", **EXPIRED_TOKEN)
    never = alert("stale_sync", **NEVER_COMPLETED)
    quality = alert("data_quality")
    auth = alert(
        "platform_outage",
        identity={"environment": "production", "error_class": "auth"},
        error_class=ErrorClass.AUTH,
        message="31 of 40 ServiceTitan credentials (production) failed in the last hour with the same cause: authentication",
        metadata={"sample": "Failed to refresh access token"},
        opened_at=AS_OF,
    )
    renewed = closed(
        expired,
        why=CloseReason.RECOVERED,
        reason="a run completed at 2026-11-24 11:50 UTC, after the token expired",
    )
    unused = closed(
        never, why=CloseReason.TARGET_REMOVED, reason="the credential is no longer in use: its status is inactive"
    )
    wrong_policy = alert(
        "monitor_health",
        identity={"check": "policy", "cause": "invalid"},
        metadata={"check": "policy", "cause": "invalid"},
        message="policy: the policy file is wrong, the last good one stays in force: monitor.yaml: repeat.high: 'always' is "
        "not allowed",
        opened_at=AS_OF,
    )
    rule_failed = alert(
        "monitor_health",
        identity={"check": "sync_failures", "cause": "evaluation_stuck_sync"},
        metadata={"check": "sync_failures", "cause": "evaluation_stuck_sync"},
        message="sync_failures: the rule stuck_sync failed: KeyError: 'started_at'",
        opened_at=AS_OF,
    )
    left = closed(quality, why=CloseReason.EXPIRED, reason=SYNC_LEFT)
    few = broken_already(14)
    some_closed = [*few[:-2], *(closed(each, why=CloseReason.RECOVERED, reason="mended") for each in few[-2:])]
    return [
        Case(name="token_expiry-first_expired", alerts=(replace(expired, opened_at=AS_OF),), reason=NotifyReason.FIRST),
        Case(name="token_expiry-recovered_expired", alerts=(renewed,), reason=NotifyReason.CLOSED),
        Case(
            name="stale_sync-first_never_completed",
            alerts=(replace(never, opened_at=AS_OF),),
            reason=NotifyReason.FIRST,
        ),
        Case(name="stale_sync-target_removed", alerts=(unused,), reason=NotifyReason.CLOSED),
        Case(name="data_quality-expired", alerts=(left,), reason=NotifyReason.CLOSED),
        Case(name="platform_outage-first_auth", alerts=(auth,), reason=NotifyReason.FIRST),
        Case(name="monitor_health-first_policy", alerts=(wrong_policy,), reason=NotifyReason.FIRST),
        Case(name="monitor_health-first_rule_failed", alerts=(rule_failed,), reason=NotifyReason.FIRST),
        Case(name="baseline-one", alerts=(replace(never, opened_at=AS_OF),), reason=NotifyReason.BASELINE),
        Case(name="baseline-some_closed", alerts=tuple(some_closed), reason=NotifyReason.BASELINE),
        Case(name="baseline-thousands", alerts=tuple(broken_already(3000)), reason=NotifyReason.BASELINE),
    ]


CASES = _cases()

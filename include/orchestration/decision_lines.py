"""
The lines that one evaluation writes of alerts and of messages that are not sent, once it is stored.

Each kind of line is written at most ``summary_above`` times in a run, the worst alerts first; one line more says how
many there were beyond that, by rule. So a platform that breaks at once does not drown the log, and no number is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

from include.orchestration.structured_logs import DecisionLog
from include.sync_health.alerts import Alert, AlertEvent, Delivery, EventKind
from include.sync_health.lifecycle import StepResult
from include.sync_health.notifications import Decision
from include.sync_health.observations import Observation
from include.sync_health.verdicts import Verdict

log = DecisionLog("servicetitan.evaluation")


class AlertFields(TypedDict):
    """What every line of an alert has."""

    rule: str
    about: str
    fingerprint: str
    episode_id: str | None
    credential_id: str | None
    company_id: str | None
    environment: str | None
    data_type: str | None
    severity: str
    verdict: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stepped:
    """Alerts before and after, by fingerprint, what happened to them, and what was said of each."""

    before: Mapping[str, Alert]
    after: Mapping[str, Alert]
    events: Sequence[AlertEvent]
    verdicts: Mapping[str, Verdict]
    deliveries: Sequence[Delivery]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line to be written: its kind, where it stands among those of its kind, and how it is written."""

    kind: str
    order: tuple[int, str]
    rule: str
    write: Callable[[], None]


def write_lines(
    before: Mapping[str, Alert],
    observations: Iterable[Observation],
    result: StepResult,
    decision: Decision,
    *,
    at_most: int,
) -> None:
    """
    Write what happened to alerts and which messages are not sent; nothing of what stayed as it was.

    Args:
        before: the alerts as they were, by fingerprint.
        observations: what the run said.
        result: what the life cycle made of it.
        decision: what is told of it, and what is not.
        at_most: lines of one kind.
    """
    stepped = _Stepped(
        before=before,
        after={**before, **decision.alerts},
        events=result.events,
        verdicts={each.fingerprint: each.verdict for each in observations},
        deliveries=decision.deliveries,
    )
    lines: dict[str, list[_Line]] = {}
    for line in (*_of_events(stepped), *_of_severities(stepped), *_of_silences(stepped)):
        lines.setdefault(line.kind, []).append(line)
    for kind, of_kind in lines.items():
        of_kind.sort(key=lambda line: line.order)
        for line in of_kind[:at_most]:
            line.write()
        if left := of_kind[at_most:]:
            log.info(
                "lines_left_out",
                "%(left_out)s more of %(lines_of)s: %(rules)s",
                lines_of=kind,
                left_out=len(left),
                rules=Counter(line.rule for line in left),
            )


def _of_events(stepped: _Stepped) -> list[_Line]:
    return [
        _Line(
            kind=str(event.kind),
            order=_worst_first(stepped.after[event.fingerprint]),
            rule=stepped.after[event.fingerprint].rule,
            write=partial(_write_event, event, stepped),
        )
        for event in stepped.events
        if event.kind not in (EventKind.ESCALATED, EventKind.EASED)
    ]


def _of_severities(stepped: _Stepped) -> list[_Line]:
    """Open alerts of another severity than before; an episode that opens or closes says its own."""
    lines = []
    for fingerprint, alert in stepped.after.items():
        before = stepped.before.get(fingerprint)
        if before is None or not (before.state.is_open and alert.state.is_open) or alert.severity is before.severity:
            continue
        change = str(EventKind.ESCALATED if alert.severity.rank > before.severity.rank else EventKind.EASED)
        lines.append(
            _Line(
                kind=change,
                order=_worst_first(alert),
                rule=alert.rule,
                write=partial(_write_severity, alert, stepped, change=change, previous=str(before.severity)),
            )
        )
    return lines


def _of_silences(stepped: _Stepped) -> list[_Line]:
    """Messages not sent of what happened in this run: why an open alert is not told is decided anew in every one."""
    happened = {event.fingerprint for event in stepped.events}
    return [
        _Line(
            kind=f"not sent to {delivery.channel} ({delivery.silent})",
            order=_worst_first(stepped.after[member.fingerprint]),
            rule=stepped.after[member.fingerprint].rule,
            write=partial(_write_silence, delivery, stepped.after[member.fingerprint], stepped),
        )
        for delivery in stepped.deliveries
        if delivery.silent is not None
        for member in delivery.members
        if member.fingerprint in happened
    ]


def _write_event(event: AlertEvent, stepped: _Stepped) -> None:
    alert = stepped.after[event.fingerprint]
    if event.kind in (EventKind.OPENED, EventKind.REOPENED):
        log.info(
            "alert_opened",
            "opened %(rule)s (%(severity)s) of %(about)s: %(reason)s",
            reason=event.reason,
            **_alert_fields(alert, stepped),
        )
    elif event.kind is EventKind.CLOSED:
        log.info(
            "alert_closed",
            "closed %(rule)s of %(about)s, as %(close_reason)s: %(reason)s",
            reason=event.reason,
            close_reason=None if event.close_reason is None else str(event.close_reason),
            **_alert_fields(alert, stepped),
        )
    else:
        log.info(
            "alert_changed",
            "%(rule)s of %(about)s, is %(change)s: %(reason)s",
            reason=event.reason,
            change=str(event.kind),
            **_alert_fields(alert, stepped),
        )


def _write_severity(alert: Alert, stepped: _Stepped, *, change: str, previous: str) -> None:
    log.info(
        "alert_changed",
        "%(rule)s of %(about)s, is %(change)s from %(previous_severity)s to %(severity)s: %(reason)s",
        reason=alert.reason,
        change=change,
        previous_severity=previous,
        **_alert_fields(alert, stepped),
    )


def _write_silence(delivery: Delivery, alert: Alert, stepped: _Stepped) -> None:
    log.info(
        "delivery_not_sent",
        "%(channel)s is not told of %(rule)s of %(about)s: %(not_sent_because)s",
        channel=delivery.channel,
        not_sent_because=str(delivery.silent),
        alerts=len(delivery.members),
        **_alert_fields(alert, stepped),
    )


def _alert_fields(alert: Alert, stepped: _Stepped) -> AlertFields:
    verdict = stepped.verdicts.get(alert.fingerprint)
    return AlertFields(
        rule=alert.rule,
        about=_about(alert),
        fingerprint=alert.fingerprint,
        episode_id=None if alert.episode_id is None else str(alert.episode_id),
        credential_id=alert.credential_id,
        company_id=alert.company_id,
        environment=alert.environment,
        data_type=alert.data_type,
        severity=str(alert.severity),
        verdict=None if verdict is None else str(verdict),
    )


def _about(alert: Alert) -> str:
    """Return ``credential 42, production``; of an alert without a credential, what makes it this one."""
    if alert.credential_id is None:
        return ", ".join(alert.identity.values())
    named = f"credential {alert.credential_id}"
    return named if alert.environment is None else f"{named}, {alert.environment}"


def _worst_first(alert: Alert) -> tuple[int, str]:
    return -alert.severity.rank, alert.fingerprint

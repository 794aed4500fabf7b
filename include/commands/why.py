"""``why``: the time line of an alert: what happened, who was told of it, who was not and why, and what comes next."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.errors import RequestError

if TYPE_CHECKING:
    from include.sync_health.alerts import Alert
    from include.sync_health.health_resources import CheckState
    from include.sync_health.policy import Policy
    from include.sync_health.time_lines import History

RECENT = timedelta(days=7)
"""An alert of a credential that closed so recently is told in full, as one that is open."""

MOST_ALERTS, MOST_LISTED = 10, 20
"""Alerts of a credential that are told in full, and those that are only listed."""

MOST_LINES = 100
"""Lines of a time line that are printed without ``--all``: the newest."""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "why",
        help="the time line of an alert: what was told to whom, or why not, and what comes next",
        description="Print what happened to an alert, what each channel was told of it, or why not, who silenced or "
        "acknowledged it, and what comes next; the oldest first. With --credential, of every alert of a credential that is "
        "open, or closed within 7 days; the older ones are listed. Only our own tables are read, and nothing is written.",
    )
    parser.add_argument(
        "fingerprint", nargs="?", metavar="FINGERPRINT", help="of the alert, or at least 6 digits that it begins with"
    )
    parser.add_argument("--credential", metavar="ID", help="of every alert of this credential instead")
    parser.add_argument("--all", action="store_true", help=f"print more than the newest {MOST_LINES} lines of an alert")
    parser.add_argument("--json", action="store_true", help="answer in JSON, with all lines")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print the time lines.

    With ``--json``: ``{"alerts": [{"fingerprint", "type", "state", "severity", "credential_id", "company", "environment",
    "data_type", "message", "opened_at", "closed_at", "close_reason", "time_line": [{"at", "what", "channel", "text"}],
    "next": [text]}], "older": [the same without the last two], "checks": {name: {"last_run", "blind"}}}``; ``checks`` is
    there when a credential has no alert at all, and ``last_run`` the end of the newest window that a check judged.

    Returns:
        0: told, also when there is no alert to tell of.

    Raises:
        MonitorError: no such alert, several begin so, an argument is wrong, or the storage connection is.
    """
    from include.commands.alert_arguments import fingerprint_of, value_of
    from include.commands.monitoring_access import monitoring, policy_of_alerts, the_alert
    from include.orchestration.alert_history import history_of
    from include.sync_health.checks import CHECKS
    from include.warehouse.alert_ledger import alerts_of_credential
    from include.warehouse.check_ages import check_states

    if (args.fingerprint is None) is (args.credential is None):
        raise RequestError("name either the FINGERPRINT of an alert or a --credential; see why --help")
    now = datetime.now(UTC)
    credential = "" if args.credential is None else value_of("credential", args.credential, option="--credential")
    prefix = "" if args.fingerprint is None else fingerprint_of(args.fingerprint)
    checks: Mapping[str, CheckState] = {}
    older: Sequence[Alert] = ()
    policy = policy_of_alerts()
    with monitoring(policy) as conn:
        if prefix:
            told = [the_alert(conn, prefix)]
        else:
            told, older = _told_in_full(alerts_of_credential(conn, credential), now=now)
            if not told and not older:
                checks = check_states(conn, CHECKS.values())
        histories = [history_of(conn, alert.fingerprint) for alert in told]
    if args.json:
        answer = {
            "alerts": [_as_json(each, policy=policy, now=now) for each in histories],
            "older": [_alert_json(alert) for alert in older],
            **({"checks": _checks_json(checks)} if checks else {}),
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    for place, history in enumerate(histories):
        if place:
            print()
        for line in _lines(history, policy=policy, now=now, most=None if args.all else MOST_LINES):
            print(line)
    for line in _of_credential(credential, told, older, checks) if credential else ():
        print(line)
    return 0


def _told_in_full(alerts: Sequence[Alert], *, now: datetime) -> tuple[list[Alert], list[Alert]]:
    """Return a credential's alerts that are told in full, and the others."""
    full = [
        alert
        for alert in alerts
        if alert.state.is_open or (alert.closed_at is not None and now - alert.closed_at <= RECENT)
    ][:MOST_ALERTS]
    named = {alert.fingerprint for alert in full}
    return full, [alert for alert in alerts if alert.fingerprint not in named]


def _lines(history: History, *, policy: Policy, now: datetime, most: int | None) -> Iterator[str]:
    from include.sync_health.outlook import outlook
    from include.sync_health.time_lines import headline, moments, utc_text

    yield headline(history.alert)
    found = moments(history, policy=policy)
    shown = found if most is None else found[-most:]
    if len(shown) < len(found):
        yield f"  ... {len(found) - len(shown)} earlier lines; --all prints them"
    for moment in shown:
        yield f"  {utc_text(moment.at)}  {moment.text}"
    for line in outlook(history, policy=policy, now=now):
        yield f"  next: {line}"


def _of_credential(
    credential: str, told: Sequence[Alert], older: Sequence[Alert], checks: Mapping[str, CheckState]
) -> Iterator[str]:
    """Yield what there is to say of a credential beside its time lines."""
    from include.sync_health.time_lines import headline, utc_text

    if not told and not older:
        yield f"credential {credential} has no alert, and had none that is kept"
        for name, state in checks.items():
            when = "has never run" if state.window_to is None else f"last ran for {utc_text(state.window_to)}"
            blind = f", and could not see: {state.blind.replace('_', ' ')}" if state.blind else ""
            yield f"  check {name} {when}{blind}"
        return
    if not any(alert.state.is_open for alert in told):
        yield f"credential {credential} has no open alert"
    if older:
        yield f"{'other' if told else 'closed'} alerts of credential {credential}, without their time lines:"
    for alert in older[:MOST_LISTED]:
        closed = f", closed at {utc_text(alert.closed_at)}" if alert.closed_at else ""
        yield f"  {headline(alert)}{closed}"
    if len(older) > MOST_LISTED:
        yield f"  and {len(older) - MOST_LISTED} more"


def _as_json(history: History, *, policy: Policy, now: datetime) -> dict[str, Any]:
    from include.sync_health.outlook import outlook
    from include.sync_health.time_lines import moments

    return {
        **_alert_json(history.alert),
        "time_line": [
            {"at": each.at.isoformat(), "what": str(each.what), "channel": each.channel, "text": each.text}
            for each in moments(history, policy=policy)
        ],
        "next": list(outlook(history, policy=policy, now=now)),
    }


def _alert_json(alert: Alert) -> dict[str, Any]:
    from include.sync_health.redaction import clean

    return {
        "fingerprint": alert.fingerprint,
        "type": alert.type,
        "state": str(alert.state),
        "severity": str(alert.severity),
        "credential_id": alert.credential_id,
        "company": clean(alert.company_name, limit=200) or None,
        "environment": alert.environment,
        "data_type": alert.data_type,
        "message": clean(alert.message, limit=1_000),
        "opened_at": alert.opened_at.isoformat() if alert.opened_at else None,
        "closed_at": alert.closed_at.isoformat() if alert.closed_at else None,
        "close_reason": str(alert.close_reason) if alert.close_reason else None,
    }


def _checks_json(checks: Mapping[str, CheckState]) -> dict[str, Any]:
    return {
        name: {"last_run": state.window_to.isoformat() if state.window_to else None, "blind": state.blind}
        for name, state in checks.items()
    }

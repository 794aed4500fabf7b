"""``ack``: say that somebody has an alert in hand, so that it is not repeated; or take that back."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.sync_health.errors import RequestError

if TYPE_CHECKING:
    from include.sync_health.alerts import Alert

LONGEST = timedelta(days=90)
"""As a silence; without ``--for`` it lasts as long as the alert is open."""


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "ack",
        help="say that somebody has an alert in hand: no repeats",
        description="Say that somebody has an open alert in hand. It is not repeated until it closes, or until --for is "
        "over; that it gets worse, and that it closes, is told all the same. An acknowledgement ends with its alert.",
    )
    parser.add_argument(
        "fingerprint", metavar="FINGERPRINT", help="of the alert, or at least 6 digits that it begins with"
    )
    parser.add_argument("--by", required=True, metavar="NAME", help="who has it in hand, or gives it back")
    parser.add_argument("--reason", metavar="TEXT", help="what is being done about it; needed unless --remove is given")
    parser.add_argument("--for", dest="span", metavar="SPAN", help="how long, such as 4h (default: until it closes)")
    parser.add_argument("--remove", action="store_true", help="nobody has it in hand any more: it is repeated again")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Acknowledge an alert, or take that back.

    With ``--json``: ``{"fingerprint", "type", "state", "acknowledged": {"by", "at", "reason", "until"} or null}``.

    Returns:
        0: done.

    Raises:
        MonitorError: no such alert is open, several begin so, an argument is wrong, or the storage connection is.
    """
    from include.commands.alert_arguments import fingerprint_of, span_of, words
    from include.commands.monitoring_access import monitoring, policy_of_alerts, the_alert
    from include.sync_health.alerts import Acknowledgement
    from include.warehouse.acknowledgements import acknowledge, unacknowledge

    now, policy = datetime.now(UTC), policy_of_alerts()
    prefix, by = fingerprint_of(args.fingerprint), words(args.by, option="--by")
    if args.remove:
        _refuse_beside_remove(args)
        with monitoring(policy) as conn:
            alert = unacknowledge(conn, the_alert(conn, prefix).fingerprint, by=by, now=now)
    else:
        if args.reason is None:
            raise RequestError("--reason: it is missing; say what is being done about the alert")
        reason = words(args.reason, option="--reason")
        until = None
        if args.span is not None:
            until = now.replace(microsecond=0) + span_of(args.span, option="--for", at_most=LONGEST)
        with monitoring(policy) as conn:
            acknowledgement = Acknowledgement(by=by, at=now, reason=reason, until=until)
            alert = acknowledge(conn, the_alert(conn, prefix).fingerprint, acknowledgement, now=now)
    if args.json:
        print(json.dumps(_as_json(alert), indent=2, ensure_ascii=False))
    else:
        print(_line(alert))
    return 0


def _refuse_beside_remove(args: argparse.Namespace) -> None:
    for option, given in (("--reason", args.reason), ("--for", args.span)):
        if given is not None:
            raise RequestError(f"{option}: it says nothing beside --remove; leave it out")


def _line(alert: Alert) -> str:
    from include.sync_health.time_lines import headline, utc_text

    held = alert.acknowledged
    if held is None:
        return f"given back, and repeated again: {headline(alert)}"
    until = "until it closes" if held.until is None else f"until {utc_text(held.until)}"
    return f"acknowledged {until}: {headline(alert)}"


def _as_json(alert: Alert) -> dict[str, Any]:
    from include.sync_health.message_parts import person
    from include.sync_health.redaction import clean

    held = alert.acknowledged
    return {
        "fingerprint": alert.fingerprint,
        "type": alert.type,
        "state": str(alert.state),
        "acknowledged": held
        and {
            "by": person(held.by),
            "at": held.at.isoformat(),
            "reason": clean(held.reason, limit=1_000),
            "until": held.until.isoformat() if held.until else None,
        },
    }

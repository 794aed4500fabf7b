"""``test-alert``: one test message to each channel, through the outbox and the very code that sends alerts."""

from __future__ import annotations

import argparse
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.sync_health.links import Links


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "test-alert",
        help="send a test message to every channel",
        description="Put a test message for each channel of the policy (or those named) into the outbox and drain it, "
        "as the DAG does: whatever else is due to these channels goes out as well. Exit code 2 when any was not sent.",
    )
    parser.add_argument(
        "--channel",
        action="append",
        metavar="KIND:ADDRESS",
        help="such as slack:#servicetitan-alerts or email:ops@example.com; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Send, and print what became of each channel.

    With ``--json``: ``{"channels": [{"channel", "sent", "detail"}]}``.

    Returns:
        0: every channel has its message; 2: some has not.

    Raises:
        MonitorError: the policy, a channel's name, the storage connection or schema is wrong.
    """
    from include.orchestration.settings import CONNECTIONS_OF, configured_kinds, policy_in_force, postgres_conninfo
    from include.sync_health.errors import RequestError
    from include.sync_health.links import links_in
    from include.sync_health.routing import kind_of
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    policy = policy_in_force().loaded.policy
    named = args.channel or (channel for receiver in policy.receivers.values() for channel in receiver.channels())
    channels = list(dict.fromkeys(named))
    for channel in args.channel or ():
        _require_channel(channel)
    if not channels:
        raise RequestError("the policy's receivers name no channel; add one, or use --channel")
    storage, links = postgres_conninfo(policy.storage_connection), links_in(policy.alerting.links)
    usable = configured_kinds()
    reachable = [channel for channel in channels if kind_of(channel) in usable]
    with connect(storage) as conn:
        require_current(conn)
        keys = _enqueue(conn, reachable, now=datetime.now(UTC))
    results = []
    for channel in channels:
        if channel in reachable:
            results.append(_drain(channel, storage=storage, key=keys[channel], links=links))
        else:
            add = " or ".join(CONNECTIONS_OF[kind_of(channel)])
            detail = f"{kind_of(channel)} has no connection that can be used: add {add}, see doctor"
            results.append({"channel": channel, "sent": False, "detail": detail})
    if args.json:
        print(json.dumps({"channels": results}, indent=2, ensure_ascii=False))
    else:
        for result in results:
            print(f"{'sent' if result['sent'] else 'FAILED':<7} {result['channel']}: {result['detail']}")
    return 0 if all(result["sent"] for result in results) else 2


def _require_channel(channel: str) -> None:
    """Raise `RequestError` unless the policy would take the channel as well."""
    from pydantic_core import PydanticCustomError

    from include.orchestration.policy_mistakes import looks_secret
    from include.orchestration.policy_values import channel_key
    from include.sync_health.errors import RequestError

    try:
        channel_key(channel)
    except PydanticCustomError as error:
        shown = "a text that looks like a secret" if looks_secret(channel) else repr(channel)
        raise RequestError(f"--channel: {shown} is no channel; {error.message()}") from None


def _enqueue(conn: Any, channels: list[str], *, now: datetime) -> dict[str, str]:
    """Put a test delivery for each channel into the outbox; returns their keys."""
    from include.sync_health.alerts import Delivery, Member, NotifyReason
    from include.sync_health.observations import episode_of, fingerprint_of
    from include.warehouse import alert_store

    # An identity of its own: an earlier test that still waits must not hold this one back. No alert goes with it.
    fingerprint = fingerprint_of("test-alert", {"at": now.isoformat()})
    episode = episode_of(fingerprint, now)
    deliveries = [
        Delivery(
            key=f"{channel}|{NotifyReason.TEST}|{episode}",
            channel=channel,
            reason=NotifyReason.TEST,
            members=(Member(fingerprint=fingerprint, episode_id=episode),),
            as_of=now,
        )
        for channel in channels
    ]
    with conn.transaction():
        alert_store.lock_alerts(conn)  # ids in the outbox follow the commits
        alert_store.save_step(conn, alerts=[], events=[], deliveries=deliveries, now=now)
    return {delivery.channel: delivery.key for delivery in deliveries}


def _drain(channel: str, *, storage: str, key: str, links: Links) -> dict[str, Any]:
    """Drain one channel; what counts is what the ledger says of the test message afterwards."""
    from include.orchestration.delivery import Drain, drain_channel
    from include.orchestration.operators import EmailDrainOperator, SlackDrainOperator, wall_clock
    from include.sync_health.alerts import DeliveryStatus
    from include.sync_health.routing import address_of, kind_of
    from include.warehouse import outbox
    from include.warehouse.monitoring_session import connect

    operator: Any
    if kind_of(channel) == "slack":
        operator = SlackDrainOperator(task_id="test_alert", channel=address_of(channel))
    else:
        operator = EmailDrainOperator(task_id="test_alert", to=address_of(channel))
    drained = drain_channel(
        Drain(
            channel=channel,
            monitoring_conninfo=storage,
            owner=f"test-alert/{os.getpid()}",
            send=operator.sender(),
            clock=wall_clock,
            sleep=time.sleep,
            links=links,
        )
    )
    with connect(storage) as conn:
        status = outbox.status_of(conn, key=key)
        if status != DeliveryStatus.SENT:
            # The DAG must not go on trying a test, nor turn red by it.
            outbox.abandon(conn, key=key, now=wall_clock(), error=drained.trouble or "the test was not sent")
            return {"channel": channel, "sent": False, "detail": drained.trouble or f"it is {status} in the outbox"}
    others = drained.sent - 1
    detail = "sent" + (f", with {others} other due message(s)" if others > 0 else "")
    return {"channel": channel, "sent": True, "detail": detail + (f"; {drained.trouble}" if drained.trouble else "")}

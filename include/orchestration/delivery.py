"""
Draining the outbox: one message at a time, each with its own commit.

    lease ─render the current state→ send ─→ sent
                                      ├ wait and try again   (429 with a short Retry-After, at once)
                                      ├ later                (no answer, 5xx, a refused connection or credential)
                                      └ dead                 (this message can never succeed there)

No Airflow in here. A worker killed between send and commit leaves one message in doubt: it is sent again, marked as a
possible repeat.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from include.orchestration.structured_logs import DecisionLog
from include.sync_health.alerts import NotifyReason
from include.sync_health.errors import DeliveryError
from include.sync_health.messages import Message, message_for
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    from include.warehouse.outbox import LeasedDelivery

log = DecisionLog("servicetitan.delivery")

LEASE = timedelta(minutes=10)
"""Longer than any send: a drain task ends after 5 minutes (`dag_habits.DEFAULT_ARGS`)."""

FIRST_BACKOFF = timedelta(seconds=30)
LONGEST_BACKOFF = timedelta(minutes=15)

PATIENCE = timedelta(seconds=45)
"""How long a drain waits for a channel that asks it to; beyond that the next tick carries on."""

GIVE_UP_AFTER = timedelta(hours=24)
"""A message not delivered for this long is dead: its news is no longer news, and the ledger keeps it."""


class Send(Protocol):
    """Sends one message to one channel and returns its receipt (JSON values), or raises `DeliveryError`."""

    def __call__(self, message: Message, *, delivery_key: str) -> Mapping[str, Any]:
        """Send it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """What one drain did; ``trouble`` is the last reason why something could not be sent, redacted."""

    sent: int = 0
    waiting: int = 0
    dead: int = 0
    trouble: str | None = None
    needs_a_person: bool = False  # a credential or a channel is wrong: trying again soon is no use


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """
    What draining one channel needs.

    Args:
        channel: the channel key, such as ``slack:#servicetitan-alerts``.
        monitoring_conninfo: libpq conninfo of our schema's database.
        owner: unique to this worker and try.
        send: sends to this channel.
        clock: returns the wall clock, aware.
        sleep: waits so many seconds.
    """

    channel: str
    monitoring_conninfo: str
    owner: str
    send: Send
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]


def drain_channel(drain: Drain) -> DrainResult:
    """
    Send what is due to one channel, in order, until nothing is due or the channel refuses to go on.

    A message that only itself is refused does not hold up the others.

    Raises:
        StorageError: our schema is missing or cannot be reached.
    """
    from include.warehouse import outbox
    from include.warehouse.monitoring_session import connect

    sent = waiting = dead = 0
    patience = PATIENCE.total_seconds()
    trouble, needs_a_person = None, False
    with connect(drain.monitoring_conninfo) as conn:
        while leased := outbox.lease_next(
            conn, channel=drain.channel, owner=drain.owner, now=drain.clock(), lease_for=LEASE
        ):
            if why := _has_nothing_to_say(conn, leased, drain):
                log.info(
                    "delivery_dropped",
                    "delivery %(delivery_id)s to %(channel)s is not sent: %(not_sent_because)s",
                    not_sent_because=why,
                    **_delivery_fields(leased),
                )
                continue
            try:
                receipt = send_safely(drain.send, _render(leased, drain), delivery_key=leased.key)
            except DeliveryError as error:
                now = drain.clock()
                trouble = clean(f"{error.code}: {error}", limit=300)
                if (error.permanent and error.code in MESSAGE_CODES) or now - leased.created_at > GIVE_UP_AFTER:
                    outbox.mark_dead(conn, leased.id, owner=drain.owner, now=now, error=trouble)
                    log.error(
                        "delivery_given_up",
                        "gave up delivery %(delivery_id)s to %(channel)s: %(error)s",
                        error=trouble,
                        **_delivery_fields(leased),
                    )
                    dead += 1
                    continue
                pause = retry_pause(leased.attempts, retry_after=error.retry_after)
                outbox.mark_retry(
                    conn,
                    leased.id,
                    owner=drain.owner,
                    now=now,
                    next_attempt_at=now + pause,
                    error=trouble,
                    ambiguous=error.ambiguous,
                )
                if error.retry_after is not None and pause.total_seconds() <= patience:
                    patience -= pause.total_seconds()
                    log.info(
                        "delivery_paused",
                        "%(channel)s asks to wait %(wait_seconds)s s",
                        wait_seconds=round(pause.total_seconds()),
                        **_delivery_fields(leased),
                    )
                    drain.sleep(pause.total_seconds())
                    continue
                waiting, needs_a_person = waiting + 1, needs_a_person or error.permanent
                log.warning(
                    "delivery_failed",
                    "delivery %(delivery_id)s to %(channel)s waits until it is tried again: %(error)s",
                    error=trouble,
                    wait_seconds=round(pause.total_seconds()),
                    **_delivery_fields(leased),
                )
                if error.channel_wide:
                    break
                continue
            if leased.reason in OF_WHAT_IS_OPEN and _all_closed(leased):
                receipt["told_of_close"] = True
            if outbox.mark_sent(conn, leased.id, owner=drain.owner, now=drain.clock(), receipt=receipt):
                sent += 1
                log.info(
                    "delivery_sent",
                    "sent delivery %(delivery_id)s (%(notify_reason)s) to %(channel)s",
                    **_delivery_fields(leased),
                )
            else:
                log.warning(
                    "delivery_sent_late",
                    "delivery %(delivery_id)s was sent to %(channel)s after its lease had ended",
                    **_delivery_fields(leased),
                )
    return DrainResult(sent=sent, waiting=waiting, dead=dead, trouble=trouble, needs_a_person=needs_a_person)


class DeliveryFields(TypedDict):
    """What every line of a delivery has; its alert's fingerprint where it speaks of one alone."""

    delivery_id: int
    channel: str
    notify_reason: str
    alerts: int
    fingerprint: str | None
    attempts: int


def _delivery_fields(leased: LeasedDelivery) -> DeliveryFields:
    return DeliveryFields(
        delivery_id=leased.id,
        channel=leased.channel,
        notify_reason=str(leased.reason),
        alerts=len(leased.members),
        fingerprint=leased.members[0].fingerprint if len(leased.members) == 1 else None,
        attempts=leased.attempts,
    )


def send_safely(send: Send, message: Message, *, delivery_key: str) -> dict[str, Any]:
    """
    Send one message and return its receipt; whatever goes wrong is a `DeliveryError`.

    An error that no sender foresaw may hold a token or a URL in its text: only its type is told.
    """
    try:
        return dict(send(message, delivery_key=delivery_key))
    except DeliveryError:
        raise
    except Exception as error:  # noqa: BLE001 - a lease must not be lost, nor a token be logged, by a surprise
        raise DeliveryError(
            f"an error that was not foreseen ({type(error).__name__})",
            code="unexpected",
            permanent=False,
            ambiguous=True,
            channel_wide=False,
        ) from None


def _has_nothing_to_say(conn: Any, leased: LeasedDelivery, drain: Drain) -> str | None:
    """Record why a leased delivery is not sent, and return it; None when it is to be sent."""
    from include.warehouse import outbox

    if leased.reason is NotifyReason.TEST:
        return None
    now = drain.clock()
    if leased.reason is NotifyReason.CLOSED and outbox.drop_if_told(conn, leased.id, owner=drain.owner, now=now):
        return "its opening went out late and told of the close"
    if _all_superseded(leased) and outbox.drop_superseded(conn, leased.id, owner=drain.owner, now=now):
        return "another episode is open by now, and this one was never told"
    if now - leased.created_at > GIVE_UP_AFTER and _all_closed(leased):
        outbox.mark_dead(conn, leased.id, owner=drain.owner, now=now, error="its news is older than a day, and over")
        return "it waited for more than a day and is over"
    return None


def _all_superseded(leased: LeasedDelivery) -> bool:
    """Return whether each of its alerts has another episode by now."""
    now = {alert.fingerprint: alert.episode_id for alert in leased.alerts}
    return all(now.get(member.fingerprint) != member.episode_id for member in leased.members)


OF_WHAT_IS_OPEN = frozenset({NotifyReason.FIRST, NotifyReason.REPEAT, NotifyReason.BASELINE})
"""Reasons of messages that speak of the close as well, when they go out so late that all of it is over."""

MESSAGE_CODES = frozenset({"invalid_message", "no_text", "msg_too_long"})
"""Codes that speak of the message, not of the channel: trying it again changes nothing."""

SHORTEST_WAIT, LONGEST_WAIT = 1.0, 3_600.0
"""Seconds between which a service's ``Retry-After`` is believed."""


def retry_pause(attempts: int, *, retry_after: float | None) -> timedelta:
    """
    Return how long to wait before the next attempt.

    What the service asks for, within `SHORTEST_WAIT` and `LONGEST_WAIT`, where it asks; else doubling from
    `FIRST_BACKOFF` to `LONGEST_BACKOFF`, less up to a quarter at random, so that many workers do not come back at once.
    """
    if retry_after is not None and math.isfinite(retry_after):
        return timedelta(seconds=min(max(retry_after, SHORTEST_WAIT), LONGEST_WAIT))
    doubled = min(FIRST_BACKOFF * 2 ** min(attempts - 1, 10), LONGEST_BACKOFF)
    return doubled * (1 - 0.25 * random.random())  # noqa: S311 - jitter, not a secret


def _all_closed(leased: LeasedDelivery) -> bool:
    """Return whether the message just sent said of each of its episodes that it is over."""
    now = {(alert.fingerprint, alert.episode_id): alert for alert in leased.alerts}
    found = [now.get((member.fingerprint, member.episode_id)) for member in leased.members]
    return all(alert is not None and alert.closed_at is not None for alert in found)


def _render(leased: LeasedDelivery, drain: Drain) -> Message:
    return message_for(
        leased.alerts,
        reason=leased.reason,
        as_of=leased.as_of,
        now=drain.clock(),
        possible_repeat=leased.possible_repeat,
    )

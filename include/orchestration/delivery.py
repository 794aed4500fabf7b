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

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from include.sync_health.alerts import NotifyReason
from include.sync_health.errors import DeliveryError
from include.sync_health.messages import Links, Message, message_for
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    from include.warehouse.outbox import LeasedDelivery

log = logging.getLogger("servicetitan.delivery")

LEASE = timedelta(minutes=3)
"""Longer than any send: Slack's and SMTP's time-outs are 30 s each, with one text-only retry."""

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
        links: where messages point.
    """

    channel: str
    monitoring_conninfo: str
    owner: str
    send: Send
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    links: Links = Links()  # noqa: RUF009 - frozen and without state


def drain_channel(drain: Drain) -> DrainResult:
    """
    Send what is due to one channel, in order, until nothing is due or the channel refuses to go on.

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
            if leased.reason is NotifyReason.CLOSED and outbox.drop_if_told(
                conn, leased.id, owner=drain.owner, now=drain.clock()
            ):
                log.info(
                    "delivery %d to %s had nothing to add: its opening told of the close", leased.id, drain.channel
                )
                continue
            try:
                receipt = dict(drain.send(_render(leased, drain), delivery_key=leased.key))
            except DeliveryError as error:
                now = drain.clock()
                trouble = clean(f"{error.code}: {error}", limit=300)
                if (error.permanent and error.code in MESSAGE_CODES) or now - leased.created_at > GIVE_UP_AFTER:
                    outbox.mark_dead(conn, leased.id, owner=drain.owner, now=now, error=trouble)
                    log.error("gave up delivery %d to %s: %s", leased.id, drain.channel, trouble)
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
                if error.retry_after is not None and error.retry_after <= patience:
                    patience -= error.retry_after
                    log.info("%s asks to wait %.0f s", drain.channel, error.retry_after)
                    drain.sleep(error.retry_after)
                    continue
                waiting, needs_a_person = waiting + 1, error.permanent
                log.warning("delivery %d to %s waits until it is tried again: %s", leased.id, drain.channel, trouble)
                break
            if leased.reason is not NotifyReason.CLOSED and _all_closed(leased):
                receipt["told_of_close"] = True
            if outbox.mark_sent(conn, leased.id, owner=drain.owner, now=drain.clock(), receipt=receipt):
                sent += 1
                log.info("sent delivery %d (%s) to %s", leased.id, leased.reason, drain.channel)
            else:
                log.warning("delivery %d was sent to %s after its lease had ended", leased.id, drain.channel)
    return DrainResult(sent=sent, waiting=waiting, dead=dead, trouble=trouble, needs_a_person=needs_a_person)


MESSAGE_CODES = frozenset({"invalid_message", "no_text", "msg_too_long"})
"""Codes that speak of the message, not of the channel: trying it again changes nothing."""


def retry_pause(attempts: int, *, retry_after: float | None) -> timedelta:
    """
    Return how long to wait before the next attempt.

    What the service asks for, where it asks; else doubling from `FIRST_BACKOFF` to `LONGEST_BACKOFF`, less up to a
    quarter at random, so that many workers do not come back at once.
    """
    if retry_after is not None:
        return timedelta(seconds=max(retry_after, 0.0))
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
        links=drain.links,
        possible_repeat=leased.possible_repeat,
    )

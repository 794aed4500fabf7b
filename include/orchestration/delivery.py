"""
Draining the outbox: one message at a time, each with its own commit.

    lease ─render the current state→ send ─→ sent
                                      ├ wait and try again   (429 with a short Retry-After, at once)
                                      ├ later                (no answer, 5xx; or refused, where there is no fallback)
                                      ├ handed over          (the channel refuses us: all that waits goes to its fallback)
                                      └ dead                 (this message can never succeed there)

No Airflow in here. A worker killed between send and commit leaves one message in doubt: it is sent again, marked as a
possible repeat. An edit is repeated without a mark: doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from include.orchestration.conversation import ALONE, CANNOT_EDIT, PARENT_GONE, Conversation, conversation_of
from include.orchestration.delivery_lines import (
    log_coalesced,
    log_dropped,
    log_failed,
    log_given_up,
    log_handed_over,
    log_paused,
    log_sent,
)
from include.orchestration.outbox_session import OutboxSession
from include.orchestration.retry_pauses import retry_pause
from include.sync_health.alerts import Alert, NotifyReason, SilentReason
from include.sync_health.errors import DeliveryError
from include.sync_health.links import Links
from include.sync_health.messages import WITHOUT_ALERTS, Message, message_for
from include.sync_health.redaction import clean

if TYPE_CHECKING:
    from include.warehouse.outbox import LeasedDelivery

LEASE = timedelta(minutes=10)
"""Longer than any send: a drain task ends after 5 minutes (`dag_habits.DEFAULT_ARGS`)."""

PATIENCE = timedelta(seconds=45)
"""How long a drain waits for a channel that asks it to; beyond that the next tick carries on."""

GIVE_UP_AFTER = timedelta(hours=24)
"""A message not delivered for this long is dead: its news is no longer news, and the ledger keeps it."""

MESSAGE_CODES = frozenset({"invalid_message", "no_text", "msg_too_long"})
"""Codes that speak of the message, not of the channel: trying it again changes nothing."""


class Send(Protocol):
    """
    Sends one message into a conversation of one channel and returns its receipt (JSON values), or raises `DeliveryError`.

    The receipt of a message that began the conversation, and can be referred to, says ``"parent": True``.
    """

    def __call__(self, message: Message, *, delivery_key: str, into: Conversation = ALONE) -> Mapping[str, Any]:
        """Send it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainResult:
    """
    What one drain did.

    Args:
        sent: messages and edits that the channel took.
        waiting: attempts that failed and are due again later.
        dead: messages given up.
        handed_over: messages given to the channel's fallback.
        trouble: the last reason why something could not be sent, redacted.
        needs_a_person: a credential or a channel is wrong: trying again soon is no use.
    """

    sent: int = 0
    waiting: int = 0
    dead: int = 0
    handed_over: int = 0
    trouble: str | None = None
    needs_a_person: bool = False


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
        links: where readers may go on.
        fallback: the key of the channel that takes what this one refuses; None: it waits for a day.
    """

    channel: str
    monitoring_conninfo: str
    owner: str
    send: Send
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    links: Links | None = None
    fallback: str | None = None


def drain_channel(drain: Drain) -> DrainResult:
    """
    Send what is due to one channel, in order, until nothing is due or the channel refuses to go on.

    A message that only itself is refused does not hold up the others.

    Raises:
        StorageError: our schema is missing or cannot be reached.
    """
    with OutboxSession(drain.monitoring_conninfo, sleep=drain.sleep) as session:
        return _Draining(drain, session).run()


def send_safely(send: Send, message: Message, *, delivery_key: str, into: Conversation = ALONE) -> dict[str, Any]:
    """
    Send one message and return its receipt; whatever goes wrong is a `DeliveryError`.

    An error that no sender foresaw may hold a token or a URL in its text: only its type is told.
    """
    try:
        return dict(send(message, delivery_key=delivery_key, into=into))
    except DeliveryError:
        raise
    except Exception as error:  # noqa: BLE001 - a lease must not be lost, nor a token be logged, by a surprise
        raise _unforeseen(error, ambiguous=not into.edits) from None


class _Draining:
    """One drain while it runs: its counts, and what it does with each delivery."""

    def __init__(self, drain: Drain, session: OutboxSession) -> None:
        self._drain, self._session = drain, session
        self._patience = PATIENCE.total_seconds()
        self._sent = self._waiting = self._dead = self._handed_over = 0
        self._trouble: str | None = None
        self._needs_a_person = False

    def run(self) -> DrainResult:
        from include.warehouse import outbox

        drain, goes_on = self._drain, True
        while goes_on and (
            leased := self._session.ask(
                outbox.lease_next,
                channel=drain.channel,
                owner=drain.owner,
                now=drain.clock(),
                lease_for=LEASE,
                on_drop=log_coalesced,
            )
        ):
            if why := self._nothing_to_say(leased):
                log_dropped(leased, why=why)
                continue
            try:
                receipt = self._send(leased)
            except DeliveryError as error:
                goes_on = self._not_sent(leased, error)
            else:
                self._is_sent(leased, receipt)
        return DrainResult(
            sent=self._sent,
            waiting=self._waiting,
            dead=self._dead,
            handed_over=self._handed_over,
            trouble=self._trouble,
            needs_a_person=self._needs_a_person,
        )

    def _nothing_to_say(self, leased: LeasedDelivery) -> str | None:
        """Record why a leased delivery is not sent, and return it; None when it is to be sent."""
        from include.warehouse import outbox

        owner, now = self._drain.owner, self._drain.clock()
        if leased.reason is NotifyReason.UPDATED and leased.parent is None:
            self._session.ask(outbox.drop, leased.id, owner=owner, now=now, why=SilentReason.CANNOT_EDIT)
            return "nothing was sent into its conversation that could be edited"
        if leased.reason in WITHOUT_ALERTS:
            return None
        if _all_superseded(leased) and self._session.ask(outbox.drop_superseded, leased.id, owner=owner, now=now):
            return "another episode is open by now, and this one was never told"
        if now - leased.created_at > GIVE_UP_AFTER and _all_closed(leased):
            error = "its news is older than a day, and over"
            self._session.ask(outbox.mark_dead, leased.id, owner=owner, now=now, error=error)
            return "it waited for more than a day and is over"
        return None

    def _send(self, leased: LeasedDelivery) -> dict[str, Any]:
        """Send it into its conversation; where that takes nothing any more, as the first message of a new one."""
        into = conversation_of(
            leased.reason,
            thread=leased.thread,
            parent=leased.parent,
            is_open=any(alert.state.is_open for alert in leased.alerts),
        )
        try:
            return self._send_into(into, leased)
        except DeliveryError as error:
            if error.code != PARENT_GONE:
                raise
        return self._send_into(Conversation(begins=True), leased)

    def _send_into(self, into: Conversation, leased: LeasedDelivery) -> dict[str, Any]:
        try:
            message = message_for(
                leased.alerts,
                reason=leased.reason,
                as_of=leased.as_of,
                now=self._drain.clock(),
                links=self._drain.links,
                possible_repeat=leased.possible_repeat and not into.edits,
                details=leased.details,
                neighbours=leased.neighbours,
                fallback_of=leased.fallback_of,
            )
        except Exception as error:  # noqa: BLE001 - one message that cannot be made must not stop the others
            raise _unforeseen(error, ambiguous=False) from None
        return send_safely(self._drain.send, message, delivery_key=leased.key, into=into)

    def _is_sent(self, leased: LeasedDelivery, receipt: Mapping[str, Any]) -> None:
        from include.warehouse import channel_states, outbox

        now = self._drain.clock()
        held = self._session.record(
            outbox.mark_sent,
            leased.id,
            owner=self._drain.owner,
            now=now,
            receipt=receipt,
            rendered=_shown(leased),
        )
        self._session.record(channel_states.note_sent, self._drain.channel, now=now)
        self._sent += held
        log_sent(leased, in_time=held)

    def _not_sent(self, leased: LeasedDelivery, error: DeliveryError) -> bool:
        """Record that an attempt failed; return whether the channel may take others."""
        from include.warehouse import channel_states, outbox

        drain, now = self._drain, self._drain.clock()
        if error.code == CANNOT_EDIT:
            self._session.record(outbox.drop, leased.id, owner=drain.owner, now=now, why=SilentReason.CANNOT_EDIT)
            log_dropped(leased, why=str(error))
            return True
        self._trouble = trouble = clean(f"{error.code}: {error}", limit=300)
        refuses_us = error.permanent and error.channel_wide and error.code not in MESSAGE_CODES
        if refuses_us:
            self._session.record(channel_states.note_refusal, drain.channel, now=now, error=trouble)
            if drain.fallback is not None:
                self._hand_over(leased, trouble, only=None)
                return False
        # Who asks us to wait takes messages: after a long outage that would be the end of all that is owed.
        is_too_old = now - leased.created_at > GIVE_UP_AFTER and error.retry_after is None
        if (error.permanent and error.code in MESSAGE_CODES) or is_too_old:
            if drain.fallback is not None:
                self._hand_over(leased, trouble, only=leased.id)
            else:
                self._give_up(leased, trouble)
            return True
        pause = retry_pause(leased.attempts, retry_after=error.retry_after)
        self._session.record(
            outbox.mark_retry,
            leased.id,
            owner=drain.owner,
            now=now,
            next_attempt_at=now + pause,
            error=trouble,
            ambiguous=error.ambiguous,
        )
        if error.retry_after is not None and pause.total_seconds() <= self._patience:
            self._patience -= pause.total_seconds()
            log_paused(leased, pause=pause)
            drain.sleep(pause.total_seconds())
            return True
        self._waiting, self._needs_a_person = self._waiting + 1, self._needs_a_person or error.permanent
        log_failed(leased, error=trouble, pause=pause)
        return not error.channel_wide

    def _hand_over(self, leased: LeasedDelivery, trouble: str, *, only: int | None) -> None:
        """Give everything that waits for this channel to its fallback, or the delivery with this id alone."""
        from include.warehouse import outbox

        drain = self._drain
        handed_over = self._session.record(
            outbox.hand_to_fallback,
            channel=drain.channel,
            fallback=str(drain.fallback),
            owner=drain.owner,
            now=drain.clock(),
            error=trouble,
            only=only,
        )
        self._handed_over, self._needs_a_person = self._handed_over + handed_over, True
        log_handed_over(leased, deliveries=handed_over, error=trouble)

    def _give_up(self, leased: LeasedDelivery, trouble: str) -> None:
        from include.warehouse import outbox

        drain = self._drain
        self._session.record(outbox.mark_dead, leased.id, owner=drain.owner, now=drain.clock(), error=trouble)
        self._dead += 1
        log_given_up(leased, error=trouble)


def _unforeseen(error: Exception, *, ambiguous: bool) -> DeliveryError:
    return DeliveryError(
        f"an error that was not foreseen ({type(error).__name__})",
        code="unexpected",
        permanent=False,
        ambiguous=ambiguous,
        channel_wide=False,
    )


def _shown(leased: LeasedDelivery) -> Sequence[Alert]:
    """Return the alerts that the message told of; of what a summary kept back it lists only what is open."""
    if leased.reason in WITHOUT_ALERTS:
        return [alert for alert in leased.alerts if alert.state.is_open]
    return leased.neighbours if leased.reason is NotifyReason.UPDATED else leased.alerts


def _all_superseded(leased: LeasedDelivery) -> bool:
    """Return whether each of its alerts has another episode by now."""
    now = {alert.fingerprint: alert.episode_id for alert in leased.alerts}
    return all(now.get(member.fingerprint) != member.episode_id for member in leased.members)


def _all_closed(leased: LeasedDelivery) -> bool:
    """Return whether each of its episodes is over."""
    now = {(alert.fingerprint, alert.episode_id): alert for alert in leased.alerts}
    found = [now.get((member.fingerprint, member.episode_id)) for member in leased.members]
    return all(alert is not None and alert.closed_at is not None for alert in found)

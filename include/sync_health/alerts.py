"""What an alert is: its state from tick to tick, what happened to it, and what a channel is told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from include.sync_health.verdicts import ErrorClass, Severity


class AlertState(StrEnum):
    """The life cycle's states. An alert never heard of is INACTIVE."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"

    @property
    def is_open(self) -> bool:
        """True while an episode is open: firing, or recovering and not yet closed."""
        return self in (AlertState.FIRING, AlertState.RECOVERING)


class CloseReason(StrEnum):
    """Why an episode ended."""

    RECOVERED = "recovered"  # positive evidence
    EXPIRED = "expired"  # followed to the end of the horizon: no evidence of recovery
    TARGET_REMOVED = "target_removed"  # the credential or the row is gone
    RULE_CHANGED = "rule_changed"


class EventKind(StrEnum):
    """What the history of an alert records."""

    OPENED = "opened"
    REOPENED = "reopened"  # opened soon after it had closed: another episode, told in the thread of the one before
    ESCALATED = "escalated"  # more severe than a moment ago
    EASED = "eased"  # less severe
    STALE = "stale"  # open, and from now on nobody can tell whether it still is
    RECOVERING = "recovering"
    RELAPSED = "relapsed"  # breached again while recovering: same episode
    FLAPPING = "flapping"  # came back too often within a day
    SETTLED = "settled"  # flaps no more
    CLOSED = "closed"
    PENDING = "pending"
    DROPPED = "dropped"  # a pending breach that never opened
    ACKNOWLEDGED = "acknowledged"  # somebody has it in hand
    UNACKNOWLEDGED = "unacknowledged"
    OBSERVED = "observed"  # a historical run's breach: history only


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one channel was last told of an episode."""

    reason: NotifyReason
    at: datetime  # aware; the as_of of the tick that decided it
    severity: Severity  # the worst that it was told
    thread: str | None = None  # the conversation it was told in; None before there were any
    shown: str | None = None  # what the thread's first message shows of it: see `threads.shown_of`


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """Why a channel that should hear of an open alert does not."""

    why: SilentReason
    by: str | None  # what suppresses it: a silence's id, a mute's name, a cause's fingerprint; None for the budget
    since: datetime  # aware; the tick that first kept it back


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """Somebody has the alert in hand: it is not repeated. It ends with the episode, or before it at ``until``."""

    by: str
    at: datetime  # aware
    reason: str
    until: datetime | None = None  # aware; None: for as long as the episode lasts

    def holds_at(self, instant: datetime) -> bool:
        """Return whether it still holds at an aware instant; ``until`` itself is no longer part of it."""
        return self.until is None or instant < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    The current state of one fingerprint.

    All times are aware. ``opened_at``, ``episode_id``, ``closed_at`` and ``close_reason`` speak of the
    latest episode and stay after it closed. ``told`` maps channel keys to what they were last told of it, ``threads``
    to the conversation that a reopening goes on with, and ``suppressed`` to why they do not hear of it. Whoever
    acknowledges it, or whatever suppresses it, changes no state: taking it away loses nothing.
    """

    fingerprint: str
    rule: str
    identity: Mapping[str, str]
    state: AlertState = AlertState.INACTIVE
    severity: Severity
    peak_severity: Severity
    state_since: datetime
    last_as_of: datetime  # compare-and-set: an observation no newer than this changes nothing
    last_breach_at: datetime | None = None
    episode_id: uuid.UUID | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    close_reason: CloseReason | None = None
    stale_since: datetime | None = None  # set while an open alert has no verdict to go by
    flaps: int = 0  # relapses of this episode
    returns: tuple[datetime, ...] = ()  # its reopenings and relapses of the last `lifecycle.flap_window`, oldest first
    reopened_at: datetime | None = None  # the latest of its reopenings; None when its episode before is long over
    flapping_since: datetime | None = None
    title: str
    message: str
    reason: str
    credential_id: str | None = None
    company_id: str | None = None
    company_name: str | None = None
    environment: str | None = None
    data_type: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error_class: ErrorClass | None = None
    cause: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    threads: Mapping[str, str] = field(default_factory=dict)
    suppressed: Mapping[str, Suppression] = field(default_factory=dict)
    acknowledged: Acknowledgement | None = None

    @property
    def type(self) -> str:
        """The alert's type as the outside world knows it."""
        return "servicetitan_" + self.rule


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertEvent:
    """One line of an alert's history; (fingerprint, as_of, kind) is unique."""

    fingerprint: str
    episode_id: uuid.UUID | None
    as_of: datetime
    kind: EventKind
    severity: Severity
    reason: str
    close_reason: CloseReason | None = None


class NotifyReason(StrEnum):
    """Why a message is sent."""

    FIRST = "first"
    NEW_IN_GROUP = "new_in_group"  # others of the same cause were told before, and are still open
    REOPENED = "reopened"  # soon after it had closed
    UNSUPPRESSED = "unsuppressed"  # what kept it back is over, and it still fires
    ESCALATED = "escalated"  # worse than this channel was ever told of the episode
    REPEAT = "repeat"
    CLOSED = "closed"
    BASELINE = "baseline"  # broken already when it was first looked at: all in one summary
    DIGEST = "digest"  # what a day's budget kept back
    SILENCE_ENDED = "silence_ended"  # what a silence or a mute kept back, and what of it still fires
    CATCH_UP = "catch_up"  # what opened and closed while nobody looked
    UPDATED = "updated"  # no message: the thread's first one is brought up to date
    HEARTBEAT = "heartbeat"
    TEST = "test"


OPENINGS = frozenset(
    {
        NotifyReason.FIRST,
        NotifyReason.NEW_IN_GROUP,
        NotifyReason.REOPENED,
        NotifyReason.UNSUPPRESSED,
        NotifyReason.BASELINE,
    }
)
"""Reasons with which a channel hears of an episode for the first time."""

OF_WHAT_IS_OPEN = OPENINGS | {NotifyReason.REPEAT, NotifyReason.ESCALATED}
"""Reasons of messages that say that something is open."""


class SilentReason(StrEnum):
    """Why no message is sent; recorded in the ledger."""

    NO_ROUTE = "no_route"
    INHIBITED = "inhibited"  # the channel was told of its cause
    SILENCED = "silenced"  # somebody asked for silence, until some time and for some reason
    MUTED = "muted"  # the policy mutes it at this time of the week
    BUDGET = "budget"  # the channel has had its share of the day: it is in the day's digest
    ACKNOWLEDGED = "acknowledged"  # somebody has it in hand: no repeats
    SHADOW = "shadow"
    ALREADY_TOLD = "already_told"  # a message that went out late has said it as well
    SUPERSEDED = "superseded"  # its episode was over, and another open, before anything of it was sent
    NEVER_TOLD = "never_told"  # it closed, and this channel never heard that it was open
    NOT_CONFIGURED = "not_configured"  # the channel's connection is missing
    NOTIFY_NEVER = "notify_never"  # the run's Param
    CANNOT_EDIT = (
        "cannot_edit"  # the thread's first message cannot be brought up to date: a webhook's, or none was sent
    )


HOLDING = frozenset({SilentReason.SILENCED, SilentReason.MUTED, SilentReason.BUDGET})
"""Why messages are kept back that a summary tells of later."""


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    LEASED = "leased"
    SENT = "sent"
    DEAD = "dead"
    NOT_SENT = "not_sent"  # by decision: see its SilentReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """
    One message to one channel (or the recorded decision to send none).

    Several members make it a group or a summary. ``key`` is unique in the outbox, so that deciding twice stores once.
    ``thread`` is the conversation it belongs to: the first message sent in it is its parent, later ones are replies.
    ``details`` are JSON values that only the renderer of its reason reads, such as a digest's day.
    """

    key: str
    channel: str  # "slack:#name" or "email:address"
    reason: NotifyReason | None  # None when nothing is sent
    silent: SilentReason | None = None
    by: str | None = None  # what suppressed it, as in `Suppression.by`
    members: tuple[Member, ...]
    as_of: datetime
    severity: Severity | None = None  # the worst of its members; None without any
    thread: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    accounts_for: tuple[str, ...] = ()  # the keys of what was kept back before, and is told by this


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One episode that a delivery speaks of."""

    fingerprint: str
    episode_id: uuid.UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """
    A message that the ledger has as kept back (`HOLDING`), and that no summary has told of yet.

    Args:
        key: the ledger's.
        channel: where it would have gone.
        why, by: what kept it back.
        member: whose.
        as_of: the tick that kept it back; aware.
        rule: of its alert.
        author, purpose: of a silence that kept it back, as somebody wrote them; None otherwise.
    """

    key: str
    channel: str
    why: SilentReason
    by: str | None
    member: Member
    as_of: datetime
    rule: str
    author: str | None = None
    purpose: str | None = None

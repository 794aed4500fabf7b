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
    RECOVERING = "recovering"
    RELAPSED = "relapsed"  # breached again while recovering: same episode
    CLOSED = "closed"
    PENDING = "pending"
    DROPPED = "dropped"  # a pending breach that never opened
    OBSERVED = "observed"  # a historical run's breach: history only


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one channel was last told of an episode."""

    reason: NotifyReason
    at: datetime  # aware; the as_of of the tick that decided it
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """
    The current state of one fingerprint.

    All times are aware. ``opened_at``, ``episode_id``, ``closed_at`` and ``close_reason`` speak of the
    latest episode and stay after it closed. ``told`` maps channel keys to what they were last told of it.
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
    flaps: int = 0
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
    REPEAT = "repeat"
    BASELINE = "baseline"  # broken already when it was first looked at: all in one summary
    CLOSED = "closed"
    TEST = "test"


class SilentReason(StrEnum):
    """Why no message is sent; recorded in the ledger."""

    NO_ROUTE = "no_route"
    INHIBITED = "inhibited"  # the channel was told of its cause
    SHADOW = "shadow"
    ALREADY_TOLD = "already_told"  # its opening went out late, when it had closed, and said so
    SUPERSEDED = "superseded"  # its episode was over, and another open, before anything of it was sent
    NEVER_TOLD = "never_told"  # it closed, and this channel never heard that it was open
    NOT_CONFIGURED = "not_configured"  # the channel's connection is missing
    NOTIFY_NEVER = "notify_never"  # the run's Param


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

    Several members make it a summary. ``key`` is unique in the outbox, so that deciding twice stores once.
    """

    key: str
    channel: str  # "slack:#name" or "email:address"
    reason: NotifyReason | None  # None when nothing is sent
    silent: SilentReason | None = None
    members: tuple[Member, ...]
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One episode that a delivery speaks of."""

    fingerprint: str
    episode_id: uuid.UUID

"""The policy of alerts: how they live, are grouped, muted, limited and told; frozen values that refuse to be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta

from include.sync_health.matchers import Matcher

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where a route's alerts go: Slack channels (``#name`` or id) and mail addresses."""

    slack: tuple[str, ...] = ()
    email: tuple[str, ...] = ()

    def channels(self) -> tuple[str, ...]:
        """Return the channel keys, such as ``slack:#servicetitan-alerts`` and ``email:ops@example.com``."""
        return tuple(f"slack:{name}" for name in self.slack) + tuple(f"email:{name}" for name in self.email)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Alerts that match go to the receiver; later routes are tried only with ``continue_``."""

    match: Matcher = field(default_factory=Matcher)
    to: str
    continue_: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecyclePolicy:
    """
    The timers that every alert has beside those of its rule.

    An alert that came back within ``flap_window`` must stay clear for ``settle_after`` before it closes again: its first
    recovery is believed at once, the next ones are not. Whoever comes back ``flap_returns`` times within it is flapping.
    """

    nodata_grace: timedelta = HOUR  # a pending breach that nobody can judge for so long is dropped
    max_stale: timedelta = 7 * DAY  # an open alert that nobody can judge for so long is closed as expired
    reopen_within: timedelta = 6 * HOUR  # of the close: the same conversation; 0: always a new one
    flap_returns: int | None = 3  # None: nothing ever flaps
    flap_window: timedelta = DAY
    settle_after: timedelta = 2 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingPolicy:
    """
    What openings of one channel must have in common to share one message; nothing: each has its own.

    Of ``rule``, ``environment`` and ``cause`` (the fingerprint of the root cause). With ``cause`` among them an alert
    whose cause is not known stands alone.
    """

    by: tuple[str, ...] = ("rule", "environment", "cause")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """
    A time of the week at which some alerts are kept back.

    Args:
        name: unique; the ledger and the summary at its end name it.
        match: of which alerts; asks something.
        days: 0 for Monday to 6 for Sunday, on which it begins.
        start, end: wall time in ``timezone``; ``start`` is part of it, ``end`` is not; an ``end`` not after ``start``
            lies on the next day.
        timezone: an IANA name.
        reason: why, for who asks.
    """

    name: str
    match: Matcher
    days: frozenset[int] = frozenset(range(7))
    start: time
    end: time
    timezone: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinksPolicy:
    """Where messages may lead; None: not configured, and no link. URLs without a trailing slash."""

    dashboard: str | None = None  # of this plugin, such as https://airflow.example.com/servicetitan-monitor
    airflow: str | None = None  # of the Airflow UI
    runbook: str | None = None  # a page that has an anchor for each rule


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatPolicy:
    """A message that proves, through the whole path of delivery, that messages arrive."""

    every: timedelta | None = None  # None: never
    to: str | None = None  # the receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertingPolicy:
    """Everything about alerts that is no rule's."""

    lifecycle: LifecyclePolicy = field(default_factory=LifecyclePolicy)
    grouping: GroupingPolicy = field(default_factory=GroupingPolicy)
    mutes: tuple[Mute, ...] = ()
    inhibits_for: timedelta = DAY  # after it opened a cause hides nothing any more
    budget: int | None = 10  # medium and low messages to one channel a day; None: no limit
    fallback: Mapping[str, str] = field(default_factory=dict)  # channel key to the one used when it refuses us
    links: LinksPolicy = field(default_factory=LinksPolicy)
    heartbeat: HeartbeatPolicy = field(default_factory=HeartbeatPolicy)
    catch_up: timedelta = DAY  # after a gap the ticks missed within so long are judged; 0: none
    ping_connection: str | None = None  # Airflow connection whose host is pinged after each completed check

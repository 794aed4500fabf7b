"""
Silences and recurring mutes: what is kept back for a while because somebody asked for it.

A silence is asked for once, with its reason and its end; a mute stands in the policy and comes back every week. Neither
changes what an alert is: it goes on being judged, its close is told to whoever was told that it opened, and once nothing
keeps it back any more the channel hears what still fires (`notifications.decide`).

Whether one holds is asked of the wall clock, not of the tick: a run that is late must not speak into a silence.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from include.sync_health.alerting_policies import Mute
from include.sync_health.alerts import SilentReason
from include.sync_health.errors import RequestError
from include.sync_health.matchers import Labels, Matcher

LONGEST_SILENCE = timedelta(days=90)
"""A silence without an end is a rule that is off, and nobody remembers it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """
    Somebody's wish to hear nothing of some alerts for a while.

    Args:
        id: its own.
        match: of which alerts; asks something.
        starts_at, ends_at: aware; ``ends_at`` is no longer part of it, and lies after ``starts_at``.
        author: who wants it.
        reason: why.
        created_at: aware.
        ended_early_by: who ended it before its time, at ``ends_at``; None: nobody.

    Raises:
        RequestError: one of them is missing or contradicts another.
    """

    id: uuid.UUID
    match: Matcher
    starts_at: datetime
    ends_at: datetime
    author: str
    reason: str
    created_at: datetime
    ended_early_by: str | None = None

    def __post_init__(self) -> None:
        """Refuse what would hide everything, hide for ever, or hide without saying why."""
        if self.match.asks_nothing:
            raise RequestError("match: a silence of everything is refused; name at least one of rule, credential, ...")
        if self.ends_at <= self.starts_at:
            raise RequestError(
                f"until: {self.ends_at.isoformat()} is not after from, which is {self.starts_at.isoformat()}"
            )
        if self.ends_at - self.starts_at > LONGEST_SILENCE:
            raise RequestError(
                f"until: {self.ends_at.isoformat()} is more than {LONGEST_SILENCE.days} days after from; choose less, or "
                "set the rule's mode to shadow in the policy"
            )
        for name in ("author", "reason"):
            if not str(getattr(self, name)).strip():
                raise RequestError(f"{name}: it is empty; say {'who' if name == 'author' else 'why'}")

    def holds_at(self, instant: datetime) -> bool:
        """Return whether it holds at an aware instant."""
        return self.starts_at <= instant < self.ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressors:
    """
    What may keep messages back at one instant.

    Args:
        at: the wall clock; aware.
        silences: all that hold then; others do no harm.
        mutes: the policy's.
    """

    at: datetime
    silences: Sequence[Silence] = ()
    mutes: Sequence[Mute] = ()

    def of(self, labels: Labels) -> tuple[SilentReason, str] | None:
        """Return why alerts with these labels are kept back, and the id or name of what does; None when nothing does."""
        for silence in self.silences:
            if silence.holds_at(self.at) and silence.match.matches(labels):
                return SilentReason.SILENCED, str(silence.id)
        for mute in self.mutes:
            if mutes_at(mute, self.at) and mute.match.matches(labels):
                return SilentReason.MUTED, mute.name
        return None

    def keeps_back(self, why: SilentReason, by: str | None) -> bool:
        """Return whether the silence or mute that kept something back still holds; False for one that is gone."""
        if why is SilentReason.SILENCED:
            return any(str(silence.id) == by and silence.holds_at(self.at) for silence in self.silences)
        return any(mute.name == by and mutes_at(mute, self.at) for mute in self.mutes)


def mutes_at(mute: Mute, instant: datetime) -> bool:
    """
    Return whether a mute holds at an aware instant.

    Its bounds are wall time in its zone: one that begins at 22:00 does so before and after the clocks change. A bound that
    the clocks skip is where it would be had they not jumped; of one that they show twice the earlier counts.
    """
    return any(start <= instant < end for start, end in _occurrences(mute, instant))


def _occurrences(mute: Mute, instant: datetime) -> Iterable[tuple[datetime, datetime]]:
    """Yield from when to when a mute holds, of those that began on the instant's day in its zone and on the day before."""
    zone = ZoneInfo(mute.timezone)
    today = instant.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        if day.weekday() in mute.days:
            ends_on = day if mute.end > mute.start else day + timedelta(days=1)
            yield _at(day, mute.start, zone=zone), _at(ends_on, mute.end, zone=zone)


def _at(day: date, clock: time, *, zone: ZoneInfo) -> datetime:
    # In UTC: Python compares two times of one zone by what their walls show.
    return datetime.combine(day, clock, tzinfo=zone).astimezone(UTC)

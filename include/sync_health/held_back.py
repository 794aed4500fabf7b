"""
The summaries of what was kept back: one for each silence, mute and day of the budget that keeps it back no more.

A silence's receipt tells how many it hid and what of that still fires; the digest of a day is the same for the budget. What
opened and closed while nobody looked is told in the same way: once, in one message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from include.sync_health.alerts import HOLDING, Alert, Held, NotifyReason, SilentReason
from include.sync_health.muting import Suppressors
from include.sync_health.speeches import Speech, member_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """
    When something keeps messages back no more.

    Args:
        suppressors: the silences and mutes that hold now.
        as_of: the tick; aware.
        timezone: the reporting time zone, whose days the budget counts by.
    """

    suppressors: Suppressors
    as_of: datetime
    timezone: str

    def of(self, why: SilentReason, by: str | None, *, since: datetime) -> tuple[NotifyReason, str] | None:
        """
        Return the reason of the summary that tells of something kept back since an aware instant, and what kept it back.

        What kept it back is a silence's id, a mute's name, or the day whose budget was spent. None while it still does.
        """
        if why is SilentReason.BUDGET:
            zone = ZoneInfo(self.timezone)
            day = since.astimezone(zone).date()
            return (NotifyReason.DIGEST, day.isoformat()) if day < self.as_of.astimezone(zone).date() else None
        if why in HOLDING and by is not None and not self.suppressors.keeps_back(why, by):
            return NotifyReason.SILENCE_ENDED, by
        return None


def summaries_of_held(
    held: Iterable[Held],
    released: Mapping[str, Sequence[Alert]],
    *,
    known: Mapping[str, Alert],
    still_held: Collection[tuple[str, str]],
    release: Release,
) -> list[Speech]:
    """
    Return one summary for each channel of what no silence or mute, and one of what no budget, keeps back any more.

    Args:
        held: what the ledger has as kept back.
        released: by channel, the alerts that it may be told of now.
        known: all alerts that may be open, by fingerprint, as they are after this tick.
        still_held: channels and fingerprints of alerts that something else keeps back: their turn comes when nothing does.
        release: what is over.
    """
    kept: dict[tuple[str, NotifyReason], list[tuple[str, Held]]] = {}
    for each in held:
        over = release.of(each.why, each.by, since=each.as_of)
        if over and (each.channel, each.member.fingerprint) not in still_held:
            kept.setdefault((each.channel, over[0]), []).append((over[1], each))
    return [
        _summary(channel, reason, group, released=released.get(channel, ()), known=known, release=release)
        for (channel, reason), group in sorted(kept.items())
    ]


def _summary(
    channel: str,
    reason: NotifyReason,
    group: Sequence[tuple[str, Held]],
    *,
    released: Iterable[Alert],
    known: Mapping[str, Alert],
    release: Release,
) -> Speech:
    rows = [each for _, each in group]
    still_open: dict[str, Alert] = {}
    for each in rows:
        alert = known.get(each.member.fingerprint)
        if alert is not None and alert.state.is_open and alert.episode_id == each.member.episode_id:
            still_open[alert.fingerprint] = alert
    for alert in released:
        before = alert.suppressed.get(channel)
        over = before and release.of(before.why, before.by, since=before.since)
        if over and over[0] is reason:
            still_open[alert.fingerprint] = alert
    since = min(each.as_of for each in rows)
    silences = {each.by: {"author": each.author, "reason": each.purpose} for each in rows if each.author is not None}
    return Speech(
        channel=channel,
        reason=reason,
        alerts=tuple(still_open.values()),
        members=tuple(each.member for each in rows),
        topic=f"{since.timestamp():.6f}",
        details={
            "kept_back_by": sorted({each.why.value for each in rows}),
            "topics": sorted({topic for topic, _ in group}),
            "silences": [silences[by] for by in sorted(str(each) for each in silences)],
            "kept_back": len({each.member.episode_id for each in rows}),
            "since": since.isoformat(),
            # Episodes, not rows: what is kept back for days is in the ledger once a day.
            "rules": dict(sorted(Counter(rule for rule, _ in {(each.rule, each.member) for each in rows}).items())),
        },
        accounts_for=tuple(sorted(each.key for each in rows)),
    )


def caught_up(
    missed: Mapping[str, Sequence[Alert]], *, missed_at: Collection[datetime], as_of: datetime
) -> list[Speech]:
    """
    Return one message to each channel about what opened and closed while nobody looked.

    Args:
        missed: by channel, the alerts as they were when they closed.
        missed_at: the instants that were missed; aware.
        as_of: the tick; aware.
    """
    return [
        Speech(
            channel=channel,
            reason=NotifyReason.CATCH_UP,
            alerts=(),
            members=tuple(member_of(alert) for alert in alerts),
            details={
                "missed": len(alerts),
                "from": min(missed_at, default=as_of).isoformat(),
                "until": as_of.isoformat(),
            },
        )
        for channel, alerts in missed.items()
        if alerts
    ]

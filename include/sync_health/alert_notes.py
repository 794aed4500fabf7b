"""What the reader must know of an alert's state besides its facts: that it flaps, is in hand, was kept back, is stale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from include.sync_health.alerts import OF_WHAT_IS_OPEN, Acknowledgement, Alert, AlertState, NotifyReason, SilentReason
from include.sync_health.durations import describe
from include.sync_health.message_details import Details, closed_before, instant, silences, words
from include.sync_health.message_parts import LINE, Occasion, Status, Text, person
from include.sync_health.redaction import clean

_DAY = timedelta(days=1)


def state_notes(alert: Alert, *, status: Status, occasion: Occasion) -> Iterable[Text]:
    """Yield what the reader must know of one alert."""
    if status is Status.RECOVERING:
        yield ("No breach any more since ", alert.state_since, "; it closes when it stays so")
    if occasion.reason is NotifyReason.REOPENED:
        yield from _reopened(alert, details=occasion.details)
    elif status is Status.OPEN_AGAIN and alert.opened_at is not None:
        yield ("The episode before has closed; it opened again at ", alert.opened_at)
    if occasion.reason is NotifyReason.UNSUPPRESSED:
        yield from kept_back_until_now(occasion.details)
    if occasion.reason in OF_WHAT_IS_OPEN - {NotifyReason.BASELINE} and not status.is_open:
        yield ("It has closed since this message was decided",)
    if not alert.state.is_open:
        if alert.flaps and alert.flapping_since is None:
            yield _relapses(alert)
        return
    if alert.stale_since is not None:
        yield ("No fresh data since ", alert.stale_since, ": this is the last known state")
    if alert.flapping_since is not None:
        yield (flapping_in_words(alert, now=occasion.now),)
    elif alert.flaps:
        yield _relapses(alert)
    if (acknowledged := acknowledged_at(alert, occasion.now)) is not None:
        yield _acknowledged(acknowledged)


def notes_of_group(alerts: Sequence[Alert], *, occasion: Occasion) -> Iterable[Text]:
    """Yield what the reader must know of several alerts, and how many of them it concerns."""
    if occasion.reason is NotifyReason.UNSUPPRESSED:
        yield from kept_back_until_now(occasion.details)
    if occasion.reason is NotifyReason.REOPENED:
        yield from _reopened_together(alerts, details=occasion.details)
    open_ones = [alert for alert in alerts if alert.state.is_open]
    if open_ones and all(alert.state is AlertState.RECOVERING for alert in open_ones):
        calm_since = max(alert.state_since for alert in open_ones)
        yield ("No breach any more since ", calm_since, "; they close when it stays so")
    if stale := [alert.stale_since for alert in open_ones if alert.stale_since is not None]:
        yield (f"No fresh data for {_of_all(len(stale), open_ones)} since ", min(stale), ": the last known state")
    if flapping := [alert for alert in open_ones if alert.flapping_since is not None]:
        yield (
            f"Flapping: {_of_all(len(flapping), open_ones)} came back again and again; from here on one message a day of "
            f"{'it' if len(flapping) == 1 else 'them'}",
        )
    in_hand = [found for alert in open_ones if (found := acknowledged_at(alert, occasion.now)) is not None]
    if in_hand and len(in_hand) == len(open_ones) and len(set(in_hand)) == 1:
        yield _acknowledged(in_hand[0])
    elif in_hand:
        names = Counter(person(found.by) or "?" for found in in_hand)
        shown = ", ".join(name for name, _ in names.most_common(3)) + (" and others" if len(names) > 3 else "")
        yield (f"Acknowledged: {_of_all(len(in_hand), open_ones)}, by {shown}",)


def marks_of(alert: Alert, *, now: datetime) -> str:
    """Return what a member's line adds: "; flapping; acknowledged by Ann", or ""."""
    if not alert.state.is_open:
        return ""
    found = acknowledged_at(alert, now)
    marks = [
        "no fresh data" if alert.stale_since is not None else "",
        "flapping" if alert.flapping_since is not None else "",
        f"acknowledged by {person(found.by) or '?'}" if found is not None else "",
    ]
    return "".join(f"; {mark}" for mark in marks if mark)


def acknowledged_at(alert: Alert, instant: datetime) -> Acknowledgement | None:
    """Return who has the alert in hand at an aware instant."""
    found = alert.acknowledged
    return found if found is not None and found.holds_at(instant) else None


def flapping_in_words(alert: Alert, *, now: datetime) -> str:
    """Return how often an alert came back, and within how long; the window is policy, so that its own instants tell."""
    times, first = len(alert.returns), min(alert.returns, default=None)
    if first is None:
        return "Flapping: it came back again and again; from here on one message a day"
    within = "a day" if now - first <= _DAY else describe(now - first)
    return f"Flapping: came back {times} {'time' if times == 1 else 'times'} within {within}; from here on one message a day"


def kept_back_by(details: Details) -> tuple[str, bool]:
    """
    Return what kept messages back, in words, and whether it is several things: ("the mute nights", False).

    "" where the details do not tell.
    """
    kinds, topics = set(words(details, "kept_back_by")), words(details, "topics")
    if kinds == {SilentReason.SILENCED}:
        authors = list(dict.fromkeys(author for author, _ in silences(details) if author))
        of = f" of {_listed(authors)}" if authors else ""
        number = max(len(topics), 1)
        return (f"a silence{of}", False) if number == 1 else (f"{number} silences{of}", True)
    if kinds == {SilentReason.MUTED}:
        several = len(topics) > 1
        return (
            f"the {'mutes' if several else 'mute'} {_listed(topics)}" if topics else "a mute of the policy",
            several,
        )
    if kinds == {SilentReason.BUDGET}:
        return "the day's budget of messages", False
    if kinds == {SilentReason.INHIBITED}:
        return "its cause, which was told instead", False
    if kinds == {SilentReason.SILENCED, SilentReason.MUTED}:
        return "silences and mutes", True
    return "", False


def kept_back_until_now(details: Details) -> Iterable[Text]:
    """Yield what kept an alert back that is told only now."""
    (by, _), since = kept_back_by(details), instant(details, "since")
    head = f"Kept back until now by {by}" if by else "Kept back until now; what kept it back is over"
    yield (head, ", since ", since) if since else (head,)


def _reopened(alert: Alert, *, details: Details) -> Iterable[Text]:
    before, again = closed_before(details, alert.fingerprint), alert.reopened_at or alert.opened_at
    if before is not None and again is not None and again >= before:
        yield ("The episode before closed at ", before, f"; it was calm for {describe(again - before)}")
    else:
        yield ("The episode before had closed not long ago",)


def _reopened_together(alerts: Sequence[Alert], *, details: Details) -> Iterable[Text]:
    closes = [before for alert in alerts if (before := closed_before(details, alert.fingerprint)) is not None]
    again = [alert.reopened_at or alert.opened_at for alert in alerts]
    opened = [each for each in again if each is not None]
    if closes and opened and min(opened) >= max(closes):
        yield (
            "The last of them had closed at ",
            max(closes),
            f"; it was calm for {describe(min(opened) - max(closes))}",
        )
    else:
        yield ("Their episodes before had closed not long ago",)


def _relapses(alert: Alert) -> Text:
    return (f"It recovered and failed again {alert.flaps} {'time' if alert.flaps == 1 else 'times'} meanwhile",)


def _acknowledged(found: Acknowledgement) -> Text:
    head: Text = (f"Acknowledged by {person(found.by) or '?'}",)
    if found.until is not None:
        head = (*head, " until ", found.until)
    reason = clean(found.reason, limit=LINE)
    return (*head, f": {reason}") if reason else head


def _of_all(number: int, alerts: Sequence[Alert]) -> str:
    return f"{number} of {len(alerts)}"


def _listed(names: Sequence[str]) -> str:
    """Return "Ann", "Ann and Bob", "Ann, Bob and 3 others"."""
    if len(names) > 3:
        return f"{', '.join(names[:2])} and {len(names) - 2} others"
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])

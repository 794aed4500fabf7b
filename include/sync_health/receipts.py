"""
The receipts of what was not told when it happened: a day's digest, the end of a silence or mute, and what nobody saw.

Each says how many there were, by rule, and what of them is still open. The heartbeat is here too: it speaks of no alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from include.sync_health.advice import Advice, advice_on_group
from include.sync_health.alert_notes import kept_back_by, marks_of
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.links import links_of_summary
from include.sync_health.message_details import count, counts, instant, instants, silences, words
from include.sync_health.message_members import (
    MOST_MEMBERS,
    Standing,
    common_status,
    member_line,
    ranked,
    rest_of,
    statuses_in_words,
    worst_of,
)
from include.sync_health.message_parts import (
    EMOJI,
    Fact,
    Listing,
    Message,
    Occasion,
    Status,
    Text,
    counted,
    emoji_of,
)
from include.sync_health.verdicts import Severity

RECEIPTS = frozenset({NotifyReason.DIGEST, NotifyReason.SILENCE_ENDED, NotifyReason.CATCH_UP})
"""Reasons of the messages made here, but for the heartbeat."""

MOST_SILENCES = 8
"""Silences whose reasons a receipt tells."""

_NOUNS = {
    NotifyReason.DIGEST: "digest",
    NotifyReason.SILENCE_ENDED: "receipt",
    NotifyReason.CATCH_UP: "catch-up",
}


def receipt_of(alerts: Sequence[Alert], *, occasion: Occasion) -> Message:
    """Return the receipt; ``alerts`` are those of it that are known, as they are now, perhaps none."""
    standings = ranked(alerts, reason=NotifyReason.UPDATED)
    open_ones = [each for each in standings if each[1].is_open]
    status = common_status([each for _, each in standings]) if standings else Status.CLOSED
    severity = worst_of(alert for alert, _ in open_ones or standings) if standings else Severity.LOW
    title = _title(standings, open_count=len(open_ones), occasion=occasion)
    is_catch_up = occasion.reason is NotifyReason.CATCH_UP
    return Message(
        reason=occasion.reason,
        status=status,
        severity=severity,
        emoji=emoji_of(status, severity),
        title=title,
        subject=title,
        sentence=_sentence(standings, open_count=len(open_ones), occasion=occasion),
        count=_how_many(standings, occasion=occasion),
        facts=tuple(_facts(occasion)),
        advice=_advice([alert for alert, _ in open_ones]),
        listings=(
            *_rules("Kept back, by rule", "rules", occasion=occasion),
            *_rules("What spent the budget, by rule", "spent", occasion=occasion),
            *_members("Still open" if not is_catch_up else "Open now", open_ones, occasion=occasion),
            *_members(
                "Opened and closed" if is_catch_up else "Over by now",
                [each for each in standings if not each[1].is_open],
                occasion=occasion,
            ),
        ),
        notes=occasion.notes,
        links=links_of_summary(
            alerts,
            links=occasion.links,
            page="silences" if occasion.reason is NotifyReason.SILENCE_ENDED else "alerts",
        ),
        footer=(f"{_NOUNS[occasion.reason]} · judged at ", occasion.as_of),
    )


def heartbeat(*, occasion: Occasion) -> Message:
    """Return the message that proves that messages arrive."""
    title = "Heartbeat: the ServiceTitan monitor is alive"
    open_count, checks = count(occasion.details, "open"), instants(occasion.details, "checks")
    return Message(
        reason=NotifyReason.HEARTBEAT,
        status=Status.ALIVE,
        severity=Severity.LOW,
        emoji=EMOJI[Status.ALIVE],
        title=title,
        subject=title,
        sentence="Nothing to do: this message came the whole way that alerts take. When it stays away, look at the monitor.",
        count=0,
        facts=(
            *([Fact(label="Open alerts", value=(str(open_count),))] if open_count is not None else []),
            *(Fact(label=f"Last run of {name}", value=(at,)) for name, at in list(checks.items())[:10]),
        ),
        notes=occasion.notes,
        links=links_of_summary([], links=occasion.links, page=""),
        footer=("heartbeat · sent at ", occasion.now),
    )


def _advice(alerts: Sequence[Alert]) -> Advice | None:
    """Return the first step for what is open, which is told here for the first time; None where it has no cause in common."""
    return advice_on_group(alerts) if len({(alert.rule, alert.cause) for alert in alerts}) == 1 else None


def _how_many(standings: Sequence[Standing], *, occasion: Occasion) -> int:
    key = "missed" if occasion.reason is NotifyReason.CATCH_UP else "kept_back"
    found = count(occasion.details, key)
    return len(standings) if found is None else found


def _title(standings: Sequence[Standing], *, open_count: int, occasion: Occasion) -> str:
    details, number = occasion.details, _how_many(standings, occasion=occasion)
    still = f"{open_count} still open" if open_count else "none still open"
    if occasion.reason is NotifyReason.CATCH_UP:
        now = f", {open_count} open again" if open_count else ""
        return f"While we could not see: {counted(number, 'ServiceTitan alert')} opened and closed{now}"
    if occasion.reason is NotifyReason.DIGEST:
        days = sorted(words(details, "topics"))
        of = f" of {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
        return f"Digest{of}: {counted(number, 'ServiceTitan alert')} kept back, {still}"
    by, are_several = kept_back_by(details)
    by = by or "a silence"
    ended = f"{by[:1].upper()}{by[1:]} {'have' if are_several else 'has'} ended"
    return f"{ended}: {counted(number, 'ServiceTitan alert')} kept back, {still}"


def _sentence(standings: Sequence[Standing], *, open_count: int, occasion: Occasion) -> str:
    if occasion.reason is NotifyReason.CATCH_UP:
        head = (
            "The checks did not run for a while, or could not see; judging that time afterwards found what this lists."
        )
        return head if open_count else f"{head} It is over, and nothing is left to do for it."
    if occasion.reason is NotifyReason.DIGEST:
        head = "This channel had its share of medium and low messages for the day; the others were kept back."
    else:
        pronoun = "They" if kept_back_by(occasion.details)[1] else "It"
        head = f"{pronoun} kept these back; from here on you hear of them again."
    # An alert that nobody can find any more closed long ago.
    return f"{head} Now: {statuses_in_words(status for _, status in standings)}." if standings else head


def _facts(occasion: Occasion) -> Iterable[Fact]:
    details = occasion.details
    if occasion.reason is NotifyReason.CATCH_UP:
        for label, key in (("Not seen from", "from"), ("Not seen until", "until")):
            if (at := instant(details, key)) is not None:
                yield Fact(label=label, value=(at,))
        return
    for author, reason in silences(details)[:MOST_SILENCES]:
        yield Fact(label=f"Silence of {author}" if author else "Silence", value=(reason or "no reason given",))
    if (since := instant(details, "since")) is not None:
        yield Fact(label="First kept back", value=(since,))


def _rules(title: str, key: str, *, occasion: Occasion) -> Iterable[Listing]:
    if found := counts(occasion.details, key):
        lines = tuple((f"{number} × servicetitan_{rule}",) for rule, number in list(found.items())[:20])
        yield Listing(title=title, lines=lines, total=len(found))


def _members(title: str, standings: Sequence[Standing], *, occasion: Occasion) -> Iterable[Listing]:
    if standings:
        lines = tuple(_line(alert, status, occasion=occasion) for alert, status in standings[:MOST_MEMBERS])
        yield Listing(
            title=title,
            lines=lines,
            total=len(standings),
            rest=rest_of((alert for alert, _ in standings), occasion=occasion),
        )


def _line(alert: Alert, status: Status, *, occasion: Occasion) -> Text:
    line = member_line(alert, status=status, says_since=True)
    if status.is_open:
        marks = marks_of(alert, now=occasion.now)
        return (*line, marks) if marks else line
    if occasion.reason is NotifyReason.CATCH_UP and alert.opened_at is not None and alert.closed_at is not None:
        return (*line, "; ", alert.opened_at, " to ", alert.closed_at)
    return line

"""
The messages of one conversation: several alerts that one cause has, told as one.

"1 cause, 14 credentials": the cause with its class, a sample of its error and the first step once, then whom it concerns.
Later messages say what joined and what closed, and the first one, when it is edited, where all of them stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from include.sync_health.advice import Advice, advice_on_group
from include.sync_health.alert_notes import marks_of, notes_of_group
from include.sync_health.alerts import Alert, NotifyReason
from include.sync_health.durations import describe
from include.sync_health.links import links_of_group
from include.sync_health.message_details import severity_before
from include.sync_health.message_members import (
    CLOSED_WORDS,
    MOST_MEMBERS,
    Standing,
    by_cause,
    cause_in_words,
    causes_in_words,
    closed_in_words,
    common_status,
    credentials_of,
    name_of_member,
    ranked,
    rest_of,
    severities_in_words,
    titles_in_words,
    whom_in_words,
    worst_of,
)
from include.sync_health.message_parts import (
    LINE,
    LONG,
    SHORT,
    SHOWN_DIGITS,
    Fact,
    Listing,
    Message,
    Occasion,
    Status,
    Text,
    began,
    counted,
    emoji_of,
    heading,
    latest_error,
)
from include.sync_health.redaction import clean

_OF_ALL = frozenset({NotifyReason.UPDATED, NotifyReason.CLOSED})
"""Reasons of messages that say where the whole conversation stands."""


MOST_LOOKED_AT = 50
"""Alerts of one cause among which a sample of its error is looked for."""


def is_one_conversation(alerts: Sequence[Alert], *, reason: NotifyReason, everybody: Sequence[Alert]) -> bool:
    """
    Return whether alerts are told as one group, and not each for itself or as a summary.

    Args:
        alerts: those that the delivery speaks of; at least one.
        reason: of the delivery.
        everybody: the alerts, and whoever else is in their thread.
    """
    if reason is NotifyReason.TEST or len(everybody) < 2:
        return False
    if len(alerts) == 1:
        return reason in (NotifyReason.UPDATED, NotifyReason.NEW_IN_GROUP)
    if len(everybody) > len(alerts):
        return True
    first = alerts[0]
    same_place = all((each.rule, each.environment) == (first.rule, first.environment) for each in alerts)
    same_cause = first.cause is not None and all(each.cause == first.cause for each in alerts)
    return same_place and (same_cause or reason is NotifyReason.UPDATED)


def thread_note(alert: Alert, *, everybody: Sequence[Alert], reason: NotifyReason) -> Iterable[Text]:
    """Yield where the others of an alert's conversation stand, where there are any."""
    if len(everybody) > 1:
        yield (
            f"Of the {len(everybody)} in this conversation: {closed_in_words(_standings(everybody, [alert], reason))}",
        )


def group_message(alerts: Sequence[Alert], *, occasion: Occasion, everybody: Sequence[Alert]) -> Message:
    """
    Return the message of several alerts that belong together, or of newcomers to them.

    Args:
        alerts: those that the delivery speaks of.
        occasion: why, and when.
        everybody: the alerts, and whoever else is in their thread.
    """
    reason = occasion.reason
    all_standings = _standings(everybody, alerts, reason)
    told_of = {alert.fingerprint for alert in alerts}
    standings = (
        all_standings
        if reason is NotifyReason.UPDATED
        else [each for each in all_standings if each[0].fingerprint in told_of]
    )
    concerned = all_standings if reason in _OF_ALL else standings
    status = _status(concerned)
    open_ones = [alert for alert, each in concerned if each.is_open]
    severity = worst_of(open_ones or [alert for alert, _ in concerned])
    title = _title(standings, all_standings=all_standings, status=status, occasion=occasion)
    first = (open_ones or [concerned[0][0]])[0]
    return Message(
        reason=reason,
        status=status,
        severity=severity,
        emoji=emoji_of(status, severity),
        title=title,
        subject=_subject(title, [alert for alert, _ in concerned]),
        sentence=_sentence(standings, all_standings=all_standings, occasion=occasion),
        count=len(standings),
        facts=tuple(_facts([alert for alert, _ in concerned], occasion=occasion)),
        # A close is short: what to do was told before.
        advice=_advice(open_ones, all_standings=all_standings) if reason is not NotifyReason.CLOSED else None,
        latest_error=_sample(open_ones) if reason is not NotifyReason.CLOSED else None,
        listings=tuple(_listings(standings, all_standings=all_standings, status=status, occasion=occasion)),
        notes=(*notes_of_group([alert for alert, _ in concerned], occasion=occasion), *occasion.notes),
        links=links_of_group([alert for alert, _ in concerned], links=occasion.links),
        footer=(f"{first.type} · {first.fingerprint[:SHOWN_DIGITS]} and others · judged at ", occasion.as_of),
    )


def _advice(open_ones: Sequence[Alert], *, all_standings: Sequence[Standing]) -> Advice | None:
    """Return what helps with those that are open; a newcomer shares its cause with those that were told before."""
    if not open_ones:
        return None
    mine = {alert.fingerprint for alert in open_ones}
    others = [alert for alert, each in all_standings if each.is_open and alert.fingerprint not in mine]
    return advice_on_group([*open_ones, *others])


def _standings(everybody: Sequence[Alert], alerts: Sequence[Alert], reason: NotifyReason) -> list[Standing]:
    """Return everybody with where each stands; only those that the delivery speaks of are seen from its reason."""
    told_of = {alert.fingerprint for alert in alerts}
    mine = ranked((each for each in everybody if each.fingerprint in told_of), reason=reason)
    others = ranked((each for each in everybody if each.fingerprint not in told_of), reason=NotifyReason.UPDATED)
    return [*mine, *others]


def _sample(alerts: Sequence[Alert]) -> str | None:
    return next(filter(None, (latest_error(alert, limit=LONG) for alert in alerts[:MOST_LOOKED_AT])), None)


def _status(standings: Sequence[Standing]) -> Status:
    open_ones = [status for _, status in standings if status.is_open]
    closed_ones = [status for _, status in standings if not status.is_open]
    if open_ones and closed_ones:
        is_well = all(status is Status.RECOVERED for status in closed_ones)
        return Status.PARTLY_RECOVERED if is_well else Status.PARTLY_CLOSED
    # Recovering only when all of them are.
    firing = [status for status in open_ones if status is not Status.RECOVERING]
    return common_status(firing or open_ones or closed_ones)


def _title(
    standings: Sequence[Standing], *, all_standings: Sequence[Standing], status: Status, occasion: Occasion
) -> str:
    reason = occasion.reason
    told = [alert for alert, _ in standings]
    open_ones = [alert for alert, each in standings if each.is_open]
    concerned = all_standings if reason in _OF_ALL else standings
    everybody = [alert for alert, _ in concerned]
    severity = worst_of([alert for alert, each in concerned if each.is_open] or everybody)
    titles, total = titles_in_words(told), len(concerned)
    closed_count = sum(not each.is_open for _, each in concerned)
    if reason is NotifyReason.CLOSED and closed_count:
        return f"{_ended(concerned, status=status)}: {titles}"
    if reason is NotifyReason.UPDATED and closed_count:
        how_many = f"{closed_count} of {total}" if status.is_open else f"all {total}"
        return f"{began(status, severity)}: {how_many}: {titles}"
    if reason is NotifyReason.NEW_IN_GROUP:
        more, in_all = _newcomers(told, [alert for alert, _ in all_standings])
        same = " with the same cause" if told[0].cause else ""
        of_all = f"; {in_all} in all" if len(all_standings) > len(told) else ""  # a stand-in's has no conversation
        return f"{began(status, severity)}: {more}{same}{of_all}: {titles}"
    was = severity_before(occasion.details, (open_ones or told)[0].fingerprint) if status is Status.ESCALATED else None
    return f"{heading(status, severity, reason=reason, was=was)}: {_counted(told)}: {titles}"


def _ended(standings: Sequence[Standing], *, status: Status) -> str:
    """Return "3 recovered, 11 still open", "All 14 recovered", "All 14 closed, 11 of them recovered"."""
    total, recovered = len(standings), sum(each is Status.RECOVERED for _, each in standings)
    if status.is_open:
        otherwise = sum(not each.is_open for _, each in standings) - recovered
        words = [f"{recovered} recovered"] if recovered else []
        words += [f"{otherwise} closed"] if otherwise else []
        return ", ".join([*words, closed_in_words(each for each in standings if each[1].is_open)])
    if len({each for _, each in standings}) == 1:
        return f"All {total} {CLOSED_WORDS[status]}"
    return f"All {total} closed, {recovered or 'none'} of them recovered"


def _subject(title: str, alerts: Sequence[Alert]) -> str:
    return f"{title}{_where(alerts)}"


def _where(alerts: Sequence[Alert]) -> str:
    """Return " (production)"; "" where the alerts are of no environment, or of several."""
    environment = _environment(alerts)
    return f" ({environment})" if environment else ""


def _environment(alerts: Sequence[Alert]) -> str:
    several = len({alert.environment for alert in alerts}) > 1
    return "" if several else clean(alerts[0].environment, limit=SHORT)


def _sentence(standings: Sequence[Standing], *, all_standings: Sequence[Standing], occasion: Occasion) -> str:
    reason = occasion.reason
    told = [alert for alert, _ in (all_standings if reason in _OF_ALL else standings)]
    where = _where(told)
    all_closed = not any(status.is_open for _, status in all_standings)
    now = ""
    if len(all_standings) > len(told):
        now = f" In this conversation: {_now(all_standings)}."
    elif len({status for _, status in all_standings}) > 1:
        now = f" Now: {_now(all_standings)}."
    if reason is NotifyReason.NEW_IN_GROUP:
        more, _ = _newcomers(told, [alert for alert, _ in all_standings])
        return f"{more}{where} {_shares(told, verb=_VERB_OF_MORE[more.startswith('1 ')], a='a cause that was told before')}.{now}"
    return (
        f"{whom_in_words(told)}{where} {_shares(told, verb='shared' if all_closed else 'share', a='one cause')}.{now}"
    )


_VERB_OF_MORE = {True: "has", False: "share"}


def _shares(alerts: Sequence[Alert], *, verb: str, a: str) -> str:
    """Return what the alerts have in common: "share one cause: auth"; their titles where they have no cause in common."""
    first = alerts[0]
    if first.cause is None or any(alert.cause != first.cause for alert in alerts):
        return f"{_TOLD_TOGETHER[verb]} told in one conversation: {titles_in_words(alerts)}"
    name = first.error_class.value.replace("_", " ") if first.error_class else ""
    return f"{verb} {a}{f': {name}' if name else ''}"


_TOLD_TOGETHER = {"has": "is", "share": "are", "shared": "were"}


def _counted(alerts: Sequence[Alert]) -> str:
    """Return "1 cause, 14 credentials"; without the causes where not every alert has one."""
    return causes_in_words(alerts) if all(alert.cause for alert in alerts) else whom_in_words(alerts)


def _now(standings: Sequence[Standing]) -> str:
    """Return where all stand: of a conversation nobody needs to be told that what is open still is."""
    words = closed_in_words(standings)
    return words if any(not status.is_open for _, status in standings) else words.replace("still open", "open")


def _newcomers(alerts: Sequence[Alert], everybody: Sequence[Alert]) -> tuple[str, int]:
    """Return "2 more credentials", and how many there are in all; alerts, where they are new ones of the same credentials."""
    mine = {alert.fingerprint for alert in alerts}
    known = {alert.credential_id for alert in everybody if alert.fingerprint not in mine}
    named = {alert.credential_id for alert in alerts}
    if None in named | known or named & known:
        return counted(len(alerts), "more alert"), len(everybody)
    return counted(len(named), "more credential"), len(named | known)


def _facts(alerts: Sequence[Alert], *, occasion: Occasion) -> Iterable[Fact]:
    if environment := _environment(alerts):
        yield Fact(label="Environment", value=(environment,))
    open_ones = [alert for alert in alerts if alert.state.is_open]
    if len({alert.severity for alert in open_ones}) > 1:
        yield Fact(label="Severity", value=(severities_in_words(open_ones),))
    if credentials_of(alerts) != len(alerts):
        yield Fact(label="Alerts", value=(str(len(alerts)),))
    if opened := sorted(alert.opened_at for alert in open_ones or alerts if alert.opened_at is not None):
        yield Fact(label="Open since" if open_ones else "Opened", value=(opened[0],))
        if opened[-1] - opened[0] >= timedelta(minutes=1):
            yield Fact(label="The latest opened", value=(opened[-1],))
        if open_ones and occasion.now - opened[0] >= timedelta(minutes=1):
            yield Fact(label="Open for", value=(describe(occasion.now - opened[0]),))
    if not open_ones and (closed := [alert.closed_at for alert in alerts if alert.closed_at is not None]):
        yield Fact(label="Closed", value=(max(closed),))
        if opened:
            yield Fact(label="Was open for", value=(describe(max(closed) - opened[0]),))


def _listings(
    standings: Sequence[Standing], *, all_standings: Sequence[Standing], status: Status, occasion: Occasion
) -> Iterable[Listing]:
    causes = by_cause(alert for alert, _ in standings)
    if len(causes) > 1:
        lines = tuple((f"{whom_in_words(group)}: {cause_in_words(group[0])}",) for group in causes[:20])
        yield Listing(title="By cause", lines=lines, total=len(causes))
    open_ones = [each for each in standings if each[1].is_open]
    closed_ones = [each for each in standings if not each[1].is_open]
    if occasion.reason is NotifyReason.CLOSED:
        still_open = [each for each in all_standings if each[1].is_open]
        yield from _listing("Closed now", closed_ones, said=None, occasion=occasion)
        yield from _listing("Still open", still_open, said=None, occasion=occasion)
    elif closed_ones and occasion.reason is NotifyReason.UPDATED:
        yield from _listing("Open", open_ones, said=Status.OPEN, occasion=occasion)
        yield from _listing("Closed", closed_ones, said=None, occasion=occasion)
    else:
        named = "Credentials" if credentials_of(alert for alert, _ in standings) else "Alerts"
        is_new = occasion.reason is NotifyReason.NEW_IN_GROUP
        yield from _listing("New" if is_new else named, standings, said=status, occasion=occasion)


def _listing(
    title: str, standings: Sequence[Standing], *, said: Status | None, occasion: Occasion
) -> Iterable[Listing]:
    """Yield the listing of members, each with its severity; and with its status, where the title has not ``said`` it."""
    says_since = len({alert.opened_at for alert, _ in standings}) > 1  # else the facts say it
    says_rule = len({alert.rule for alert, _ in standings}) > 1
    if standings:
        yield Listing(
            title=title,
            lines=tuple(
                _line(alert, status, said=said, says_since=says_since, says_rule=says_rule, occasion=occasion)
                for alert, status in standings[:MOST_MEMBERS]
            ),
            total=len(standings),
            rest=rest_of((alert for alert, _ in standings), occasion=occasion),
        )


def _line(
    alert: Alert, status: Status, *, said: Status | None, says_since: bool, says_rule: bool, occasion: Occasion
) -> Text:
    head = f"{began(Status.OPEN if status is said and status.is_open else status, alert.severity)}: {name_of_member(alert)}"
    head += f": {clean(alert.title, limit=SHORT) or alert.type}" if says_rule else ""
    if status.is_open:
        marks = marks_of(alert, now=occasion.now)
        if says_since and alert.opened_at is not None:
            return (head, "; since ", alert.opened_at, marks) if marks else (head, "; since ", alert.opened_at)
        return (f"{head}{marks}",)
    lasted = alert.closed_at - alert.opened_at if alert.closed_at and alert.opened_at else None
    after = f"; after {describe(lasted)}" if lasted is not None else ""
    evidence = clean(alert.reason, limit=LINE // 2)
    return (f"{head}{after}{f'; {evidence}' if evidence else ''}",)

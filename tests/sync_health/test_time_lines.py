"""The time line of an alert, in words: what happened, who was told, who was not and why."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import time, timedelta
from typing import Any

import pytest

from include.sync_health.alerting_policies import AlertingPolicy, Mute
from include.sync_health.alerts import (
    Alert,
    AlertEvent,
    CloseReason,
    DeliveryStatus,
    EventKind,
    NotifyReason,
    SilentReason,
)
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.sync_health.time_lines import TOLD, Cause, History, LedgerLine, Moment, headline, moments
from include.sync_health.verdicts import Severity
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK
from tests.sync_health.hostile_texts import SECRETS
from tests.sync_health.message_alerts import AS_OF, OPENED, alert, closed

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
STALE = alert("stale_sync")
TOKEN = replace(alert("token_expiry"), opened_at=OPENED - HOUR)
MUTE = Mute(
    name="nights",
    match=Matcher(rule=frozenset({"stale_sync"})),
    start=time(22),
    end=time(6),
    timezone="UTC",
    reason="nobody reads it",
)
MUTING = replace(POLICY, alerting=AlertingPolicy(mutes=(MUTE,)))
SILENCE = Silence(
    id=uuid.UUID(int=7),
    match=Matcher(rule=frozenset({"stale_sync"})),
    starts_at=OPENED - HOUR,
    ends_at=AS_OF + HOUR,
    author="Ann",
    reason="the tenant moves to another region",
    created_at=OPENED - HOUR,
)


def line(status: DeliveryStatus = DeliveryStatus.SENT, **changes: Any) -> LedgerLine:
    """A first message to Slack, decided when the alert opened and sent a minute later."""
    sent = status is DeliveryStatus.SENT
    values: dict[str, Any] = {
        "channel": SLACK,
        "reason": NotifyReason.FIRST,
        "as_of": OPENED,
        "attempts": 1 if sent else 0,
        "sent_at": OPENED + MINUTE if sent else None,
        **changes,
    }
    return LedgerLine(status=status, **values)


def not_sent(why: SilentReason, *, by: str | None = None, **changes: Any) -> LedgerLine:
    """A decision to send nothing."""
    return line(DeliveryStatus.NOT_SENT, **{"reason": None, "silent": why, "by": by, **changes})


def happened(kind: EventKind, **changes: Any) -> AlertEvent:
    """An event of the stale sync."""
    values: dict[str, Any] = {
        "fingerprint": STALE.fingerprint,
        "episode_id": STALE.episode_id,
        "as_of": OPENED,
        "severity": Severity.MEDIUM,
        "reason": "because of it",
        **changes,
    }
    return AlertEvent(kind=kind, **values)


def texts(**known: Any) -> list[str]:
    """The time line of the stale sync, without its instants."""
    return [each.text for each in moments(History(alert=STALE, **known), policy=MUTING)]


@pytest.mark.parametrize(
    ("ledger", "text"),
    [
        pytest.param(line(), "sent to slack:#ops: it opened", id="sent"),
        pytest.param(
            line(reason=NotifyReason.REPEAT, attempts=2, others=2),
            "sent to slack:#ops: it is still open, with 2 other alerts, at attempt 2",
            id="after some attempts, with others",
        ),
        pytest.param(
            line(channel=MAIL, fallback_of=SLACK, others=1),
            "sent to email:ops@example.com in place of slack:#ops: it opened, with 1 other alert",
            id="to the fallback",
        ),
        pytest.param(
            line(DeliveryStatus.PENDING, attempts=2, last_error="503 unavailable"),
            "waits to be sent to slack:#ops: it opened; 2 attempts so far, the last: 503 unavailable",
            id="waiting",
        ),
        pytest.param(
            line(DeliveryStatus.DEAD, attempts=1, last_error="channel_not_found"),
            "given up for slack:#ops after 1 attempt: it opened; channel_not_found",
            id="given up",
        ),
        pytest.param(
            not_sent(SilentReason.NO_ROUTE, channel="none"),
            "not sent: no route of the policy takes it",
            id="nowhere to go",
        ),
        pytest.param(
            not_sent(SilentReason.SHADOW, channel="none"),
            "not sent: its rule is in shadow, recorded and told to nobody",
            id="shadow",
        ),
        pytest.param(
            not_sent(SilentReason.SILENCED, by=str(SILENCE.id)),
            "not sent to slack:#ops: silenced by Ann until 2026-11-24 13:00 UTC: the tenant moves to another region",
            id="a silence, by author and reason",
        ),
        pytest.param(
            not_sent(SilentReason.SILENCED, by="0123"),
            "not sent to slack:#ops: silenced by a silence that is no longer kept (0123)",
            id="a silence that is gone",
        ),
        pytest.param(
            not_sent(SilentReason.MUTED, by="nights"),
            "not sent to slack:#ops: muted by nights of the policy: nobody reads it",
            id="a mute, with its reason",
        ),
        pytest.param(
            not_sent(SilentReason.MUTED, by="lunch"),
            "not sent to slack:#ops: muted by lunch of the policy, which has it no more",
            id="a mute that is gone",
        ),
        pytest.param(
            not_sent(SilentReason.BUDGET),
            "not sent to slack:#ops: the day's budget of 10 messages was spent; it is told in the day's digest",
            id="the budget",
        ),
        pytest.param(
            not_sent(SilentReason.ACKNOWLEDGED, by="Bob"),
            "not sent to slack:#ops: no repeats, acknowledged by Bob",
            id="acknowledged",
        ),
        pytest.param(
            not_sent(SilentReason.INHIBITED, by=TOKEN.fingerprint),
            f"not sent to slack:#ops: inhibited by token_expiry of the same credential ({TOKEN.fingerprint[:12]}), "
            "told at 2026-11-24 08:31 UTC",
            id="a cause, and when the channel was told of it",
        ),
        pytest.param(
            not_sent(SilentReason.INHIBITED, by="f" * 64),
            "not sent to slack:#ops: inhibited by its cause ffffffffffff, which is no longer kept",
            id="a cause that is gone",
        ),
        pytest.param(
            not_sent(SilentReason.NOT_CONFIGURED), "not sent to slack:#ops: slack has no connection", id="no connection"
        ),
        pytest.param(
            not_sent(SilentReason.CANNOT_EDIT, reason=NotifyReason.UPDATED),
            "not sent to slack:#ops (the first message of its thread brought up to date): "
            "the first message of its thread cannot be edited",
            id="an edit that a webhook cannot make",
        ),
        pytest.param(
            not_sent(SilentReason.NEVER_TOLD),
            "not sent to slack:#ops: it closed, and this channel had never heard that it was open",
            id="a close of what nobody heard of",
        ),
    ],
)
def test_what_became_of_a_message(ledger: LedgerLine, text: str) -> None:
    told_of_token = [
        line(as_of=OPENED - HOUR, sent_at=OPENED - HOUR + MINUTE * 46),
        # Later than what it hid: not when it was told.
        line(as_of=OPENED + HOUR, sent_at=OPENED + HOUR, reason=NotifyReason.REPEAT),
    ]
    causes = {TOKEN.fingerprint: Cause(alert=TOKEN, ledger=told_of_token)}

    found = moments(History(alert=STALE, ledger=[ledger], silences=[SILENCE], causes=causes), policy=MUTING)[-1]

    assert (found.text, found.what, found.channel) == (text, ledger.status, ledger.channel)
    assert found.at == (ledger.sent_at or ledger.as_of)


@pytest.mark.parametrize(
    ("ledger", "told"),
    [
        pytest.param([], "told there before", id="nothing of it is kept"),
        pytest.param([line(DeliveryStatus.PENDING)], "whose message there waits to be sent", id="it waits"),
        pytest.param([line(DeliveryStatus.DEAD)], "whose message there was given up", id="it was given up"),
        pytest.param([line(channel=MAIL)], "told there before", id="only another channel was told"),
        pytest.param([line()], "told at 2026-11-24 08:46 UTC", id="it was told in the same run"),
        pytest.param(
            [line(as_of=OPENED - HOUR, sent_at=OPENED - HOUR), line(reason=NotifyReason.REPEAT)],
            "told at 2026-11-24 08:46 UTC",
            id="the last time before",
        ),
        pytest.param(
            [line(), line(reason=NotifyReason.UPDATED, sent_at=OPENED + 2 * MINUTE)],
            "told at 2026-11-24 08:46 UTC",
            id="an edit tells nobody",
        ),
    ],
)
def test_what_a_channel_knows_of_the_cause(ledger: list[LedgerLine], told: str) -> None:
    causes = {TOKEN.fingerprint: Cause(alert=TOKEN, ledger=ledger)}

    (text,) = texts(ledger=[not_sent(SilentReason.INHIBITED, by=TOKEN.fingerprint)], causes=causes)

    assert text.endswith(f"({TOKEN.fingerprint[:12]}), {told}")


@pytest.mark.parametrize(
    ("cause", "name"),
    [
        pytest.param(TOKEN, "token_expiry of the same credential", id="of one credential"),
        pytest.param(replace(TOKEN, credential_id="18"), "token_expiry", id="of another"),
        pytest.param(alert("platform_outage"), "platform_outage in production", id="of an environment"),
        pytest.param(alert("monitor_health"), "monitor_health", id="of neither"),
    ],
)
def test_how_a_cause_is_named(cause: Alert, name: str) -> None:
    causes = {cause.fingerprint: Cause(alert=cause, ledger=[line()])}

    (text,) = texts(ledger=[not_sent(SilentReason.INHIBITED, by=cause.fingerprint)], causes=causes)

    assert f"inhibited by {name} ({cause.fingerprint[:12]}), told at " in text


@pytest.mark.parametrize("why", list(SilentReason))
@pytest.mark.parametrize("by", [None, "somebody"])
def test_no_reason_for_silence_is_without_words(why: SilentReason, by: str | None) -> None:
    (text,) = texts(ledger=[not_sent(why, by=by)])

    assert text.startswith("not sent")
    assert not text.endswith(": ")
    assert "None" not in text


@pytest.mark.parametrize("reason", list(NotifyReason))
def test_no_reason_to_tell_is_without_words(reason: NotifyReason) -> None:
    (text,) = texts(ledger=[line(reason=reason)])

    assert text == f"sent to slack:#ops: {TOLD[reason]}"
    assert len({*TOLD.values()}) == len(TOLD)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        pytest.param(happened(EventKind.OPENED), "opened, medium: because of it", id="opened"),
        pytest.param(
            happened(EventKind.ESCALATED, severity=Severity.HIGH), "got worse, high now: because of it", id="worse"
        ),
        pytest.param(
            happened(EventKind.CLOSED, close_reason=CloseReason.RECOVERED),
            "closed, recovered: because of it",
            id="over",
        ),
        pytest.param(
            happened(EventKind.CLOSED, close_reason=CloseReason.EXPIRED),
            "closed without evidence of recovery: because of it",
            id="followed to the end",
        ),
        pytest.param(happened(EventKind.SETTLED, reason=""), "flapping no more", id="without a reason"),
    ],
)
def test_what_happened(event: AlertEvent, text: str) -> None:
    assert texts(events=[event]) == [text]


@pytest.mark.parametrize("kind", list(EventKind))
def test_no_event_is_without_words(kind: EventKind) -> None:
    (text,) = texts(events=[happened(kind)])

    assert text.endswith(": because of it")
    assert text != ": because of it"


def test_the_oldest_comes_first_and_what_happened_before_what_was_told() -> None:
    found = moments(
        History(
            alert=STALE,
            events=[
                happened(EventKind.OPENED),
                happened(EventKind.CLOSED, as_of=OPENED + 2 * HOUR, close_reason=CloseReason.RECOVERED),
            ],
            ledger=[
                not_sent(SilentReason.SILENCED, by=str(SILENCE.id)),
                line(channel=MAIL),
                line(reason=NotifyReason.CLOSED, as_of=OPENED + 2 * HOUR, sent_at=OPENED + 2 * HOUR + MINUTE),
            ],
            silences=[SILENCE],
        ),
        policy=POLICY,
    )

    assert [(each.at - OPENED, each.what) for each in found] == [
        (-HOUR, "silence"),
        (timedelta(0), "opened"),
        (timedelta(0), "not_sent"),
        (MINUTE, "sent"),
        (2 * HOUR, "closed"),
        (2 * HOUR + MINUTE, "sent"),
    ]


@pytest.mark.parametrize(
    ("match", "told", "listed"),
    [
        pytest.param({"rule": {"stale_sync"}}, False, True, id="one that matches"),
        pytest.param({"rule": {"stuck_sync"}}, False, False, id="one of others"),
        pytest.param({"severity": {Severity.CRITICAL}}, True, True, id="one that kept it back when it was worse"),
    ],
)
def test_a_silence_is_told_where_it_concerns_the_alert(match: Mapping[str, Any], told: bool, listed: bool) -> None:
    silence = replace(SILENCE, match=Matcher(**{key: frozenset(values) for key, values in match.items()}))
    ledger = [not_sent(SilentReason.SILENCED, by=str(silence.id))] if told else []

    found = moments(History(alert=STALE, silences=[silence], ledger=ledger), policy=POLICY)

    began = Moment(
        at=SILENCE.starts_at,
        what="silence",
        text="silence of Ann until 2026-11-24 13:00 UTC: the tenant moves to another region",
    )
    assert (began in found) is listed


@pytest.mark.parametrize("minutes", [-1, 0])
def test_a_silence_that_begins_after_the_close_is_none_of_its_story(minutes: int) -> None:
    over = closed(STALE, why=CloseReason.RECOVERED, reason="it ran")
    assert over.closed_at is not None
    silence = replace(SILENCE, starts_at=over.closed_at + minutes * MINUTE, created_at=over.closed_at)

    found = moments(History(alert=over, silences=[silence]), policy=POLICY)

    assert [each.what for each in found] == (["silence"] if minutes else [])


def test_a_silence_to_come_was_asked_for_before_it_begins() -> None:
    """The time line is the past: what is to come stands at the moment at which somebody asked for it."""
    silence = replace(SILENCE, created_at=OPENED, starts_at=AS_OF + MINUTE)

    (found,) = moments(History(alert=STALE, silences=[silence]), policy=POLICY)

    assert found.at == OPENED
    assert found.text == (
        "silence to come at 2026-11-24 12:01 UTC, of Ann until 2026-11-24 13:00 UTC: the tenant moves to another region"
    )


def test_a_colleague_who_is_named_by_an_address_is_still_named() -> None:
    """A whole address would be masked, and nobody would know whom to ask."""
    address = "ann.bell@example.com"
    found = texts(
        events=[
            happened(EventKind.ACKNOWLEDGED, reason=f"by {address}: mail joe@example.com"),
            happened(EventKind.ACKNOWLEDGED, reason=f"by {address} until 2026-11-24 13:00 UTC: it moves"),
            happened(EventKind.UNACKNOWLEDGED, reason=f"by {address}"),
        ],
        ledger=[
            not_sent(SilentReason.ACKNOWLEDGED, by=address),
            not_sent(SilentReason.SILENCED, by=str(SILENCE.id)),
        ],
        silences=[replace(SILENCE, author=address)],
    )

    assert found == [
        "silence of ann.bell until 2026-11-24 13:00 UTC: the tenant moves to another region",
        "acknowledged: by ann.bell: mail ‹email›",
        "acknowledged: by ann.bell until 2026-11-24 13:00 UTC: it moves",
        "acknowledgement taken back: by ann.bell",
        "not sent to slack:#ops: no repeats, acknowledged by ann.bell",
        "not sent to slack:#ops: silenced by ann.bell until 2026-11-24 13:00 UTC: the tenant moves to another region",
    ]


@pytest.mark.parametrize(("written", "secret"), SECRETS)
def test_no_text_of_others_comes_through_as_it_is(written: str, secret: str) -> None:
    """Neither in an error, a reason, a name, nor what an alert says of itself."""
    silence = replace(SILENCE, author=f"Ann {written}", reason=f"see {written}")
    found = texts(
        events=[happened(EventKind.OPENED, reason=f"because {written}\nand more")],
        ledger=[
            line(DeliveryStatus.DEAD, last_error=f"refused {written} \x1b[31m"),
            not_sent(SilentReason.SILENCED, by=str(silence.id)),
            not_sent(SilentReason.ACKNOWLEDGED, by=f"Bob {written}"),
        ],
        silences=[silence],
    )
    told = [*found, headline(replace(STALE, message=f"failed: {written}\x07"))]

    assert len(told) == 6
    for each in told:
        assert secret not in each
        assert each.isprintable()

"""What one tick says of an alert, and what the alert remembers of it, to the last field."""

from __future__ import annotations

import time as clock
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    Delivery,
    Member,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.lifecycle import step
from include.sync_health.muting import Suppressors
from include.sync_health.notifications import Decision
from include.sync_health.rule_policies import RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.threads import new_thread
from include.sync_health.verdicts import Severity
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, rule_saw
from tests.sync_health.decide_cases import (
    FIRST,
    HOUR,
    SECOND,
    TOLD,
    closed,
    decided,
    limited,
    muted,
    of_slack,
    opened,
    silenced,
    to_slack,
    told,
)

SHADOWED = replace(POLICY, rules=RulePolicies(sync_failures=SyncFailuresPolicy(mode=RuleMode.SHADOW)))


def test_an_opening_to_the_last_field() -> None:
    """A message to each channel, each in a thread of its own, which shows the alert as it is."""
    alert = opened()
    threads = {channel: new_thread(channel, group=alert.fingerprint, as_of=T0) for channel in (SLACK, MAIL)}
    assert alert.episode_id is not None

    assert decided(alert) == Decision(
        deliveries=tuple(
            Delivery(
                key=f"{channel}|first|{alert.episode_id}|",
                channel=channel,
                reason=NotifyReason.FIRST,
                members=(Member(fingerprint=alert.fingerprint, episode_id=alert.episode_id),),
                as_of=T0,
                severity=Severity.HIGH,
                thread=thread,
            )
            for channel, thread in threads.items()
        ),
        alerts={
            alert.fingerprint: replace(
                alert, told={channel: told(NotifyReason.FIRST, thread=thread) for channel, thread in threads.items()}
            )
        },
    )


MEDIUM = opened(severity=Severity.MEDIUM)
REPEATED: Mapping[str, Any] = {"told": {SLACK: told(NotifyReason.FIRST, at=T0 - 13 * HOUR)}}
IN_HAND = Acknowledgement(by="Kim", at=T0, reason="on it")
CAUSE = next(iter(step({}, [rule_saw("connection_error")], policy=POLICY, as_of=T0).alerts.values()))
KIM: Mapping[str, Any] = {
    "told": {SLACK: told(NotifyReason.FIRST, at=T0 - 13 * HOUR, shown="firing-high-acknowledged")},
    "acknowledged": IN_HAND,
}


@pytest.mark.parametrize(
    ("alert", "options", "why", "by", "key", "holds"),
    [
        pytest.param(
            opened(), {"policy": replace(POLICY, routes=())}, "no_route", None, "none||False", False, id="no route"
        ),
        pytest.param(opened(), {"policy": SHADOWED}, "shadow", None, "none||False", False, id="a rule in shadow"),
        pytest.param(
            opened(), {"may_notify": False}, "notify_never", None, "slack:#ops||False", False, id="a run that may not"
        ),
        pytest.param(
            opened(), {"configured": {"email"}}, "not_configured", None, "slack:#ops||False", False, id="no connection"
        ),
        pytest.param(
            closed(opened()),
            {"as_of": T0 + TICK},
            "never_told",
            None,
            "slack:#ops||True",
            False,
            id="over, and never told",
        ),
        pytest.param(
            opened(**KIM), {}, "acknowledged", "Kim", "slack:#ops||False|Kim", False, id="a reminder of what is in hand"
        ),
        pytest.param(
            opened(),
            {"suppressors": silenced()},
            "silenced",
            FIRST,
            f"slack:#ops||False|{FIRST}|2026-03-10",
            True,
            id="a silence, by its id and once a day",
        ),
        pytest.param(
            opened(**REPEATED),
            {"suppressors": silenced()},
            "silenced",
            FIRST,
            f"slack:#ops||False|{FIRST}|2026-03-10",
            False,
            id="a silence of a reminder keeps nothing from being known",
        ),
        pytest.param(
            opened(),
            {"suppressors": muted()},
            "muted",
            "noon",
            "slack:#ops||False|noon|2026-03-10",
            True,
            id="a mute, by its name and once a day",
        ),
        pytest.param(
            MEDIUM, {"policy": limited(0)}, "budget", None, "slack:#ops||False|2026-03-10", True, id="a spent budget"
        ),
        pytest.param(
            opened(),
            {"open_alerts": {CAUSE.fingerprint: replace(CAUSE, told={SLACK: TOLD, MAIL: TOLD})}},
            "inhibited",
            CAUSE.fingerprint,
            f"slack:#ops||False|{CAUSE.fingerprint}",
            True,
            id="a cause that the channel knows",
        ),
    ],
)
def test_what_is_not_said_to_the_last_field(
    alert: Alert, options: Mapping[str, Any], why: str, by: str | None, key: str, holds: bool
) -> None:
    """The ledger has it once for each reason; an opening that waits is remembered with what keeps it back."""
    channel, _, ending = key.partition("||")
    assert alert.episode_id is not None
    decision = decided(alert, **options)

    assert of_slack(decision) == [
        Delivery(
            key=f"{channel}|not sent: {why}|{alert.episode_id}|{ending}",
            channel=channel,
            reason=None,
            silent=SilentReason(why),
            by=by,
            members=(Member(fingerprint=alert.fingerprint, episode_id=alert.episode_id),),
            as_of=options.get("as_of", T0),
            severity=alert.severity,
        )
    ]
    waiting = {SLACK: Suppression(why=SilentReason(why), by=by, since=T0)} if holds else {}
    after = decision.alerts[alert.fingerprint]
    assert {channel: each for channel, each in after.suppressed.items() if channel == SLACK} == waiting
    assert after.told.get(SLACK) == alert.told.get(SLACK)


def test_every_opening_that_waits_is_remembered() -> None:
    """Also beside a reminder that is kept back, of which nothing is to be remembered."""
    reminded, waiting = opened("1", severity=Severity.CRITICAL, **REPEATED), opened("2")
    after = decided(reminded, waiting, suppressors=silenced()).alerts

    assert [set(after[each.fingerprint].suppressed) for each in (reminded, waiting)] == [{MAIL}, {SLACK, MAIL}]


def test_what_one_channel_is_not_told_the_other_is_all_the_same() -> None:
    """Mail works while Slack has no connection."""
    decision = decided(opened(), configured={"email"})

    assert [(each.channel, str(each.reason or each.silent)) for each in decision.deliveries] == [
        (MAIL, "first"),
        (SLACK, "not_configured"),
    ]


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is fourteen hours ahead."""
    monkeypatch.setenv("TZ", "EAST-14")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.mark.usefixtures("far_east")
def test_the_day_of_what_is_not_said_is_that_of_utc() -> None:
    """Whatever clock the machine has, and in whatever zone the tick is given."""
    for as_of in (T0, T0.astimezone()):
        assert {each.key[-11:] for each in decided(opened(), suppressors=silenced(), as_of=as_of).deliveries} == {
            "|2026-03-10"
        }
    assert T0.astimezone().date() > T0.astimezone(UTC).date()


EARLIER = T0 - HOUR


@pytest.mark.parametrize(
    ("before", "suppressors", "after"),
    [
        pytest.param((SilentReason.SILENCED, FIRST), silenced(1), EARLIER, id="the same silence: since it began"),
        pytest.param((SilentReason.SILENCED, SECOND), silenced(1), T0, id="another silence: since now"),
        pytest.param((SilentReason.SILENCED, FIRST), muted(FIRST), T0, id="a mute that is called like it: since now"),
        pytest.param((SilentReason.BUDGET, None), silenced(1), T0, id="a silence after a spent budget: since now"),
        pytest.param(None, silenced(1), T0, id="for the first time: since now"),
    ],
)
def test_since_when_it_is_kept_back(
    before: tuple[SilentReason, str | None] | None, suppressors: Suppressors, after: datetime
) -> None:
    """By what keeps it back now; what keeps another channel from hearing it is its own affair."""
    elsewhere = {"slack:#other": Suppression(why=SilentReason.BUDGET, by=None, since=EARLIER)}
    here = {SLACK: Suppression(why=before[0], by=before[1], since=EARLIER)} if before else {}
    alert = opened(suppressed={**elsewhere, **here})

    suppressed = decided(alert, suppressors=suppressors).alerts[alert.fingerprint].suppressed
    assert suppressed[SLACK].since == after
    assert suppressed["slack:#other"] == elsewhere["slack:#other"]
    assert set(suppressed) == {SLACK, MAIL, "slack:#other"}


KEPT_BACK = {
    SLACK: Suppression(why=SilentReason.SILENCED, by=FIRST, since=EARLIER),
    "slack:#other": Suppression(why=SilentReason.BUDGET, by=None, since=EARLIER),
}
ONE_SUMMARY = replace(POLICY, summary_above=0)
YESTERDAY = told(NotifyReason.FIRST, at=T0 - 25 * HOUR)


@pytest.mark.parametrize(
    ("alert", "options", "remembered", "edits"),
    [
        pytest.param(
            opened(told={SLACK: told(NotifyReason.FIRST, severity=Severity.MEDIUM, shown="firing-medium")}),
            {},
            told(NotifyReason.ESCALATED),
            1,
            id="worse than it was told",
        ),
        pytest.param(opened(told={SLACK: YESTERDAY}), {}, told(NotifyReason.REPEAT), 0, id="a reminder edits nothing"),
        pytest.param(
            opened(severity=Severity.MEDIUM, told={SLACK: YESTERDAY}),
            {},
            told(NotifyReason.REPEAT, shown="firing-medium"),
            1,
            id="a reminder of something that eased: the worst that was told stays",
        ),
        pytest.param(
            opened(told={SLACK: YESTERDAY}),
            {"policy": ONE_SUMMARY},
            told(NotifyReason.REPEAT),
            0,
            id="a reminder in a summary leaves it in its thread",
        ),
        pytest.param(
            opened(),
            {"policy": ONE_SUMMARY},
            told(NotifyReason.FIRST, thread=None, shown=None),
            0,
            id="an opening in a summary has no thread, and nothing to edit",
        ),
        pytest.param(
            opened(suppressed=KEPT_BACK, threads={SLACK: "the thread"}),
            {},
            told(NotifyReason.UNSUPPRESSED),
            1,
            id="what was kept back and goes on in a thread brings its first message up to date",
        ),
        pytest.param(
            closed(opened(told={SLACK: TOLD})),
            {"as_of": T0 + TICK},
            told(NotifyReason.CLOSED, at=T0 + TICK, shown="inactive-high"),
            1,
            id="a close",
        ),
        pytest.param(
            closed(opened(told={SLACK: TOLD})),
            {"as_of": T0 + TICK, "policy": ONE_SUMMARY},
            told(NotifyReason.CLOSED, at=T0 + TICK, shown="inactive-high"),
            1,
            id="a close in a summary leaves it in its thread",
        ),
        pytest.param(
            opened(told={SLACK: told(NotifyReason.FIRST, shown="recovering-high")}),
            {},
            TOLD,
            1,
            id="what its first message shows no more is brought up to date without a word",
        ),
        pytest.param(
            opened(told={SLACK: told(NotifyReason.FIRST, shown="recovering-high")}),
            {"configured": {"email"}},
            told(NotifyReason.FIRST, shown="recovering-high"),
            0,
            id="nothing is brought up to date without a connection",
        ),
        pytest.param(
            opened(told={SLACK: told(NotifyReason.FIRST, shown="recovering-high")}),
            {"may_notify": False},
            told(NotifyReason.FIRST, shown="recovering-high"),
            0,
            id="nor by a run that may not speak",
        ),
        pytest.param(
            opened(told={SLACK: told(NotifyReason.FIRST, thread=None, shown=None)}, acknowledged=IN_HAND),
            {},
            told(NotifyReason.FIRST, thread=None, shown=None),
            0,
            id="nor what has no thread",
        ),
        pytest.param(
            opened(told={SLACK: TOLD}, acknowledged=replace(IN_HAND, until=T0)),
            {},
            TOLD,
            0,
            id="an acknowledgement that ends now is shown no more",
        ),
    ],
)
def test_what_a_channel_has_heard(alert: Alert, options: Mapping[str, Any], remembered: Told, edits: int) -> None:
    """The reason, the worst severity, the thread, and what its first message shows."""
    decision = decided(alert, **{**options, "policy": to_slack(options.get("policy", POLICY))})
    after = decision.alerts[alert.fingerprint]

    assert after.told == {SLACK: remembered}
    assert after.suppressed == {key: each for key, each in alert.suppressed.items() if key != SLACK}
    as_of = options.get("as_of", T0)
    assert [each for each in decision.deliveries if each.reason is NotifyReason.UPDATED] == [
        Delivery(
            key=f"{SLACK}|updated|{alert.episode_id}|{as_of.timestamp():.6f}",
            channel=SLACK,
            reason=NotifyReason.UPDATED,
            members=(Member(fingerprint=alert.fingerprint, episode_id=alert.episode_id or uuid.UUID(int=0)),),
            as_of=as_of,
            severity=alert.severity,
            thread="the thread",
        )
    ] * edits


def test_mail_cannot_be_edited_and_is_known_to_show_what_was_told_since() -> None:
    """Only Slack's first message changes; the other channel is not asked again with every tick."""
    shown = told(NotifyReason.FIRST, shown="recovering-high")
    alert = opened(told={SLACK: shown, MAIL: shown})
    decision = decided(alert)

    assert [(each.channel, each.reason) for each in decision.deliveries] == [(SLACK, NotifyReason.UPDATED)]
    assert decision.alerts[alert.fingerprint].told == {SLACK: TOLD, MAIL: TOLD}


def test_one_edit_for_each_thread_whatever_else_is_up_to_date() -> None:
    """In the order of the fingerprints, of those alone that changed."""
    credentials = sorted(map(str, range(5)), key=lambda each: opened(each).fingerprint)
    current, *changed, elsewhere = (opened(each, told={SLACK: TOLD}) for each in credentials)
    late = told(NotifyReason.FIRST, shown="recovering-high")
    changed = [replace(each, told={SLACK: late}) for each in changed]
    elsewhere = replace(elsewhere, told={SLACK: replace(late, thread="another thread")})
    decision = decided(current, *changed, elsewhere, policy=to_slack(POLICY))

    assert [(each.thread, [member.fingerprint for member in each.members]) for each in decision.deliveries] == [
        ("the thread", [each.fingerprint for each in changed]),
        ("another thread", [elsewhere.fingerprint]),
    ]

"""What comes next for an alert: when it closes, when it is told again, and until when it is kept back."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from include.sync_health.alerting_policies import AlertingPolicy, LifecyclePolicy, Mute
from include.sync_health.alerts import (
    Acknowledgement,
    Alert,
    AlertState,
    CloseReason,
    DeliveryStatus,
    NotifyReason,
    SilentReason,
    Suppression,
    Told,
)
from include.sync_health.matchers import Matcher
from include.sync_health.muting import Silence
from include.sync_health.outlook import next_day, outlook
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import RuleMode, RulePolicies, StaleSyncPolicy, SyncFailuresPolicy
from include.sync_health.time_lines import Cause, History, LedgerLine
from include.sync_health.verdicts import Severity, Verdict
from tests.sync_health.alert_histories import MAIL, POLICY, SLACK, T0, TICK, World, rule_saw, saw
from tests.sync_health.message_alerts import AS_OF, OPENED, alert, closed

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TOLD = Told(reason=NotifyReason.FIRST, at=OPENED, severity=Severity.MEDIUM)
BOTH = {SLACK: TOLD, MAIL: TOLD}
STALE = alert("stale_sync", told=BOTH)
TOKEN = replace(alert("token_expiry"), opened_at=OPENED)


def next_of(one: Alert, *, policy: Policy = POLICY, now: datetime = AS_OF, **known: Any) -> list[str]:
    """What comes next for an alert."""
    return list(outlook(History(alert=one, **known), policy=policy, now=now))


def ruled(**changes: Any) -> Policy:
    """The policy with another rule for stale syncs."""
    return replace(POLICY, rules=RulePolicies(stale_sync=StaleSyncPolicy(**changes)))


@pytest.mark.parametrize(
    ("one", "policy", "text"),
    [
        pytest.param(STALE, POLICY, "it closes when it is clear", id="firing"),
        pytest.param(
            STALE, ruled(keep_firing_for=HOUR / 2), "it closes when it is clear for 30 minutes", id="held by its rule"
        ),
        pytest.param(
            replace(STALE, reopened_at=OPENED, returns=(OPENED,)),
            POLICY,
            "it closes when it is clear for 2 hours",
            id="held because it came back",
        ),
        pytest.param(
            replace(STALE, state=AlertState.RECOVERING, state_since=AS_OF - 5 * MINUTE),
            ruled(keep_firing_for=HOUR / 2),
            "it closes if it stays clear until 2026-11-24 12:25 UTC",
            id="recovering",
        ),
        pytest.param(
            replace(STALE, state=AlertState.PENDING, state_since=AS_OF, told={}),
            ruled(for_=HOUR),
            "it opens if it is still broken at 2026-11-24 13:00 UTC",
            id="pending",
        ),
        pytest.param(
            closed(STALE, why=CloseReason.RECOVERED, reason="it ran"),
            POLICY,
            "it is closed; if it opens again by 2026-11-24 18:00 UTC, it goes on in the same conversation",
            id="closed",
        ),
        pytest.param(
            closed(STALE, why=CloseReason.RECOVERED, reason="it ran"),
            replace(POLICY, alerting=AlertingPolicy(lifecycle=LifecyclePolicy(reopen_within=timedelta(0)))),
            "it is not open",
            id="closed for good",
        ),
        pytest.param(
            STALE,
            ruled(mode=RuleMode.OFF),
            "its rule is off: the next run of its check closes it as rule changed",
            id="of a rule that was switched off",
        ),
    ],
)
def test_what_it_waits_for(one: Alert, policy: Policy, text: str) -> None:
    assert next_of(one, policy=policy)[0] == text


@pytest.mark.parametrize(
    ("one", "text"),
    [
        pytest.param(
            replace(STALE, stale_since=AS_OF - HOUR),
            "nobody can judge it since 2026-11-24 11:00 UTC; if that lasts, it closes at 2026-12-01 11:00 UTC without "
            "evidence of recovery",
            id="nobody can tell",
        ),
        pytest.param(
            replace(STALE, flapping_since=AS_OF - HOUR),
            "it is flapping since 2026-11-24 11:00 UTC, and told again once a day at most, until it came back fewer than "
            "3 times in 1 day",
            id="flapping",
        ),
        pytest.param(
            replace(STALE, acknowledged=Acknowledgement(by="Ann", at=AS_OF, reason="a ticket is open")),
            "acknowledged by Ann until it closes: a ticket is open; not repeated, and told if it gets worse and when it "
            "closes",
            id="in hand",
        ),
        pytest.param(
            replace(STALE, acknowledged=Acknowledgement(by="Ann", at=OPENED, reason="x", until=AS_OF)),
            "Ann's acknowledgement is over; it is repeated again",
            id="in hand until now",
        ),
    ],
)
def test_what_is_beside_its_state(one: Alert, text: str) -> None:
    assert next_of(one)[1] == text


@pytest.mark.parametrize(
    ("one", "policy", "text"),
    [
        pytest.param(STALE, POLICY, "repeat due at 2026-11-25 08:45 UTC", id="medium, once a day"),
        pytest.param(
            replace(STALE, told={SLACK: replace(TOLD, at=AS_OF - DAY)}),
            POLICY,
            "repeat due at 2026-11-24 12:00 UTC, by the next run of its check",
            id="due now",
        ),
        pytest.param(
            replace(STALE, severity=Severity.HIGH),
            POLICY,
            "repeat due at 2026-11-24 20:45 UTC",
            id="high, every 12 hours",
        ),
        pytest.param(
            replace(STALE, severity=Severity.HIGH, flapping_since=AS_OF),
            POLICY,
            "repeat due at 2026-11-25 08:45 UTC",
            id="flapping, once a day",
        ),
        pytest.param(
            STALE,
            replace(POLICY, repeat={**POLICY.repeat, Severity.MEDIUM: None}),
            "not repeated, as medium never is; told if it gets worse and when it closes",
            id="never",
        ),
        pytest.param(
            STALE,
            replace(POLICY, repeat={**POLICY.repeat, Severity.MEDIUM: timedelta(0)}),
            "told again by every run that finds it broken",
            id="by every run",
        ),
        pytest.param(
            replace(STALE, state=AlertState.RECOVERING), POLICY, "not repeated while it recovers", id="recovering"
        ),
        pytest.param(
            replace(STALE, stale_since=AS_OF), POLICY, "not repeated while nobody can judge it", id="nobody can tell"
        ),
        pytest.param(
            replace(STALE, acknowledged=Acknowledgement(by="Ann", at=AS_OF, reason="x")),
            POLICY,
            "no repeat, which would be due at 2026-11-25 08:45 UTC: it is acknowledged",
            id="in hand",
        ),
        pytest.param(
            replace(STALE, acknowledged=Acknowledgement(by="Ann", at=AS_OF, reason="x", until=AS_OF + HOUR)),
            POLICY,
            "repeat due at 2026-11-25 08:45 UTC",
            id="in hand, but no more when the repeat is due",
        ),
        pytest.param(
            STALE,
            ruled(mode=RuleMode.SHADOW),
            "the policy no longer tells it there; only the close still goes",
            id="shadow",
        ),
        pytest.param(
            replace(STALE, severity=Severity.LOW),
            POLICY,
            "the policy no longer tells it there; only the close still goes",
            id="eased to what no route takes",
        ),
    ],
)
def test_when_a_channel_that_was_told_hears_of_it_again(one: Alert, policy: Policy, text: str) -> None:
    assert f"{SLACK}: {text}" in next_of(one, policy=policy)


@pytest.mark.parametrize(
    ("why", "by", "text"),
    [
        pytest.param(
            SilentReason.INHIBITED,
            TOKEN.fingerprint,
            f"inhibited by token_expiry of the same credential ({TOKEN.fingerprint[:12]}), told there before",
            id="its cause was told there",
        ),
        pytest.param(
            SilentReason.BUDGET,
            None,
            "the day's budget of 10 messages was spent; it is told in the day's digest",
            id="the budget is spent",
        ),
    ],
)
def test_a_repeat_that_something_keeps_back_is_not_promised(why: SilentReason, by: str | None, text: str) -> None:
    """What the ledger says of it since it was due."""
    one = replace(STALE, told={SLACK: replace(TOLD, at=AS_OF - DAY - HOUR)})
    kept = LedgerLine(channel=SLACK, reason=None, silent=why, by=by, status=DeliveryStatus.NOT_SENT, as_of=AS_OF - HOUR)

    lines = next_of(one, ledger=[kept], causes={TOKEN.fingerprint: Cause(alert=TOKEN)})
    assert f"{SLACK}: repeat due at 2026-11-24 11:00 UTC, and kept back so far: {text}" in lines
    earlier = replace(kept, as_of=AS_OF - 2 * HOUR)
    assert f"{SLACK}: repeat due at 2026-11-24 11:00 UTC, by the next run of its check" in next_of(
        one, ledger=[earlier]
    )


def test_a_repeat_is_due_exactly_when_the_outlook_says() -> None:
    """The same alert lives on: a tick earlier it is not repeated, at that tick it is."""
    world = World()
    world.tick(T0, saw(Verdict.BREACH))
    one = next(iter(world.alerts.values()))
    due = next(line for line in next_of(one, now=T0) if line.startswith(SLACK))
    repeats = [
        T0 + step * TICK
        for step in range(1, 60)
        if "repeat" in world.sent(world.tick(T0 + step * TICK, saw(Verdict.BREACH)))
    ]

    assert due == f"{SLACK}: repeat due at {repeats[0]:%Y-%m-%d %H:%M} UTC"


@pytest.mark.parametrize("came_back", [False, True], ids=["the first time", "after it came back"])
def test_it_closes_exactly_when_the_outlook_says(came_back: bool) -> None:
    rules = RulePolicies(sync_failures=SyncFailuresPolicy(keep_firing_for=2 * TICK))
    world = World(policy=replace(POLICY, rules=rules))
    began = T0
    world.tick(T0, saw(Verdict.BREACH))
    if came_back:
        for step, verdict in enumerate((Verdict.CLEAR, Verdict.CLEAR, Verdict.CLEAR, Verdict.BREACH), start=1):
            began = T0 + step * TICK
            world.tick(began, saw(verdict))
    world.tick(began + TICK, saw(Verdict.CLEAR))
    recovering = next(iter(world.alerts.values()))
    said = next_of(recovering, policy=world.policy, now=began + TICK)[0]
    step = 1
    while next(iter(world.alerts.values())).state.is_open:
        step += 1
        world.tick(began + step * TICK, saw(Verdict.CLEAR))

    assert step == (9 if came_back else 3)
    assert said == f"it closes if it stays clear until {began + step * TICK:%Y-%m-%d %H:%M} UTC"


def test_a_hidden_symptom_is_told_exactly_when_the_outlook_says() -> None:
    """Both stay broken: the cause hides for a day after it opened."""
    world = World()
    both = [rule_saw("sync_failures"), rule_saw("consecutive_failures")]
    world.tick(T0, *both)
    cause, symptom = (next(each for each in world.alerts.values() if each.rule == one.rule) for one in both)
    causes = {cause.fingerprint: Cause(alert=cause)}
    (said,) = (line for line in next_of(symptom, now=T0, causes=causes) if line.startswith(SLACK))
    step = 1
    while "consecutive_failures unsuppressed" not in world.said(world.tick(T0 + step * TICK, *both)):
        step += 1

    last_hidden = T0 + (step - 1) * TICK
    assert f"told when that closes, or after {last_hidden:%Y-%m-%d %H:%M} UTC, if it is still broken then" in said


# -- what has not been told ----------------------------------------------------------------------


def kept_back(why: SilentReason, by: str | None = None) -> Alert:
    """The stale sync, of which Slack was not told and mail was."""
    return replace(STALE, told={MAIL: TOLD}, suppressed={SLACK: Suppression(why=why, by=by, since=OPENED)})


def silence(**changes: Any) -> Silence:
    """Ann's, of stale syncs, until in an hour."""
    values: dict[str, Any] = {
        "id": uuid.UUID(int=7),
        "match": Matcher(rule=frozenset({"stale_sync"})),
        "starts_at": OPENED,
        "ends_at": AS_OF + HOUR,
        "author": "Ann",
        "reason": "maintenance",
        "created_at": OPENED,
        **changes,
    }
    return Silence(**values)


NIGHT = Mute(
    name="nights",
    match=Matcher(rule=frozenset({"stale_sync"})),
    start=time(11),
    end=time(13),
    timezone="UTC",
    reason="nobody reads it",
)


def test_a_silence_says_until_when_and_what_happens_then() -> None:
    one = kept_back(SilentReason.SILENCED, str(uuid.UUID(int=7)))

    lines = next_of(one, silences=[silence()])

    assert "silenced by Ann until 2026-11-24 13:00 UTC: maintenance; a close is told all the same" in lines
    assert (
        f"{SLACK}: not told, silenced by Ann until 2026-11-24 13:00 UTC: maintenance; told in one summary when that is over"
        in lines
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            {"starts_at": AS_OF, "ends_at": AS_OF + HOUR}, "silenced by Ann until 2026-11-24 13:00 UTC", id="now"
        ),
        pytest.param(
            {"starts_at": AS_OF + MINUTE},
            "from 2026-11-24 12:01 UTC on silenced by Ann until 2026-11-24 13:00 UTC",
            id="to come",
        ),
        pytest.param({"ends_at": AS_OF}, None, id="over now"),
        pytest.param({"match": Matcher(rule=frozenset({"stuck_sync"}))}, None, id="of others"),
    ],
)
def test_silences_that_hold_or_will(changes: dict[str, Any], text: str | None) -> None:
    lines = [line for line in next_of(STALE, silences=[silence(**changes)]) if "silenced" in line]

    assert lines == ([] if text is None else [f"{text}: maintenance; a close is told all the same"])


@pytest.mark.parametrize(("now", "holds"), [(AS_OF, True), (AS_OF + HOUR, False)], ids=["within", "at its end"])
def test_a_mute_that_holds_now(now: datetime, holds: bool) -> None:
    lines = next_of(STALE, policy=replace(POLICY, alerting=AlertingPolicy(mutes=(NIGHT,))), now=now)

    muted = "muted by nights of the policy: nobody reads it (11:00 to 13:00 UTC); a close is told all the same"
    assert (muted in lines) is holds


DUE = "2026-11-25 08:45 UTC"
"""When the stale sync is told again."""


@pytest.mark.parametrize(
    ("ends_at", "text"),
    [
        pytest.param(AS_OF + HOUR, f"repeat due at {DUE}", id="over by then"),
        pytest.param(OPENED + DAY, f"repeat due at {DUE}", id="over at that very moment"),
        pytest.param(
            OPENED + DAY + MINUTE, f"no repeat, which would be due at {DUE}: it is silenced then", id="not over"
        ),
    ],
)
def test_what_is_silenced_is_not_said_to_be_repeated(ends_at: datetime, text: str) -> None:
    assert f"{SLACK}: {text}" in next_of(STALE, silences=[silence(ends_at=ends_at)])


def test_what_is_muted_when_a_repeat_is_due_is_not_said_to_be_repeated() -> None:
    """By the clock of that moment, not of now."""
    morning = replace(NIGHT, start=time(8), end=time(9))
    lines = next_of(STALE, policy=replace(POLICY, alerting=AlertingPolicy(mutes=(morning,))))

    assert f"{SLACK}: no repeat, which would be due at {DUE}: it is muted then" in lines


def test_what_every_run_would_send_is_not_sent_into_a_silence() -> None:
    every_run = replace(POLICY, repeat={**POLICY.repeat, Severity.MEDIUM: timedelta(0)})

    lines = next_of(STALE, policy=every_run, silences=[silence()])

    assert f"{SLACK}: no repeat, which every run would send: it is silenced then" in lines


def test_a_silence_keeps_back_the_repeat_that_the_outlook_says_it_does() -> None:
    """The same alert lives on: the tick at which its repeat is due sends nothing."""
    world = World()
    world.tick(T0, saw(Verdict.BREACH))
    one = next(iter(world.alerts.values()))
    due = T0 + POLICY.repeat[one.severity]
    quiet = silence(match=Matcher(rule=frozenset({one.rule})), starts_at=T0, ends_at=due + TICK)
    loud = replace(quiet, ends_at=due)
    sent = {}
    for each in (quiet, loud):
        living = replace(world, alerts={**world.alerts}, outbox={**world.outbox}, silences=[each])
        sent[each.ends_at] = living.sent(living.tick(due, saw(Verdict.BREACH)))

    assert f"{SLACK}: no repeat, which would be due at {due:%Y-%m-%d %H:%M} UTC: it is silenced then" in next_of(
        one, now=T0, silences=[quiet]
    )
    assert f"{SLACK}: repeat due at {due:%Y-%m-%d %H:%M} UTC" in next_of(one, now=T0, silences=[loud])
    assert (sent[quiet.ends_at], "repeat" in sent[loud.ends_at]) == ([], True)


def test_the_budget_is_told_the_day_after() -> None:
    """In the reporting time zone: 08:45 UTC is still the 24th in Chicago, whose day ends at 06:00 UTC."""
    lines = next_of(kept_back(SilentReason.BUDGET), policy=replace(POLICY, reporting_timezone="America/Chicago"))

    assert (
        f"{SLACK}: not told, the day's budget of 10 messages was spent; it is told in the day's digest, "
        "with the first run from 2026-11-25 06:00 UTC on"
    ) in lines


@pytest.mark.parametrize(
    ("instant", "zone", "begins"),
    [
        pytest.param("2026-03-07T23:30:00+00:00", "UTC", "2026-03-08T00:00:00+00:00", id="UTC"),
        pytest.param(
            "2026-03-08T06:00:00+00:00", "America/Chicago", "2026-03-09T05:00:00+00:00", id="a day of 23 hours"
        ),
        pytest.param(
            "2026-11-01T05:00:00+00:00", "America/Chicago", "2026-11-02T06:00:00+00:00", id="a day of 25 hours"
        ),
    ],
)
def test_when_the_next_day_begins(instant: str, zone: str, begins: str) -> None:
    found = next_day(datetime.fromisoformat(instant), timezone=zone)

    assert found.astimezone(UTC) == datetime.fromisoformat(begins)


@pytest.mark.parametrize(
    ("cause", "when"),
    [
        pytest.param(TOKEN, "when that closes, or after 2026-11-25 08:45 UTC", id="while it is open, for a day"),
        pytest.param(
            closed(TOKEN, why=CloseReason.RECOVERED, reason="x"),
            "by the next run, as token_expiry of the same credential is closed",
            id="it is closed",
        ),
        pytest.param(None, "when that closes", id="a cause that is no longer kept"),
    ],
)
def test_what_a_cause_hides_is_told_when_it_no_longer_does(cause: Alert | None, when: str) -> None:
    one = kept_back(SilentReason.INHIBITED, TOKEN.fingerprint)

    lines = next_of(one, causes={} if cause is None else {cause.fingerprint: Cause(alert=cause)})

    (line,) = (line for line in lines if line.startswith(SLACK))
    assert line.startswith(f"{SLACK}: not told, inhibited by ")
    assert line.endswith(f"; told {when}, if it is still broken then")


def waiting(**changes: Any) -> LedgerLine:
    """A message to Slack that has yet to go out."""
    values: dict[str, Any] = {
        "channel": SLACK,
        "reason": NotifyReason.FIRST,
        "status": DeliveryStatus.PENDING,
        "as_of": AS_OF,
        "next_attempt_at": AS_OF,
        **changes,
    }
    return LedgerLine(**values)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        pytest.param(waiting(), "a message waits to be sent, it opened", id="due"),
        pytest.param(
            waiting(next_attempt_at=AS_OF + HOUR),
            "a message waits to be sent, it opened; due at 2026-11-24 13:00 UTC",
            id="after a refusal",
        ),
    ],
)
def test_a_message_that_waits(line: LedgerLine, text: str) -> None:
    assert f"{SLACK}: {text}" in next_of(STALE, ledger=[line])


def test_a_channel_that_nobody_told_and_nothing_keeps_back() -> None:
    """Such as after a run that was asked to tell nobody."""
    lines = next_of(replace(STALE, told={MAIL: TOLD}))

    assert f"{SLACK}: has not been told; the next run of its check tells it, unless something keeps it back" in lines


def test_a_close_that_is_owed() -> None:
    """A channel that heard of it at its opening, and has no message of its close that waits."""
    over = closed(STALE, why=CloseReason.RECOVERED, reason="it ran")

    assert f"{SLACK}: has yet to hear that it closed" in next_of(over)
    closing = next_of(over, ledger=[waiting(reason=NotifyReason.CLOSED)])
    assert [line for line in closing if line.startswith(SLACK)] == [f"{SLACK}: a message waits to be sent, it closed"]
    told = {SLACK: replace(TOLD, reason=NotifyReason.CLOSED)}
    assert [line for line in next_of(replace(over, told=told)) if line.startswith(SLACK)] == []

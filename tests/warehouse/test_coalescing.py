"""A channel that was out for hours hears the current state once, and never less than it is owed."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Alert, Delivery, NotifyReason
from include.sync_health.observations import episode_of
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import DroppedDelivery, due_channels, mark_retry
from tests.warehouse.monitoring_records import HOUR, MINUTE, NOW, OPS, alert, delivery
from tests.warehouse.outbox_steps import ONE, TWO, lease, leased, ledger, over, put, sent

FIRST, REPEAT, CLOSED, UPDATED = NotifyReason.FIRST, NotifyReason.REPEAT, NotifyReason.CLOSED, NotifyReason.UPDATED
ALREADY_TOLD, SUPERSEDED, HANDED_OUT = "already_told", "superseded", "leased"
SHOWN, SHOWN_OVER, NOT_SHOWN = "shown", "shown as over", "not shown"
AGAIN = replace(ONE, episode_id=episode_of(ONE.fingerprint, NOW + HOUR))


@pytest.mark.parametrize(
    ("reason", "of", "shown", "what_becomes_of_it"),
    [
        pytest.param(REPEAT, [ONE], [ONE], ALREADY_TOLD, id="a repeat of what was shown"),
        pytest.param(NotifyReason.ESCALATED, [ONE], [ONE], ALREADY_TOLD, id="an escalation of what was shown"),
        pytest.param(NotifyReason.UNSUPPRESSED, [ONE], [ONE], ALREADY_TOLD, id="an opening of what was shown"),
        pytest.param(REPEAT, [ONE], [over(ONE)], ALREADY_TOLD, id="a repeat of what was shown as over"),
        pytest.param(REPEAT, [ONE, TWO], [ONE, TWO], ALREADY_TOLD, id="a group that was shown whole"),
        pytest.param(REPEAT, [ONE, TWO], [ONE], HANDED_OUT, id="a group of which one was not shown is sent"),
        pytest.param(REPEAT, [ONE], [TWO], HANDED_OUT, id="a repeat of what was not shown is sent"),
        pytest.param(REPEAT, [ONE], [], HANDED_OUT, id="a repeat after a message of which nobody knows is sent"),
        pytest.param(FIRST, [AGAIN], [ONE], HANDED_OUT, id="the opening of another episode is sent"),
        pytest.param(CLOSED, [ONE], [over(ONE)], ALREADY_TOLD, id="a close of what was shown as over"),
        pytest.param(CLOSED, [ONE], [ONE], HANDED_OUT, id="a close of what was shown as open is sent"),
        pytest.param(
            CLOSED, [ONE, TWO], [over(ONE), TWO], HANDED_OUT, id="a close of two of which one was open is sent"
        ),
        pytest.param(CLOSED, [ONE], [over(AGAIN)], HANDED_OUT, id="a close of another episode is sent"),
        pytest.param(NotifyReason.DIGEST, [ONE], [ONE], HANDED_OUT, id="a digest is sent whatever was shown"),
        pytest.param(NotifyReason.SILENCE_ENDED, [ONE], [ONE], HANDED_OUT, id="so is what a silence kept back"),
        pytest.param(NotifyReason.TEST, [], [ONE], HANDED_OUT, id="so is a test message"),
        pytest.param(NotifyReason.HEARTBEAT, [], [ONE], HANDED_OUT, id="so is a heartbeat"),
    ],
)
@pytest.mark.parametrize("decided", ["before the other was rendered", "after it"])
def test_what_a_message_that_went_out_late_leaves_to_say(
    emptied: psycopg.Connection[Any],
    reason: NotifyReason,
    of: list[Alert],
    shown: list[Alert],
    what_becomes_of_it: str,
    decided: str,
) -> None:
    """
    The late message showed everything that was decided before it was rendered, and nothing that was decided after.

    By what the ledger held when the alerts were read: the run that decides began before either, and its clock says so.
    """
    put(emptied, delivery("late", ONE, TWO))
    waiting = delivery("next", *of, reason=reason)
    if decided == "after it":
        late = leased(emptied)
        put(emptied, waiting, now=NOW - HOUR)
    else:
        put(emptied, waiting, now=NOW - HOUR)
        late = leased(emptied)
    assert late.key == "late"
    sent(emptied, late, *shown)

    lease(emptied)
    assert ledger(emptied)["next"] == (what_becomes_of_it if decided != "after it" else HANDED_OUT)


@pytest.mark.parametrize(
    ("reason", "thread", "parent", "shown", "what_becomes_of_it"),
    [
        pytest.param(FIRST, "t", True, [ONE], SUPERSEDED, id="after its thread began with the alert"),
        pytest.param(UPDATED, "t", True, [ONE], SUPERSEDED, id="after its thread began anew with the alert"),
        pytest.param(UPDATED, "t", False, [ONE], SUPERSEDED, id="after another edit showed the alert"),
        pytest.param(UPDATED, "t", False, [AGAIN], SUPERSEDED, id="in whatever episode it is by now"),
        pytest.param(FIRST, "t", True, [TWO], HANDED_OUT, id="not after its thread began without the alert"),
        pytest.param(FIRST, "other", True, [ONE], HANDED_OUT, id="not after another thread began with the alert"),
        pytest.param(REPEAT, "t", False, [ONE], HANDED_OUT, id="not after a reply: the first message is as it was"),
        pytest.param(FIRST, None, False, [ONE], HANDED_OUT, id="not after a summary"),
    ],
)
def test_an_edit_is_made_unless_the_first_message_shows_it_anyway(
    emptied: psycopg.Connection[Any],
    reason: NotifyReason,
    thread: str | None,
    parent: bool,
    shown: list[Alert],
    what_becomes_of_it: str,
) -> None:
    """It was refused for a while, and meanwhile another message went out."""
    put(emptied, delivery("next", ONE, reason=UPDATED, thread="t"))
    edit = leased(emptied)
    mark_retry(emptied, edit.id, owner="worker", now=NOW, next_attempt_at=NOW + MINUTE, error="x", ambiguous=False)
    put(emptied, delivery("other", TWO, reason=reason, thread=thread))
    other = leased(emptied)
    assert other.key == "other"
    sent(emptied, other, *shown, parent=parent)

    lease(emptied, now=NOW + MINUTE)
    assert ledger(emptied)["next"] == what_becomes_of_it


@pytest.mark.parametrize(
    ("parent", "what_becomes_of_it"),
    [
        pytest.param(False, HANDED_OUT, id="an edit tells nobody, so the repeat is sent"),
        pytest.param(True, ALREADY_TOLD, id="one that had to be posted anew is a message"),
    ],
)
def test_an_edit_is_no_message(emptied: psycopg.Connection[Any], parent: bool, what_becomes_of_it: str) -> None:
    put(emptied, delivery("edit", ONE, reason=UPDATED, thread="t"), delivery("next", ONE, reason=REPEAT, thread="t"))
    edit = leased(emptied)
    assert edit.key == "edit"
    sent(emptied, edit, ONE, parent=parent)

    lease(emptied)
    assert ledger(emptied)["next"] == what_becomes_of_it


@pytest.mark.parametrize(
    ("threads", "found"),
    [
        pytest.param(
            ["t", "t", "t"], {"0": SUPERSEDED, "1": SUPERSEDED, "2": HANDED_OUT}, id="the newest of one thread"
        ),
        pytest.param(["t", "u", "t"], {"0": SUPERSEDED, "1": HANDED_OUT, "2": "pending"}, id="of each thread its own"),
    ],
)
def test_of_several_edits_of_a_thread_only_the_newest_is_made(
    emptied: psycopg.Connection[Any], threads: list[str], found: dict[str, str]
) -> None:
    """It shows whatever the older ones would."""
    edits = [
        delivery(str(number), [ONE, TWO][number % 2], reason=UPDATED, thread=thread)
        for number, thread in enumerate(threads)
    ]
    put(emptied, *edits)

    lease(emptied)
    assert ledger(emptied) == found


def test_an_edit_waits_for_its_alerts_opening_and_holds_back_nobody(emptied: psycopg.Connection[Any]) -> None:
    """An edit that the channel refuses for now delays no escalation."""
    put(emptied, delivery("first", ONE, thread="t"), delivery("edit", ONE, reason=UPDATED, thread="t"))
    first = leased(emptied)
    assert lease(emptied) is None
    sent(emptied, first)  # of which nobody knows what it showed
    edit = leased(emptied)
    mark_retry(emptied, edit.id, owner="worker", now=NOW, next_attempt_at=NOW + HOUR, error="x", ambiguous=False)

    put(emptied, delivery("worse", ONE, reason=NotifyReason.ESCALATED, thread="t"))
    assert leased(emptied).key == "worse"


def outage() -> list[Delivery]:
    """Return what is decided of one alert while a channel takes nothing for hours."""
    reasons = (FIRST, REPEAT, NotifyReason.ESCALATED, UPDATED, REPEAT, UPDATED)
    return [
        delivery(f"{number}-{reason}", ONE, reason=reason, thread="t", as_of=NOW + number * HOUR)
        for number, reason in enumerate(reasons)
    ]


@pytest.mark.parametrize("ended", [False, True], ids=["it still fires", "it is over by then"])
def test_a_channel_that_comes_back_hears_the_current_state_once(emptied: psycopg.Connection[Any], ended: bool) -> None:
    put(emptied, *outage(), *([delivery("9-closed", ONE, reason=CLOSED, thread="t")] if ended else []))
    put(emptied, alerts=[over(ONE) if ended else ONE])
    passed_over: list[DroppedDelivery] = []

    back = NOW + 8 * HOUR
    only = leased(emptied, now=back, dropped=passed_over)
    sent(emptied, only, *only.alerts, parent=True, now=back)
    assert lease(emptied, now=back, dropped=passed_over) is None

    first, *others = ledger(emptied).items()
    assert first == ("0-first", "sent")
    assert dict(others) == {each.key: str(each.why) for each in passed_over}
    assert {key: why for key, why in others if "updated" in key} == {"3-updated": SUPERSEDED, "5-updated": SUPERSEDED}
    assert {why for key, why in others if "updated" not in key} == {ALREADY_TOLD}
    assert len(others) == (6 if ended else 5)


def test_what_is_passed_over_is_told_with_what_the_log_needs(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("late", ONE), delivery("next", ONE, TWO, reason=REPEAT))
    late = leased(emptied)
    sent(emptied, late, ONE, TWO)
    passed_over: list[DroppedDelivery] = []

    assert lease(emptied, dropped=passed_over) is None

    (dropped,) = passed_over
    assert (dropped.id, dropped.key, dropped.channel, dropped.attempts) == (late.id + 1, "next", OPS, 1)
    assert (dropped.reason, dropped.members) == (REPEAT, delivery("next", ONE, TWO).members)


def test_a_row_of_before_it_was_kept_what_messages_show_still_tells_of_the_close(
    emptied: psycopg.Connection[Any],
) -> None:
    """Its receipt does."""
    put(emptied, delivery("late", ONE), delivery("close", ONE, reason=CLOSED))
    emptied.execute(
        "UPDATE monitoring.delivery SET status = 'sent', sent_at = %s, receipt = '{\"told_of_close\": true}'"
        " WHERE key = 'late'",
        (NOW + MINUTE,),
    )
    emptied.commit()

    assert lease(emptied, now=NOW + MINUTE) is None
    assert ledger(emptied)["close"] == ALREADY_TOLD


def test_two_workers_that_drain_a_backlog_send_nothing_twice_and_leave_no_alert_untold(
    emptied_dsn: str, emptied: psycopg.Connection[Any]
) -> None:
    """Openings, repeats and edits of a few threads; every alert is shown, and everything comes to an end."""
    people = [alert(str(number)) for number in range(6)]
    backlog = [
        delivery(f"{round_}-{place}", each, reason=reason, thread=f"t{place % 2}")
        for round_, reason in enumerate((FIRST, UPDATED, REPEAT, UPDATED, NotifyReason.ESCALATED))
        for place, each in enumerate(people)
    ]
    put(emptied, *backlog, alerts=people)
    together = threading.Barrier(2)
    sends: list[str] = []
    told: set[str] = set()
    crashes: list[BaseException] = []

    def drain(owner: str) -> None:
        try:
            with connect(emptied_dsn) as own:
                together.wait(timeout=30)
                while due_channels(own, now=NOW):
                    if (given := lease(own, owner=owner)) is not None:
                        sends.append(given.key)
                        told.update(each.fingerprint for each in given.alerts if given.reason is not UPDATED)
                        sent(own, given, *given.neighbours, parent=given.parent is None, owner=owner)
        except BaseException as crash:
            crashes.append(crash)
            raise

    workers = [threading.Thread(target=drain, args=(f"worker-{number}",)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert crashes == []
    assert len(sends) == len(set(sends))
    assert told == {each.fingerprint for each in people}
    ends = ledger(emptied)
    assert {key for key, end in ends.items() if end == "sent"} == set(sends)
    assert set(ends.values()) <= {"sent", ALREADY_TOLD, SUPERSEDED}
    assert all(ends[f"0-{place}"] == "sent" for place in range(6))


@pytest.mark.parametrize(
    ("shown", "left"),
    [
        pytest.param([over(ONE)], [TWO], id="one was shown as over: the close speaks of the other"),
        pytest.param([ONE], [ONE, TWO], id="one was shown as open: it speaks of both"),
        pytest.param([over(AGAIN)], [ONE, TWO], id="another episode was shown as over: of both"),
    ],
)
def test_a_close_of_several_leaves_out_what_was_told_to_be_over(
    emptied: psycopg.Connection[Any], shown: list[Alert], left: list[Alert]
) -> None:
    """A late opening has said of one of them that it recovered."""
    put(emptied, delivery("late", ONE), delivery("close", ONE, TWO, reason=CLOSED), alerts=[over(ONE), over(TWO)])
    sent(emptied, leased(emptied), *shown)

    found = leased(emptied)
    assert [each.fingerprint for each in found.members] == [each.fingerprint for each in left]
    assert [each.fingerprint for each in found.alerts] == [each.fingerprint for each in left]

"""A message is handed out with the conversation it belongs to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Alert, NotifyReason, SilentReason
from include.sync_health.verdicts import Severity
from include.warehouse.outbox import drop, mark_dead, mark_sent
from tests.warehouse.monitoring_records import HOSTILE, MINUTE, NOW, OPS, STORED_HOSTILE, alert, delivery
from tests.warehouse.outbox_steps import LEASE, ONE, TWO, lease, leased, ledger, over, put, sent, stored

THREE = alert("3")
MAIL = "email:ops@example.com"


def test_what_its_renderer_needs_comes_with_it(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE, severity=Severity.LOW, thread="t", details={"kept_back": 3}))

    found = leased(emptied)

    assert (found.thread, found.severity, found.details) == ("t", Severity.LOW, {"kept_back": 3})
    assert (found.fallback_of, found.parent, found.neighbours) == (None, None, (ONE,))


@pytest.mark.parametrize(
    ("channel", "thread", "parent", "is_it"),
    [
        pytest.param(OPS, "t", True, True, id="the first message of its thread is"),
        pytest.param(OPS, "t", False, False, id="a reply is not"),
        pytest.param(OPS, "u", True, False, id="that of another thread is not"),
        pytest.param(MAIL, "t", True, False, id="that of another channel is not"),
    ],
)
def test_the_parent(emptied: psycopg.Connection[Any], channel: str, thread: str, parent: bool, is_it: bool) -> None:
    put(emptied, delivery("a", ONE, channel=channel, thread=thread))
    sent(emptied, leased(emptied, channel=channel), parent=parent)
    put(emptied, delivery("b", TWO, thread="t", reason=NotifyReason.NEW_IN_GROUP))

    assert leased(emptied).parent == ({"ts": "a", "parent": True} if is_it else None)


def test_of_two_parents_the_newest_counts(emptied: psycopg.Connection[Any]) -> None:
    """The first one was deleted, and what should have replied to it became the next."""
    for key, minutes in (("a", 0), ("b", 1)):
        put(emptied, delivery(key, ONE, thread="t"))
        sent(emptied, leased(emptied), parent=True, now=NOW + minutes * MINUTE)
    put(emptied, delivery("c", ONE, thread="t", reason=NotifyReason.CLOSED))

    assert leased(emptied).parent == {"ts": "b", "parent": True}


def test_neighbours_are_all_that_was_told_in_the_thread_as_it_is_now(emptied: psycopg.Connection[Any]) -> None:
    """The members first, then the others, longest ago first; each once."""
    others = [alert(str(number)) for number in (9, 8, 7)]
    for number, each in enumerate(others):
        put(emptied, delivery(str(number), each, thread="t"), alerts=[each])
        sent(emptied, leased(emptied))
    put(emptied, delivery("elsewhere", THREE, thread="u"), alerts=[THREE])
    sent(emptied, leased(emptied))
    put(emptied, delivery("mail", THREE, thread="t", channel=MAIL))
    sent(emptied, leased(emptied, channel=MAIL))
    now = [over(others[0]), *others[1:]]
    put(emptied, delivery("edit", TWO, others[1], thread="t", reason=NotifyReason.UPDATED), alerts=[TWO, *now])

    found = leased(emptied)

    assert found.alerts == (TWO, others[1])
    assert found.neighbours == (TWO, others[1], now[0], others[2])


@pytest.mark.parametrize("end", ["dead", "dropped"])
def test_what_was_never_sent_there_is_no_neighbour(emptied: psycopg.Connection[Any], end: str) -> None:
    put(emptied, delivery("a", ONE, thread="t"), delivery("b", TWO, thread="t"))
    first = leased(emptied)
    if end == "dead":
        mark_dead(emptied, first.id, owner="worker", now=NOW, error="x")
    else:
        drop(emptied, first.id, owner="worker", now=NOW, why=SilentReason.SUPERSEDED)

    assert leased(emptied).neighbours == (TWO,)


def test_a_summary_has_no_neighbours(emptied: psycopg.Connection[Any]) -> None:
    """No thread is not a thread of its own."""
    put(emptied, delivery("a", ONE), delivery("b", TWO, reason=NotifyReason.DIGEST))
    sent(emptied, leased(emptied), parent=True)

    found = leased(emptied)
    assert (found.parent, found.neighbours) == (None, (TWO,))


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        pytest.param(ONE, False, id="open"),
        pytest.param(over(ONE), True, id="over"),
        pytest.param(replace(ONE, episode_id=None), False, id="of no episode"),
    ],
)
def test_the_ledger_keeps_what_the_message_showed(emptied: psycopg.Connection[Any], shown: Alert, kept: bool) -> None:
    put(emptied, delivery("a", ONE))
    sent(emptied, leased(emptied), shown)

    episode = str(shown.episode_id) if shown.episode_id else None
    assert stored(emptied, "a", "rendered, rendered_after") == (
        [{"fingerprint": ONE.fingerprint, "episode_id": episode, "is_over": kept}],
        1,
    )


@pytest.mark.parametrize("why", SilentReason)
def test_a_message_can_be_dropped_for_every_reason(emptied: psycopg.Connection[Any], why: SilentReason) -> None:
    """By whoever holds it."""
    put(emptied, delivery("a", ONE), delivery("b", ONE, reason=NotifyReason.CLOSED))
    given = leased(emptied)

    assert not drop(emptied, given.id, owner="other", now=NOW, why=why)
    assert drop(emptied, given.id, owner="worker", now=NOW, why=why)
    assert not drop(emptied, given.id, owner="worker", now=NOW, why=why)
    assert ledger(emptied) == {"a": str(why), "b": "pending"}
    assert leased(emptied).key == "b"


def test_hostile_text_in_a_receipt_is_stored_and_found(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, delivery("a", ONE, channel=HOSTILE, thread=HOSTILE))
    given = leased(emptied, channel=HOSTILE)
    receipt = {"parent": True, HOSTILE: HOSTILE}
    assert mark_sent(emptied, given.id, owner="worker", now=NOW, receipt=receipt, rendered=given.alerts)
    put(emptied, delivery("b", ONE, channel=HOSTILE, thread=HOSTILE))

    found = leased(emptied, channel=HOSTILE)
    assert (found.channel, found.thread) == (STORED_HOSTILE, STORED_HOSTILE)
    assert found.parent == {"parent": True, STORED_HOSTILE: STORED_HOSTILE}
    assert lease(emptied, channel=HOSTILE, now=NOW + LEASE) is not None

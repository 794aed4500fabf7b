"""What is kept back is known until one summary tells of it, and what was said is counted for the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import Delivery, DeliveryStatus, Held, Member, NotifyReason, SilentReason
from include.sync_health.errors import StorageError
from include.sync_health.speeches import BUDGETED
from include.sync_health.verdicts import Severity
from include.warehouse.alert_ledger import held_back, spent_since
from include.warehouse.alert_store import save_step
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import drop, mark_dead
from tests.warehouse.monitoring_records import MINUTE, NOW, OPS, alert, delivery, kept_back
from tests.warehouse.outbox_steps import ONE, TWO, leased, put, sent

MEDIUM = Severity.MEDIUM


def accounted(emptied: psycopg.Connection[Any]) -> dict[str, str | None]:
    return dict(
        emptied.execute("SELECT key, accounted_by FROM monitoring.delivery WHERE status = 'not_sent'").fetchall()
    )


@pytest.mark.parametrize(
    ("summaries", "found", "counts"),
    [
        pytest.param(
            [("s", "a", "b")], {"a": "s", "b": "s", "c": None}, [2], id="a summary accounts for what it names"
        ),
        pytest.param([("s",)], {"a": None, "b": None, "c": None}, [0], id="one that names nothing for nothing"),
        pytest.param([("s", "a", "x")], {"a": "s", "b": None, "c": None}, [1], id="an unknown key is no harm"),
        pytest.param(
            [("s", "a"), ("t", "a", "b")], {"a": "s", "b": "t", "c": None}, [1, 1], id="the first that told of it stays"
        ),
        pytest.param([("s", "a"), ("s", "a")], {"a": "s", "b": None, "c": None}, [1, 0], id="again changes nothing"),
    ],
)
def test_what_was_kept_back_is_accounted_for_once(
    emptied: psycopg.Connection[Any], summaries: list[tuple[str, ...]], found: dict[str, str | None], counts: list[int]
) -> None:
    held = [kept_back(key, alert(key)) for key in "abc"]
    save_step(emptied, alerts=[], events=[], deliveries=held, now=NOW)

    written = []
    for key, *keys in summaries:
        telling = delivery(key, alert(), reason=NotifyReason.DIGEST, accounts_for=tuple(keys))
        written.append(save_step(emptied, alerts=[], events=[], deliveries=[telling], now=NOW + MINUTE).accounted)

    assert (accounted(emptied), written) == (found, counts)


def test_of_two_summaries_of_one_tick_the_first_accounts_for_it(emptied: psycopg.Connection[Any]) -> None:
    """Not whichever the server happens to take."""
    save_step(emptied, alerts=[], events=[], deliveries=[kept_back("a", alert())], now=NOW)
    two: list[Delivery] = [delivery(key, alert(), accounts_for=("a",)) for key in ("z", "b")]

    assert save_step(emptied, alerts=[], events=[], deliveries=two, now=NOW).accounted == 1
    assert accounted(emptied) == {"a": "z"}


def test_a_tick_that_is_rolled_back_accounts_for_nothing(emptied: psycopg.Connection[Any]) -> None:
    """The summary and the mark are one transaction."""
    save_step(emptied, alerts=[], events=[], deliveries=[kept_back("a", alert())], now=NOW)
    emptied.commit()
    save_step(emptied, alerts=[], events=[], deliveries=[delivery("s", alert(), accounts_for=("a",))], now=NOW)
    emptied.rollback()

    assert accounted(emptied) == {"a": None}


@pytest.mark.parametrize(
    ("why", "is_held"),
    [
        *(
            pytest.param(why, True, id=f"what was {why} is")
            for why in (SilentReason.SILENCED, SilentReason.MUTED, SilentReason.BUDGET)
        ),
        *(
            pytest.param(why, False, id=f"what was not sent for {why} is not")
            for why in SilentReason
            if why not in (SilentReason.SILENCED, SilentReason.MUTED, SilentReason.BUDGET)
        ),
    ],
)
def test_what_a_summary_will_tell_of_is_held(
    emptied: psycopg.Connection[Any], why: SilentReason, is_held: bool
) -> None:
    by = None if why is SilentReason.BUDGET else "nights"
    put(emptied, kept_back("a", ONE, why, by=by, as_of=NOW - MINUTE))

    (member,) = delivery("x", ONE).members
    held = Held(key="a", channel=OPS, why=why, by=by, member=member, as_of=NOW - MINUTE, rule="sync_failures")
    assert held_back(emptied) == ([held] if is_held else [])


def test_what_is_held_comes_in_order_until_it_is_accounted_for(emptied: psycopg.Connection[Any]) -> None:
    put(emptied, *(kept_back(key, ONE) for key in "cab"), delivery("sent", ONE))
    assert [each.key for each in held_back(emptied)] == ["c", "a", "b"]

    put(emptied, delivery("summary", ONE, reason=NotifyReason.SILENCE_ENDED, accounts_for=("c", "b")))
    assert [each.key for each in held_back(emptied)] == ["a"]


def test_what_is_held_of_an_alert_that_nobody_knows_is_not_lost(emptied: psycopg.Connection[Any]) -> None:
    unknown = Member(fingerprint="unknown", episode_id=ONE.episode_id or delivery("x", ONE).members[0].episode_id)
    put(emptied, replace(kept_back("a", ONE), members=(unknown,)))

    assert [(each.member, each.rule) for each in held_back(emptied)] == [(unknown, "")]


@pytest.mark.parametrize(
    ("changes", "is_spent"),
    [
        pytest.param({}, True, id="a medium opening"),
        pytest.param({"severity": Severity.LOW}, True, id="a low one"),
        pytest.param({"severity": Severity.HIGH}, False, id="not a high one"),
        pytest.param({"severity": Severity.CRITICAL}, False, id="nor a critical one"),
        pytest.param({"severity": None}, False, id="nor one of before severities were kept"),
        pytest.param({"as_of": NOW - timedelta(microseconds=1)}, False, id="nor one of before"),
        pytest.param({"reason": None, "silent": SilentReason.BUDGET}, False, id="nor one that was kept back"),
        *(
            pytest.param({"reason": reason}, reason in BUDGETED, id=f"by its reason: {reason}")
            for reason in NotifyReason
        ),
    ],
)
def test_the_budget_counts(emptied: psycopg.Connection[Any], changes: dict[str, Any], is_spent: bool) -> None:
    """From the very instant that is asked for."""
    put(emptied, delivery("a", ONE, **{"severity": MEDIUM, **changes}))

    assert spent_since(emptied, NOW) == ({OPS: 1} if is_spent else {})


def test_the_budget_counts_by_channel_whatever_became_of_the_message(emptied: psycopg.Connection[Any]) -> None:
    """Decided is spent; what turned out to have been told already is not."""
    people = [alert(str(number)) for number in range(5)]
    mail = "email:ops@example.com"
    put(emptied, *(delivery(str(n), each, severity=MEDIUM) for n, each in enumerate(people)), alerts=people)
    put(emptied, delivery("mail", TWO, channel=mail, severity=MEDIUM))
    sent(emptied, leased(emptied))
    mark_dead(emptied, leased(emptied).id, owner="worker", now=NOW, error="x")
    leased(emptied)
    drop(emptied, leased(emptied).id, owner="worker", now=NOW, why=SilentReason.ALREADY_TOLD)

    assert spent_since(emptied, NOW) == {OPS: 4, mail: 1}
    rows = emptied.execute("SELECT status FROM monitoring.delivery").fetchall()
    assert {DeliveryStatus(status) for (status,) in rows} == set(DeliveryStatus)


def test_a_naive_time_is_refused_and_a_missing_schema_is_one_line(
    emptied: psycopg.Connection[Any], make_database: Callable[..., str]
) -> None:
    with pytest.raises(ValueError, match="naive"):
        spent_since(emptied, NOW.replace(tzinfo=None))
    with connect(make_database("empty")) as conn:
        for ask in (held_back, lambda each: spent_since(each, NOW)):
            with pytest.raises(StorageError, match=r"include\.cli migrate"):
                ask(conn)
            conn.rollback()

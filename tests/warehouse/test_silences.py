"""Silences are kept as they were asked for, end when somebody ends them, and can be tried out before."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.sync_health.alerts import OF_WHAT_IS_OPEN, NotifyReason, SilentReason
from include.sync_health.errors import RequestError, StorageError
from include.sync_health.matchers import Matcher, Tagged
from include.sync_health.muting import Silence, Suppressors
from include.sync_health.verdicts import Severity
from include.warehouse.monitoring_session import connect
from include.warehouse.outbox import drop, mark_dead
from include.warehouse.silences import (
    MOST_EXAMPLES,
    HiddenMessage,
    Preview,
    add_silence,
    end_silence,
    messages_matching,
    silences_at,
    silences_since,
)
from tests.warehouse.monitoring_records import (
    DAY,
    HOSTILE,
    HOUR,
    MINUTE,
    NOW,
    OPS,
    STORED_HOSTILE,
    alert,
    delivery,
    kept_back,
    silence,
)
from tests.warehouse.outbox_steps import leased, put

TICK = timedelta(microseconds=1)
BEN = "ben@example.com"
WHOLE = Matcher(
    severity=frozenset({Severity.LOW, Severity.MEDIUM}),
    rule=frozenset({"stale_sync", "sync_failures"}),
    environment=frozenset({"production"}),
    company=frozenset({"3"}),
    credential=frozenset({"7", "8"}),
    data_type=frozenset({"invoices"}),
    tag=frozenset({"vip"}),
    fingerprint=frozenset({"3f9a2c"}),
)


def column(conn: psycopg.Connection[Any], name: str) -> list[Any]:
    """Return a column of all silences, by id."""
    return [value for (value,) in conn.execute(f"SELECT {name} FROM monitoring.silence ORDER BY id".encode())]


@pytest.mark.parametrize(
    "match",
    [
        pytest.param(WHOLE, id="everything that can be asked"),
        *(
            pytest.param(Matcher(**{name: getattr(WHOLE, name)}), id=name)
            for name in ("severity", "rule", "company", "tag", "fingerprint")
        ),
    ],
)
def test_a_silence_comes_back_as_it_was_asked_for(emptied: psycopg.Connection[Any], match: Matcher) -> None:
    asked = silence(match=match)
    add_silence(emptied, asked)

    assert silences_at(emptied, NOW) == [asked]
    assert silences_since(emptied, NOW) == [asked]
    assert all(isinstance(each, Severity) for each in silences_at(emptied, NOW)[0].match.severity)


def test_it_keeps_back_what_it_matches_and_nothing_else(emptied: psycopg.Connection[Any]) -> None:
    """As the core is given it."""
    from include.sync_health.matchers import labels_of

    add_silence(emptied, silence())
    found = Suppressors(at=NOW, silences=silences_at(emptied, NOW))

    assert found.of(labels_of(alert("7"), tags={})) == (SilentReason.SILENCED, str(uuid.UUID(int=1)))
    assert found.of(labels_of(alert("8"), tags={})) is None


def test_asking_again_changes_nothing(emptied: psycopg.Connection[Any]) -> None:
    add_silence(emptied, silence())
    add_silence(emptied, silence(reason="another"))

    assert silences_at(emptied, NOW) == [silence()]


def test_nothing_is_committed(emptied_dsn: str, emptied: psycopg.Connection[Any]) -> None:
    add_silence(emptied, silence())
    emptied.rollback()
    with connect(emptied_dsn) as outside:
        assert silences_since(outside, NOW - DAY) == []


def test_hostile_text_is_stored_as_text(emptied: psycopg.Connection[Any]) -> None:
    add_silence(
        emptied,
        silence(author=HOSTILE, reason=HOSTILE, match=Matcher(company=frozenset({HOSTILE}), rule=frozenset({"x"}))),
    )
    end_silence(emptied, str(silence().id), by=HOSTILE, now=NOW + MINUTE)

    (found,) = silences_since(emptied, NOW)
    assert (found.author, found.reason, found.match.company) == (STORED_HOSTILE, STORED_HOSTILE, {STORED_HOSTILE})
    assert column(emptied, "ended_early_by") == [STORED_HOSTILE]


@pytest.mark.parametrize(
    ("at", "holds", "is_known"),
    [
        pytest.param(NOW - TICK, False, True, id="before it begins"),
        pytest.param(NOW, True, True, id="as it begins"),
        pytest.param(NOW + HOUR - TICK, True, True, id="to its last moment"),
        pytest.param(NOW + HOUR, False, False, id="not at its end"),
    ],
)
def test_when_it_holds(emptied: psycopg.Connection[Any], at: datetime, holds: bool, is_known: bool) -> None:
    """`silences_since` knows all that are not over, those to come included."""
    add_silence(emptied, silence())

    assert silences_at(emptied, at) == ([silence()] if holds else [])
    assert silences_since(emptied, at) == ([silence()] if is_known else [])


def test_the_oldest_holds_first_and_the_newest_is_listed_first(emptied: psycopg.Connection[Any]) -> None:
    """Of two that match, the older keeps it back, tick for tick."""
    for number in (2, 3, 1):
        add_silence(emptied, silence(number, created_at=NOW - number * MINUTE))

    assert [each.id.int for each in silences_at(emptied, NOW)] == [3, 2, 1]
    assert [each.id.int for each in silences_since(emptied, NOW)] == [1, 2, 3]


ID = "4a1b2c3d-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        pytest.param(ID, True, id="the whole id"),
        pytest.param("4a1b2c", True, id="its first six digits"),
        pytest.param(" 4A1B2C3D-00 ", True, id="in capitals, and with blanks around"),
        pytest.param("4a1b2d", False, id="another id"),
        pytest.param("a1b2c3", False, id="not in the middle"),
    ],
)
def test_a_silence_is_ended_by_how_its_id_begins(emptied: psycopg.Connection[Any], prefix: str, found: bool) -> None:
    asked = silence(id=uuid.UUID(ID))
    add_silence(emptied, asked)

    ended = end_silence(emptied, prefix, by=BEN, now=NOW + MINUTE)

    assert ended == (replace(asked, ends_at=NOW + MINUTE, ended_early_by=BEN) if found else None)
    assert (silences_at(emptied, NOW + MINUTE) == []) is found
    assert silences_since(emptied, NOW) == [ended if ended is not None else asked]
    assert column(emptied, "ended_early_by") == [BEN if found else None]


@pytest.mark.parametrize(
    ("prefix", "named"),
    [
        pytest.param("4a1b2", "at least 6 characters", id="too short"),
        pytest.param("", "at least 6 characters", id="empty"),
        pytest.param("4a1b2%", "is no id", id="a pattern"),
        pytest.param("nights", "is no id", id="the name of a mute"),
        pytest.param("4a1b2c", "beginning of 2 ids .*give more of it", id="that of two"),
    ],
)
def test_an_id_that_names_none_or_two_is_one_line(emptied: psycopg.Connection[Any], prefix: str, named: str) -> None:
    for last in "12":
        add_silence(emptied, silence(id=uuid.UUID(ID[:-1] + last)))

    with pytest.raises(RequestError, match=named) as caught:
        end_silence(emptied, prefix, by=BEN, now=NOW)
    assert "\n" not in str(caught.value)
    assert column(emptied, "ended_early_by") == [None, None]


def test_nobody_ends_nothing(emptied: psycopg.Connection[Any]) -> None:
    add_silence(emptied, silence())
    with pytest.raises(RequestError, match="by: it is empty"):
        end_silence(emptied, str(silence().id), by=" ", now=NOW)


@pytest.mark.parametrize(
    ("now", "ended"),
    [
        pytest.param(NOW + HOUR - TICK, True, id="in its last moment"),
        pytest.param(NOW + HOUR, False, id="one that is over is not ended"),
    ],
)
def test_only_what_is_not_over_is_ended(emptied: psycopg.Connection[Any], now: datetime, ended: bool) -> None:
    add_silence(emptied, silence())

    assert (end_silence(emptied, str(silence().id), by=BEN, now=now) is not None) is ended
    assert column(emptied, "ends_at") == [now if ended else NOW + HOUR]


def test_it_is_ended_once(emptied: psycopg.Connection[Any]) -> None:
    """Who ended it first stays."""
    add_silence(emptied, silence())
    assert end_silence(emptied, str(silence().id), by=BEN, now=NOW + MINUTE) is not None
    assert end_silence(emptied, str(silence().id), by="cat", now=NOW) is None
    assert column(emptied, "ended_early_by") == [BEN]


@pytest.mark.parametrize("now", [NOW - DAY, NOW], ids=["a day before", "as it would begin"])
def test_one_that_is_ended_before_it_began_never_held(emptied: psycopg.Connection[Any], now: datetime) -> None:
    """It is returned as it was planned, and is no silence any more."""
    add_silence(emptied, silence())

    assert end_silence(emptied, str(silence().id), by=BEN, now=now) == silence()

    for instant in (now - TICK, now, NOW, NOW + MINUTE):
        assert silences_at(emptied, instant) == []
        assert silences_since(emptied, instant) == []
    assert end_silence(emptied, str(silence().id), by=BEN, now=now) is None


def test_of_two_that_end_one_at_once_the_second_waits_and_ends_nothing(
    emptied_dsn: str, emptied: psycopg.Connection[Any]
) -> None:
    add_silence(emptied, silence())
    emptied.commit()
    ends: list[Silence | None] = []

    with connect(emptied_dsn) as second:

        def work() -> None:
            with second:
                ends.append(end_silence(second, str(silence().id), by="cat", now=NOW + MINUTE))

        assert end_silence(emptied, str(silence().id), by=BEN, now=NOW + MINUTE) is not None
        worker = threading.Thread(target=work)
        worker.start()
        waiting = "SELECT FROM pg_locks WHERE pid = %s AND NOT granted"  # unlike pg_stat_activity's, never a snapshot
        while emptied.execute(waiting, (second.info.backend_pid,)).fetchone() is None:
            assert worker.is_alive()
        emptied.commit()
        worker.join()

    assert ends == [None]
    assert column(emptied, "ended_early_by") == [BEN]


PRODUCTION = alert("7", environment="production", company_id="3", company_name="Acme")
OTHER = alert("8", environment="integration", company_id="4")
TAGS = {"vip": Tagged(companies=frozenset({"4"}))}


def preview(conn: psycopg.Connection[Any], match: Matcher, *, since: datetime = NOW) -> Preview:
    """Try a silence out."""
    return messages_matching(conn, match, since=since, tags=TAGS)


def of_credential(*ids: str) -> Matcher:
    """Return the matcher of credentials."""
    return Matcher(credential=frozenset(ids))


def test_a_preview_counts_messages_and_shows_the_newest(emptied: psycopg.Connection[Any]) -> None:
    put(
        emptied,
        delivery("a", PRODUCTION),
        delivery("b", PRODUCTION, OTHER, reason=NotifyReason.REPEAT, as_of=NOW + HOUR),
        delivery("c", OTHER),
        alerts=[PRODUCTION, OTHER],
    )

    shown = {
        "fingerprint": PRODUCTION.fingerprint,
        "rule": "sync_failures",
        "title": PRODUCTION.title,
        "company_name": "Acme",
        "credential_id": "7",
        "channel": OPS,
    }
    assert preview(emptied, of_credential("7")) == Preview(
        messages=2,
        in_part=1,
        by_rule={"sync_failures": 2},
        examples=(
            HiddenMessage(as_of=NOW + HOUR, reason=NotifyReason.REPEAT, **shown),
            HiddenMessage(as_of=NOW, reason=NotifyReason.FIRST, **shown),
        ),
    )
    assert preview(emptied, of_credential("7", "8")).in_part == 0


@pytest.mark.parametrize(
    ("match", "messages"),
    [
        pytest.param(of_credential("9"), 0, id="of nobody"),
        pytest.param(Matcher(environment=frozenset({"production"})), 1, id="by environment"),
        pytest.param(Matcher(company=frozenset({"4"})), 1, id="by company"),
        pytest.param(Matcher(tag=frozenset({"vip"})), 1, id="by a tag of the policy"),
        pytest.param(Matcher(severity=frozenset({Severity.HIGH})), 2, id="by severity"),
        pytest.param(Matcher(rule=frozenset({"stale_sync"})), 0, id="by rule"),
        pytest.param(Matcher(fingerprint=frozenset({PRODUCTION.fingerprint[:12]})), 1, id="by fingerprint"),
    ],
)
def test_a_preview_matches_as_the_silence_would(
    emptied: psycopg.Connection[Any], match: Matcher, messages: int
) -> None:
    put(emptied, delivery("a", PRODUCTION), delivery("b", OTHER), alerts=[PRODUCTION, OTHER])

    found = preview(emptied, match)
    assert (found.messages, len(found.examples)) == (messages, messages)


@pytest.mark.parametrize("reason", NotifyReason)
def test_only_messages_of_what_is_open_would_be_hidden(emptied: psycopg.Connection[Any], reason: NotifyReason) -> None:
    """Closes always go."""
    put(emptied, delivery("a", PRODUCTION, reason=reason), alerts=[PRODUCTION])

    assert preview(emptied, of_credential("7")).messages == int(reason in OF_WHAT_IS_OPEN)


@pytest.mark.parametrize(
    ("end", "messages"),
    [
        pytest.param("waits", 1, id="one that waits is"),
        pytest.param("dead", 1, id="one that was given up is"),
        pytest.param("dropped", 0, id="one that was dropped is not"),
        pytest.param("kept back", 0, id="what is kept back anyway is not"),
        pytest.param("older", 0, id="one of before the period is not"),
    ],
)
def test_what_counts_as_a_message(emptied: psycopg.Connection[Any], end: str, messages: int) -> None:
    made = kept_back("a", PRODUCTION) if end == "kept back" else delivery("a", PRODUCTION)
    put(emptied, made, alerts=[PRODUCTION], now=NOW - TICK if end == "older" else NOW)
    if end == "dead":
        mark_dead(emptied, leased(emptied).id, owner="worker", now=NOW, error="x")
    elif end == "dropped":
        drop(emptied, leased(emptied).id, owner="worker", now=NOW, why=SilentReason.ALREADY_TOLD)

    assert preview(emptied, of_credential("7")).messages == messages


def test_a_preview_shows_no_more_than_the_newest_few(emptied: psycopg.Connection[Any]) -> None:
    made = [delivery(str(n), PRODUCTION, as_of=NOW + n * MINUTE) for n in range(MOST_EXAMPLES + 5)]
    put(emptied, *made, alerts=[PRODUCTION])

    found = preview(emptied, of_credential("7"))
    assert found.messages == MOST_EXAMPLES + 5
    assert [each.as_of for each in found.examples] == [each.as_of for each in reversed(made[5:])]


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda conn, at: silences_at(conn, at), id="those that hold"),
        pytest.param(lambda conn, at: silences_since(conn, at), id="those not over"),
        pytest.param(lambda conn, at: end_silence(conn, ID, by=BEN, now=at), id="ending one"),
        pytest.param(lambda conn, at: preview(conn, of_credential("7"), since=at), id="a preview"),
    ],
)
def test_a_naive_time_is_refused_and_a_missing_schema_is_one_line(
    emptied: psycopg.Connection[Any], make_database: Callable[..., str], ask: Callable[..., object]
) -> None:
    with pytest.raises(ValueError, match="naive"):
        ask(emptied, NOW.replace(tzinfo=None))
    with connect(make_database("empty")) as conn, pytest.raises(StorageError, match=r"include\.cli migrate"):
        ask(conn, NOW)

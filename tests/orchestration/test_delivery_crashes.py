"""Workers that die in the middle of a drain: nothing is lost, and only what was in flight may come twice, and says so."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from include.orchestration.delivery import LEASE
from include.simulation.delivery_world import DeliveryWorld, Tally, mail_connection
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.warehouse.migration import upgrade


class WorkerDied(BaseException):
    """What no code of ours may catch."""


@pytest.fixture
def world(make_database: Callable[..., str]) -> Iterator[DeliveryWorld]:
    """Five messages to Slack are due."""
    dsn = make_database("monitoring")
    upgrade(dsn)
    with SlackServer() as slack, MailServer() as mail, mail_connection(mail):
        made = DeliveryWorld(monitoring_dsn=dsn, slack=slack, mail=mail)
        made.announce()
        yield made


@contextmanager
def dying_at(place: str, *, when: str) -> Iterator[None]:
    """Let the worker die just before or just after it does something for the second time."""
    original, calls = pkgutil.resolve_name(place), 0

    def dying(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2 and when == "before":
            raise WorkerDied
        answer = original(*args, **options)
        if calls == 2:
            raise WorkerDied
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, dying)
        with pytest.raises(WorkerDied):
            yield


@pytest.mark.parametrize(
    ("place", "when", "told"),
    [
        pytest.param("outbox.lease_next", "before", Tally(sent=5), id="before it leases one"),
        pytest.param("outbox.lease_next", "after", Tally(sent=5, marked=1), id="when it has leased one"),
        pytest.param("outbox.mark_sent", "before", Tally(sent=5, doubled=1, marked=1), id="when it has sent one"),
        pytest.param("outbox.mark_sent", "after", Tally(sent=5), id="when that is recorded"),
        pytest.param("channel_states.note_sent", "before", Tally(sent=5), id="before the channel is noted as well"),
        pytest.param("channel_states.note_sent", "after", Tally(sent=5), id="when everything is recorded"),
    ],
)
def test_a_worker_that_dies_leaves_one_message_in_doubt_at_most(
    world: DeliveryWorld, place: str, when: str, told: Tally
) -> None:
    with dying_at(f"include.warehouse.{place}", when=when):
        world.drain()
    world.now += LEASE
    world.ticks(2)

    assert world.messages_told() == told


def test_another_worker_does_not_touch_what_is_in_flight(world: DeliveryWorld) -> None:
    """Until the lease of the dead one is over."""
    with dying_at("include.warehouse.outbox.mark_sent", when="before"):
        world.drain()
    world.drain(owner="worker-2")
    assert world.messages_told() == Tally(sent=5)

    world.now += LEASE
    world.drain(owner="worker-3")
    assert world.messages_told() == Tally(sent=5, doubled=1, marked=1)


def test_a_lost_session_is_no_death(world: DeliveryWorld) -> None:
    """The server ends the session just when Slack has taken a message: what was sent is recorded all the same."""
    import psycopg

    ended = 0

    def end_sessions() -> None:
        nonlocal ended
        with psycopg.connect(world.monitoring_dsn, autocommit=True) as conn:
            ended += len(
                conn.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                ).fetchall()
            )

    world.on_sent = end_sessions
    result = next(iter(world.drain().values()))

    assert ended == 5
    assert (result.sent, result.waiting) == (5, 0)
    assert world.messages_told() == Tally(sent=5)

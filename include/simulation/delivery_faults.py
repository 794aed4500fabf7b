"""
The faults that delivery is put through, each with what must become of the messages: one list for the tests and the docs.

Every case plays on a `DeliveryWorld` of its own: five messages (or edits) are due, and the fault hits one of them, or the
channel, or the database, or the worker.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from include.orchestration.delivery import LEASE
from include.simulation.delivery_world import ALERTS, MAIL, DeliveryWorld, Tally
from include.simulation.postgres import EmbeddedPostgres
from include.simulation.slack_server import FaultMode
from include.sync_health.errors import StorageError

IMPATIENT_SECONDS = 3
"""A client's patience where Slack never answers: long for a call on this machine, and short enough to wait for."""

A_DAY = 4 * 26
"""Ticks of a quarter of an hour until every message that cannot be delivered is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a case plays: the world, and the server of its database, which may be stopped."""

    world: DeliveryWorld
    database: EmbeddedPostgres


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFault:
    """
    One row of the table.

    Args:
        name: what goes wrong.
        sees: what the reader of the channel sees of it.
        play: makes it go wrong, lets time pass, and returns what became of what was due.
        expected: what must have become of it.
        is_over: the fault ends by itself: the servers must have played all of it.
    """

    name: str
    sees: str
    play: Callable[[Stage], Tally]
    expected: Tally
    is_over: bool = True


ALL_ONCE = Tally(sent=ALERTS)
ONE_MARKED = Tally(sent=ALERTS, marked=1)
ONE_DOUBLED = Tally(sent=ALERTS, doubled=1, marked=1)


def _slack_fails(
    *,
    mode: FaultMode = "refuse",
    times: int = 1,
    status: int | None = None,
    error: str | None = None,
    retry_after: int | None = None,
    fallback: str | None = None,
    ticks: int = 3,
    after: int = 2,
) -> Callable[[Stage], Tally]:
    """Let Slack fail at the message after so many that it took, and at the next calls."""

    def play(stage: Stage) -> Tally:
        world = stage.world
        world.slack_timeout = IMPATIENT_SECONDS if mode in ("hang", "accept_then_hang") else world.slack_timeout
        world.announce()

        def fail() -> None:
            world.slack.fail_next(mode=mode, times=times, status=status, error=error, retry_after=retry_after)

        if after:
            world.on_sent = _at_number(after, fail)
        else:
            fail()
        world.drain(fallback=fallback)
        world.ticks(ticks, fallback=fallback)
        return world.messages_told()

    return play


def _edits_fail(
    *, mode: FaultMode = "refuse", error: str | None = None, status: int | None = None, retry_after: int | None = None
) -> Callable[[Stage], Tally]:
    """Let Slack fail at one of the edits that say that the alerts recovered."""

    def play(stage: Stage) -> Tally:
        world = stage.world
        world.announce()
        world.drain()
        world.slack_timeout = IMPATIENT_SECONDS if mode in ("hang", "accept_then_hang") else world.slack_timeout
        world.slack.fail_next("chat.update", mode=mode, error=error, status=status, retry_after=retry_after)
        world.recover()
        world.drain()
        world.ticks()
        return world.recoveries_shown()

    return play


def _first_message_deleted(stage: Stage) -> Tally:
    world = stage.world
    world.announce()
    world.drain()
    world.slack.workspace.delete(world.slack.messages[2])
    world.recover()
    world.drain()
    world.ticks()
    return world.recoveries_shown()


def _mail_fails(mode: str, *, times: int = 1, ticks: int = 3) -> Callable[[Stage], Tally]:
    def play(stage: Stage) -> Tally:
        world = stage.world
        world.announce(MAIL)
        world.mail.fail_next(mode, times=times)  # type: ignore[arg-type]
        world.drain(MAIL)
        world.ticks(ticks, channel=MAIL)
        return world.messages_told()

    return play


def _mail_server_down(stage: Stage) -> Tally:
    world = stage.world
    world.announce(MAIL)
    world.mail.stop()
    world.drain(MAIL)
    world.mail.start()
    world.ticks(channel=MAIL)
    return world.messages_told()


def _database_restarts(stage: Stage) -> Tally:
    """It goes down when Slack has taken the third message, and is back while the worker tries to record that."""
    world, database = stage.world, stage.database
    world.announce()
    world.on_sent = _at_number(3, database.stop)
    world.on_sleep = database.start
    world.drain()
    world.ticks()
    return world.messages_told()


def _database_stays_down(stage: Stage) -> Tally:
    """As before, but the worker gives up before it is back."""
    world, database = stage.world, stage.database
    world.announce()
    world.on_sent = _at_number(3, database.stop)
    try:
        world.drain()
    except StorageError:
        database.start()
    world.ticks()
    return world.messages_told()


def _at_number(number: int, do: Callable[[], None]) -> Callable[[], None]:
    """Return what does something when it is called for this time."""
    calls = itertools.count(1)

    def count() -> None:
        if next(calls) == number:
            do()

    return count


def _worker_killed_at(method: str) -> Callable[[Stage], Tally]:
    """SIGKILL a real worker when Slack has done what it asked for, and before it can record that."""

    def play(stage: Stage) -> Tally:
        world = stage.world
        world.announce()
        if method == "chat.update":
            world.drain()
            world.recover()
        accepted = threading.Event()
        calls = 0

        def hang_at_the_third(_: object) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                world.slack.fail_next(method, mode="accept_then_hang")
            if calls == 3:
                accepted.set()

        world.slack.workspace.on_change = hang_at_the_third
        _kill_worker_when(accepted, world)
        world.slack.workspace.on_change = None
        world.now += LEASE
        world.ticks()
        return world.recoveries_shown() if method == "chat.update" else world.messages_told()

    return play


def _kill_worker_when(accepted: threading.Event, world: DeliveryWorld) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "include.simulation.delivery_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        asked = {
            "dsn": world.monitoring_dsn,
            "base_url": world.slack.base_url,
            "token": world.slack.token,
            "now": world.now.isoformat(),
            "owner": "the worker that is killed",
        }
        if worker.stdin is None or worker.stderr is None:
            raise RuntimeError("the worker has no standard input or error")
        worker.stdin.write(json.dumps(asked))
        worker.stdin.close()
        while not accepted.is_set():
            if worker.poll() is not None:
                raise RuntimeError(f"the worker ended before it was killed: {worker.stderr.read()}")
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)


def _many_workers(stage: Stage) -> Tally:
    world = stage.world
    world.announce(alerts=MANY)
    with ThreadPoolExecutor(WORKERS) as pool:
        for worker in [pool.submit(world.drain, owner=f"worker-{number}") for number in range(WORKERS)]:
            worker.result()
    world.recover()
    with ThreadPoolExecutor(WORKERS) as pool:
        for worker in [pool.submit(world.drain, owner=f"worker-{number}") for number in range(WORKERS)]:
            worker.result()
    told, shown = world.messages_told(), world.recoveries_shown()
    return told if told == shown else shown


WORKERS, MANY = 4, 40

FAULTS: tuple[DeliveryFault, ...] = (
    DeliveryFault(
        name="Slack: 429, Retry-After 20 s",
        sees="every message, the rest of them 20 s late",
        play=_slack_fails(retry_after=20, ticks=0),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack: 429, Retry-After 10 min",
        sees="every message, the rest of them with the next tick",
        play=_slack_fails(retry_after=600),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack: 503",
        sees="every message, the rest with the next tick; one says that it may be a repeat",
        play=_slack_fails(status=503),
        expected=ONE_MARKED,
    ),
    DeliveryFault(
        name="Slack: time-out before the message was accepted",
        sees="every message, the rest with the next tick; one says that it may be a repeat",
        play=_slack_fails(mode="hang"),
        expected=ONE_MARKED,
    ),
    DeliveryFault(
        name="Slack: time-out after the message was accepted",
        sees="one message twice, the second says that it may be a repeat",
        play=_slack_fails(mode="accept_then_hang"),
        expected=ONE_DOUBLED,
    ),
    DeliveryFault(
        name="Slack: invalid_auth, mended within a day",
        sees="every message once the token works again, with the state of that moment",
        play=_slack_fails(error="invalid_auth", times=10, after=0, ticks=24),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack: invalid_auth, with a fallback",
        sees="every message at once in the fallback's mailbox, saying which channel refuses us",
        play=_slack_fails(error="invalid_auth", times=1_000, after=0, fallback=MAIL),
        expected=ALL_ONCE,
        is_over=False,
    ),
    DeliveryFault(
        name="Slack: channel_not_found, with a fallback",
        sees="what was sent before in Slack, the rest at once in the fallback's mailbox",
        play=_slack_fails(error="channel_not_found", times=1_000, fallback=MAIL),
        expected=ALL_ONCE,
        is_over=False,
    ),
    DeliveryFault(
        name="Slack: channel_not_found for more than a day, no fallback",
        sees="nothing; the drain task fails in every tick, and the ledger has them as dead",
        play=_slack_fails(error="channel_not_found", times=10_000, after=0, ticks=A_DAY),
        expected=Tally(sent=0, lost=ALERTS),
        is_over=False,
    ),
    DeliveryFault(
        name="Slack: msg_blocks_too_long",
        sees="every message, one of them as plain text",
        play=_slack_fails(error="msg_blocks_too_long", ticks=0),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack edit: message_not_found (somebody deleted the first message)",
        sees="the edits, and one new message in place of the deleted one",
        play=_first_message_deleted,
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack edit: 429, Retry-After 20 s",
        sees="the edits, the rest of them 20 s late",
        play=_edits_fail(retry_after=20),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack edit: time-out before it was accepted",
        sees="the edits, the rest of them with the next tick",
        play=_edits_fail(mode="hang"),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="Slack edit: time-out after it was accepted",
        sees="the edits; repeating one changes nothing",
        play=_edits_fail(mode="accept_then_hang"),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="SMTP: connection refused",
        sees="every mail with the next tick",
        play=_mail_server_down,
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="SMTP: recipient refused (550), mended within a day",
        sees="every mail once the server takes them, with the state of that moment",
        play=_mail_fails("refuse_recipient", times=10, ticks=24),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="SMTP: greylisted (450, then taken)",
        sees="every mail with the next tick",
        play=_mail_fails("greylist"),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="SMTP: dropped in mid-DATA",
        sees="every mail, one of them with the next tick, saying that it may be a repeat",
        play=_mail_fails("drop_in_data"),
        expected=ONE_MARKED,
    ),
    DeliveryFault(
        name="SMTP: dropped after the mail was accepted",
        sees="one mail twice, with the same Message-ID, the second says that it may be a repeat",
        play=_mail_fails("accept_then_drop"),
        expected=ONE_DOUBLED,
    ),
    DeliveryFault(
        name="PostgreSQL: restarted in mid-drain",
        sees="every message; the worker connects again and records what it sent",
        play=_database_restarts,
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name="PostgreSQL: down in mid-drain for longer than half a minute",
        sees="one message twice, the second says that it may be a repeat; the rest with the next tick",
        play=_database_stays_down,
        expected=ONE_DOUBLED,
    ),
    DeliveryFault(
        name="Worker: SIGKILL between the sending of a message and its commit",
        sees="one message twice, the second says that it may be a repeat",
        play=_worker_killed_at("chat.postMessage"),
        expected=ONE_DOUBLED,
    ),
    DeliveryFault(
        name="Worker: SIGKILL between an edit and its commit",
        sees="the edits; repeating one changes nothing",
        play=_worker_killed_at("chat.update"),
        expected=ALL_ONCE,
    ),
    DeliveryFault(
        name=f"{WORKERS} workers drain one channel at once, {MANY} messages and their edits",
        sees="every message and every edit once",
        play=_many_workers,
        expected=Tally(sent=MANY),
    ),
)

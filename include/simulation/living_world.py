"""
A simulated Hub Plus that goes on living: syncs start and end, things break and recover, within minutes.

What the demo shows. Every credential syncs once an hour, spread over it. Beside that a script runs in rounds of
15 minutes (at ``pace`` 1), each with other credentials, so that whoever looks sees an alert open and close:

    minute  1, 2, 3   one credential's invoices sync fails with `INVALID_CLIENT`: fails repeatedly, keeps failing
            2         another credential's run turns out to have been running for 58 minutes: stuck from minute 4 on
            7         the stuck run completes
            8         the failing sync completes
            11, 12    a third credential fails once and completes: no alert
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from include.simulation.history import HOUR, INVALID_CLIENT, MINUTE, Account, failed_run, healthy_run
from include.simulation.hub_plus import HubPlus, RowId

ROUND = 15 * MINUTE
STUCK_AFTER = HOUR
"""When the shipped policy calls a run stuck; the script's begins two minutes before."""

Action = Callable[[datetime], str | None]
"""What happens at an instant; returns a line to tell, or None for the everyday."""


class LivingWorld:
    """
    The future of a source that has companies and credentials, such as `history.seed_history` made.

    Args:
        world: the writer.
        since: where the future begins; aware. Runs that are open then are ended within its first minutes, those
            open for more than an hour only in the seventh.
        pace: how many times faster than written above the script runs.

    Raises:
        ValueError: ``since`` is naive, ``pace`` is not positive, or there are no three credentials of production.
    """

    def __init__(self, world: HubPlus, *, since: datetime, pace: float = 1.0) -> None:
        if since.tzinfo is None:
            raise ValueError("since must be timezone-aware")
        if pace <= 0:
            raise ValueError(f"pace must be positive, got {pace}")
        self._world = world
        self._begun = self._reached = since.astimezone(UTC)
        self._pace = pace
        self._random = random.Random(f"living:{world.seed}:{since.timestamp()}")  # noqa: S311  simulated data
        self._events: list[tuple[datetime, int, Action]] = []
        self._numbers = itertools.count()
        self._rounds = 0
        self._accounts: list[tuple[RowId, Account]] = []
        for position, (credential, name, environment) in enumerate(world.credentials()):
            phase = position * 7 % 60 * MINUTE
            account = Account(company_name=name, environment=environment, cadence=HOUR, phase=phase, streams=("both",))
            self._accounts.append((credential, account))
        self._stars = [entry for entry in self._accounts if entry[1].environment == "production"]
        if len(self._stars) < 3:
            raise ValueError("the script needs three credentials of production")
        self._end_open_runs()

    def advance(self, now: datetime) -> list[str]:
        """
        Write what happened since the last call, up to and including ``now``, each thing at its own instant.

        An earlier ``now`` than before writes nothing. Returns a line for everything that broke or recovered.
        """
        now = now.astimezone(UTC)
        while self._begun + self._rounds * ROUND / self._pace <= now:
            self._plan_round(self._rounds)
            self._rounds += 1
        for credential, account in self._accounts:
            for started_at, data_type in account.starts(after=self._reached, until=now):
                self._at(started_at, self._start(credential, data_type))
        self._reached = max(self._reached, now)
        told = []
        while self._events and self._events[0][0] <= now:
            at, _, action = heapq.heappop(self._events)
            if line := action(at):
                told.append(f"{at:%H:%M:%S} {line}")
        return told

    def _at(self, at: datetime, action: Action) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), action))

    def _plan_round(self, number: int) -> None:
        begin = self._begun + number * ROUND / self._pace
        # From the end: the first credentials carry the faults that the history planted.
        failing, stuck, unlucky = (self._stars[-1 - (3 * number + place) % len(self._stars)] for place in range(3))

        def at(minute: int, action: Action) -> None:
            self._at(begin + minute * MINUTE / self._pace, action)

        for minute in (1, 2, 3):
            at(minute, self._fail(*failing, INVALID_CLIENT))
        at(2, self._get_stuck(*stuck, released_at=begin + 7 * MINUTE / self._pace))
        at(8, self._recover(*failing))
        at(11, self._fail(*unlucky, "ServiceTitan API server error: 503"))
        at(12, self._recover(*unlucky))

    def _start(self, credential: RowId, data_type: str) -> Action:
        def act(at: datetime) -> None:
            outcome = healthy_run(credential, source=self._random, data_type=data_type, started_at=at)
            sync_type = outcome.sync_type
            run = self._world.add_run(
                credential, data_type=data_type, status="running", started_at=at, sync_type=sync_type
            )
            if outcome.completed_at is not None:
                self._at(outcome.completed_at, self._finish(run, outcome.records))

        return act

    def _finish(self, run: RowId, records: tuple[int, int, int] | None, told: str | None = None) -> Action:
        def act(at: datetime) -> str | None:
            self._world.finish_run(run, at=at, records=records)
            return told

        return act

    def _fail(self, credential: RowId, account: Account, message: str) -> Action:
        def act(at: datetime) -> str:
            started_at = at - timedelta(seconds=20)
            self._world.copy_runs(
                [failed_run(credential, data_type="invoices", started_at=started_at, completed_at=at, message=message)]
            )
            return f"{account.company_name}: an invoices sync failed, {message}"

        return act

    def _recover(self, credential: RowId, account: Account) -> Action:
        def act(at: datetime) -> str:
            self._world.add_run(
                credential,
                data_type="invoices",
                started_at=at - timedelta(seconds=20),
                completed_at=at,
                records=(48, 48, 0),
                sync_type="manual",
            )
            return f"{account.company_name}: an invoices sync completed"

        return act

    def _get_stuck(self, credential: RowId, account: Account, *, released_at: datetime) -> Action:
        def act(at: datetime) -> str:
            started_at = at + 2 * MINUTE / self._pace - STUCK_AFTER
            run = self._world.add_run(
                credential, data_type="customers", status="running", started_at=started_at, records=(75, 75, 0)
            )
            told = f"{account.company_name}: the customers sync that hung completed"
            self._at(released_at, self._finish(run, (150, 150, 0), told))
            return f"{account.company_name}: a customers sync has been running since {started_at:%H:%M}"

        return act

    def _end_open_runs(self) -> None:
        for position, (run, started_at) in enumerate(self._world.open_runs()):
            if self._begun - started_at > STUCK_AFTER:
                told = f"the sync that hung since {started_at:%H:%M} completed"
                self._at(self._begun + 7 * MINUTE / self._pace, self._finish(run, None, told))
            else:
                self._at(self._begun + timedelta(seconds=20 + 5 * position % 160), self._finish(run, None))

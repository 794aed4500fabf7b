"""
What the demo shows: a week of history with faults that stand at its end, and from then on faults that open and close
within minutes. (The months before that week are for the daily quality alone: `include.simulation.demo_history`.)

Standing when one begins to look: a credential that failed three times in the last hour, one with hostile names and
texts, a daily sync whose invoices have failed for five days, a run that has been hanging for 90 minutes; and one whose
failures are no alert: single ones, and runs that a user cancelled. All but the last are mended in minutes 7 to 9.
Then rounds of 15 minutes (at ``pace`` 1), each with other credentials:

    minute  1, 2, 3   a credential's syncs fail: it fails repeatedly, and keeps failing
            2         a run turns out to have been hanging for 58 minutes: stuck from minute 4 on
            3         a third of a sync's records fail: data quality
            4         a credential's refresh fails: connection error
            7         the hanging run completes
            8         the failing syncs complete, the bad counts are corrected in place
            9         the connection is back

Rules whose thresholds are days need a past made for them, in the first rounds only:

            2         a long-lived token comes within seven days of its end; renewed in minute 7
            3         the last success of a credential becomes 48 hours old; it completes one in minute 8
            5         failures of nearly all credentials turn up, 54 minutes late: platform outage, until minute 11

What needs an hour of nothing but silence (no syncs at all) cannot be shown beside all this.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

from include.simulation.demo_history import PAST_DAYS, past_runs, with_past
from include.simulation.generated_timeline import SEASONING, Generated, WorldPlan, generate
from include.simulation.generated_world import GeneratedWorld
from include.simulation.messy_rows import HOSTILE_ERROR, PlannedRun
from include.simulation.planted_faults import Fault, PlantedFault
from include.simulation.world_plan import (
    ALWAYS_BUSY,
    DAY,
    HOSTILE_COMPANY,
    HOUR,
    MINUTE,
    SECOND,
    SPECIAL_ACCOUNTS,
    Account,
    plan_accounts,
)

ROUND = 15 * MINUTE
HISTORY_DAYS = 8
CREDENTIALS = 60
OUTAGE_ROUNDS = (0, 24)  # the first, and one six hours later
IN_EVERY_ROUND = 4  # credentials
SLOW_ROUNDS = 2  # with a token and a stale sync
AHEAD = timedelta(days=2)  # how far the demo's world is worked out at a time


def demo_plan(
    since: datetime,
    *,
    until: datetime,
    pace: float = 1.0,
    seed: int = 1,
    shape: str = "migrations",
    timezone: str = "UTC",
    credentials: int = CREDENTIALS,
) -> WorldPlan:
    """
    Return the plan of the demo's world, in which one begins to look at ``since``.

    Args:
        since: aware.
        until: how far its rounds are planned, at least; aware.
        pace: how many times faster than written above the rounds run; hours and days of the rules stay as they are.
        seed, shape, timezone, credentials: see `WorldPlan`.

    Raises:
        ValueError: a naive instant, a pace that is not positive, or too few credentials for the script.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("since and until must be timezone-aware")
    if pace <= 0:
        raise ValueError(f"pace must be positive, got {pace}")
    since = since.astimezone(UTC).replace(microsecond=0)
    begin = since - HISTORY_DAYS * DAY
    # The same draws as `generate` makes, to know who is who.
    source = random.Random(f"world:{seed}")  # noqa: S311  simulated data
    drawn = plan_accounts(source, credentials=credentials, begin=begin, days=HISTORY_DAYS)
    stars = [
        account
        for account in drawn[ALWAYS_BUSY:-SPECIAL_ACCOUNTS]
        if account.environment == "production" and account.company_name != HOSTILE_COMPANY
    ]
    hostile = [account for account in drawn if account.company_name == HOSTILE_COMPANY][:1]
    reserved = 4 + 2 * SLOW_ROUNDS
    if not hostile or len(stars) < reserved + IN_EVERY_ROUND:
        raise ValueError(f"the demo needs more than {credentials} credentials")
    script = _Script(since=since, pace=pace, stars=stars[reserved:])
    standing = _standing(since, pace, hostile[0], stars[:4])
    # A whole turn at least, so that who ever is in a round does not depend on how far one plans.
    rounds = max(len(script.stars), int((until - since) / (ROUND / pace)) + 1)
    planted = [
        *standing,
        *script.slow_rounds(stars[4:reserved]),
        *(fault for number in range(rounds) for fault in script.round(number)),
    ]
    return WorldPlan(
        begin=begin,
        seed=seed,
        shape=shape,
        timezone=timezone,
        credentials=credentials,
        days=HISTORY_DAYS,
        planted=tuple(planted),
    )


class DemoWorld:
    """
    The demo's world in a database: seeded up to ``since``, then carried on without an end.

    Args:
        dsn: the tables of `create_source`, empty or written by an earlier one of the same arguments.
        since, options: as `demo_plan` takes them.
        past_days: how many days of the past lie before its week.
    """

    def __init__(self, dsn: str, *, since: datetime, past_days: int = PAST_DAYS, **options: float | int | str) -> None:
        self._dsn, self._since, self._options = dsn, since.astimezone(UTC).replace(microsecond=0), options
        self._past_days, self._past = past_days, list[PlannedRun]()
        self._writer = self._made(since)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    @property
    def generated(self) -> Generated:
        """The world as far as it is worked out."""
        return self._writer.generated

    @property
    def is_seeded(self) -> bool:
        """Whether its history has been written."""
        return self._writer.reached is not None

    def seed(self) -> None:
        """Write the history up to ``since``; ValueError where it is written already."""
        self._writer.seed(self._since)

    def advance(self, now: datetime) -> list[str]:
        """Write what happened up to ``now``; returns a line for everything that broke or recovered since the last call."""
        if now > self.generated.until:
            self._writer.close()
            self._writer = self._made(now)
        return self._writer.advance(now)

    def _made(self, now: datetime) -> GeneratedWorld:
        until = now + AHEAD
        plan = demo_plan(self._since, until=until, **self._options)  # type: ignore[arg-type]
        generated = generate(plan, until=until)
        if not self._past:  # the same however far one plans
            self._past = past_runs(
                generated.accounts, until=plan.begin - SEASONING, days=self._past_days, seed=plan.seed
            )
        return GeneratedWorld(self._dsn, with_past(generated, self._past))


class _Script:
    """The rounds, over credentials that take turns."""

    def __init__(self, *, since: datetime, pace: float, stars: list[Account]) -> None:
        self._since, self._pace = since, pace
        # As many as let everyone come back in the same part.
        self.stars = stars[: len(stars) // IN_EVERY_ROUND * IN_EVERY_ROUND]

    def round(self, number: int) -> Iterator[PlantedFault]:
        """Yield the faults of one round."""

        def at(minute: float) -> datetime:
            return _at(self._since, number, minute, self._pace)

        failing, stuck, bad, broken = (
            self.stars[(IN_EVERY_ROUND * number + place) % len(self.stars)].number for place in range(IN_EVERY_ROUND)
        )
        marks = (at(1), at(2), at(3))
        yield PlantedFault(fault=Fault.AUTH_BREAK, account=failing, at=at(0), over=at(8) - MINUTE, marks=marks)
        yield PlantedFault(
            fault=Fault.STUCK, account=stuck, at=at(4) - HOUR, over=at(7), committed_at=at(2), data_type="both"
        )
        yield PlantedFault(fault=Fault.QUALITY_REGRESSION, account=bad, at=at(2), over=at(8), marks=(at(3),))
        yield PlantedFault(fault=Fault.FAILED_REFRESH, account=broken, at=at(4), over=at(9))
        if number in OUTAGE_ROUNDS:
            stamped = at(11) - HOUR - MINUTE
            yield PlantedFault(fault=Fault.OUTAGE_FULL, at=stamped, over=stamped + MINUTE, committed_at=at(5))

    def slow_rounds(self, stars: list[Account]) -> Iterator[PlantedFault]:
        """Yield what needs days to come: a token that lapses and a sync that grows stale, in each of the first rounds."""
        for number in range(SLOW_ROUNDS):
            lapsing, stale = stars[2 * number].number, stars[2 * number + 1].number

            def at(minute: float, number: int = number) -> datetime:
                return _at(self._since, number, minute, self._pace)

            yield PlantedFault(fault=Fault.TOKEN_ABOUT_TO_LAPSE, account=lapsing, at=at(2), over=at(7))
            yield PlantedFault(fault=Fault.GONE_SILENT, account=stale, at=at(3) - 2 * DAY - SECOND, over=at(8) - MINUTE)


def _at(since: datetime, number: int, minute: float, pace: float) -> datetime:
    at = since + (number * ROUND + minute * MINUTE) / pace
    return at.replace(microsecond=0)


def _standing(since: datetime, pace: float, hostile: Account, stars: list[Account]) -> list[PlantedFault]:
    """Return the faults that one finds; the times of day of the daily sync are three hours before."""

    def ago(*minutes: int) -> tuple[datetime, ...]:
        return tuple(since - minute * MINUTE for minute in minutes)

    mended = _at(since, 0, 8, pace) - MINUTE
    failing, daily, stuck, noisy = (account.number for account in stars)
    return [
        PlantedFault(fault=Fault.AUTH_BREAK, account=failing, at=since - HOUR, over=mended, marks=ago(50, 30, 10)),
        PlantedFault(
            fault=Fault.AUTH_BREAK,
            account=hostile.number,
            at=since - HOUR,
            over=mended,
            marks=ago(52, 32, 12),
            error=HOSTILE_ERROR,
        ),
        PlantedFault(fault=Fault.DAILY_TYPE_FAILS, account=daily, at=since - 4 * DAY - 3 * HOUR, over=mended),
        PlantedFault(fault=Fault.STUCK, account=stuck, at=since - 90 * MINUTE, over=_at(since, 0, 7, pace)),
        PlantedFault(fault=Fault.NOISE, account=noisy, at=since - HISTORY_DAYS * DAY, marks=ago(50, 30, 10)),
    ]

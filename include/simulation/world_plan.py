"""
Who lives in a generated Hub Plus: companies, their credentials, what each syncs and how often.

Everything is drawn from the seed; a longer horizon leaves what was drawn before as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

HOUR, DAY, MINUTE, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1), timedelta(seconds=1)

SHORT_TOKEN = timedelta(seconds=900)
"""Lifetime of a ServiceTitan access token, as the reference has it."""

LONG_TOKENS = (30 * DAY, 60 * DAY)
"""Lifetimes of tokens of the other kind, which somebody renews every `RENEWED_EVERY`."""

RENEWED_EVERY = 10 * DAY

HOSTILE_COMPANY = (
    "<script>alert(1)</script> & \u202eSons\u202c *{{ 7*7 }}* <!channel> =cmd|' /C calc'!A0 O'Brien; DROP TABLE company"
)

FIRST_WORDS = (
    "Northern",
    "Summit",
    "Cedar",
    "Liberty",
    "Harbor",
    "Granite",
    "Prairie",
    "Golden",
    "Pioneer",
    "Lakeside",
)
SECOND_WORDS = ("Heating & Air", "Plumbing", "Electric", "Drain Pros", "Home Services", "Comfort Systems")

ALWAYS_BUSY = 6
"""The first accounts sync every hour, nights and weekends too, so that a silence of the platform can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    One credential: whose it is, what it syncs, and when.

    Args:
        number: of the credential, from 1; ``company`` is its company's number, and several may share one.
        cadence: between two runs of one stream: an hour, four hours or a day.
        phase: of the first stream, from the cadence's beginning; each further one starts ten minutes later.
        streams: the data types it syncs, one run each.
        token: the lifetime of its tokens.
        created_at: aware; it does nothing before.
        deleted_at: when the credential and its runs are deleted.
        rests_at_weekends: every other run is left out on UTC Saturdays and Sundays.
        quiet_from: UTC hour from which nothing starts for `QUIET_HOURS`; None: never quiet.
        is_in_use: False: never authenticated, status ``inactive``, no runs.
        is_messy: its rows may be odd, and now and then one fails; never where a fault is planted.
        is_empty: its syncs never find a record.
    """

    number: int
    company: int
    company_name: str
    environment: str
    cadence: timedelta
    phase: timedelta
    streams: tuple[str, ...]
    token: timedelta
    created_at: datetime
    deleted_at: datetime | None = None
    rests_at_weekends: bool = False
    quiet_from: int | None = None
    is_in_use: bool = True
    is_messy: bool = True
    is_empty: bool = False

    def slots(self, *, since: datetime, until: datetime) -> Iterator[tuple[int, str, datetime]]:
        """
        Yield ``(slot, data type, start)`` of every run due in (since, until], stream by stream.

        Slots count from the year 2000, so that a slot's number says the same whatever is asked for.
        """
        if not self.is_in_use:
            return
        origin = since.replace(year=2000, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        for position, data_type in enumerate(self.streams):
            first = origin + self.phase + position * 10 * MINUTE
            slot = (since - first) // self.cadence + 1
            while (start := first + slot * self.cadence) <= until:
                if not self._rests(slot, start):
                    yield slot, data_type, start
                slot += 1

    def _rests(self, slot: int, start: datetime) -> bool:
        if self.rests_at_weekends and start.weekday() >= 5 and slot % 2 == 0:
            return True
        return self.quiet_from is not None and (start.hour - self.quiet_from) % 24 < QUIET_HOURS


QUIET_HOURS = 6


def plan_accounts(source: random.Random, *, credentials: int, begin: datetime, days: int) -> list[Account]:
    """
    Return the accounts, by number: hourly, four-hourly and daily ones, a fifth of them a company's second environment.

    The last three are special: never in use, deleted in time, and a newcomer. Names repeat; one is `HOSTILE_COMPANY`.

    Raises:
        ValueError: fewer than 12 credentials, or fewer than 3 days.
    """
    if credentials < 12 or days < 3:
        raise ValueError(f"a generated world needs at least 12 credentials and 3 days, got {credentials} and {days}")
    accounts: list[Account] = []
    company = 0
    while len(accounts) < credentials:
        company += 1
        number = len(accounts) + 1
        # Every eleventh company is named as another one is.
        word = company - 4 if company % 11 == 7 else company
        name = f"{FIRST_WORDS[word % len(FIRST_WORDS)]} {SECOND_WORDS[word // len(FIRST_WORDS) % len(SECOND_WORDS)]}"
        is_busy = number <= ALWAYS_BUSY
        cadence = HOUR if is_busy else source.choice((HOUR, HOUR, HOUR, 4 * HOUR, DAY))
        account = Account(
            number=number,
            company=company,
            company_name=HOSTILE_COMPANY if company == 8 else name,
            environment="production",
            cadence=cadence,
            phase=timedelta(seconds=source.randrange(int(cadence.total_seconds()) - 1_200)),
            streams=source.choice((("both",), ("invoices", "customers"))),
            token=source.choice((SHORT_TOKEN, SHORT_TOKEN, SHORT_TOKEN, *LONG_TOKENS)),
            created_at=begin - 400 * DAY + company * HOUR,
            rests_at_weekends=not is_busy and cadence < DAY and source.random() < 0.5,
            quiet_from=source.choice((3, 5, 7)) if not is_busy and cadence == HOUR and source.random() < 0.4 else None,
        )
        accounts.append(account)
        if company % 4 == 3 and len(accounts) < credentials:
            phase = timedelta(seconds=source.randrange(80_000))
            sandbox = replace(account, number=number + 1, environment="integration", cadence=DAY, phase=phase)
            accounts.append(replace(sandbox, streams=("both",), rests_at_weekends=False, quiet_from=None))
    span = days * DAY
    accounts[-1] = replace(accounts[-1], created_at=begin + span * source.uniform(0.3, 0.4) // SECOND * SECOND)
    accounts[-2] = replace(accounts[-2], deleted_at=begin + span * source.uniform(0.5, 0.9) // SECOND * SECOND)
    accounts[-3] = replace(accounts[-3], is_in_use=False, created_at=begin - 90 * DAY)
    return accounts


SPECIAL_ACCOUNTS = 3
"""How many at the end of `plan_accounts` are special, and so carry no fault."""

"""
The faults that a generated Hub Plus can have: when and on whom they are planted, and what they do to its syncs.

What each must make the monitor say, and from when to when, is `include.simulation.planted_truth`'s.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from zoneinfo import ZoneInfo

from include.simulation.messy_rows import Messy, PlannedRun, failed
from include.simulation.world_plan import (
    ALWAYS_BUSY,
    DAY,
    HOUR,
    LONG_TOKENS,
    MINUTE,
    SECOND,
    SHORT_TOKEN,
    SPECIAL_ACCOUNTS,
    Account,
)
from include.sync_health.frames import CANCELLED_BY_USER

INVALID_CLIENT = "HTTP 401 invalid_client"
MISSING_FIELDS = "Required fields are missing: invoice_number, first_appointment"
SERVER_ERROR = "ServiceTitan API server error: 503"
TIMED_OUT = 'Idle timeout reached for "https://api.servicetitan.io/crm/v2/tenant/912345678/customers".'


class Fault(StrEnum):
    """What can be planted."""

    AUTH_BREAK = "auth_break"  # several failed runs within the hour, then one completes
    OUTAGE_PARTIAL = "outage_partial"  # most of the platform's syncs time out
    OUTAGE_FULL = "outage_full"  # all of the platform's syncs fail with a server error
    PLATFORM_SILENT = "platform_silent"  # no sync of production starts
    TOKEN_ABOUT_TO_LAPSE = "token_about_to_lapse"  # noqa: S105  a fault's name: long-lived, and nobody renews it
    FAILED_REFRESH = "failed_refresh"  # status error, and its syncs stop
    GONE_SILENT = "gone_silent"  # its syncs stop, and nothing says why
    DAILY_TYPE_FAILS = "daily_type_fails"  # invoices always fail, customers complete
    HOURLY_TYPE_FAILS = "hourly_type_fails"
    STUCK = "stuck"  # a run hangs, and upstream starts no other; then it completes
    STUCK_FOR_EVER = "stuck_for_ever"
    QUALITY_REGRESSION = "quality_regression"  # many records of some runs fail
    EMPTY_SYNCS = "empty_syncs"  # never a record; must raise nothing
    NOISE = "noise"  # single failures, and runs cancelled by a user; must raise nothing


OUTAGES = {Fault.OUTAGE_FULL: (SERVER_ERROR, "server"), Fault.OUTAGE_PARTIAL: (TIMED_OUT, "timeout")}
"""Their error text and its error class."""

SYNC_WORDS = {"both": "a sync", "invoices": "an invoices sync", "customers": "a customers sync"}
PLATFORM_FAULTS = (*OUTAGES, Fault.PLATFORM_SILENT)
ALL_FAULTS = tuple(Fault)
STOPPING = (Fault.FAILED_REFRESH, Fault.GONE_SILENT)
TYPE_FAILS = (Fault.DAILY_TYPE_FAILS, Fault.HOURLY_TYPE_FAILS)
STUCKS = (Fault.STUCK, Fault.STUCK_FOR_EVER)

ZERO = timedelta(0)
DRAWS = 100
"""How often all faults are drawn anew before they count as too many."""

MARGIN = 10 * MINUTE
"""No healthy run starts so shortly before a fault, lest it ends within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFault:
    """
    One fault, planted. Times are aware, whole seconds.

    Args:
        account: whose it is; None of the platform.
        at: when it begins: the first bad run's start, the last good run's end, the token's last instant before its last
            seven days, as the fault's kind has it.
        over: when it is mended; None: never. Of an ordinary run's rhythm: from then on the runs are healthy.
        marks: when each bad run ends (auth_break), each outage's bad run where it is not a scheduled one, or each bad
            run of a quality regression where it is not a scheduled one.
        committed_at: when the bad rows appear, where their stamps lie in the past by then; None: in time.
        data_type: of the bad runs.
        bad_share: percent of the records that fail.
        error: the text of failed runs.
    """

    fault: Fault
    account: int | None = None
    at: datetime
    over: datetime | None = None
    marks: tuple[datetime, ...] = ()
    committed_at: datetime | None = None
    data_type: str = "both"
    bad_share: int = 30
    error: str = INVALID_CLIENT

    def is_near(self, at: datetime) -> bool:
        """Return whether it is there at an instant, or within an hour of it."""
        return self.at - HOUR <= at and (self.over is None or at <= self.over + HOUR)

    def hides(self, start: datetime) -> bool:
        """Return whether a scheduled run of its account that would start then does not."""
        if self.fault is Fault.AUTH_BREAK or self.fault in STUCKS:
            # Without an end, upstream refuses every new run; after it, the next one may start.
            return self.at - MARGIN <= start and (self.over is None or start <= self.over)
        if self.fault in STOPPING:
            return self.at - MARGIN <= start and (self.over is None or start < self.over)
        return False

    def shape(self, run: PlannedRun, slot: int) -> PlannedRun:
        """Return what becomes of a scheduled, healthy run of its account."""
        is_during = self.at <= run.started_at and (self.over is None or run.started_at < self.over)
        if self.fault in TYPE_FAILS and is_during and run.data_type == "invoices":
            return failed(run, MISSING_FIELDS, fault=self.fault)
        if self.fault is Fault.NOISE and slot % 2 == 0 and is_during:
            return failed(run, None if slot % 4 else "Unknown API error", fault=self.fault)
        return run

    def own_runs(self) -> list[PlannedRun]:
        """Return the runs that it adds to its account's own."""
        if self.account is None:
            return []
        data_type = self.data_type
        if self.fault is Fault.AUTH_BREAK:
            told = f"{SYNC_WORDS[self.data_type]} failed, {self.error}"
            runs = [self._ended(mark, status="failed", error_message=self.error, told=told) for mark in self.marks]
        elif self.fault is Fault.NOISE:
            runs = [
                self._ended(mark, status="failed", error_message=CANCELLED_BY_USER, messy=(Messy.CANCELLED_AS_FAILED,))
                for mark in self.marks
            ]
        elif self.fault is Fault.QUALITY_REGRESSION:
            bad = (200, 200 - 2 * self.bad_share, 2 * self.bad_share)
            mended = {"records_processed": 200, "records_successful": 200, "records_failed": 0}
            fix = () if self.over is None else ((self.over, mended),)
            told = f"{self.bad_share} % of a sync's records failed"
            runs = [replace(self._ended(mark, told=told), records=bad, corrections=fix) for mark in self.marks]
        elif self.fault in STUCKS:
            return [self._hanging()]
        elif self.fault in STOPPING:
            runs = [self._ended(self.at, fault=None)]
        elif self.fault in TYPE_FAILS:
            runs, data_type = [], "invoices"
        else:
            return []
        if self.over is not None and self.fault in (Fault.AUTH_BREAK, *STOPPING, *TYPE_FAILS):
            told = f"{SYNC_WORDS[data_type]} completed"
            mending = self._ended(self.over + MINUTE, committed_at=None, fault=None, told=told)
            runs.append(replace(mending, data_type=data_type))
        return runs

    def late_run(self, account: Account, at: datetime) -> PlannedRun:
        """Return the run by hand with which an account shows an outage whose stamps lie in the past."""
        run = replace(self._ended(at), account=account.number, data_type=account.streams[0])
        return failed(run, OUTAGES[self.fault][0], after=MINUTE)

    def _hanging(self) -> PlannedRun:
        told = None if self.over is None else "a sync that hung completed"
        known = {"status": "running", "sync_type": "scheduled", "told": told, "appears_at": self.committed_at}
        run = self._ended(self.at, committed_at=None, **known)
        run = replace(run, started_at=self.at, completed_at=self.over)
        return run if self.over is None else replace(run, status="completed")

    def _ended(self, at: datetime, **known: object) -> PlannedRun:
        values = {"fault": self.fault, "committed_at": self.committed_at, "records": (48, 48, 0)} | known
        if values.get("status") == "failed":
            values["records"] = (0, 0, 0)
        values.setdefault("sync_type", "manual")
        return PlannedRun(
            account=self.account or 0,
            data_type=self.data_type,
            started_at=at - MINUTE,
            completed_at=at,
            **values,  # type: ignore[arg-type]
        )


def adapted(account: Account, planted: PlantedFault) -> Account:
    """Return the account as it must be to carry the fault: its rows in order, its rhythm fit to show it."""
    fault = planted.fault
    account = replace(account, is_messy=False, rests_at_weekends=False, quiet_from=None)
    if account.cadence == DAY or fault is Fault.HOURLY_TYPE_FAILS:
        account = replace(account, cadence=HOUR, phase=account.phase % (HOUR - 20 * MINUTE))
    if fault is Fault.DAILY_TYPE_FAILS:
        midnight = planted.at.replace(hour=0, minute=0, second=0)
        account = replace(account, cadence=DAY, phase=planted.at - midnight)
    if fault in TYPE_FAILS:
        return replace(account, streams=("invoices", "customers"))
    account = replace(account, streams=("both",))
    if fault is Fault.TOKEN_ABOUT_TO_LAPSE:
        return replace(account, token=LONG_TOKENS[0])
    if fault is Fault.FAILED_REFRESH:
        return replace(account, token=SHORT_TOKEN)
    return replace(account, is_empty=fault is Fault.EMPTY_SYNCS)


@dataclass(slots=True)
class Draw:
    """
    Draws who has which fault, and when.

    Args:
        source: of the draws.
        accounts: by number; the ones chosen are replaced by `adapted` ones.
        begin, end: of the world.
        timezone: around whose changes of the clock no fault begins or ends: naive stamps of the repeated hour are
            ambiguous.
    """

    source: random.Random
    accounts: list[Account]
    begin: datetime
    end: datetime
    timezone: ZoneInfo
    _forbidden: list[tuple[datetime, datetime]] = field(default_factory=list)

    def faults(self, chosen: Iterable[Fault]) -> list[PlantedFault]:
        """
        Return the faults, those of the platform first; one of each of its own account at most.

        Raises:
            ValueError: there are too few accounts or days for them.
        """
        chosen = list(chosen)
        for _ in range(DRAWS):
            accounts = list(self.accounts)
            try:
                planted = self._draw(chosen)
            except _NoRoom:
                self.accounts[:] = accounts
            else:
                return planted
        raise ValueError("the days are too few for these faults beside each other")

    def _draw(self, chosen: Sequence[Fault]) -> list[PlantedFault]:
        self._forbidden = [(at - 4 * HOUR, at + 4 * HOUR) for at in clock_changes(self.timezone, self.begin, self.end)]
        planted = []
        for fault in [fault for fault in chosen if fault in PLATFORM_FAULTS]:
            length = 55 * MINUTE if fault in OUTAGES else 210 * MINUTE
            at = self._instant(30 * HOUR, 8 * HOUR, (-4 * HOUR, length + 4 * HOUR))
            planted.append(PlantedFault(fault=fault, at=at, over=at + length))
            self._forbidden.append((at - 4 * HOUR, at + length + 4 * HOUR))
        fit = [
            number
            for number, account in enumerate(self.accounts)
            if ALWAYS_BUSY <= number < len(self.accounts) - SPECIAL_ACCOUNTS and account.environment == "production"
        ]
        single = [fault for fault in chosen if fault not in PLATFORM_FAULTS]
        if len(single) > len(fit):
            raise ValueError(f"{len(single)} faults need as many credentials, and only {len(fit)} of them fit")
        for fault, position in zip(single, self.source.sample(fit, len(single)), strict=True):
            one = self._one(fault, self.accounts[position].number)
            self.accounts[position] = adapted(self.accounts[position], one)
            planted.append(one)
        return planted

    def _one(self, fault: Fault, number: int) -> PlantedFault:
        source = self.source
        if fault is Fault.AUTH_BREAK:
            count, apart = source.randrange(3, 6), source.randrange(8, 12) * MINUTE
            at = self._instant(6 * HOUR, 4 * HOUR, (-HOUR, 3 * HOUR))
            marks = tuple(at + (place + 1) * apart for place in range(count))
            return PlantedFault(fault=fault, account=number, at=at, over=marks[-1] + 20 * MINUTE, marks=marks)
        if fault is Fault.TOKEN_ABOUT_TO_LAPSE:
            at = self._instant(6 * HOUR, 30 * HOUR, (ZERO, MINUTE))
            renewed = self._instant(at - self.begin + 2 * HOUR, HOUR, (ZERO, MINUTE))
            return PlantedFault(fault=fault, account=number, at=at, over=renewed if source.random() < 0.5 else None)
        if fault in STOPPING:
            at = self._instant(6 * HOUR, 54 * HOUR, (-HOUR, HOUR), (47 * HOUR, 54 * HOUR))
            over = at + 50 * HOUR + source.randrange(120) * MINUTE
            return PlantedFault(fault=fault, account=number, at=at, over=over)
        if fault is Fault.DAILY_TYPE_FAILS:
            # Of the platform's faults only a silence touches its days, and then its run is caught up.
            at = self._instant(2 * HOUR, self.end - self.begin - DAY, (83 * HOUR, 85 * HOUR))
            return PlantedFault(fault=fault, account=number, at=at, over=at + 84 * HOUR)
        if fault is Fault.HOURLY_TYPE_FAILS:
            length = source.randrange(5, 20) * HOUR
            at = self._instant(6 * HOUR, 30 * HOUR, (-HOUR, HOUR), (length - HOUR, length + HOUR))
            return PlantedFault(fault=fault, account=number, at=at, over=at + length)
        if fault is Fault.STUCK:
            at = self._instant(6 * HOUR, 8 * HOUR, (-HOUR, 7 * HOUR))
            return PlantedFault(fault=fault, account=number, at=at, over=at + source.randrange(80, 330) * MINUTE)
        if fault is Fault.STUCK_FOR_EVER:
            at = self._instant(self.end - self.begin - 40 * HOUR, 4 * HOUR, (-HOUR, 3 * HOUR))
            return PlantedFault(fault=fault, account=number, at=at)
        if fault is Fault.QUALITY_REGRESSION:
            at = self._instant(6 * HOUR, 20 * HOUR, (-HOUR, 6 * HOUR))
            marks = tuple(at + place * 2 * HOUR for place in range(1, source.randrange(2, 4)))
            share = source.choice((30, 60))
            mended = marks[-1] + 5 * HOUR if source.random() < 0.5 else None
            return PlantedFault(fault=fault, account=number, at=at, over=mended, marks=marks, bad_share=share)
        if fault is Fault.NOISE:
            at = self._instant(6 * HOUR, 6 * HOUR, (-HOUR, 2 * HOUR))
            marks = tuple(at + minute * MINUTE for minute in (10, 20, 30))
            return PlantedFault(fault=fault, account=number, at=self.begin, marks=marks)
        return PlantedFault(fault=fault, account=number, at=self.begin)

    def _instant(self, from_begin: timedelta, before_end: timedelta, *spans: tuple[timedelta, timedelta]) -> datetime:
        """Return an instant whose surroundings, ``spans`` from it, touch nothing forbidden."""
        seconds = int((self.end - before_end - self.begin - from_begin) / SECOND)
        for _ in range(200 if seconds > 0 else 0):
            at = self.begin + from_begin + self.source.randrange(seconds) * SECOND
            near = [(at + low, at + high) for low, high in spans]
            if not any(low < end and start < high for low, high in near for start, end in self._forbidden):
                return at
        raise _NoRoom


class _NoRoom(Exception):
    """What was drawn first leaves no room for the rest."""


def clock_changes(zone: ZoneInfo, begin: datetime, end: datetime) -> list[datetime]:
    """Return the instants within a day of (begin, end) at which the zone's clocks change, to the hour; aware."""
    first = begin.replace(minute=0, second=0, microsecond=0) - DAY
    hours = [first + hour * HOUR for hour in range(int((end - begin) / HOUR) + 49)]
    offsets = (
        (after, before.astimezone(zone).utcoffset(), after.astimezone(zone).utcoffset())
        for before, after in pairwise(hours)
    )
    return [at for at, before, after in offsets if before != after]

"""
A generated Hub Plus as values: from a plan and its seed, every write that ever happens, and the truth beside them.

The same plan gives the same timeline, and a later ``until`` only adds to it: what was written by an earlier one is the
same, ids too.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from include.simulation.messy_rows import ALL_FROM, Messy, PlannedRun, count_messy, failed, healthy_run, slot_runs
from include.simulation.planted_faults import (
    ALL_FAULTS,
    OUTAGES,
    Draw,
    Fault,
    PlantedFault,
    adapted,
    clock_changes,
)
from include.simulation.planted_truth import Story, Truth, truths_of
from include.simulation.source_shapes import SourceShape, shape_named
from include.simulation.timeline import Table, Write
from include.simulation.world_plan import (
    DAY,
    HOUR,
    LONG_TOKENS,
    MINUTE,
    RENEWED_EVERY,
    SECOND,
    SHORT_TOKEN,
    Account,
    plan_accounts,
)

RENAMES = 3
SEASONING = DAY
"""How long the credentials have synced, in good order, when a world begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPlan:
    """
    What decides a generated world.

    Args:
        begin: from when its history is whole and may be odd; aware. Before lies a day of healthy runs.
        seed: of everything that is drawn.
        shape: one of `SHAPES`.
        timezone: IANA name of PHP's zone.
        credentials: how many.
        days: within which the faults are drawn, and companies renamed.
        faults: drawn, one of each at most.
        planted: planted as they are instead; none of them may disturb another one on its credential.
    """

    begin: datetime
    seed: int = 1
    shape: str = "migrations"
    timezone: str = "UTC"
    credentials: int = 60
    days: int = 5
    faults: tuple[Fault, ...] = ALL_FAULTS
    planted: tuple[PlantedFault, ...] | None = None

    @property
    def end(self) -> datetime:
        """The end of the days."""
        return self.begin + self.days * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """
    A world, generated.

    Args:
        plan, until: what was asked for.
        accounts: by number from 1.
        faults: what is planted.
        writes: all of them up to ``until``, in order.
        truths: what must be told, by ``due_at``.
        messy: how many rows there are at ``until`` of each kind of oddness, by then odd.
    """

    plan: WorldPlan
    until: datetime
    accounts: tuple[Account, ...]
    faults: tuple[PlantedFault, ...]
    writes: tuple[Write, ...]
    truths: tuple[Truth, ...]
    messy: Mapping[Messy, int]

    def id_text(self, table: Table, number: int) -> str:
        """Return a row's id as identities have it."""
        return str(row_id(self.plan, table, number))


def row_id(plan: WorldPlan, table: Table, number: int) -> int | str:
    """Return a row's id: its number, or a UUID where keys are UUIDs."""
    return made_uuid(plan, f"{table} id", number) if shape_named(plan.shape).has_uuid_keys else number


def made_uuid(plan: WorldPlan, what: str, number: int) -> str:
    """Return a UUID that depends on the seed."""
    bits = random.Random(f"{what}:{plan.seed}:{number}").getrandbits(128)  # noqa: S311  simulated data
    return str(uuid.UUID(int=bits, version=4))


def generate(plan: WorldPlan, *, until: datetime | None = None) -> Generated:
    """
    Return the plan's world up to ``until`` (aware; default: the end of its days).

    Raises:
        ValueError: a naive instant, or too few credentials or days for the faults.
    """
    until = plan.end if until is None else until
    if plan.begin.tzinfo is None or until.tzinfo is None:
        raise ValueError("begin and until must be timezone-aware")
    begin, until = (at.astimezone(UTC).replace(microsecond=0) for at in (plan.begin, until))
    plan = replace(plan, begin=begin)
    shape, zone = shape_named(plan.shape), ZoneInfo(plan.timezone)
    source = random.Random(f"world:{plan.seed}")  # noqa: S311  simulated data, not secrets
    accounts = plan_accounts(source, credentials=plan.credentials, begin=begin, days=plan.days)
    if plan.planted is None:
        draw = Draw(source=source, accounts=accounts, begin=begin, end=begin + plan.days * DAY, timezone=zone)
        faults = draw.faults(plan.faults)
    else:
        faults = list(plan.planted)
        for fault in faults:
            if fault.account is not None:
                accounts[fault.account - 1] = adapted(accounts[fault.account - 1], fault)

    runs = [
        run
        for account in accounts
        for run in _account_runs(account, faults, plan=plan, shape=shape, since=begin, until=until)
        if run.inserted_at <= until and (account.deleted_at is None or run.inserted_at < account.deleted_at)
    ]
    runs.sort(key=lambda run: (run.inserted_at, run.account, run.data_type, run.started_at))
    numbers = {id(run): number for number, run in enumerate(runs, start=1)}
    of_account: dict[int, list[PlannedRun]] = {account.number: [] for account in accounts}
    for run in runs:
        of_account[run.account].append(run)
    stories = {
        account.number: Story(
            account=account,
            runs=of_account[account.number],
            tokens=_tokens(account, faults, of_account[account.number], plan=plan, until=until),
            credential_id=str(row_id(plan, Table.CREDENTIAL, account.number)),
            run_id=lambda run: str(row_id(plan, Table.RUN, numbers[id(run)])),
        )
        for account in accounts
    }
    gone = {account.number: account.deleted_at for account in accounts if account.deleted_at is not None}
    writes = [
        *_company_writes(accounts, plan=plan, begin=begin),
        *(write for story in stories.values() for write in _credential_writes(story, faults, shape=shape, begin=begin)),
        *(write for run in runs for write in _run_writes(run, numbers[id(run)], account=accounts[run.account - 1])),
    ]
    order = list(Table)
    writes = [write for write in writes if write.at <= until]
    # Rows go before what they belong to, and come after it.
    writes.sort(key=lambda write: (write.at, order.index(write.table) * (1 if write.values is not None else -1)))
    return Generated(
        plan=plan,
        until=until,
        accounts=tuple(accounts),
        faults=tuple(faults),
        writes=tuple(writes),
        truths=tuple(truths_of(faults, stories, until=until, counts_records="records_failed" in shape.log_columns)),
        messy=count_messy(runs, shape=shape, changes=clock_changes(zone, begin, until), gone=gone, until=until),
    )


def _account_runs(
    account: Account,
    faults: Sequence[PlantedFault],
    *,
    plan: WorldPlan,
    shape: SourceShape,
    since: datetime,
    until: datetime,
) -> Iterator[PlannedRun]:
    mine = [fault for fault in faults if fault.account == account.number]
    platform = [fault for fault in faults if fault.account is None]
    for slot, data_type, due in account.slots(since=since - SEASONING, until=until):
        source = random.Random(f"slot:{plan.seed}:{account.number}:{data_type}:{slot}")  # noqa: S311  simulated data
        start = _not_in_silence(due + source.randrange(40) * SECOND, account, platform, source=source)
        if start is None or start < account.created_at or any(fault.hides(start) for fault in mine):
            continue
        run = healthy_run(account, source=source, data_type=data_type, started_at=start)
        in_time = (fault for fault in platform if fault.committed_at is None)
        outage = next((fault for fault in in_time if _fails(account, fault, start, mine)), None)
        is_calm = all(start < f.at - ALL_FROM or start > (f.over or f.at) + ALL_FROM for f in platform)
        if outage is not None:
            yield failed(run, OUTAGES[outage.fault][0], after=20 * SECOND, fault=outage.fault)
            if account.cadence == DAY:
                again = healthy_run(account, source=source, data_type=data_type, started_at=start + 100 * MINUTE)
                yield again
        elif account.is_messy and is_calm and start > since:
            yield from slot_runs(run, account=account, slot=slot, source=source, shape=shape)
        else:
            for fault in mine:
                run = fault.shape(run, slot)
            yield run
    for fault in mine:
        yield from fault.own_runs()
    for fault in platform:
        if fault.committed_at is not None and _fails(account, fault, fault.at, mine):
            yield fault.late_run(account, fault.at + account.number * SECOND)


def _not_in_silence(
    start: datetime, account: Account, platform: Sequence[PlantedFault], *, source: random.Random
) -> datetime | None:
    """Return when the run starts: a daily one is caught up after a silence of the platform, the others are left out."""
    for fault in platform:
        is_within = fault.at <= start < (fault.over or start + SECOND)
        if fault.fault is Fault.PLATFORM_SILENT and is_within and account.environment == "production":
            can_catch_up = account.cadence == DAY and fault.over is not None
            return fault.over + source.randrange(60, 1_800) * SECOND if can_catch_up and fault.over else None
    return start


def _fails(account: Account, fault: PlantedFault, start: datetime, mine: Sequence[PlantedFault]) -> bool:
    """Return whether an outage hits a run: those of production, but for accounts that show a fault of their own."""
    harmless = (Fault.EMPTY_SYNCS, Fault.TOKEN_ABOUT_TO_LAPSE)
    shows_its_own = any(own.fault not in harmless and own.is_near(start) for own in mine)
    if fault.fault not in OUTAGES or account.environment != "production" or shows_its_own or not account.is_in_use:
        return False
    if fault.fault is Fault.OUTAGE_PARTIAL and account.number % 7 == 0:
        return False
    return fault.at <= start < (fault.over or start + SECOND)


def _tokens(
    account: Account, faults: Sequence[PlantedFault], runs: Sequence[PlannedRun], *, plan: WorldPlan, until: datetime
) -> list[tuple[datetime, datetime]]:
    """Return ``(given, expires)`` of every token, the first of them given before the world begins."""
    if not account.is_in_use:
        return []
    if account.token == SHORT_TOKEN:
        given = [run.started_at for run in runs if run.refreshes_token]
        if account.created_at < plan.begin:
            given.insert(0, plan.begin - SEASONING)
        return [(at, at + SHORT_TOKEN) for at in sorted(given)]
    source = random.Random(f"token:{plan.seed}:{account.number}")  # noqa: S311  simulated data
    at = max(plan.begin - source.randrange(1, 9 * 24) * HOUR, account.created_at)
    renewals: list[datetime] = []
    lapse = next((f for f in faults if f.account == account.number and f.fault is Fault.TOKEN_ABOUT_TO_LAPSE), None)
    if lapse is not None:
        expires = lapse.at + 7 * DAY
        tokens = [(expires - LONG_TOKENS[0], expires)]
        if lapse.over is None:
            return tokens
        at = lapse.over
    else:
        tokens = []
    while at <= until:
        renewals.append(at)
        at += RENEWED_EVERY
    return tokens + [(at, at + account.token) for at in renewals]


def _company_writes(accounts: Sequence[Account], *, plan: WorldPlan, begin: datetime) -> Iterator[Write]:
    source = random.Random(f"companies:{plan.seed}")  # noqa: S311  simulated data
    first: dict[int, Account] = {}
    for account in accounts:
        first.setdefault(account.company, account)
    for number, account in first.items():
        values = {
            "company_name": account.company_name,
            "intacct_id": None if number % 5 == 0 else f"C-{number:05}",
            "created_at": account.created_at,
            "updated_at": account.created_at,
        }
        yield Write(_born(account, begin), Table.COMPANY, number, values)
    for number in source.sample(sorted(first), RENAMES):
        at = begin + source.randrange(plan.days * 86_400) * SECOND
        name = f"{first[number].company_name} & Daughters" if number % 2 else first[1].company_name
        if at > first[number].created_at:
            yield Write(at, Table.COMPANY, number, {"company_name": name, "updated_at": at})


def _born(account: Account, begin: datetime) -> datetime:
    return max(account.created_at, begin - 2 * DAY)


def _credential_writes(
    story: Story, faults: Sequence[PlantedFault], *, shape: SourceShape, begin: datetime
) -> Iterator[Write]:
    account, born = story.account, _born(story.account, begin)
    is_new = account.created_at > begin
    given, expires = (None, None) if is_new or not story.tokens else story.tokens[0]
    is_blank = not account.is_in_use and not shape.checks_enumerations
    values: dict[str, Any] = {
        "company_id": account.company,
        "environment": account.environment,
        "connection_status": "active" if account.is_in_use else "inactive",
        "token_expires_at": expires,
        "last_connection_attempt": account.created_at if account.is_in_use else None,
        "has_secrets": not is_blank,
        "created_at": account.created_at,
        "updated_at": given or account.created_at,
    }
    changes: list[tuple[datetime, dict[str, Any], str | None]] = [
        (at, {"token_expires_at": expires}, None) for at, expires in story.tokens[0 if is_new else 1 :]
    ]
    for fault in faults:
        if fault.account == account.number and fault.fault is Fault.FAILED_REFRESH:
            changes.append((fault.at, {"connection_status": "error"}, f"{account.company_name}: its connection broke"))
            if fault.over is not None:
                back = f"{account.company_name}: its connection is back"
                changes.append((fault.over, {"connection_status": "active"}, back))
    yield Write(born, Table.CREDENTIAL, account.number, values)
    for at, change, told in changes:
        if account.deleted_at is None or at < account.deleted_at:
            yield Write(at, Table.CREDENTIAL, account.number, change | {"updated_at": at}, told)
    if account.deleted_at is not None:
        yield Write(account.deleted_at, Table.CREDENTIAL, account.number, None)


def _run_writes(run: PlannedRun, number: int, *, account: Account) -> Iterator[Write]:
    processed, successful, rejected = run.records
    end: dict[str, Any] = {
        "status": run.status,
        "completed_at": run.completed_at,
        "records_processed": processed,
        "records_successful": successful,
        "records_failed": rejected,
        "error_message": run.error_message,
        "error_details": run.error_details,
        "metadata": run.metadata,
        "processing_time_seconds": run.processing_time_seconds,
    }
    half = {"records_processed": processed // 2, "records_successful": processed // 2, "records_failed": 0}
    under_way = end | half | {"status": "running", "completed_at": None, "error_message": None, "error_details": None}
    under_way |= {"metadata": None, "processing_time_seconds": None}
    is_late = run.committed_at is not None
    told = run.told and f"{account.company_name}: {run.told}"
    first = {
        "credential": run.account,
        "sync_type": run.sync_type,
        "data_type": run.data_type,
        "started_at": run.started_at,
        "created_at": run.inserted_at,
        "updated_at": run.inserted_at,
        **(end if is_late else under_way),
    }
    writes = [Write(run.inserted_at, Table.RUN, number, first, told if is_late else None)]
    if not is_late and run.completed_at is not None:
        ended = end | {"updated_at": run.completed_at}
        writes.append(Write(run.completed_at, Table.RUN, number, ended, told))
    writes += [Write(at, Table.RUN, number, {**values, "updated_at": at}) for at, values in run.corrections]
    if account.deleted_at is None:
        yield from writes
    else:
        yield from (write for write in writes if write.at < account.deleted_at)
        yield Write(account.deleted_at, Table.RUN, number, None)

"""
A plausible past for the simulated Hub Plus: some days of mostly healthy syncs, and faults planted by name.

The faults are those that the rules must find (or must not): `seed_history` returns whose they are.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from include.simulation.hub_plus import HubPlus, RowId, Run
from include.sync_health.frames import CANCELLED_BY_USER

HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)

TOKEN_LIFETIME = timedelta(seconds=900)
"""Of a ServiceTitan access token, as the reference has it."""

INVALID_CLIENT = "HTTP 401 invalid_client"
MISSING_FIELDS = "Required fields are missing: invoice_number, first_appointment"

HOSTILE_COMPANY = (
    "<script>alert(1)</script> & \u202eSons\u202c *{{ 7*7 }}* <!channel> =cmd|' /C calc'!A0 O'Brien; DROP TABLE company"
)
HOSTILE_ERROR = (
    "<!everyone> <https://evil.example/|click here> {{ var.value.secret }} </td><img src=x onerror=alert(1)>\r\n"
    "Bcc: everyone@example.com\r\n\r\n\x1b[31mred\x07 \u202egnp.exe\u202c Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.cGF5bG9hZA.c2lnbmF0dXJl "
    "client_secret=cs1.0123456789abcdef0123456789abcdef customer jane.doe@example.com +1 555 0100 " + "A" * 5_000
)
"""What an error text can hold at worst: markup of every channel, templates, header injection, control and bidi
characters, secrets, personal data, and far too much of it. (PostgreSQL's text cannot hold NUL.)"""

ISOLATED_ERRORS = (
    "ServiceTitan API rate limit exceeded after all retries",
    "ServiceTitan API server error: 503",
    'Idle timeout reached for "https://api.servicetitan.io/crm/v2/tenant/912345678/customers".',
    "Unknown API error",
    "Invalid JSON response from ServiceTitan API",
    None,  # legal upstream: markAsFailed stores only truthy messages
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

ISOLATED_FAILURE_SHARE = 0.004

SUDDEN_FAULTS = ("failing", "stuck", "hostile", "cancelled")
FAULTS = ("daily_failing", *SUDDEN_FAULTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedFaults:
    """
    Whose the planted faults are: credential ids, at the ``as_of`` of `seed_history`. All are of production.

    Args:
        failing: three failed runs in the last hour, all `INVALID_CLIENT`, healthy before.
        daily_failing: a daily sync whose ``invoices`` runs failed on each of the last five days, while its
            ``customers`` runs completed.
        stuck: a run that has been running for 90 minutes, and none since.
        stuck_run: the id of that run.
        hostile: as failing, with `HOSTILE_COMPANY` and `HOSTILE_ERROR`.
        cancelled: three runs in the last hour that a user cancelled; must not alert.
    """

    failing: RowId
    daily_failing: RowId
    stuck: RowId
    stuck_run: RowId
    hostile: RowId
    cancelled: RowId


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    One credential as the simulation knows it: whose it is, what it syncs, and when.

    Args:
        cadence: between two runs of one stream.
        phase: of the first stream, from the cadence's beginning (the hour, or UTC midnight); each further one starts
            ten minutes later.
        streams: the data types it syncs, one run each.
    """

    company_name: str
    environment: str
    cadence: timedelta
    phase: timedelta
    streams: tuple[str, ...]
    fault: str | None = None

    def starts(self, *, after: datetime, until: datetime) -> Iterator[tuple[datetime, str]]:
        """Yield ``(start, data type)`` of every run due in (after, until], stream by stream."""
        midnight = after.replace(hour=0, minute=0, second=0, microsecond=0)
        for position, data_type in enumerate(self.streams):
            start = midnight - self.cadence + self.phase + position * 10 * MINUTE
            start += max(0, (after - start) // self.cadence) * self.cadence
            while start <= until:
                if start > after:
                    yield start, data_type
                start += self.cadence


def seed_history(world: HubPlus, *, as_of: datetime, companies: int = 40, days: int = 8) -> PlantedFaults:
    """
    Fill an empty source with ``days`` of history up to ``as_of`` (aware), ids rising with ``started_at``.

    Hourly and daily cadences, both environments, every data type, runs that processed nothing, isolated failures
    (never two in a row), runs by hand, and rows without ``sync_type`` where the shape allows. Runs that are not over
    at ``as_of`` are running. The same seed, ``as_of`` and numbers give the same rows.

    Raises:
        ValueError: fewer than six companies or six days, which the planted faults need, or a naive ``as_of``.
    """
    if companies <= len(FAULTS) or days < 6:
        raise ValueError(f"the planted faults need at least {len(FAULTS) + 1} companies and 6 days")
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    now = as_of.astimezone(UTC).replace(microsecond=0)
    source = random.Random(f"history:{world.seed}")  # noqa: S311  simulated data, not secrets
    planted: dict[str, RowId] = {}
    runs: list[Run] = []
    for account, credential in _add_accounts(world, plan_accounts(source, companies=companies, as_of=now), as_of=now):
        own = list(_runs_of(account, credential, world=world, source=source, since=now - days * DAY, as_of=now))
        newest = own[-1].started_at
        world.set_token(credential, expires_at=newest + TOKEN_LIFETIME, at=newest)
        runs += own
        if account.fault is not None:
            planted[account.fault] = credential
    world.copy_runs(sorted(runs, key=lambda run: run.started_at))
    return PlantedFaults(
        failing=planted["failing"],
        daily_failing=planted["daily_failing"],
        stuck=planted["stuck"],
        stuck_run=world.runs_of(planted["stuck"], status="running")[0],
        hostile=planted["hostile"],
        cancelled=planted["cancelled"],
    )


def plan_accounts(source: random.Random, *, companies: int, as_of: datetime) -> list[Account]:
    """Return the accounts: the first five carry the planted faults, a third of the others have a sandbox as well."""
    accounts = []
    for number in range(companies):
        name = (
            f"{FIRST_WORDS[number % len(FIRST_WORDS)]} {SECOND_WORDS[number // len(FIRST_WORDS) % len(SECOND_WORDS)]}"
        )
        fault = FAULTS[number] if number < len(FAULTS) else None
        is_hourly = source.random() < 0.6
        phase = timedelta(minutes=source.randrange(40)) + (0 if is_hourly else source.randrange(24)) * HOUR
        account = Account(
            company_name=name,
            environment="production",
            cadence=HOUR if is_hourly else DAY,
            phase=phase,
            streams=source.choice((("both",), ("invoices", "customers"))),
            fault=fault,
        )
        if fault == "daily_failing":
            # Its last run was three hours ago, whatever the time of day.
            phase = (as_of - 3 * HOUR - as_of.replace(hour=0, minute=0, second=0)) % DAY
            account = replace(account, cadence=DAY, phase=phase, streams=("invoices", "customers"))
        elif fault is not None:
            company_name = HOSTILE_COMPANY if fault == "hostile" else name
            account = replace(account, company_name=company_name, cadence=HOUR, phase=phase % HOUR, streams=("both",))
        accounts.append(account)
        if fault is None and number % 3 == 0:
            phase = timedelta(hours=source.randrange(24), minutes=source.randrange(40))
            accounts.append(replace(account, environment="integration", cadence=DAY, phase=phase, streams=("both",)))
    return accounts


def healthy_run(
    credential: RowId, *, source: random.Random, data_type: str, started_at: datetime, may_fail: bool = False
) -> Run:
    """Return a finished run of a plausible length and size; rarely, if it may, a failed one."""
    completed_at = started_at + timedelta(seconds=source.randrange(15, 420))
    if may_fail and source.random() < ISOLATED_FAILURE_SHARE:
        return failed_run(
            credential,
            data_type=data_type,
            started_at=started_at,
            completed_at=completed_at,
            message=source.choice(ISOLATED_ERRORS),
        )
    processed = 0 if source.random() < 0.15 else int(source.lognormvariate(4.5, 1.1)) + 1
    rejected = processed // 60 if source.random() < 0.2 else 0
    return Run(
        credential=credential,
        data_type=data_type,
        started_at=started_at,
        completed_at=completed_at,
        records=(processed, processed - rejected, rejected),
        sync_type="manual" if source.random() < 0.02 else "scheduled",
    )


def failed_run(
    credential: RowId,
    *,
    data_type: str,
    started_at: datetime,
    completed_at: datetime,
    message: str | None,
    sync_type: str = "scheduled",
) -> Run:
    """Return a run that failed before it processed anything."""
    return Run(
        credential=credential,
        data_type=data_type,
        status="failed",
        started_at=started_at,
        completed_at=completed_at,
        error_message=message,
        sync_type=sync_type,
    )


def _add_accounts(world: HubPlus, accounts: list[Account], *, as_of: datetime) -> Iterator[tuple[Account, RowId]]:
    """Add each account's company (once for its two environments, which follow each other) and credential."""
    company_name, company = None, None
    for account in accounts:
        created_at = as_of - 400 * DAY
        if company is None or account.company_name != company_name:
            company_name = account.company_name
            company = world.add_company(company_name, created_at=created_at)
        yield account, world.add_credential(company, environment=account.environment, created_at=created_at)


def _runs_of(
    account: Account, credential: RowId, *, world: HubPlus, source: random.Random, since: datetime, as_of: datetime
) -> Iterator[Run]:
    """Yield an account's runs, in order of their start, as they stand at ``as_of``."""
    # Before a planted fault the healthy runs end early, so that none of them falls among its own.
    until = as_of - 100 * MINUTE if account.fault in SUDDEN_FAULTS else as_of
    has_just_failed = False
    for started_at, data_type in sorted(account.starts(after=since, until=until)):
        if account.fault == "daily_failing" and data_type == "invoices" and as_of - started_at < 5 * DAY:
            run = failed_run(
                credential,
                data_type=data_type,
                started_at=started_at,
                completed_at=started_at + timedelta(seconds=40),
                message=MISSING_FIELDS,
            )
        else:
            may_fail = account.fault is None and not has_just_failed
            run = healthy_run(credential, source=source, data_type=data_type, started_at=started_at, may_fail=may_fail)
            has_just_failed = run.status == "failed"
        if not world.shape.requires_sync_type and source.random() < 0.02:
            run = replace(run, sync_type=None)
        yield run if run.completed_at is not None and run.completed_at <= as_of else _under_way(run)
    yield from _planted_runs(account, credential, world=world, as_of=as_of)


def _under_way(run: Run) -> Run:
    """Return the run as it was before it ended: half of its records so far."""
    done = run.records[0] // 2
    return replace(run, status="running", completed_at=None, error_message=None, records=(done, done, 0))


def _planted_runs(account: Account, credential: RowId, *, world: HubPlus, as_of: datetime) -> Iterator[Run]:
    if account.fault == "stuck":
        yield Run(credential=credential, status="running", started_at=as_of - 90 * MINUTE, records=(120, 120, 0))
    messages = {"failing": INVALID_CLIENT, "hostile": HOSTILE_ERROR, "cancelled": CANCELLED_BY_USER}
    if account.fault not in messages:
        return
    for minutes in (50, 30, 10):
        started_at = as_of - minutes * MINUTE
        run = failed_run(
            credential,
            data_type="both",
            started_at=started_at,
            completed_at=started_at + timedelta(seconds=90),
            message=messages[account.fault],
            sync_type="manual",
        )
        if account.fault == "cancelled" and minutes == 30 and not world.shape.checks_enumerations:
            # Nothing upstream writes this status today, though its enumeration has it.
            run = replace(run, status="cancelled", error_message=None)
        yield run

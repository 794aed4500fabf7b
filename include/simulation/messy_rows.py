"""
One sync run of a generated Hub Plus: what becomes of it, and in which ways its row may be odd.

Every slot of a messy account has a place of four: in the first a run may fail, in the third its row may be odd; the
second and fourth always complete in time. So nothing odd ever adds up to what a rule calls a breach.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from include.simulation.messy_details import failure_details, rejection_details, run_number
from include.simulation.source_shapes import SourceShape
from include.simulation.world_plan import DAY, HOUR, MINUTE, SECOND, Account
from include.sync_health.frames import CANCELLED_BY_USER

HOSTILE_ERROR = (
    "<!everyone> <https://evil.example/|click here> {{ var.value.secret }} </td><img src=x onerror=alert(1)>\r\n"
    "Bcc: everyone@example.com\r\n\r\n\x1b[31mred\x07 \u202egnp.exe\u202c Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.cGF5bG9hZA.c2lnbmF0dXJl "
    "client_secret=cs1.0123456789abcdef0123456789abcdef customer jane.doe@example.com +1 555 0100 " + "A" * 5_000
)
"""What an error text can hold at worst: markup of every channel, templates, header injection, control and bidi
characters, secrets, personal data, and far too much of it. (PostgreSQL's text cannot hold NUL.)"""

HUGE_ERROR = "Invalid JSON response from ServiceTitan API: " + '{"title": "Unprocessable", "row": [0]}, ' * 2_000

EVERYDAY_ERRORS = (
    "ServiceTitan API rate limit exceeded after all retries",
    "ServiceTitan API server error: 503",
    'Idle timeout reached for "https://api.servicetitan.io/crm/v2/tenant/912345678/customers".',
    "Unknown API error",
    "Invalid JSON response from ServiceTitan API",
)

UNKNOWN_STATUSES = ("partial", "queued", "COMPLETED", "")

FAILURE_SHARE = 0.15  # of the slots that may fail
ODD_SHARE = 0.5  # of the slots that may be odd
ALL_FROM = 8 * HOUR
"""How long before and after a fault of the whole platform no row is odd, so that it begins and ends where planned."""


class Messy(StrEnum):
    """The ways in which a row can be odd without anything being wrong with the integration."""

    NULL_SYNC_TYPE = "null_sync_type"
    UNKNOWN_STATUS = "unknown_status"
    ZERO_RECORDS = "zero_records"
    CONTRADICTING_COUNTS = "contradicting_counts"
    STORED_PROCESSING_TIME = "stored_processing_time"
    NULL_PROCESSING_TIME = "null_processing_time"
    CANCELLED_AS_FAILED = "cancelled_as_failed"
    CANCELLED_STATUS = "cancelled_status"
    STUCK_RUNNING = "stuck_running"
    LATE_COMMIT = "late_commit"
    LATE_COUNTS = "late_counts"
    LATE_STATUS = "late_status"
    FUTURE_STAMP = "future_stamp"
    NEGATIVE_DURATION = "negative_duration"
    DST_HOUR = "dst_hour"
    HUGE_ERROR = "huge_error"
    HOSTILE_ERROR = "hostile_error"
    EMPTY_ERROR = "empty_error"
    DELETED_CREDENTIAL = "deleted_credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """
    All that will ever be written to one run's row. Times are aware, whole seconds; records as `hub_plus.Run` has them.

    Args:
        account: the credential's number.
        committed_at: None: inserted as running when it starts and updated when it ends, as upstream does; else the
            finished row is inserted at that instant at once.
        appears_at: when the row is inserted, where it starts earlier than it appears and is finished in time.
        corrections: later changes in place: instant, values.
        messy: what is odd about it.
        fault: the planted fault that it shows.
        told: a line for whoever watches, at its end.
    """

    account: int
    data_type: str
    started_at: datetime
    completed_at: datetime | None = None
    status: str = "completed"
    error_message: str | None = None
    records: tuple[int, int, int] = (0, 0, 0)
    sync_type: str | None = "scheduled"
    processing_time_seconds: int | None = None
    error_details: Any = None
    metadata: Any = None
    committed_at: datetime | None = None
    appears_at: datetime | None = None
    corrections: tuple[tuple[datetime, Mapping[str, Any]], ...] = ()
    messy: tuple[Messy, ...] = ()
    fault: str | None = None
    told: str | None = None

    @property
    def inserted_at(self) -> datetime:
        """When its row appears."""
        return self.committed_at or self.appears_at or self.started_at

    @property
    def ended_at(self) -> datetime | None:
        """When its row says for the first time how it ended; None: never."""
        return None if self.completed_at is None else self.committed_at or self.completed_at

    @property
    def refreshes_token(self) -> bool:
        """Whether it got as far as to be given a new access token when it started."""
        return self.status != "failed" and self.inserted_at == self.started_at


def healthy_run(account: Account, *, source: random.Random, data_type: str, started_at: datetime) -> PlannedRun:
    """Return a completed run of a plausible length (15 s to 7 min) and size."""
    processed = 0 if account.is_empty or source.random() < 0.1 else int(source.lognormvariate(4.5, 1.1)) + 1
    rejected = processed // 60 if source.random() < 0.2 else 0
    number = run_number(account.number, data_type, started_at)
    details, metadata = rejection_details(number, data_type=data_type, processed=processed, rejected=rejected)
    return PlannedRun(
        account=account.number,
        data_type=data_type,
        started_at=started_at,
        completed_at=started_at + timedelta(seconds=source.randrange(15, 420)),
        records=(processed, processed - rejected, rejected),
        sync_type="manual" if source.random() < 0.02 else "scheduled",
        error_details=details,
        metadata=metadata,
    )


def failed(run: PlannedRun, message: str | None, *, after: timedelta = 40 * SECOND, **also: Any) -> PlannedRun:
    """Return the run as one that failed before it processed anything."""
    end = run.started_at + after
    known: dict[str, Any] = {"completed_at": end, "status": "failed", "error_message": message, "records": (0, 0, 0)}
    known |= {"error_details": None, "metadata": None}
    return replace(run, **(known | also))


def slot_runs(
    run: PlannedRun, *, account: Account, slot: int, source: random.Random, shape: SourceShape
) -> list[PlannedRun]:
    """Return what becomes of a messy account's healthy run, and the run by hand that follows a daily one's failure."""
    place = slot % 4
    if place == 0 and source.random() < FAILURE_SHARE:
        return _failure(run, account=account, source=source)
    if place == 2 and source.random() < ODD_SHARE:
        kind = source.choice(odd_kinds(shape, is_daily=account.cadence == DAY))
        return [_odd(run, kind, source=source)]
    return [run]


def odd_kinds(shape: SourceShape, *, is_daily: bool) -> tuple[Messy, ...]:
    """Return the kinds that a healthy run's row can have in this shape."""
    kinds = [Messy.LATE_COMMIT, Messy.NEGATIVE_DURATION]
    if not is_daily:
        kinds += [Messy.CANCELLED_AS_FAILED, Messy.FUTURE_STAMP, Messy.LATE_STATUS]
        if not shape.checks_enumerations:
            kinds += [Messy.UNKNOWN_STATUS, Messy.CANCELLED_STATUS]
    if not shape.requires_sync_type:
        kinds.append(Messy.NULL_SYNC_TYPE)
    if "records_failed" in shape.log_columns:
        kinds += [Messy.CONTRADICTING_COUNTS, Messy.LATE_COUNTS]
    if "processing_time_seconds" in shape.log_columns:
        kinds.append(Messy.STORED_PROCESSING_TIME)
    return tuple(kinds)


def _failure(run: PlannedRun, *, account: Account, source: random.Random) -> list[PlannedRun]:
    message, kind = source.choice(
        (
            *((text, None) for text in EVERYDAY_ERRORS),
            (None, Messy.EMPTY_ERROR),  # legal upstream: markAsFailed stores only truthy messages
            ("", Messy.EMPTY_ERROR),
            (HUGE_ERROR, Messy.HUGE_ERROR),
            (HOSTILE_ERROR, Messy.HOSTILE_ERROR),
        )
    )
    details = failure_details(run_number(account.number, run.data_type, run.started_at))
    bad = failed(run, message, messy=(kind,) if kind else (), error_details=details)
    if account.cadence < DAY:
        return [bad]
    again = replace(run, started_at=run.started_at + 25 * MINUTE, completed_at=run.started_at + 27 * MINUTE)
    return [bad, replace(again, sync_type="manual")]


def _odd(run: PlannedRun, kind: Messy, *, source: random.Random) -> PlannedRun:
    run = replace(run, messy=(kind,))
    end = run.completed_at or run.started_at
    later = end + timedelta(seconds=source.randrange(600, 5 * 3600))
    match kind:
        case Messy.NULL_SYNC_TYPE:
            return replace(run, sync_type=None)
        case Messy.UNKNOWN_STATUS:
            return replace(run, status=source.choice(UNKNOWN_STATUSES))
        case Messy.CANCELLED_STATUS:
            return replace(run, status="cancelled")
        case Messy.CANCELLED_AS_FAILED:
            return replace(run, status="failed", error_message=CANCELLED_BY_USER)
        case Messy.CONTRADICTING_COUNTS:
            return replace(run, records=source.choice(((50, 80, 0), (20, 20, 30), (40, 41, -1))))
        case Messy.STORED_PROCESSING_TIME:
            seconds = int((end - run.started_at).total_seconds())
            return replace(run, processing_time_seconds=source.choice((0, seconds, seconds + 3)))
        case Messy.LATE_COMMIT:
            return replace(run, committed_at=later)
        case Messy.LATE_COUNTS:
            counts = {"records_processed": 120, "records_successful": 120, "records_failed": 0}
            return replace(run, records=(120, 110, 10), corrections=((later, counts),))
        case Messy.LATE_STATUS:
            status = {"status": "failed", "error_message": "Found incomplete later: unknown reason"}
            return replace(run, corrections=((later, status),))
        case Messy.FUTURE_STAMP:
            return replace(
                run, started_at=run.started_at + 400 * DAY, completed_at=end + 400 * DAY, committed_at=run.started_at
            )
        case Messy.NEGATIVE_DURATION:
            return replace(run, completed_at=run.started_at - 5 * SECOND, committed_at=run.started_at)
    raise ValueError(f"{kind} is no oddness of a healthy run")


def count_messy(
    runs: Sequence[PlannedRun],
    *,
    shape: SourceShape,
    changes: Sequence[datetime],
    gone: Mapping[int, datetime],
    until: datetime,
) -> Mapping[Messy, int]:
    """
    Return how many of the rows that exist at ``until`` are odd by then, by kind.

    Args:
        runs: all that were inserted by then.
        changes: when PHP's zone changes its clocks; the hour before and the one after count as the hour of it.
        gone: when accounts are deleted, by number.
    """
    deleted = {number for number, at in gone.items() if at <= until}
    runs = [run for run in runs if run.account not in deleted]
    counts: Counter[Messy] = Counter(
        kind for run in runs if all(at <= until for at, _ in run.corrections) for kind in run.messy
    )
    ended = [run for run in runs if run.ended_at is not None and run.ended_at <= until]
    counts[Messy.ZERO_RECORDS] = sum(
        run.records[0] == 0 and run.status == "completed" and all(at > until for at, _ in run.corrections)
        for run in ended
    )
    counts[Messy.STUCK_RUNNING] = sum(run.completed_at is None for run in runs)
    counts[Messy.DST_HOUR] = sum(any(at - HOUR <= run.started_at < at + HOUR for at in changes) for run in runs)
    counts[Messy.DELETED_CREDENTIAL] = len(deleted)
    if "processing_time_seconds" in shape.log_columns:
        counts[Messy.NULL_PROCESSING_TIME] = sum(run.processing_time_seconds is None for run in ended)
    return {kind: counts[kind] for kind in Messy}

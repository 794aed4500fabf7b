"""Rows of our schema that tests plant, and what ``/metrics`` must say of them, worked out one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
from prometheus_client.parser import text_string_to_metric_families
from psycopg.types.json import Jsonb

from include.sync_health.health import HealthStatus, StoredHealth
from include.sync_health.metric_contract import CREDENTIAL_STATUSES
from include.sync_health.policy import MonitoringLevel
from include.sync_health.response_times import HISTOGRAM_MS
from include.warehouse.health_snapshots import store_health

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
BUCKETS = len(HISTOGRAM_MS) + 1

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Value by name and labels."""

LABELS_OF = {
    MonitoringLevel.MINIMAL: {"environment", "data_type", "status", "status_code"},
    MonitoringLevel.STANDARD: {"environment", "data_type", "status", "status_code", "company_id", "endpoint"},
    MonitoringLevel.DETAILED: {
        *("environment", "data_type", "status", "status_code", "company_id", "endpoint", "error_class", "credential_id")
    },
}


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A row of ``sync_counter``."""

    environment: str = "production"
    company_id: str = "1"
    credential_id: str = "7"
    data_type: str = "customers"
    status: str = "completed"
    syncs: int = 3
    duration: tuple[int, float] = (2, 90.5)
    last_at: datetime | None = None
    last_sync_id: str | None = None
    records: tuple[int | None, int | None, int | None] = (None, None, None)
    failed_by_class: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A row of ``credential_snapshot``."""

    credential_id: str = "7"
    as_of: datetime
    company_id: str | None = "1"
    environment: str | None = "production"
    status: str | None = "active"
    expires: datetime | None = None
    is_deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Quality:
    """A row of ``quality_gauge``."""

    environment: str = "production"
    company_id: str = "1"
    credential_id: str = "7"
    data_type: str = "customers"
    records: tuple[int | None, int | None, int | None] = (100, 98, 2)


@dataclass(frozen=True, kw_only=True)
class Calls:
    """A row of ``api_counter``."""

    source: str = "table"
    credential_id: str = "7"
    environment: str = "production"
    company_id: str = "1"
    endpoint: str = "/crm/v2/tenant/{id}/customers"
    status_code: int = 200
    requests: int = 10
    errors: int = 0
    milliseconds: float = 1250.0
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Planted:
    """All of them."""

    counters: tuple[Counter, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()
    quality: tuple[Quality, ...] = ()
    calls: tuple[Calls, ...] = ()
    sources: tuple[tuple[str, str, bool], ...] = ()  # source, status, has_timings


def plant(conn: psycopg.Connection[Any], planted: Planted, *, now: datetime) -> None:
    """Write and commit."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO monitoring.sync_counter (environment, company_id, credential_id, data_type, status, syncs,"
            " duration_count, duration_seconds_sum, last_at, last_sync_id, records_processed, records_successful,"
            " records_failed, failed_by_class, updated_at) VALUES (" + ", ".join(["%s"] * 15) + ")",
            [
                (
                    *(each.environment, each.company_id, each.credential_id, each.data_type, each.status, each.syncs),
                    *(*each.duration, each.last_at, each.last_sync_id, *each.records, Jsonb(each.failed_by_class), now),
                )
                for each in planted.counters
            ],
        )
        cursor.executemany(
            "INSERT INTO monitoring.credential_snapshot VALUES (%s, %s, %s, 'Acme', %s, %s, %s, true, true, %s)",
            [
                (
                    *(each.credential_id, each.as_of, each.company_id, each.environment, each.status, each.expires),
                    each.is_deleted,
                )
                for each in planted.snapshots
            ],
        )
        cursor.executemany(
            "INSERT INTO monitoring.quality_gauge (environment, company_id, credential_id, data_type, as_of, total, valid,"
            " invalid) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (each.environment, each.company_id, each.credential_id, each.data_type, now, *each.records)
                for each in planted.quality
            ],
        )
        cursor.executemany(
            "INSERT INTO monitoring.api_counter (source, credential_id, environment, company_id, endpoint, status_code,"
            " requests, errors, response_count, response_ms_sum, histogram, updated_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    *(each.source, each.credential_id, each.environment, each.company_id, each.endpoint),
                    *(each.status_code, each.requests, each.errors, sum(each.histogram), each.milliseconds),
                    *(list(each.histogram), now),
                )
                for each in planted.calls
            ],
        )
        cursor.executemany(
            "INSERT INTO monitoring.api_source VALUES (%s, %s, %s, 'detail', %s, '{}', %s)",
            [(*each, now, now) for each in planted.sources],
        )
    conn.commit()


def plant_check(
    conn: psycopg.Connection[Any], check: str, *, end: datetime, status: str = "seen", mode: str = "live", rows: int = 5
) -> None:
    """Write a run of a check and commit; it took the source a quarter of a second, and a second in all."""
    conn.execute(
        "INSERT INTO monitoring.check_run (run_id, check_name, window_from, window_to, mode, filters, status, rows_read,"
        " source_ms, total_ms, verdicts, anomalies, notes, computed_at) VALUES (gen_random_uuid(), %s, %s, %s, %s, '{}', %s,"
        " %s, 250, 1000, '{}', '{}', '{}', %s)",
        (check, end - 15 * MINUTE, end, mode, status, rows, end),
    )
    conn.commit()


def plant_health(conn: psycopg.Connection[Any], *, as_of: datetime, status: str = "healthy") -> None:
    """Store a health check and commit."""
    report = {"name": "servicetitan_integration", "status": status, "details": {}, "metadata": {}}
    health = StoredHealth(as_of=as_of, status=HealthStatus(status), report=report, every=15 * MINUTE, computed_at=as_of)
    store_health(conn, health)
    conn.commit()


def plant_delivery(conn: psycopg.Connection[Any], channel: str, *, created: datetime, status: str = "pending") -> None:
    """Write a message of the outbox and commit."""
    leased = status == "leased"
    conn.execute(
        "INSERT INTO monitoring.delivery (key, channel, reason, members, fingerprints, as_of, status, next_attempt_at,"
        " lease_owner, lease_until, sent_at, created_at, updated_at) VALUES (gen_random_uuid(), %s, 'first', '[]', '{}', %s,"
        " %s, %s, %s, %s, %s, %s, %s)",
        (
            *(channel, created, status, created, "me" if leased else None, created if leased else None),
            *(created if status == "sent" else None, created, created),
        ),
    )
    conn.commit()


def expected(planted: Planted, *, level: MonitoringLevel, now: datetime) -> Series:
    """Return every series of the contract that these rows make, by the plain words of the contract."""
    return {
        (name, frozenset(labels)): value
        for (name, labels), value in {
            **_expected_syncs(planted.counters, level),
            **_expected_credentials(planted.snapshots, level, now),
            **_expected_quality(planted.quality, level),
            **_expected_calls(planted, level),
        }.items()
    }


Named = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _kept(level: MonitoringLevel, **labels: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((name, value or "unknown") for name, value in labels.items() if name in LABELS_OF[level])


def _expected_syncs(counters: Iterable[Counter], level: MonitoringLevel) -> Named:
    found: Named = defaultdict(float)
    newest: dict[tuple[tuple[str, str], ...], Counter] = {}
    for each in counters:
        shared = {"company_id": each.company_id, "credential_id": each.credential_id}
        kind = {"environment": each.environment, "data_type": each.data_type}
        if each.status == "started":
            found["servicetitan_sync_started_total", _kept(level, **kind, **shared)] += each.syncs
            continue
        labels = _kept(level, **kind, status=each.status, **shared)
        found["servicetitan_sync_completed_total", labels] += each.syncs
        if each.duration[0]:
            found["servicetitan_sync_duration_seconds_count", labels] += each.duration[0]
            found["servicetitan_sync_duration_seconds_sum", labels] += each.duration[1]
        for error_class, number in each.failed_by_class.items():
            if level is MonitoringLevel.DETAILED:
                of_class = _kept(level, **kind, error_class=error_class, **shared)
                found["servicetitan_sync_failures_total", of_class] += number
        other = newest.get(labels)
        if each.last_at and (
            other is None
            or other.last_at is None
            or (each.last_at, int(each.last_sync_id or 0)) > (other.last_at, int(other.last_sync_id or 0))
        ):
            newest[labels] = each
    if level is not MonitoringLevel.MINIMAL:
        for labels, each in newest.items():
            for name, number in zip(("processed", "successful", "failed"), each.records, strict=True):
                if number is not None:
                    found[f"servicetitan_sync_records_{name}", labels] = number
            processed, successful, _ = each.records
            if processed and successful is not None and 0 <= successful <= processed:
                found["servicetitan_sync_success_rate_percent", labels] = successful / processed * 100
    return found


def _expected_credentials(snapshots: Iterable[Snapshot], level: MonitoringLevel, now: datetime) -> Named:
    found: Named = {}
    by_credential: dict[str, list[Snapshot]] = defaultdict(list)
    for each in sorted(snapshots, key=lambda snapshot: snapshot.as_of):
        by_credential[each.credential_id].append(each)
    current: list[Snapshot] = []
    for history in by_credential.values():
        # In force at some moment of the last day: from its own row until the next one.
        for each, until in zip(history, [*(later.as_of for later in history[1:]), None], strict=True):
            if not each.is_deleted and until is not None and until > now - DAY:
                found[_status(each, level)] = 0
        if not history[-1].is_deleted:
            current.append(history[-1])
    for each in current:
        found[_status(each, level)] = 0
    for each in current:
        found[_status(each, level)] += 1
        if each.expires is not None:
            name, labels = _status(each, level)
            key = (name.replace("status", "token_expiry_seconds"), labels)
            left = (each.expires - now).total_seconds()
            found[key] = min(found.get(key, left), left)
    return found


def _status(each: Snapshot, level: MonitoringLevel) -> tuple[str, tuple[tuple[str, str], ...]]:
    status = each.status if each.status in CREDENTIAL_STATUSES else None
    ids = {"company_id": each.company_id, "credential_id": each.credential_id}
    return "servicetitan_credentials_status", _kept(level, environment=each.environment, status=status, **ids)


def _expected_quality(rows: Iterable[Quality], level: MonitoringLevel) -> Named:
    found: Named = defaultdict(float)
    unknown = set()
    for each in rows:
        ids = {"company_id": each.company_id, "credential_id": each.credential_id}
        labels = _kept(level, environment=each.environment, data_type=each.data_type, **ids)
        for name, number in zip(("total", "valid", "invalid"), each.records, strict=True):
            found[f"servicetitan_data_quality_{name}_records", labels] += number or 0
            if number is None:
                unknown.add((f"servicetitan_data_quality_{name}_records", labels))
    for key in unknown:
        del found[key]
    for (name, labels), total in list(found.items()):
        if name == "servicetitan_data_quality_total_records" and total:
            valid = found.get(("servicetitan_data_quality_valid_records", labels))
            if valid is not None and 0 <= valid <= total:
                found["servicetitan_data_quality_score_percent", labels] = valid / total * 100
    return found


def _expected_calls(planted: Planted, level: MonitoringLevel) -> Named:
    found: Named = defaultdict(float)
    there = {name: has_timings for name, status, has_timings in planted.sources if status != "unavailable"}
    counted = next((source for source in ("table", "log", "probe") if source in there), None)
    timed = next((source for source in ("table", "log", "probe") if there.get(source)), None)
    for each in planted.calls:
        ids = {"company_id": each.company_id, "credential_id": each.credential_id}
        where = {"environment": each.environment, "endpoint": each.endpoint, "status_code": str(each.status_code)}
        labels = _kept(level, **where, **ids)
        if each.source == counted:
            found["servicetitan_api_requests_total", labels] += each.requests
            found["servicetitan_api_errors_total", labels] += each.errors
        if each.source == timed and sum(each.histogram):
            name = "servicetitan_api_response_time_seconds"
            found[f"{name}_sum", labels] += each.milliseconds / 1000
            found[f"{name}_count", labels] += sum(each.histogram)
            for place, bound in enumerate((*HISTOGRAM_MS, float("inf"))):
                bounded = (*labels, ("le", "+Inf" if bound == float("inf") else f"{bound / 1000:g}"))
                found[f"{name}_bucket", bounded] += sum(each.histogram[: place + 1])
    return found


def parsed(text: str) -> Series:
    """Return all series of an exposition, as `prometheus_client` reads it."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def of_contract(series: Series) -> Series:
    """Return the series that are not the monitor's own."""
    own = ("servicetitan_monitor_", "servicetitan_service_level_")
    return {key: value for key, value in series.items() if not key[0].startswith(own)}


def everything(now: datetime) -> Planted:
    """Return rows of every kind, and most of what can happen to them."""
    ended = now - 10 * MINUTE
    histogram = (0, 4, 3, 2, 0, 0, 1, 0, 0, 0, 0)
    failed = Counter(
        status="failed", syncs=2, last_at=ended, last_sync_id="9", failed_by_class={"auth": 1, "server": 1}
    )
    return Planted(
        counters=(
            Counter(status="started", syncs=9, duration=(0, 0.0)),
            Counter(last_at=ended, last_sync_id="10", records=(100, 95, 5)),
            failed,
            replace(failed, data_type="invoices", duration=(0, 0.0), records=(0, 0, 0)),
            Counter(company_id="", credential_id="8", environment="integration", records=(10, 20, 0), last_at=ended),
            # A credential that was deleted and made again: the same company, environment and data type.
            Counter(credential_id="70", last_at=ended, last_sync_id="9", records=(50, 1, 49)),
        ),
        snapshots=(
            Snapshot(as_of=now - 9 * DAY, expires=now + 3 * DAY),
            Snapshot(
                credential_id="8", as_of=now - 9 * DAY, status="error", company_id=None, environment="integration"
            ),
            Snapshot(credential_id="9", as_of=now - 9 * DAY, company_id="2", expires=now - HOUR),
            Snapshot(credential_id="9", as_of=now - HOUR, company_id="2", status="error", expires=now - HOUR),
            Snapshot(credential_id="10", as_of=now - 9 * DAY, company_id="3", status="error"),
            Snapshot(credential_id="10", as_of=now - 2 * DAY, company_id="3", expires=now + HOUR),
            Snapshot(credential_id="11", as_of=now - 9 * DAY, company_id="4"),
            Snapshot(credential_id="11", as_of=now - 2 * HOUR, company_id="4", is_deleted=True),
            Snapshot(credential_id="12", as_of=now - 9 * DAY, company_id="5", status="no such status"),
        ),
        quality=(
            Quality(),
            Quality(data_type="invoices", records=(0, 0, 0)),
            Quality(company_id="2", credential_id="9", records=(3, 1, 2)),
            Quality(company_id="5", credential_id="12", environment="integration", records=(7, None, None)),
        ),
        calls=(
            Calls(histogram=histogram),
            Calls(status_code=500, errors=3, requests=3, milliseconds=0.0),
            Calls(
                company_id="2", credential_id="9", requests=1, histogram=(1, *[0] * (BUCKETS - 1)), milliseconds=12.5
            ),
            Calls(source="log", requests=4000, histogram=(4000, *[0] * (BUCKETS - 1))),
            Calls(source="probe", requests=77),
        ),
        sources=(("table", "available", True), ("log", "available", True), ("probe", "available", True)),
    )

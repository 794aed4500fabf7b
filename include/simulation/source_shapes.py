"""
The four shapes that the upstream's tables may have, as values: what each calls its tables and columns, and how it
writes a time. The tables themselves are in ``sql/<shape>.sql``, both after the reference's section on the source schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

CREDENTIALS = "servicetitan_credentials"

_COMPANY = ("company_name", "salesforce_id", "intacct_id", "uuid", "created_at", "updated_at")
_SECRETS = ("client_id", "client_secret", "access_token", "refresh_token")
_CREDENTIAL = ("company_id", "environment", *_SECRETS, "token_expires_at", "connection_status")
_TIMESTAMPS = ("created_at", "updated_at")
_RUN = ("sync_type", "data_type", "status", "started_at", "completed_at", "records_processed", "error_message")
_RECORDS = ("records_successful", "records_failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceShape:
    """
    One shape of the source.

    Args:
        name: one of `SHAPES`; the DDL's file name.
        company_table, company_columns: the table of companies, without its id.
        company_name: its column with the name.
        credential_columns: of `CREDENTIALS`, without its id.
        log_table, log_columns: the table of sync runs, without its id; ``credential_key`` is its foreign key.
        aware_times: the columns with a time zone, as ``(table, column)``; every other time is naive local wall time.
        whole_seconds: times are cut to the second, as Doctrine's formats do.
        has_uuid_keys: ids are UUIDs, given by the writer, instead of rising integers.
        requires_sync_type: ``sync_type`` is NOT NULL.
        checks_enumerations: CHECKs allow only the documented words; elsewhere any text is possible.
        statuses: what this shape calls a connection status that the others know by another word.
    """

    name: str
    company_table: str
    company_name: str
    company_columns: tuple[str, ...]
    credential_columns: tuple[str, ...]
    log_table: str
    credential_key: str
    log_columns: tuple[str, ...]
    aware_times: frozenset[tuple[str, str]] = frozenset()
    whole_seconds: bool = True
    has_uuid_keys: bool = False
    requires_sync_type: bool = True
    checks_enumerations: bool = False
    statuses: Mapping[str, str] = field(default_factory=dict)

    @property
    def ddl_path(self) -> Path:
        """The file that creates this shape's tables."""
        return Path(__file__).parent / "sql" / f"{self.name}.sql"

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Return a table's columns, without its id."""
        return {
            self.company_table: self.company_columns,
            CREDENTIALS: self.credential_columns,
            self.log_table: self.log_columns,
        }[table]

    def written_time(self, at: datetime, *, table: str, column: str, zone: ZoneInfo) -> datetime:
        """
        Return an aware instant as the upstream writes it into that column: naive local wall time, or aware.

        Raises:
            ValueError: ``at`` is naive.
        """
        if at.tzinfo is None:
            raise ValueError(f"{column} must be timezone-aware, got {at.isoformat()}")
        local = at.astimezone(zone)
        if self.whole_seconds:
            local = local.replace(microsecond=0)
        # fold is dropped with the zone: the repeated hour of a DST change is written twice, as PHP does.
        return local if (table, column) in self.aware_times else local.replace(tzinfo=None, fold=0)


_MIGRATIONS = SourceShape(
    name="migrations",
    company_table="company",
    company_name="company_name",
    company_columns=_COMPANY,
    credential_columns=(*_CREDENTIAL, "last_connection_attempt", "uuid", *_TIMESTAMPS),
    log_table="servicetitan_sync_logs",
    credential_key="service_titan_credential_id",
    log_columns=(
        "service_titan_credential_id",
        *_RUN,
        *_RECORDS,
        "error_details",
        "processing_time_seconds",
        "uuid",
        *_TIMESTAMPS,
    ),
)

_ENTITIES = SourceShape(
    name="entities",
    company_table="company",
    company_name="company_name",
    company_columns=_COMPANY,
    credential_columns=_MIGRATIONS.credential_columns,
    log_table="servicetitan_sync_log",
    credential_key="service_titan_credential_id",
    log_columns=(*_MIGRATIONS.log_columns, "metadata"),
    aware_times=frozenset({("servicetitan_sync_log", "created_at"), ("servicetitan_sync_log", "updated_at")}),
    requires_sync_type=False,
)

_ARCHITECTURE = SourceShape(
    name="architecture",
    company_table="companies",
    company_name="name",
    company_columns=("name",),
    credential_columns=(*_CREDENTIAL, "tenant_id", "last_sync_at", *_TIMESTAMPS),
    log_table="servicetitan_sync_logs",
    credential_key="credential_id",
    log_columns=("credential_id", *_RUN),
    aware_times=frozenset(
        {
            (CREDENTIALS, "token_expires_at"),
            (CREDENTIALS, "last_sync_at"),
            (CREDENTIALS, "created_at"),
            (CREDENTIALS, "updated_at"),
            ("servicetitan_sync_logs", "started_at"),
            ("servicetitan_sync_logs", "completed_at"),
        }
    ),
    whole_seconds=False,
    checks_enumerations=True,
    statuses={"active": "connected", "inactive": "pending"},
)

_UUID = SourceShape(
    name="uuid",
    company_table="companies",
    company_name="name",
    company_columns=("name",),
    credential_columns=(*_CREDENTIAL, "last_connection_attempt", *_TIMESTAMPS),
    log_table="servicetitan_sync_logs",
    credential_key="servicetitan_credential_id",
    log_columns=("servicetitan_credential_id", *_RUN, *_RECORDS, "error_details", "processing_time_seconds"),
    whole_seconds=False,
    has_uuid_keys=True,
    checks_enumerations=True,
    statuses={"connected": "active", "pending": "inactive"},
)

_ALL = {shape.name: shape for shape in (_MIGRATIONS, _ENTITIES, _ARCHITECTURE, _UUID)}

SHAPES = tuple(_ALL)
"""Names of the shapes: the migrations' tables, the entity classes', the architecture document's, the stories'."""


def shape_named(name: str) -> SourceShape:
    """
    Return a shape by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in _ALL:
        raise ValueError(f"shape {name!r} is not one of {', '.join(SHAPES)}")
    return _ALL[name]

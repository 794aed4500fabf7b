"""The database that somebody gives the demo to read: its DSN checked, reached, and told to Airflow."""

from __future__ import annotations

import dataclasses

import psycopg
from psycopg.conninfo import conninfo_to_dict

from include.simulation.airflow_settings import ConnectionSetting
from include.sync_health.errors import MonitorError


def require_dsn(source: str) -> None:
    """
    Check that ``source`` is a DSN, without connecting.

    Raises:
        MonitorError: it is none; nothing of it is told, since a password may stand anywhere in it.
    """
    try:
        parts = conninfo_to_dict(source)
        port = int(parts.get("port") or 5432)
    except (psycopg.Error, ValueError):
        parts, port = {}, 0
    # An @ or / in a password that is not percent-encoded moves the rest of it into the host or the database.
    if not 0 < port < 65536 or any("@" in str(parts.get(name) or "") for name in ("host", "dbname")):
        raise MonitorError(
            "the source given is not of the form postgresql://user:password@host:5432/database;"
            " percent-encode what is special in its password (@ as %40, / as %2F, % as %25, a space as %20)"
        )


def require_reachable(dsn: str) -> None:
    """
    Connect once.

    Raises:
        MonitorError: the database cannot be reached; the driver's reason, which holds no password of a whole DSN.
    """
    try:
        psycopg.connect(dsn, connect_timeout=10).close()
    except psycopg.Error as error:
        raise MonitorError(f"the source given cannot be read: {str(error).strip()}") from None


def postgres_connection(shipped: ConnectionSetting, dsn: str) -> ConnectionSetting:
    """Return the connection with host, port, login, password and database of ``dsn``; its other options go to extra."""
    parts = {name: str(value) for name, value in conninfo_to_dict(dsn).items() if value is not None}
    port = parts.pop("port", None)
    return dataclasses.replace(
        shipped,
        host=parts.pop("host", None),
        port=int(port) if port else None,
        login=parts.pop("user", None),
        password=parts.pop("password", None),
        schema=parts.pop("dbname", None),
        extra={**shipped.extra, **parts},
    )

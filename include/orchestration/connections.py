"""
Connections: where they come from, as values whose text never shows a secret.

In a task (and wherever else Airflow runs our code) Airflow's own lookup finds them. In a shell the environment does
(``AIRFLOW_CONN_<ID>``, as URI or JSON, read here without the seconds that importing Airflow costs), else a secrets
backend, if Airflow is configured with one. A connection kept only in Airflow's database cannot be seen from a shell.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from include.sync_health.errors import ConnectionMissing, MonitorError

CONNECT_TIMEOUT_SECONDS = 10  # of a connection that names none: libpq itself would wait for minutes
_JSON_KEYS = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")
_EXTRA_KEY = "__extra__"  # Airflow: a URI's query with this key carries the whole extra as JSON

# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS, without those that Airflow has
# fields for (host, port, dbname, user, password) and those that name other sources of them (service, passfile).
LIBPQ_EXTRAS = (
    "application_name",
    "channel_binding",
    "connect_timeout",
    "gssencmode",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "require_auth",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionValues:
    """
    A connection's fields, as Airflow has them; ``repr`` and ``str`` show neither password nor extra.

    ``schema`` is the database of a PostgreSQL connection. ``extra`` holds what JSON can: from a URI, only texts.
    """

    conn_id: str
    conn_type: str
    host: str | None = field(default=None, repr=False)  # of a webhook it may be the secret URL itself
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that no output may contain: the password, and the texts of extra, longest first."""
        found = {text for text in _texts(self.extra) if len(text) > 3} | {self.password or ""}
        return tuple(sorted(found - {""}, key=len, reverse=True))

    def postgres_conninfo(self, *, application_name: str | None = None) -> str:
        """
        Return the libpq connection string; it holds the password, so never show it.

        Args:
            application_name: how the session is called in ``pg_stat_activity``; wins over one in extra.

        Raises:
            MonitorError: not a PostgreSQL connection, no database named, or something that libpq refuses.
        """
        import psycopg
        from psycopg.conninfo import make_conninfo

        if self.conn_type != "postgres":
            raise MonitorError(
                f"connection {self.conn_id!r} is of type {self.conn_type or 'unknown'!r}; it must be a PostgreSQL "
                "connection: give it conn_type postgres (as a URI, begin it with postgresql://)"
            )
        if self.extra.get("iam"):
            raise MonitorError(f"connection {self.conn_id!r} asks for IAM, which is not supported; give it a password")
        if not self.schema:
            raise MonitorError(f"connection {self.conn_id!r} names no database; give it in the field schema")
        values: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT_SECONDS}
        values |= {key: _libpq(self.extra[key]) for key in LIBPQ_EXTRAS if self.extra.get(key) not in (None, "")}
        fields = {"host": self.host, "port": self.port, "user": self.login, "password": self.password}
        values |= {key: value for key, value in fields.items() if value not in (None, "")}
        values["dbname"] = self.schema
        if application_name:
            values["application_name"] = application_name
        try:
            # An option may be younger than the libpq at hand, or no option of it at all.
            return make_conninfo(**values)
        except psycopg.Error:
            # Its text may repeat the values.
            given = ", ".join(sorted(set(values) & set(LIBPQ_EXTRAS)))
            raise MonitorError(f"connection {self.conn_id!r}: libpq refuses its options; check {given}") from None


def find_connection(
    conn_id: str, *, inside_airflow: bool | None = None, environ: Mapping[str, str] | None = None
) -> ConnectionValues:
    """
    Return a connection by its id.

    Args:
        conn_id: as the policy or `docs` name it, such as ``hub_plus_db``.
        inside_airflow: look it up through Airflow; None: when this process runs under Airflow.
        environ: the environment of a shell; None: the process's own.

    Raises:
        ConnectionMissing: nobody configured it.
        MonitorError: it is there but cannot be read; names where, never what.
    """
    variables = os.environ if environ is None else environ
    if runs_under_airflow(variables) if inside_airflow is None else inside_airflow:
        return _from_airflow(conn_id, in_shell=False)
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if text := variables.get(variable, "").strip():
        return parse_connection(conn_id, text, where=variable)
    if has_secrets_backend(variables):
        return _from_airflow(conn_id, in_shell=True)
    raise ConnectionMissing(conn_id, in_shell=True)


def runs_under_airflow(environ: Mapping[str, str]) -> bool:
    """
    Return True in a task, a triggerer or one of Airflow's servers.

    Airflow 3.3 marks a task's process (and that of triggers and callbacks) by ``SUPERVISOR_COMMS`` of its task runner,
    and the others by ``_AIRFLOW_PROCESS_CONTEXT``. ``AIRFLOW_CTX_*`` is no mark: a shell that a task started has it too.
    """
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return getattr(runner, "SUPERVISOR_COMMS", None) is not None or environ.get("_AIRFLOW_PROCESS_CONTEXT") in (
        "client",
        "server",
    )


def has_secrets_backend(environ: Mapping[str, str]) -> bool:
    """Return True when Airflow is configured with a secrets backend, by environment or by airflow.cfg."""
    keys = [
        (section, key + suffix)
        for section, key in (("SECRETS", "BACKEND"), ("WORKERS", "SECRETS_BACKEND"))
        for suffix in ("", "_CMD", "_SECRET")
    ]
    if any(environ.get(f"AIRFLOW__{section}__{key}") for section, key in keys):
        return True
    home = Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    file = Path(environ.get("AIRFLOW_CONFIG") or home / "airflow.cfg").expanduser()
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error):
        return False
    return any(config.get(section.lower(), key.lower(), fallback="").strip() for section, key in keys)


def parse_connection(conn_id: str, text: str, *, where: str) -> ConnectionValues:
    """
    Return a connection written as a URI or as a JSON object, read as Airflow reads it.

    Args:
        conn_id: its id.
        text: the value of ``AIRFLOW_CONN_<ID>``.
        where: how an error calls the place where the text stands.

    Raises:
        MonitorError: it is neither; the text is never repeated.
    """
    try:
        return _from_json(conn_id, text) if text.startswith("{") else _from_uri(conn_id, text)
    except _Unreadable as error:
        raise MonitorError(f"{where}: {error}") from None


class _Unreadable(ValueError):
    """What is wrong with a connection's text, without the text."""


def _from_json(conn_id: str, text: str) -> ConnectionValues:
    try:
        values = json.loads(text)
    except ValueError:
        raise _Unreadable("begins with { but is not valid JSON") from None
    if unknown := sorted(set(values) - set(_JSON_KEYS)):
        raise _Unreadable(f"has the unknown keys {', '.join(map(repr, unknown))}; use {', '.join(_JSON_KEYS)}")
    for key in ("conn_type", "host", "login", "password", "schema"):
        if not isinstance(values.get(key), str | None):
            raise _Unreadable(f"{key} must be a text")
    port = values.get("port")
    try:
        port = int(port) if port not in (None, "") and not isinstance(port, bool | float) else port or None
    except (TypeError, ValueError):
        raise _Unreadable("port must be a whole number") from None
    return ConnectionValues(
        conn_id=conn_id,
        conn_type=_normal_type(values.get("conn_type") or ""),
        host=values.get("host"),
        port=_port(port),
        login=values.get("login"),
        password=values.get("password"),
        schema=values.get("schema"),
        extra=_extra(values.get("extra")),
    )


def _from_uri(conn_id: str, text: str) -> ConnectionValues:
    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise _Unreadable("is neither a URI such as postgresql://user:password@host:5432/database nor a JSON object")
    # Airflow allows a host with a protocol of its own, http://https://example.com, and no other second "://".
    before, second, after = rest.partition("://")
    if second and ("@" in before or ":" in before or "://" in after):
        raise _Unreadable("has '://' twice; write %3A%2F%2F for the one in a password, host, database or extra")
    try:
        parts = urlsplit(rest if second else "//" + rest)
        port = parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError:
        raise _Unreadable("is not a valid URI; percent-encode special characters in its parts") from None
    host = unquote(parts.hostname or "")
    if "/" in host:
        # Only an encoded path (a Unix socket's directory) has a slash, and urlsplit has lowered its case.
        host = unquote(parts.netloc.rpartition("@")[2].split(":", 1)[0])
    return ConnectionValues(
        conn_id=conn_id,
        conn_type=_normal_type(scheme.lower()),
        host=(f"{parts.scheme}://{host}" if parts.scheme and host else host) or None,
        port=_port(port),
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        schema=unquote(parts.path[1:]) or None,
        extra=_extra(query.get(_EXTRA_KEY)) if _EXTRA_KEY in query else query,
    )


def _from_airflow(conn_id: str, *, in_shell: bool) -> ConnectionValues:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        found = Connection.get(conn_id)
    except AirflowNotFoundException:
        raise ConnectionMissing(conn_id, in_shell=in_shell) from None
    try:
        extra = _extra(found.extra)
    except _Unreadable as error:
        raise MonitorError(f"connection {conn_id!r}: {error}") from None
    return ConnectionValues(
        conn_id=conn_id,
        conn_type=_normal_type(found.conn_type or ""),
        host=found.host or None,
        port=found.port or None,
        login=found.login or None,
        password=found.password or None,
        schema=found.schema or None,
        extra=extra,
    )


def _extra(value: object) -> Mapping[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError:
            raise _Unreadable("extra is not valid JSON") from None
    if value in (None, "", []):  # PHP-minded tools write an empty object as []
        return {}
    if not isinstance(value, dict):
        raise _Unreadable("extra must be a JSON object")
    return value


def _normal_type(conn_type: str) -> str:
    return "postgres" if conn_type == "postgresql" else conn_type.replace("-", "_")


def _port(port: object) -> int | None:
    if port is None:
        return None
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
        raise _Unreadable("port must be a whole number from 1 to 65535")
    return port


def _libpq(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in _texts(item)]
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []

"""
Read ``airflow_settings.yaml`` the way the Astro CLI does, for an Airflow that is started without it.

The demo and the end-to-end tests take their connections, pools and variables from the very file that ``astro dev`` reads,
and override only host, port, login and password, so that the file cannot rot unseen.

The file's format is the Astro CLI's: ``airflow: {connections, pools, variables}``. Unknown keys are refused, because the
Astro CLI ignores them silently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CONNECTION_KEYS = frozenset(
    {
        "conn_id",
        "conn_type",
        "conn_host",
        "conn_schema",
        "conn_login",
        "conn_password",
        "conn_port",
        "conn_extra",
    }
)
POOL_KEYS = frozenset({"pool_name", "pool_slot", "pool_description"})
VARIABLE_KEYS = frozenset({"variable_name", "variable_value"})


class AirflowSettingsError(ValueError):
    """``airflow_settings.yaml`` says something that the Astro CLI would not understand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSetting:
    """One connection; ``password`` is left out of ``repr``."""

    conn_id: str
    conn_type: str
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    port: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def variable_name(self) -> str:
        """The environment variable in which Airflow looks for this connection."""
        return f"AIRFLOW_CONN_{self.conn_id.upper()}"

    def to_json(self) -> str:
        """Return the value of that variable; empty fields are left out."""
        values = {
            "conn_type": self.conn_type,
            "host": self.host,
            "schema": self.schema,
            "login": self.login,
            "password": self.password,
            "port": self.port,
            "extra": dict(self.extra),
        }
        return json.dumps({name: value for name, value in values.items() if value not in (None, "", {})})


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSetting:
    """One pool and the number of its slots."""

    name: str
    slots: int
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowSettings:
    """What the file holds, by name."""

    connections: Mapping[str, ConnectionSetting]
    pools: tuple[PoolSetting, ...]
    variables: Mapping[str, str]


def read_airflow_settings(path: Path) -> AirflowSettings:
    """
    Parse the file.

    Raises:
        AirflowSettingsError: a key is unknown or missing, a name comes twice, or the file is no such mapping.
        OSError: the file cannot be read.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    body = _mapping(document, where="the file", allowed=frozenset({"airflow"})).get("airflow")
    sections = _mapping(body, where="airflow", allowed=frozenset({"connections", "pools", "variables"}))

    connections = [_connection(row) for row in sections.get("connections") or []]
    pools = [_pool(row) for row in sections.get("pools") or []]
    variables = [_variable(row) for row in sections.get("variables") or []]
    _refuse_repeats("connection", [connection.conn_id for connection in connections])
    _refuse_repeats("pool", [pool.name for pool in pools])
    _refuse_repeats("variable", [name for name, _ in variables])
    return AirflowSettings(
        connections={connection.conn_id: connection for connection in connections},
        pools=tuple(pools),
        variables=dict(variables),
    )


def _connection(row: Any) -> ConnectionSetting:
    values = _mapping(row, where="a connection", allowed=CONNECTION_KEYS)
    conn_id = _text(values, "conn_id")
    port = values.get("conn_port")
    if port is not None and not (isinstance(port, int) and 0 < port < 65536):
        raise AirflowSettingsError(f"connection {conn_id}: conn_port must be a port number, got {port!r}")
    return ConnectionSetting(
        conn_id=conn_id,
        conn_type=_text(values, "conn_type"),
        host=values.get("conn_host"),
        schema=values.get("conn_schema"),
        login=values.get("conn_login"),
        password=values.get("conn_password"),
        port=port,
        extra=_mapping(values.get("conn_extra") or {}, where=f"conn_extra of {conn_id}", allowed=None),
    )


def _pool(row: Any) -> PoolSetting:
    values = _mapping(row, where="a pool", allowed=POOL_KEYS)
    slots = values.get("pool_slot")
    if not isinstance(slots, int) or slots < 1:
        raise AirflowSettingsError(f"pool {values.get('pool_name')!r}: pool_slot must be at least 1, got {slots!r}")
    return PoolSetting(
        name=_text(values, "pool_name"), slots=slots, description=str(values.get("pool_description") or "")
    )


def _variable(row: Any) -> tuple[str, str]:
    values = _mapping(row, where="a variable", allowed=VARIABLE_KEYS)
    return _text(values, "variable_name"), str(values.get("variable_value", ""))


def _text(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise AirflowSettingsError(f"{key} is missing or no text in {sorted(values)}")
    return value


def _mapping(value: Any, *, where: str, allowed: frozenset[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise AirflowSettingsError(f"{where} must be a mapping, got {type(value).__name__}")
    if allowed is not None and (unknown := set(value) - allowed):
        raise AirflowSettingsError(f"{where} has unknown keys {sorted(unknown)}; known are {sorted(allowed)}")
    return value


def _refuse_repeats(kind: str, names: list[str]) -> None:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise AirflowSettingsError(f"{kind} given twice: {', '.join(repeated)}")

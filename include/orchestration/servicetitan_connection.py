"""
A connection of type ``servicetitan`` as values: whom to sign in as, and where.

Client id = login, client secret = password. Extra: ``app_key`` and ``tenant_id`` (both needed), ``environment``
(``production``, also without one, or ``integration``) and ``timeout`` in seconds. ``auth_url`` and ``api_url`` name other
hosts, for tests: on this machine, or below servicetitan.io over TLS. Nothing else is taken, because who may edit a
connection may not read its password, and must not be able to have it sent to a host of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from include.orchestration.connections import ConnectionValues
from include.sync_health.errors import MonitorError

CONN_TYPE = "servicetitan"
PRODUCTION, INTEGRATION = "production", "integration"

AUTH_URLS: Mapping[str, str] = {
    PRODUCTION: "https://auth.servicetitan.io",
    INTEGRATION: "https://auth-integration.servicetitan.io",
}
API_URLS: Mapping[str, str] = {
    PRODUCTION: "https://api.servicetitan.io",
    INTEGRATION: "https://api-integration.servicetitan.io",
}
"""https://developer.servicetitan.io/docs/get-going-first-api-call; the hosts are fixed."""

TIMEOUT_SECONDS = 10.0  # of a connection that names none
LONGEST_TIMEOUT_SECONDS = (
    100.0  # ServiceTitan gives up itself: partnerapis.servicetitan.io/docs/timeouts-and-pagination
)

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Where a simulated ServiceTitan may run."""

_EXTRAS = ("app_key", "tenant_id", "environment", "timeout", "auth_url", "api_url")
_DOMAIN = ".servicetitan.io"
_TENANT = re.compile(r"[0-9]{1,20}")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,1000}")  # what may stand in a header, and no space that was copied along


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTitanConnection:
    """Whom to sign in as, and where; ``repr`` and ``str`` show no secret."""

    conn_id: str
    client_id: str = field(repr=False)
    client_secret: str = field(repr=False)
    app_key: str = field(repr=False)
    tenant_id: str
    environment: str = PRODUCTION
    auth_url: str = AUTH_URLS[PRODUCTION]
    api_url: str = API_URLS[PRODUCTION]
    timeout: float = TIMEOUT_SECONDS  # seconds for one call, signing in included

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every text that no output may contain."""
        return self.client_secret, self.app_key, self.client_id

    @classmethod
    def of(cls, values: ConnectionValues) -> Self:
        """
        Return a connection's values, checked.

        Raises:
            MonitorError: what is missing or wrong, and where to put it; never with a value.
        """
        if values.conn_type != CONN_TYPE:
            raise _mistake(values, f"is of type {values.conn_type or 'unknown'!r}; give it conn_type {CONN_TYPE}")
        extra = {key: value for key, value in values.extra.items() if value not in (None, "")}
        if unknown := sorted(set(extra) - set(_EXTRAS)):
            shown = ", ".join(repr(key[:40]) for key in unknown)
            raise _mistake(values, f"has the unknown extra {shown}; use {', '.join(_EXTRAS)}")
        client_id, client_secret = (values.login or "").strip(), (values.password or "").strip()
        for name, value in (("client id (login)", client_id), ("client secret (password)", client_secret)):
            if not value:
                raise _mistake(values, f"has no {name}")
        app_key = extra.get("app_key")
        if not isinstance(app_key, str) or not _VISIBLE.fullmatch(app_key.strip()):
            raise _mistake(values, "needs the application key as extra app_key: letters, digits and signs, no spaces")
        environment = str(extra.get("environment", PRODUCTION)).strip().lower()
        if environment not in API_URLS:
            raise _mistake(values, f"has an unknown extra environment; use {' or '.join(API_URLS)}")
        return cls(
            conn_id=values.conn_id,
            client_id=client_id,
            client_secret=client_secret,
            app_key=app_key.strip(),
            tenant_id=_tenant(values, extra.get("tenant_id")),
            environment=environment,
            auth_url=_base_url(values, "auth_url", extra.get("auth_url", AUTH_URLS[environment])),
            api_url=_base_url(values, "api_url", extra.get("api_url", API_URLS[environment])),
            timeout=_timeout(values, extra.get("timeout", TIMEOUT_SECONDS)),
        )


def _tenant(values: ConnectionValues, given: Any) -> str:
    text = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if not _TENANT.fullmatch(text):
        raise _mistake(values, "needs the tenant's number as extra tenant_id, in digits")
    return text


def _timeout(values: ConnectionValues, given: Any) -> float:
    try:
        seconds = float(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= LONGEST_TIMEOUT_SECONDS:
        raise _mistake(values, f"needs its extra timeout in seconds, at most {LONGEST_TIMEOUT_SECONDS:g}")
    return seconds


def _base_url(values: ConnectionValues, name: str, given: Any) -> str:
    problem = f"needs its extra {name} as https://…{_DOMAIN} or http://localhost:port, without path, query or login"
    try:
        parts = urlsplit(given.strip() if isinstance(given, str) else "")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _mistake(values, problem) from None
    is_local = host in LOCAL_HOSTS and parts.scheme in ("http", "https")
    is_theirs = host.endswith(_DOMAIN) and parts.scheme == "https" and re.fullmatch(r"[a-z0-9.-]+", host)
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if has_more or not (is_local or is_theirs):
        raise _mistake(values, problem)
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _mistake(values: ConnectionValues, detail: str) -> MonitorError:
    return MonitorError(f"connection {values.conn_id!r} {detail}")

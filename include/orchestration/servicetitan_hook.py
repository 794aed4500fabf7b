"""
Airflow's hook for connections of type ``servicetitan``: `ServiceTitanClient` over a connection that Airflow keeps.

Airflow learns of it, and of the form for such a connection, from `servicetitan_provider`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from include.orchestration.connections import find_connection
from include.orchestration.servicetitan_client import ServiceTitanClient
from include.orchestration.servicetitan_connection import CONN_TYPE, ServiceTitanConnection
from include.sync_health.api_probes import ProbeResult
from include.sync_health.errors import MonitorError


class ServiceTitanHook(BaseHook):
    """
    Signs in to ServiceTitan by client credentials, and asks its API.

    Nothing is tried again: a task has its own retries. See `docs/servicetitan-connection.md` for the connection.

    Args:
        servicetitan_conn_id: the connection's id.
        timeout: seconds for one call, signing in included; None: the connection's.
    """

    conn_name_attr = "servicetitan_conn_id"
    default_conn_name = "servicetitan_default"
    conn_type = CONN_TYPE
    hook_name = "ServiceTitan"

    def __init__(self, servicetitan_conn_id: str = default_conn_name, *, timeout: float | None = None) -> None:
        super().__init__()
        self.servicetitan_conn_id = servicetitan_conn_id
        self.timeout = timeout
        self._client: ServiceTitanClient | None = None

    def get_conn(self) -> ServiceTitanClient:
        """
        Return the client of this connection; the same one every time.

        Raises:
            ConnectionMissing: nobody configured it.
            MonitorError: it lacks something, or something in it is wrong; in one line.
        """
        if self._client is None:
            from airflow.sdk.log import mask_secret

            connection = ServiceTitanConnection.of(find_connection(self.servicetitan_conn_id, inside_airflow=True))
            # Airflow masks the password by itself, and of the extra only what is named like one.
            mask_secret(connection.app_key)
            self._client = ServiceTitanClient(connection, timeout=self.timeout, on_token=mask_secret)
        return self._client

    def get(self, module: str, resource: str, *, params: Mapping[str, str | int] | None = None) -> Mapping[str, Any]:
        """
        Return the JSON object that ``GET /{module}/v2/tenant/{tenant}/{resource}`` answers with.

        Raises:
            ServiceTitanError: it did not; the class says why, `RateLimited` also for how long to wait.
            ConnectionMissing, MonitorError: as `get_conn`.
        """
        return self.get_conn().get(module, resource, params=params)

    def probe(self) -> ProbeResult:
        """
        Make the cheapest call there is, once, and return how it went.

        Raises:
            ConnectionMissing, MonitorError: as `get_conn`.
        """
        return self.get_conn().probe()

    def test_connection(self) -> tuple[bool, str]:
        """Return whether ServiceTitan takes this connection, and one line on it, as Airflow's test button shows it."""
        try:
            client = self.get_conn()
        except MonitorError as error:
            return False, str(error)
        result = client.probe()
        if result.error is not None:
            return False, result.error
        host = urlsplit(client.connection.api_url).hostname
        return True, f"{host} answered for tenant {client.connection.tenant_id} in {result.response_ms or 0:.0f} ms"

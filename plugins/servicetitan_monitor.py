"""What Airflow mounts and shows of the monitor: every process of Airflow imports this file, so it only declares."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin

from include.dashboard.app import NAME, PREFIX, dashboard


class ServiceTitanMonitorPlugin(AirflowPlugin):
    """The web app; Airflow protects none of its routes, so that each protects itself."""

    name = "servicetitan_monitor"
    fastapi_apps: ClassVar[list[dict[str, Any]]] = [{"app": dashboard, "url_prefix": PREFIX, "name": NAME}]

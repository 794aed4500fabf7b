"""Airflow's own metric backends in front of real receivers: StatsD in this process, OpenTelemetry in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from include.simulation.statsd_server import StatsdServer
from include.sync_health.metric_contract import CONTRACT, OWN, SYNC_FAILURES, Metric
from include.sync_health.sync_metrics import Sample

PROJECT = Path(__file__).parents[2]
"""Not from `tests.airflow_home`: what that does to the environment has been done, and must not be done to a child's."""

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in (*CONTRACT, SYNC_FAILURES, *OWN)}

EXAMPLE_LABELS = {
    "environment": "production",
    "data_type": "invoices",
    "status": "completed",
    "company_id": "7f9c24e5-1c5b-4c07-9b1d-0a6c6c1b9d11",
    "credential_id": "42",
    "endpoint": "/crm/v2/tenant/{id}/customers",
    "status_code": "429",
    "error_class": "rate_limit",
    "check": "sync_failures",
}

TOLD_ENDPOINT = "/crm/v2/tenant/id/customers"


def statsd_settings(server: StatsdServer) -> dict[str, str]:
    """Return how a deployment sends metrics to a StatsD, with tags."""
    return {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": server.host,
        "AIRFLOW__METRICS__STATSD_PORT": str(server.port),
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
    }


def start_stats() -> None:
    """Choose the backend by the configuration, as the process of a task does (`airflow.sdk.execution_time.task_runner`)."""
    import airflow.sdk.serde  # noqa: F401 - it chooses a backend too, when it is first imported
    from airflow.sdk._shared.observability.metrics.stats import _get_backend
    from airflow.sdk.configuration import conf
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    client = getattr(_get_backend(), "statsd", None)
    if client is not None:
        client.close()  # Airflow leaves that to the end of the process
    stats.initialize(
        factory=stats_utils.get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on")
    )


@contextmanager
def statsd_backend(environment: pytest.MonkeyPatch) -> Iterator[StatsdServer]:
    """Let this process tell its metrics to a StatsD."""
    with StatsdServer() as server:
        for name, value in statsd_settings(server).items():
            environment.setenv(name, value)
        start_stats()
        yield server
        environment.setenv("AIRFLOW__METRICS__STATSD_ON", "False")
        start_stats()


def emit_elsewhere(samples: Iterable[Sample], *, settings: Mapping[str, str]) -> None:
    """
    Emit samples in a process of its own, which ends as a task's does: what it holds back is sent then.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    # What this process tells to another backend is its own business.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__METRICS__")}
    told = [[sample.name, sample.labels, sample.value] for sample in samples]
    subprocess.run(
        [sys.executable, "-m", "tests.orchestration.metric_backends"],
        input=json.dumps(told),
        text=True,
        check=True,
        cwd=PROJECT,
        env={**inherited, **settings},
        timeout=300,
    )


def main() -> None:
    """Emit the samples that stdin holds."""
    from include.orchestration.metric_emission import emit

    start_stats()
    emit(
        Sample(METRICS[name], tuple((label, text) for label, text in labels), value)
        for name, labels, value in json.load(sys.stdin)
    )


if __name__ == "__main__":
    main()

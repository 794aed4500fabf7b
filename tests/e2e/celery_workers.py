"""
Celery workers for a deployment, each as on a machine of its own: by name, by what it knows, and by how it can die.

A worker gets neither Airflow's database nor any of its keys: tasks speak with the API server alone, by the token that
comes with each of them. Beside that it reaches the broker, the results of Celery, and what our connections name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from include.simulation.local_airflow import LocalAirflow
from include.simulation.redis_server import RedisServer
from tests.e2e import worker_name

PROJECT = Path(__file__).parents[2]
STOP_SECONDS = 12.0  # the guard kills after 6
NOT_FOR_WORKERS = (
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE",
)


class CeleryWorker:
    """One worker; what it started ends with it."""

    def __init__(self, name: str, *, environment: Mapping[str, str], log_dir: Path, concurrency: int) -> None:
        self.name = name
        self._log = log_dir / f"{name}.log"
        command = ["celery", "worker", "--celery-hostname", name, "--concurrency", str(concurrency)]
        command += ["--skip-serve-logs", "--without-mingle", "--without-gossip", "--pid", str(log_dir / f"{name}.pid")]
        spec = {"name": name, "argv": [sys.executable, "-m", "airflow", *command], "log": str(self._log)}
        known = {key: value for key, value in environment.items() if key not in NOT_FOR_WORKERS}
        with (log_dir / f"{name}.guard.log").open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "include.simulation.process_guard", json.dumps([spec])],
                env={
                    **known,
                    worker_name.VARIABLE: name,
                    "AIRFLOW__CORE__HOSTNAME_CALLABLE": worker_name.CALLABLE,
                },
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def require_running(self) -> None:
        """Fail with the worker's log when it has ended."""
        assert self._guard.poll() is None, f"{self.name} has ended; see {self._log}"

    def kill(self) -> None:
        """End it as the loss of its machine would: all its processes at once, and nothing is said."""
        guard = psutil.Process(self._guard.pid)
        guard.suspend()  # it would see its worker end, and ask the others to
        while family := [child for child in guard.children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]:
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._guard.kill()
        self._guard.wait()

    def stop(self) -> None:
        """End it and its tasks; returns when all are gone."""
        if self._guard.stdin:
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()


def celery_environment(redis: RedisServer, *, results_dsn: str) -> dict[str, str]:
    """
    Return what makes every component use Celery.

    Args:
        redis: the broker.
        results_dsn: a PostgreSQL database for the results of Celery.
    """
    return {
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "16",
        "AIRFLOW__CELERY__BROKER_URL": redis.url,
        "AIRFLOW__CELERY__RESULT_BACKEND": results_dsn.replace("postgresql://", "db+postgresql+psycopg2://"),
        "AIRFLOW__CELERY__SYNC_PARALLELISM": "1",
        "AIRFLOW__CELERY__OPERATION_TIMEOUT": "30",  # 1 s by default, which a busy machine exceeds
        # A dead worker is noticed after this long, 5 minutes by default; heartbeats come every 5 s.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    }


@contextmanager
def celery_workers(airflow: LocalAirflow, *names: str, concurrency: int) -> Iterator[dict[str, CeleryWorker]]:
    """Yield a worker for each name, and stop those that are left in the end."""
    workers = {}
    with ExitStack() as started:
        for name in names:
            workers[name] = CeleryWorker(
                name, environment=airflow.environment(), log_dir=airflow.log_dir, concurrency=concurrency
            )
            started.callback(workers[name].stop)
        yield workers

"""
A real Airflow of this project's own version, for the demo and the end-to-end tests.

Scheduler (LocalExecutor), DAG processor, triggerer and API server run as child processes over a given PostgreSQL metadata
database, with their logs in files. They are kept by `include.simulation.process_guard`, so that nothing outlives the
process that started them. It is for one machine and one person: passwords are generated and kept in a file.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg

from include.simulation.airflow_settings import ConnectionSetting, PoolSetting
from include.simulation.ports import free_port

PROJECT_ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = {
    # The log files lie on this machine: the two log servers (ports 8793 and 8794) have nothing to add.
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
HEALTHY_PARTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")  # of GET /api/v2/monitor/health
START_TIMEOUT_SECONDS = 240.0  # 25 to 60 s on two cores; a busy machine has taken more
STOP_TIMEOUT_SECONDS = 12.0
FINAL_STATES = frozenset({"success", "failed"})


class LocalAirflowError(RuntimeError):
    """Airflow did not start, or did not do what was asked in time; the message says where to look."""


class LocalAirflow:
    """
    Airflow over ``metadata_dsn``, its files under ``state_dir``.

    Starting again on the same ``state_dir`` keeps passwords and keys, and skips the migration that was done.

    Args:
        state_dir: created if missing; belongs to this instance alone.
        metadata_dsn: ``postgresql://...`` of an existing database, empty or Airflow's own.
        connections: given to every component as ``AIRFLOW_CONN_*`` variables.
        pools: created or changed through the API once it answers.
        dags_folder, plugins_folder: the project's own by default.
        environment: more variables for every component.
        preferred_port: taken for the API server if it is free; without one, any free port is.
        progress: called with one line at a time while starting.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        metadata_dsn: str,
        connections: Iterable[ConnectionSetting] = (),
        pools: Iterable[PoolSetting] = (),
        dags_folder: Path = PROJECT_ROOT / "dags",
        plugins_folder: Path = PROJECT_ROOT / "plugins",
        environment: Mapping[str, str] | None = None,
        preferred_port: int | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.state_dir = state_dir.resolve()
        self.log_dir = self.state_dir / "components"
        self.port = free_port(preferred_port)
        self.url = f"http://127.0.0.1:{self.port}"
        self._metadata_dsn = metadata_dsn
        self._connections = tuple(connections)
        self._pools = tuple(pools)
        self._dags_folder = dags_folder
        self._plugins_folder = plugins_folder
        self._extra_environment = dict(environment or {})
        self._progress = progress
        self._guard: subprocess.Popen[bytes] | None = None
        self._http = self._new_client()
        self._token: str | None = None
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self._secrets = self._load_secrets()

    # --- life ---

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def passwords(self) -> dict[str, str]:
        """Password by user name; ``admin`` may do everything, ``viewer`` may only look."""
        return dict(self._secrets["passwords"])

    @property
    def guard_pid(self) -> int | None:
        """Process id of the guard that holds all components, None when stopped."""
        return self._guard.pid if self._guard else None

    def start(self, *, timeout: float = START_TIMEOUT_SECONDS) -> None:
        """
        Migrate if needed, start the components and return when all of them are healthy and the pools exist.

        Raises:
            LocalAirflowError: a component ended or the time ran out; whatever had started is stopped again.
        """
        self._http = self._new_client()
        self._migrate()
        self._start_components()
        try:
            self._wait_until_healthy(timeout=timeout)
            for pool in self._pools:
                self._create_pool(pool)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every component and running task; returns when all are gone. Safe to call twice."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        if guard.stdin:
            guard.stdin.close()
        try:
            guard.wait(timeout=STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            guard.kill()  # its children then get SIGTERM from the kernel
            guard.wait()
        self._http.close()
        self._token = None

    def _new_client(self) -> httpx.Client:
        # trust_env off: a proxy of the machine's must not see calls to the machine itself.
        return httpx.Client(base_url=self.url, timeout=30.0, trust_env=False)

    def environment(self) -> dict[str, str]:
        """Return the environment of every component; whatever Airflow setting the caller's has is left out."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        ours = {
            "AIRFLOW_HOME": str(self.state_dir),
            "PYTHONPATH": str(PROJECT_ROOT),
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags_folder),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self._plugins_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",  # as many workers start at once: the default of 32 takes 6 GB
            "AIRFLOW__CORE__FERNET_KEY": self._secrets["fernet_key"],
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.state_dir / "passwords.json"),
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "120",  # first imports on a busy machine
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._metadata_dsn.replace(
                "postgresql://", "postgresql+psycopg2://"
            ),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": self._secrets["api_secret_key"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secrets["jwt_secret"],
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "20",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        connections = {connection.variable_name: connection.to_json() for connection in self._connections}
        return inherited | ours | connections | self._extra_environment

    def _load_secrets(self) -> dict[str, Any]:
        """Read the keys and passwords of this state folder, or make them; the files are readable by their owner only."""
        keys_file, passwords_file = self.state_dir / "keys.json", self.state_dir / "passwords.json"
        if not (keys_file.exists() and passwords_file.exists()):
            keys = {
                "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "api_secret_key": secrets.token_urlsafe(32),
                "jwt_secret": secrets.token_urlsafe(64),
            }
            passwords = {user: secrets.token_urlsafe(9) for user in ("admin", "viewer")}
            for path, values in ((keys_file, keys), (passwords_file, passwords)):
                path.touch(mode=0o600)
                path.write_text(json.dumps(values), encoding="utf-8")
        return {**json.loads(keys_file.read_text("utf-8")), "passwords": json.loads(passwords_file.read_text("utf-8"))}

    def _migrate(self) -> None:
        """Bring the metadata database up to date, unless this state folder says that this version has done so."""
        stamp = self.state_dir / "migrated"
        done = version("apache-airflow")
        if stamp.exists() and stamp.read_text("utf-8") == done and self._has_metadata():
            return
        self._progress("creating Airflow's metadata database")
        log = self.log_dir / "migrate.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            code = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"],
                env=self.environment(),
                cwd=self.state_dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code:
            raise LocalAirflowError(f"'airflow db migrate' failed with exit code {code}; see {log}")
        stamp.write_text(done, encoding="utf-8")

    def _has_metadata(self) -> bool:
        """Return whether the database holds Airflow's tables; it may have been made anew under an old state folder."""
        with psycopg.connect(self._metadata_dsn) as connection:
            row = connection.execute("SELECT to_regclass('public.alembic_version') IS NOT NULL").fetchone()
        return bool(row and row[0])

    def _start_components(self) -> None:
        specs = [
            {
                "name": name,
                "argv": [sys.executable, "-m", "airflow", *arguments],
                "log": str(self.log_dir / f"{name}.log"),
            }
            for name, arguments in COMPONENTS.items()
        ]
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with (self.log_dir / "guard.log").open("wb") as log:
            self._guard = subprocess.Popen(
                [sys.executable, "-m", "include.simulation.process_guard", json.dumps(specs)],
                env=self.environment(),
                cwd=PROJECT_ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then stops this in order
            )

    def _wait_until_healthy(self, *, timeout: float) -> None:
        started = time.monotonic()
        told = started
        waiting: list[str] = list(HEALTHY_PARTS)
        while waiting:
            self.require_running()
            elapsed = time.monotonic() - started
            if elapsed > timeout:
                raise LocalAirflowError(
                    f"Airflow is not healthy after {elapsed:.0f} s, waiting for {', '.join(waiting)}; see {self.log_dir}"
                )
            if time.monotonic() - told >= 10:
                told = time.monotonic()
                self._progress(f"waiting for Airflow: {', '.join(waiting)} ({elapsed:.0f} s)")
            time.sleep(0.5)
            try:
                health = self._http.get("/api/v2/monitor/health", timeout=5.0).json()
            except (httpx.HTTPError, ValueError):
                continue
            waiting = [part for part in HEALTHY_PARTS if (health.get(part) or {}).get("status") != "healthy"]

    def require_running(self) -> None:
        """Raise LocalAirflowError when a component has ended; its name is in the message."""
        if self._guard is None:
            raise LocalAirflowError("Airflow is not running")
        if self._guard.poll() is not None:
            reason = (self.log_dir / "guard.log").read_text("utf-8", errors="replace").strip().splitlines()
            raise LocalAirflowError(f"{reason[-1] if reason else 'Airflow ended'}; see {self.log_dir}")

    # --- REST ---

    def token_for(self, user: str) -> str:
        """Return a bearer token of ``admin`` or ``viewer``."""
        response = self._http.post("/auth/token", json={"username": user, "password": self.passwords[user]})
        if response.is_error:
            raise LocalAirflowError(
                f"{self.url} gives {user} no token ({response.status_code}): is it another Airflow?"
            )
        return str(response.json()["access_token"])

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Call ``path`` (such as ``/api/v2/dags``) as admin; any status but 401 is the caller's to judge."""
        for attempt in (1, 2):
            self._token = self._token or self.token_for("admin")
            headers = {"Authorization": f"Bearer {self._token}", **options.pop("headers", {})}
            response = self._http.request(method, path, headers=headers, **options)
            if response.status_code != httpx.codes.UNAUTHORIZED or attempt == 2:
                break
            self._token = None  # tokens live a day; a demo may live longer
        return response

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self.request(method, path, **options)
        if response.is_error:
            raise LocalAirflowError(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        return response.json()

    def _create_pool(self, pool: PoolSetting) -> None:
        body = {"name": pool.name, "slots": pool.slots, "description": pool.description, "include_deferred": False}
        if self.request("POST", "/api/v2/pools", json=body).status_code == httpx.codes.CONFLICT:
            changes = {**body, "pool": body["name"]}
            del changes["name"]
            self._json("PATCH", f"/api/v2/pools/{pool.name}", json=changes)

    def import_errors(self) -> dict[str, str]:
        """Return the traceback of each DAG file that could not be read, by file name."""
        errors = self._json("GET", "/api/v2/importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in errors}

    def wait_for_dag(self, dag_id: str, *, timeout: float = 120.0) -> None:
        """Return once the DAG is known and not paused; an import error of its file ends the wait at once."""
        deadline = time.monotonic() + timeout
        while self.request("GET", f"/api/v2/dags/{dag_id}").status_code != httpx.codes.OK:
            self.require_running()
            for name, trace in self.import_errors().items():
                if dag_id in name:
                    raise LocalAirflowError(f"{name} cannot be imported: {trace.strip().splitlines()[-1]}")
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"Airflow has not found the DAG {dag_id} after {timeout:.0f} s")
            time.sleep(0.5)
        self._json("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, *, conf: Mapping[str, Any] | None = None) -> str:
        """Start a run by hand, without a logical date as the UI does, and return its run id."""
        run = self._json(
            "POST", f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": dict(conf or {})}
        )
        return str(run["dag_run_id"])

    def wait_for_run(self, dag_id: str, run_id: str, *, timeout: float = 180.0) -> str:
        """Return ``success`` or ``failed`` once the run has ended."""
        deadline = time.monotonic() + timeout
        while (state := self._json("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]) not in FINAL_STATES:
            self.require_running()
            if time.monotonic() > deadline:
                raise LocalAirflowError(f"{dag_id} {run_id} is still {state} after {timeout:.0f} s")
            time.sleep(0.5)
        return str(state)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances as the API gives them (task_id, map_index, state, try_number, ...)."""
        answer = self._json("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return list(answer["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what the task left under ``key``."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._json("GET", path, params={"map_index": map_index, "deserialize": False})["value"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try as text, one event a line: level, event, and the exception if there is one."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._json(
            "GET", path, params={"map_index": map_index, "full_content": True}, headers={"Accept": "application/json"}
        )
        return "\n".join(_log_line(entry) for entry in answer["content"])


def _log_line(entry: Any) -> str:
    """Return one structured log entry as a line."""
    if not isinstance(entry, dict):
        return str(entry)
    causes = [f"{cause['exc_type']}: {cause['exc_value']}" for cause in entry.get("error_detail") or ()]
    return " ".join([f"{entry.get('level', 'info')}: {entry.get('event', '')}", *causes])

"""
The monitor's web app in a process of its own, mounted as Airflow's API server does, without Airflow's own pages.

For the tests and the bench: uvicorn, as in Airflow, and the real plugin's app over a real database. Only the token lets
anybody in: Airflow's auth manager is there, and nobody has ever logged in.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import httpx

from include.dashboard.access import TOKEN_FILE_VARIABLE
from include.dashboard.app import PREFIX, dashboard
from include.simulation.ports import HOST, free_port

PROJECT_ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 120.0  # importing Airflow takes 5 s, on a busy machine many times that
TOKEN = "sesame-for-prometheus"  # noqa: S105 - of a local test server


class MetricsServer:
    """
    The app over a monitoring database; a context manager.

    Args:
        home: for its files; created if missing.
        monitoring_dsn: ``postgresql://...``; nothing is asked of it before the first request.
        overlay: a policy file's text, laid over the shipped one.
    """

    def __init__(self, home: Path, *, monitoring_dsn: str, overlay: str = "") -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.token_file = home / "token"
        self.token_file.write_text(TOKEN, encoding="utf-8")
        self.overlay = home / "monitor.yaml"
        self.overlay.write_text(overlay or "{}\n", encoding="utf-8")
        self.address = f"{HOST}:{free_port()}"
        self.url = f"http://{self.address}{PREFIX}"
        self._log = home / "server.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
        self._environment = {
            **inherited,
            "AIRFLOW_HOME": str(home / "airflow"),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
            "AIRFLOW_CONN_MONITORING_DB": monitoring_dsn,
            "SERVICETITAN_MONITOR_CONFIG": str(self.overlay),
            TOKEN_FILE_VARIABLE: str(self.token_file),
            "PYTHONPATH": str(PROJECT_ROOT),
        }
        self._process: subprocess.Popen[bytes] | None = None
        # trust_env off: a proxy of the machine's must not see calls to the machine itself.
        self.http = httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60.0, trust_env=False
        )

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "include.simulation.metrics_server", self.address],
                env=self._environment,
                stdin=subprocess.PIPE,  # it ends when this closes, and so with us
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError(f"the web app did not start: {self._log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()

    @property
    def log(self) -> str:
        """What the server wrote."""
        return self._log.read_text("utf-8", "replace")

    def _answers(self) -> bool:
        try:
            self.http.get("/health")
        except httpx.TransportError:
            return False
        return True


def serve(address: str) -> None:
    """Serve until stdin closes."""
    import uvicorn
    from airflow.api_fastapi.app import create_auth_manager
    from starlette.applications import Starlette
    from starlette.routing import Mount

    create_auth_manager()  # which refuses what is no token of Airflow's
    host, port = address.rsplit(":", 1)
    app = Starlette(routes=[Mount(PREFIX, app=dashboard)])
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=int(port), log_level="warning", access_log=False))

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    server.run()


if __name__ == "__main__":
    serve(sys.argv[1])

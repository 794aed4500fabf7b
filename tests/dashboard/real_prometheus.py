"""A Prometheus that runs: it scrapes the web app with the token, and evaluates rules."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx

from include.dashboard.app import PREFIX
from include.simulation.metrics_server import MetricsServer
from include.simulation.ports import HOST, free_port

WAIT_SECONDS = 120.0
JOB = "servicetitan-monitor"


class Prometheus:
    """
    Debian's Prometheus; a context manager.

    Args:
        home: for its files.
        scraped: the web app.
        rules: files of alert rules.
        token_file: with what the scraper presents.
    """

    def __init__(
        self, home: Path, *, scraped: MetricsServer, rules: tuple[Path, ...] = (), token_file: Path | None = None
    ) -> None:
        self._home, self._address = home, f"{HOST}:{free_port()}"
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "metrics_path": f"{PREFIX}/metrics",
                    "authorization": {"credentials_file": str(token_file or scraped.token_file)},
                    "static_configs": [{"targets": [scraped.address]}],
                }
            ],
        }
        home.mkdir(parents=True)
        # JSON is YAML.
        (home / "prometheus.yml").write_text(json.dumps(config))
        self.http = httpx.Client(base_url=f"http://{self._address}/api/v1", timeout=30.0, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with (self._home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._home / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._home / 'data'}",
                    f"--web.listen-address={self._address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.wait_until(self._is_ready)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)

    def wait_until(self, is_so: Callable[[], Any]) -> Any:
        """Return what the function says once it is true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := is_so()):
            assert self._process is not None
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, f"{found}: {self.log}"
            time.sleep(0.1)
        return found

    @property
    def log(self) -> str:
        """What it wrote last."""
        return (self._home / "log").read_text()[-3000:]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression has now, each with ``metric`` and ``value``."""
        answer = self.http.get("/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        return list(answer.json()["data"]["result"])

    def value(self, expression: str) -> float | None:
        """Return the value of an expression of one series; None where it has none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped."""
        return list(self.http.get("/targets").json()["data"]["activeTargets"])

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self.http.get("/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that it has loaded."""
        groups = self.http.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://{self._address}/-/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

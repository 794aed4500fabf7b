"""Airflow's scheduler, as its API server tells everybody: the public ``/api/v2/monitor/health``."""

from __future__ import annotations

import configparser
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from include.sync_health.health import Unseen
from include.sync_health.health_resources import NotAsked, SchedulerState

BASE_URL_VARIABLE = "AIRFLOW__API__BASE_URL"

PATH = "/api/v2/monitor/health"
"""Asks for no login: https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/check-health.html"""

TIMEOUT = timedelta(seconds=5)
"""Of connecting, and of each wait for more of the answer."""

ANSWER_BYTES = 65_536
"""A longer answer is none of Airflow's."""

OTHERS = ("metadatabase", "dag_processor", "triggerer")


def base_url(environ: Mapping[str, str] | None = None) -> str | None:
    """
    Return where Airflow's API server is, as ``[api] base_url`` has it; None where nobody says.

    Read from the environment, else from airflow.cfg, without the seconds that importing Airflow costs.

    Args:
        environ: the environment; None: the process's own.
    """
    variables = os.environ if environ is None else environ
    if named := variables.get(BASE_URL_VARIABLE, "").strip():
        return named
    home = Path(variables.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    file = Path(variables.get("AIRFLOW_CONFIG") or home / "airflow.cfg").expanduser()
    config = configparser.RawConfigParser(strict=False)
    try:
        config.read(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError, configparser.Error):
        return None
    return config.get("api", "base_url", fallback="").strip() or None


def scheduler_state(url: str | None, *, timeout: timedelta = TIMEOUT) -> SchedulerState | NotAsked | Unseen:
    """
    Return what the API server says of the scheduler, `NotAsked` where it is not known, `Unseen` where it does not say.

    No redirection is followed and no login is sent.

    Args:
        url: as `base_url` gives it.
        timeout: of each step.
    """
    if url is None:
        return NotAsked(
            reason=f"the API server is not asked: set {BASE_URL_VARIABLE}, or base_url in [api] of airflow.cfg"
        )
    if not url.lower().startswith(("http://", "https://")):
        return Unseen(reason="the API server cannot be asked: base_url is no http or https address")
    import httpx

    try:
        with (
            httpx.Client(timeout=timeout.total_seconds(), follow_redirects=False) as client,
            client.stream("GET", url.rstrip("/") + PATH) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                return Unseen(reason=f"the API server answered {answer.status_code}, not 200; check base_url")
            text = _limited(answer)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # Not its text: it may hold the address, login and all.
        return Unseen(
            reason=f"the API server cannot be asked ({type(error).__name__}); check that it runs, and base_url"
        )
    return _state(text) or Unseen(reason="what answers at base_url is not Airflow's API server")


def _limited(answer: Any) -> bytes:
    text = b""
    for piece in answer.iter_bytes():
        text += piece
        if len(text) > ANSWER_BYTES:
            break
    return text


def _state(text: bytes) -> SchedulerState | None:
    try:
        said = json.loads(text)
        scheduler = said["scheduler"]
        heartbeat = scheduler.get("latest_scheduler_heartbeat")
        beat_at = None if heartbeat is None else datetime.fromisoformat(heartbeat)
        others = {name: (said.get(name) or {}).get("status") for name in OTHERS}
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return SchedulerState(
        is_healthy=scheduler.get("status") == "healthy",
        heartbeat_at=None if beat_at is None else _aware(beat_at),
        others={
            name: None if status is None else "healthy" if status == "healthy" else "unhealthy"
            for name, status in others.items()
        },
    )


def _aware(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

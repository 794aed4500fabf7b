"""The pages: sync functions, which FastAPI runs in threads, because they ask a database."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response

from include.dashboard.cached_page import CachedPage
from include.dashboard.exposition import CONTENT_TYPE
from include.dashboard.metrics_page import MetricsPage, MetricsSource
from include.sync_health.errors import MonitorError
from include.sync_health.health import UNAVAILABLE, health_answer
from include.sync_health.redaction import clean

log = logging.getLogger("servicetitan.dashboard")

# What is told is of this moment and for this asker.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

LONGEST_ERROR = 300
"""Characters of an error's line."""

_FRONT = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>ServiceTitan Monitor</title>
<h1>ServiceTitan Monitor</h1>
<ul>
<li><a href="health">Health</a>: the last health check, as JSON; 503 when it is not good, or out of date.
<li><a href="metrics">Metrics</a>: for Prometheus.
</ul>
</html>
"""


def front_page() -> Response:
    """Return the page with links to the others, relative to wherever it is mounted."""
    return Response(_FRONT, media_type="text/html", headers=HEADERS)


def health_page() -> Response:
    """Return the newest health check; ``unknown`` with the reason, and 503, where it cannot be read."""
    from include.dashboard.surroundings import monitoring_session
    from include.warehouse.health_snapshots import newest_health

    try:
        with monitoring_session() as conn:
            stored = newest_health(conn)
        status, body = health_answer(stored, now=datetime.now(UTC))
    except MonitorError as error:
        status, body = health_answer(None, now=datetime.now(UTC))
        body["reason"] = _told(error)
    return Response(_json(body), status_code=status, media_type="application/json", headers=HEADERS)


def metrics_route(
    page: CachedPage[MetricsPage] | None = None,
) -> Callable[[Request], Response]:
    """
    Return the endpoint of ``/metrics``.

    Args:
        page: of this process; None: a new one over the monitoring database and the policy.
    """
    kept = page or CachedPage(MetricsSource().page)

    def metrics(request: Request) -> Response:
        try:
            found = kept.get()
        except MonitorError as error:
            # Prometheus then takes the target for down, instead of our series for gone.
            return Response(_told(error) + "\n", UNAVAILABLE, HEADERS, media_type="text/plain")
        headers = {**HEADERS, "Vary": "Accept-Encoding"}
        if accepts_gzip(request.headers.get("accept-encoding", "")):
            return Response(found.compressed, headers={**headers, "Content-Encoding": "gzip"}, media_type=CONTENT_TYPE)
        return Response(found.text, headers=headers, media_type=CONTENT_TYPE)

    return metrics


def accepts_gzip(header: str) -> bool:
    """Return whether an Accept-Encoding header (RFC 9110, section 12.5.3) allows gzip by its name."""
    for part in header.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        if coding == "gzip":
            weights = [piece[2:] for piece in parameters if piece.startswith("q=")]
            return not weights or weights[0].strip("0.") != ""
    return False


def _told(error: MonitorError) -> str:
    """Return an error's line, fit to be shown, and write it to the log."""
    line = clean(str(error), limit=LONGEST_ERROR)
    log.error("%s", line)
    return line


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

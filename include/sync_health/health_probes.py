"""The health check's part ``api_connectivity``: what our own calls of the ServiceTitan API came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from include.sync_health.health import HealthPart, HealthStatus
from include.sync_health.redaction import clean

NOT_CONFIGURED = "not_configured"
"""The part's status where nothing can be probed; it counts as healthy."""

HOW_TO_CONFIGURE = (
    "no credential can be probed, which counts as healthy: add an Airflow connection servicetitan_<credential id> for "
    "one to have it tried"
)

ERROR_CHARS = 300
"""Of an error's text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    One call.

    Args:
        credential_id: whose.
        response_ms: how long the answer took; None where there was none.
        error: why it failed, as it was said; None of one that succeeded.
        error_class: the kind of the failure, one word; None where nobody knows.
    """

    credential_id: str
    response_ms: float | None = None
    error: str | None = None
    error_class: str | None = None


def connectivity_part(probes: Sequence[Probe]) -> HealthPart:
    """
    Return how the API answers: HEALTHY when every probe succeeded, DEGRADED when some did, UNHEALTHY when none.

    Without any it is ``not_configured``, which counts as HEALTHY.

    Args:
        probes: of the credentials that were tried.

    Returns:
        The part; details: success_rate (percent; None without probes) and test_results, one for each probe:
        ``{"credential_id", "status": "success", "response_time": milliseconds}`` or ``{"credential_id", "status": "error",
        "error", "error_class"}``.
    """
    if not probes:
        return HealthPart(
            status=HealthStatus.HEALTHY,
            label=NOT_CONFIGURED,
            reasons=(HOW_TO_CONFIGURE,),
            details={"success_rate": None, "test_results": []},
        )
    failed = sum(probe.error is not None for probe in probes)
    if not failed:
        status = HealthStatus.HEALTHY
    else:
        status = HealthStatus.DEGRADED if failed < len(probes) else HealthStatus.UNHEALTHY
    return HealthPart(
        status=status,
        reasons=(f"{failed} of {len(probes)} credentials that were tried got no good answer",) if failed else (),
        details={
            "success_rate": round(100 * (len(probes) - failed) / len(probes), 2),
            "test_results": [_result(probe) for probe in probes],
        },
    )


def _result(probe: Probe) -> dict[str, Any]:
    if probe.error is None:
        took = None if probe.response_ms is None else round(probe.response_ms, 1)
        return {"credential_id": probe.credential_id, "status": "success", "response_time": took}
    return {
        "credential_id": probe.credential_id,
        "status": "error",
        "error": clean(probe.error, limit=ERROR_CHARS),
        "error_class": probe.error_class,
    }

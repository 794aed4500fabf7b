"""The health check's api_connectivity: what so many good and bad answers come to."""

from __future__ import annotations

import pytest

from include.sync_health.health import HealthStatus
from include.sync_health.health_probes import Probe, connectivity_part

GOOD = Probe(credential_id="1", response_ms=120.04)
BAD = Probe(credential_id="2", response_ms=80.0, error="HTTP 503", error_class="server")


@pytest.mark.parametrize(
    ("probes", "status", "rate"),
    [
        pytest.param([GOOD, GOOD, GOOD], "healthy", 100.0, id="all answered"),
        pytest.param([GOOD, BAD, GOOD], "degraded", 66.67, id="one did not"),
        pytest.param([BAD, BAD, GOOD], "degraded", 33.33, id="one did"),
        pytest.param([BAD, BAD], "unhealthy", 0.0, id="none did"),
        pytest.param([], "not_configured", None, id="none was tried: no rate, which is not 0"),
    ],
)
def test_a_sample(probes: list[Probe], status: str, rate: float | None) -> None:
    """Status and rate, as the story has them."""
    found = connectivity_part(probes).as_json()

    assert (found["status"], found["success_rate"]) == (status, rate)
    assert len(found["test_results"]) == len(probes)


def test_nothing_to_try_counts_as_healthy_and_says_how_to_switch_it_on() -> None:
    """It is off until somebody makes a connection."""
    found = connectivity_part([])

    assert found.status is HealthStatus.HEALTHY
    assert "servicetitan_<credential id>" in found.reasons[0]


def test_a_result_has_a_time_or_an_error() -> None:
    """And no secret of either."""
    leak = Probe(credential_id="3", error="refused: client_secret=hunter2hunter2 " + "x" * 500, error_class="auth")

    good, bad, leaked = connectivity_part([GOOD, BAD, leak]).details["test_results"]

    assert good == {"credential_id": "1", "status": "success", "response_time": 120.0}
    assert bad == {"credential_id": "2", "status": "error", "error": "HTTP 503", "error_class": "server"}
    assert "hunter2" not in leaked["error"]
    assert len(leaked["error"]) <= 300

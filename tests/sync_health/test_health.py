"""The health check's statuses, and what a stored report answers at each age; each row is a question to /health."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.health import (
    PARTS,
    HealthPart,
    HealthReport,
    HealthStatus,
    StoredHealth,
    Unseen,
    health_answer,
    worst_of,
)

HEALTHY, WARNING, UNKNOWN, DEGRADED, UNHEALTHY = HealthStatus
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
REPORT = {"name": "servicetitan_integration", "status": "healthy", "details": {}, "metadata": {"total_credentials": 3}}


def stored(status: HealthStatus = HEALTHY, *, age: timedelta = MINUTE) -> StoredHealth:
    """A report as the 15-minute run stores it, of so long ago."""
    return StoredHealth(
        as_of=NOW - age,
        status=status,
        report={**REPORT, "status": str(status)},
        every=15 * MINUTE,
        computed_at=NOW - age,
    )


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [
        pytest.param([HEALTHY, HEALTHY], HEALTHY, id="all is well"),
        pytest.param([HEALTHY, WARNING], WARNING, id="a warning"),
        pytest.param([WARNING, DEGRADED], DEGRADED, id="degraded is worse than a warning"),
        pytest.param([DEGRADED, UNHEALTHY], UNHEALTHY, id="nothing is worse than unhealthy"),
        pytest.param([HEALTHY, UNKNOWN, HEALTHY], UNKNOWN, id="what works does not hide what nobody sees"),
        pytest.param([WARNING, UNKNOWN], UNKNOWN, id="nor does a warning"),
        pytest.param([UNKNOWN, DEGRADED], DEGRADED, id="what nobody sees does not hide what is known to be broken"),
        pytest.param([UNKNOWN, UNHEALTHY], UNHEALTHY, id="nor what is known to be unhealthy"),
        pytest.param([], UNKNOWN, id="nothing was looked at"),
    ],
)
def test_the_worst_counts(statuses: list[HealthStatus], worst: HealthStatus) -> None:
    """Whatever the order."""
    assert worst_of(statuses) is worst_of(reversed(statuses)) is worst


@pytest.mark.parametrize(
    ("answered", "http_status", "status"),
    [
        pytest.param(stored(HEALTHY), 200, "healthy", id="healthy"),
        pytest.param(stored(WARNING), 200, "warning", id="a warning is still an answer that all goes on"),
        pytest.param(stored(DEGRADED), 503, "degraded", id="degraded"),
        pytest.param(stored(UNHEALTHY), 503, "unhealthy", id="unhealthy"),
        pytest.param(stored(UNKNOWN), 503, "unknown", id="unknown"),
        pytest.param(stored(age=30 * MINUTE), 200, "healthy", id="exactly two intervals old still counts"),
        pytest.param(stored(age=30 * MINUTE + timedelta(seconds=1)), 503, "unknown", id="older than two intervals"),
        pytest.param(stored(UNHEALTHY, age=timedelta(days=1)), 503, "unknown", id="unhealthy, but of yesterday"),
        pytest.param(stored(age=-5 * MINUTE), 200, "healthy", id="ahead by no more than two clocks differ"),
        pytest.param(stored(age=-6 * MINUTE), 503, "unknown", id="of the future: the clock was set back"),
        pytest.param(None, 503, "unknown", id="nothing is stored"),
    ],
)
def test_an_answer(answered: StoredHealth | None, http_status: int, status: str) -> None:
    """A load balancer reads the first, a person the second."""
    code, body = health_answer(answered, now=NOW)

    assert (code, body["status"]) == (http_status, status)
    assert body["name"] == "servicetitan_integration"


def test_an_answer_says_how_old_it_is() -> None:
    """At the moment it is asked for, not at that of the check."""
    report = stored(WARNING, age=14 * MINUTE)

    ages = [health_answer(report, now=NOW + later)[1]["age_seconds"] for later in (timedelta(0), MINUTE)]

    assert ages == [840, 900]
    assert health_answer(report, now=NOW)[1]["metadata"] == {"total_credentials": 3}


def test_an_answer_that_is_out_of_date_says_what_it_was_and_what_to_look_at() -> None:
    """The status of then is not that of now, and is not lost."""
    _, body = health_answer(stored(WARNING, age=47 * MINUTE), now=NOW)

    assert body["stored_status"] == "warning"
    assert "47 minutes old" in body["reason"]
    assert "does the DAG servicetitan_sync_failures run?" in body["reason"]
    assert "stored_status" not in health_answer(stored(WARNING), now=NOW)[1]


@given(age=st.integers(-(10**6), 10**7), status=st.sampled_from(HealthStatus))
def test_only_a_fresh_report_that_is_well_answers_200(age: int, status: HealthStatus) -> None:
    """At any age."""
    code, body = health_answer(stored(status, age=timedelta(seconds=age)), now=NOW)

    is_fresh = -300 <= age <= 1800
    assert (code == 200) is (is_fresh and status in (HEALTHY, WARNING))
    assert body["age_seconds"] == max(0, age)


def test_a_naive_clock_is_refused() -> None:
    """Its age would be off by hours."""
    with pytest.raises(ValueError, match="timezone-aware"):
        health_answer(stored(), now=datetime(2026, 3, 10))  # noqa: DTZ001 - the point


def test_a_report_has_the_storys_shape() -> None:
    """Name, status, details, metadata; its status is that of the worst part."""
    parts = {name: HealthPart(status=HEALTHY, details={"told": name}) for name in PARTS}
    parts["api_connectivity"] = HealthPart(status=HEALTHY, label="not_configured", reasons=("nothing to try",))
    parts["recent_syncs"] = Unseen(reason="nobody could look").as_part
    report = HealthReport(last_check=NOW, parts=parts, total_credentials=12, active_credentials=9)

    assert report.as_json() == {
        "name": "servicetitan_integration",
        "status": "unknown",
        "details": {
            "credentials": {"status": "healthy", "told": "credentials", "reasons": []},
            "api_connectivity": {"status": "not_configured", "reasons": ["nothing to try"]},
            "recent_syncs": {"status": "unknown", "reasons": ["nobody could look"]},
            "system_resources": {"status": "healthy", "told": "system_resources", "reasons": []},
        },
        "metadata": {
            "last_check": "2026-03-10T12:00:00+00:00",
            "total_credentials": 12,
            "active_credentials": 9,
        },
    }


def test_answering_needs_nothing_heavy() -> None:
    """A web server imports it."""
    code = "import sys, include.sync_health.health; print([n for n in ('pandas', 'numpy') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)

    assert found.stdout.strip() == "[]"

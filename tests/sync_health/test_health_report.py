"""The health check as a whole: from what was looked at to the report, and what one broken part does to it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from include.sync_health.health import PARTS, Unseen
from include.sync_health.health_probes import Probe
from include.sync_health.health_report import HealthInput, health_report, known_lifetimes
from include.sync_health.health_resources import DatabaseState
from include.sync_health.policy import Policy
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF, runs_frame
from tests.sync_health.message_alerts import alert
from tests.sync_health.test_health_resources import NOW, WELL
from tests.sync_health.test_health_syncs import syncs

LOST = Unseen(reason="nobody could look")
HEALTHY = HealthInput(
    as_of=AS_OF,
    now=NOW,
    policy=Policy(),
    credentials=facts_frame([{"credential_id": 1}, {"credential_id": 2, "connection_status": "inactive"}]),
    runs=runs_frame(syncs(20, 0)),
    alerts=(),
    probes=[Probe(credential_id="1", response_ms=120.0)],
    resources=WELL,
)
IN_ERROR = facts_frame([{"connection_status": "error"}])
ALL_BAD = [Probe(credential_id="1", error="HTTP 503", error_class="server")]


@pytest.mark.parametrize(
    ("changes", "status", "unlike"),
    [
        pytest.param({}, "healthy", {}, id="all is well"),
        pytest.param({"probes": []}, "healthy", {"api_connectivity": "not_configured"}, id="nothing can be probed"),
        pytest.param({"credentials": IN_ERROR}, "warning", {"credentials": "warning"}, id="a credential in error"),
        pytest.param(
            {"probes": [*HEALTHY.probes, *ALL_BAD]}, "degraded", {"api_connectivity": "degraded"}, id="one probe fails"
        ),
        pytest.param({"probes": ALL_BAD}, "unhealthy", {"api_connectivity": "unhealthy"}, id="every probe fails"),
        pytest.param({"probes": LOST}, "unknown", {"api_connectivity": "unknown"}, id="probing broke"),
        pytest.param({"runs": LOST}, "unknown", {"recent_syncs": "unknown"}, id="the syncs could not be read"),
        pytest.param({"alerts": LOST}, "unknown", {"recent_syncs": "unknown"}, id="the alerts could not be read"),
        pytest.param(
            {"credentials": LOST}, "unknown", {"credentials": "unknown"}, id="the credentials could not be read"
        ),
        pytest.param(
            {"credentials": IN_ERROR, "runs": LOST},
            "unknown",
            {"credentials": "warning", "recent_syncs": "unknown"},
            id="a warning does not hide what nobody sees",
        ),
        pytest.param(
            {"runs": LOST, "resources": replace(WELL, source=DatabaseState(error="refused"))},
            "unhealthy",
            {"recent_syncs": "unknown", "system_resources": "unhealthy"},
            id="what nobody sees does not hide what is down",
        ),
        pytest.param(
            {"runs": runs_frame([]).drop(columns="status")},
            "unknown",
            {"recent_syncs": "unknown"},
            id="a part that breaks leaves the others",
        ),
    ],
)
def test_a_report(changes: dict[str, Any], status: str, unlike: dict[str, str]) -> None:
    """Its status, and the parts that are not healthy."""
    report = health_report(replace(HEALTHY, **changes)).as_json()

    assert report["status"] == status
    assert tuple(report["details"]) == PARTS
    found = {name: part["status"] for name, part in report["details"].items() if part["status"] != "healthy"}
    assert found == unlike


def test_the_report_counts_the_credentials() -> None:
    """Total and active, and neither where nobody could read them; and it is JSON as it stands."""
    report, unread = health_report(HEALTHY), health_report(replace(HEALTHY, credentials=LOST))

    assert report.as_json()["metadata"] == {
        "last_check": NOW.isoformat(),
        "total_credentials": 2,
        "active_credentials": 1,
    }
    assert (unread.total_credentials, unread.active_credentials) == (None, None)
    assert json.loads(json.dumps(report.as_json(), allow_nan=False)) == report.as_json()


def test_a_part_that_breaks_says_so_without_quoting_what_it_choked_on() -> None:
    """The text of an error may hold a row."""
    broken = health_report(replace(HEALTHY, runs=runs_frame([]).drop(columns="status")))

    assert broken.parts["recent_syncs"].reasons == ("it could not be judged: FrameError; the log has the details",)


def test_an_open_alert_keeps_what_it_knows_of_a_tokens_lifetime() -> None:
    """So that the health check judges the token as the rule did."""
    alerts = [
        alert("token_expiry"),
        alert("stale_sync"),
        alert("token_expiry", identity={"credential": "5"}, evidence={}),
    ]

    assert known_lifetimes(alerts) == {"17": timedelta(seconds=5_184_000), "5": None}
    assert known_lifetimes(LOST) == {}

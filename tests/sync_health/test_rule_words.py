"""The alerts that the message tests speak of are those that the rules make: the same keys, and a label for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from include.sync_health.alert_facts import KNOWN_EVIDENCE
from include.sync_health.api_incidents import judge_api_incidents
from include.sync_health.api_rule_policies import (
    ApiErrorsPolicy,
    ApiIncidentsPolicy,
    ApiLatencyPolicy,
    ErrorBudgetPolicy,
)
from include.sync_health.api_rules import judge_api_errors, judge_api_latency
from include.sync_health.connection_errors import judge_connection_errors
from include.sync_health.empty_syncs import judge_empty_syncs
from include.sync_health.error_budget import judge_error_budget
from include.sync_health.failures import judge_consecutive_failures, judge_sync_failures
from include.sync_health.freshness import judge_stale_syncs
from include.sync_health.measuring_policies import ServiceLevelsPolicy
from include.sync_health.observations import Observation
from include.sync_health.platform_outage import judge_platform_outage
from include.sync_health.quality import judge_data_quality
from include.sync_health.quality_drop import judge_quality_drop
from include.sync_health.rule_policies import (
    ConnectionErrorPolicy,
    ConsecutiveFailuresPolicy,
    DataQualityPolicy,
    EmptySyncsPolicy,
    NoSyncsPolicy,
    PlatformOutagePolicy,
    QualityDropPolicy,
    StaleSyncPolicy,
    StuckSyncPolicy,
    SyncFailuresPolicy,
    TokenExpiryPolicy,
)
from include.sync_health.silence import judge_no_syncs
from include.sync_health.stuck_syncs import judge_stuck_syncs
from include.sync_health.tokens import judge_token_expiry
from include.sync_health.verdicts import Verdict
from tests.sync_health import api_windows
from tests.sync_health.call_rows import Call
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF, runs_frame, runs_with_counts, subject
from tests.sync_health.message_alerts import EXPIRED_TOKEN, NEVER_COMPLETED, alert
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_trends import Day
from tests.sync_health.stored_frames import stored_days, weeks_of

HOUR = timedelta(hours=1)
SUBJECTS = {str(number): subject(number) for number in range(1, 5)}
MONITORED = ("active", "connected", "error")


def failed(number: int, *, credential: int = 1) -> Row:
    """A run that has just failed with a server error."""
    end = AS_OF - timedelta(minutes=number)
    return Row(
        id=number,
        credential=credential,
        data_type="invoices",
        status="failed",
        started_at=end - timedelta(minutes=1),
        completed_at=end,
        updated_at=end,
        error_message="ServiceTitan API server error: 503",
    )


def started(ago: timedelta) -> Row:
    """A run that is open since."""
    at = AS_OF - ago
    return Row(
        id=1, credential=1, data_type="invoices", status="running", started_at=at, completed_at=None, updated_at=at
    )


def sync_failures() -> pd.DataFrame:
    """Three failures within the hour."""
    return judge_sync_failures(
        runs_frame(map(failed, (1, 2, 3))), subjects=SUBJECTS, policy=SyncFailuresPolicy(), as_of=AS_OF
    )


def consecutive_failures() -> pd.DataFrame:
    """Three in a row."""
    return judge_consecutive_failures(
        runs_frame(map(failed, (1, 2, 3))), subjects=SUBJECTS, policy=ConsecutiveFailuresPolicy(), as_of=AS_OF
    )


def stuck_sync() -> pd.DataFrame:
    """Open for two hours."""
    return judge_stuck_syncs(
        runs_frame([started(2 * HOUR)]),
        subjects=SUBJECTS,
        policy=StuckSyncPolicy(),
        as_of=AS_OF,
        open_lookback=timedelta(days=30),
    )


def platform_outage() -> pd.DataFrame:
    """Three credentials of three."""
    rows = [failed(number, credential=number) for number in (1, 2, 3)]
    return judge_platform_outage(runs_frame(rows), subjects=SUBJECTS, policy=PlatformOutagePolicy(), as_of=AS_OF)


def no_syncs() -> pd.DataFrame:
    """A busy day, and then three silent hours."""
    rows = [started((3 + number) * HOUR) for number in range(23)]
    return judge_no_syncs(runs_frame(rows), subjects=SUBJECTS, policy=NoSyncsPolicy(), as_of=AS_OF)


def token_expiry(remaining: timedelta, **known: Any) -> pd.DataFrame:
    """A token with so much left."""
    frame = facts_frame([{"token_expires_at": AS_OF + remaining, **known}])
    return judge_token_expiry(frame, policy=TokenExpiryPolicy(), monitored=MONITORED, as_of=AS_OF)


def connection_error() -> pd.DataFrame:
    """In error for five hours."""
    frame = facts_frame([{"connection_status": "error", "error_since": AS_OF - 5 * HOUR}])
    return judge_connection_errors(frame, policy=ConnectionErrorPolicy(), monitored=MONITORED, as_of=AS_OF)


def stale_sync(**known: Any) -> pd.DataFrame:
    """No completed run for longer than allowed."""
    frame = facts_frame([{"created_at": AS_OF - 120 * HOUR, **known}])
    return judge_stale_syncs(frame, policy=StaleSyncPolicy(), monitored=MONITORED, as_of=AS_OF)


def data_quality() -> pd.DataFrame:
    """A third of the records failed."""
    end = AS_OF - HOUR
    row = Row(
        id=1,
        credential=1,
        data_type="invoices",
        status="completed",
        started_at=end,
        completed_at=end,
        updated_at=end,
        records_processed=500,
        records_successful=328,
        records_failed=172,
    )
    return judge_data_quality(runs_with_counts([row]), subjects=SUBJECTS, policy=DataQualityPolicy(), as_of=AS_OF)


def quality_drop() -> pd.DataFrame:
    """A day of 800 good records of 1,000, where all used to be good."""
    yesterday = AS_OF.date() - timedelta(days=1)
    return judge_quality_drop(
        stored_days([Day(day=yesterday, successful=800), *weeks_of(yesterday)]),
        subjects=SUBJECTS,
        policy=QualityDropPolicy(),
        as_of=AS_OF,
        timezone="UTC",
    )


def empty_syncs() -> pd.DataFrame:
    """Three syncs of today without a record."""
    rows = [
        Row(
            id=number,
            credential=1,
            data_type="invoices",
            status="completed",
            started_at=AS_OF - number * HOUR,
            completed_at=AS_OF - number * HOUR,
            updated_at=AS_OF,
            records_processed=0,
        )
        for number in (1, 2, 3)
    ]
    days = [each for ago in (0, 1) for each in weeks_of(AS_OF.date() - timedelta(days=ago))]
    return judge_empty_syncs(
        runs_with_counts(rows),
        stored=stored_days(days),
        subjects=SUBJECTS,
        policy=EmptySyncsPolicy(),
        as_of=AS_OF,
        timezone="UTC",
        open_keys={},
    )


def api_errors() -> pd.DataFrame:
    """One call of ten failed."""
    calls = [Call(status=503)] * 5 + [Call()] * 95
    api = api_windows.window(api_windows.stored(calls))
    return judge_api_errors(api, policy=ApiErrorsPolicy(), as_of=api_windows.AS_OF)


def api_latency() -> pd.DataFrame:
    """Every call took seven seconds."""
    api = api_windows.window(api_windows.stored([Call(ms=7_000.0)] * 100))
    return judge_api_latency(api, policy=ApiLatencyPolicy(), as_of=api_windows.AS_OF)


def api_incidents() -> pd.DataFrame:
    """Refused twelve times."""
    api = api_windows.window(api_windows.stored([Call(status=429)] * 12))
    return judge_api_incidents(api, subjects=SUBJECTS, policy=ApiIncidentsPolicy(), as_of=api_windows.AS_OF)


def error_budget() -> pd.DataFrame:
    """Three days in which one sync of twenty failed."""
    days = [AS_OF.date() - timedelta(days=number) for number in (1, 2, 3)]
    frame = pd.DataFrame(
        {"day": days, "environment": "production", "objective": "sync_completion", "good": 950, "total": 1_000}
    )
    return judge_error_budget(
        frame, levels=ServiceLevelsPolicy(), policy=ErrorBudgetPolicy(), today=AS_OF.date(), as_of=AS_OF
    )


@pytest.mark.parametrize(
    ("judge", "rule", "changes"),
    [
        pytest.param(sync_failures, "sync_failures", {}, id="sync failures"),
        pytest.param(consecutive_failures, "consecutive_failures", {}, id="consecutive failures"),
        pytest.param(stuck_sync, "stuck_sync", {}, id="a stuck sync"),
        pytest.param(platform_outage, "platform_outage", {}, id="an outage"),
        pytest.param(no_syncs, "no_syncs", {}, id="a silent platform"),
        pytest.param(
            lambda: token_expiry(102 * HOUR, token_lifetime=timedelta(days=60)),
            "token_expiry",
            {},
            id="a token that expires soon",
        ),
        pytest.param(
            lambda: token_expiry(-51 * HOUR, token_lifetime=timedelta(minutes=15)),
            "token_expiry",
            EXPIRED_TOKEN,
            id="a token that has expired",
        ),
        pytest.param(connection_error, "connection_error", {}, id="a connection error"),
        pytest.param(lambda: stale_sync(last_success_at=AS_OF - 53 * HOUR), "stale_sync", {}, id="a stale credential"),
        pytest.param(stale_sync, "stale_sync", NEVER_COMPLETED, id="one that never completed a sync"),
        pytest.param(data_quality, "data_quality", {}, id="refused records"),
        pytest.param(quality_drop, "quality_drop", {}, id="a day worse than usual"),
        pytest.param(empty_syncs, "empty_syncs", {}, id="syncs that bring nothing"),
        pytest.param(api_errors, "api_errors", {}, id="calls that fail"),
        pytest.param(api_latency, "api_latency", {}, id="calls that are slow"),
        pytest.param(api_incidents, "api_incidents", {}, id="calls that are refused for their rate"),
        pytest.param(error_budget, "error_budget", {}, id="a budget that burns"),
    ],
)
def test_the_alerts_of_the_message_tests_are_what_the_rules_say(
    judge: Callable[[], pd.DataFrame], rule: str, changes: Mapping[str, Any]
) -> None:
    """So that no message is golden of something that no rule makes, and no number goes out under a made-up label."""
    found = [each for each in Observation.from_frame(judge()) if each.verdict is Verdict.BREACH]
    assert len(found) == 1
    ours = alert(rule, **changes)

    assert found[0].title == ours.title
    assert found[0].severity is ours.severity
    assert found[0].identity.keys() == ours.identity.keys()
    assert ours.evidence.keys() <= found[0].evidence.keys()
    assert ours.metadata.keys() <= found[0].metadata.keys()
    assert found[0].evidence.keys() <= KNOWN_EVIDENCE

"""The examples of story ST-021, by their names, under the policy that takes it by the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.sync_health.alerts import NotifyReason
from include.sync_health.checks import CREDENTIAL_HEALTH, DATA_QUALITY, SYNC_FAILURES
from include.sync_health.company_names import CompanyNames
from include.sync_health.daily_quality import aggregate_days
from include.sync_health.verdicts import Severity
from tests.agreement.plain_frames import counted_runs, credentials_of
from tests.story.ticks import ACME, DAY, HOUR, MINUTE, STORY, completed, failed, run_check, three_failures
from tests.sync_health.frames_of import AS_OF, SECOND

FIFTEEN_MINUTES, SIX_HOURS = 15 * MINUTE, 6 * HOUR


# -- ServiceTitanAlertManagerTest ----------------------------------------------------------------


def test_sync_failure_alert() -> None:
    """``testSyncFailureAlert``: three failed syncs of one credential, and the alert of ``sendSyncFailureAlert``."""
    run = run_check(STORY, rows=three_failures(error="Token refresh failed"), check=SYNC_FAILURES)

    (alert,) = run.found("sync_failures")
    assert alert.type == "servicetitan_sync_failures"
    assert alert.severity is Severity.HIGH
    assert alert.title == "Multiple ServiceTitan Sync Failures"
    assert alert.message == "ServiceTitan integration for Acme Heating (production) has failed 3 times in the last hour"
    assert alert.metadata == {
        "credential_id": "7",
        "company_name": "Acme Heating",
        "environment": "production",
        "failure_count": 3,
        "latest_error": "Token refresh failed",
    }
    assert run.sent() == [NotifyReason.FIRST]


def test_two_failures_send_nothing() -> None:
    """``if (count($failures) >= 3)``."""
    run = run_check(STORY, rows=three_failures()[:2], check=SYNC_FAILURES)

    assert run.found("sync_failures") == []
    assert run.sent() == []


def test_the_third_failure_must_lie_within_the_last_hour() -> None:
    """``findRecentFailures(new \\DateTime('-1 hour'))``."""
    rows = [*three_failures()[:2], failed(HOUR + MINUTE, number=1)]

    assert run_check(STORY, rows=rows, check=SYNC_FAILURES).found("sync_failures") == []


# -- checkCredentialHealth -----------------------------------------------------------------------


def test_token_expiry_alert() -> None:
    """``sendTokenExpiryAlert``: MEDIUM, with the time that is left."""
    expires = AS_OF + 3 * DAY + 4 * HOUR
    run = run_check(STORY, credentials=[replace(ACME, token_expires_at=expires)], check=CREDENTIAL_HEALTH)

    (alert,) = run.found("token_expiry")
    assert alert.type == "servicetitan_token_expiry"
    assert alert.severity is Severity.MEDIUM
    assert alert.title == "ServiceTitan Token Expiring Soon"
    assert alert.message == "ServiceTitan token for Acme Heating (production) expires in 3 days 4 hours"
    assert alert.metadata == {
        "credential_id": "7",
        "company_name": "Acme Heating",
        "environment": "production",
        "expires_at": expires.isoformat(),
    }


@pytest.mark.parametrize(
    ("left", "alerts"),
    [
        pytest.param(7 * DAY + SECOND, 0, id="a second more than 7 days is not soon"),
        pytest.param(7 * DAY, 1, id="exactly 7 days is soon"),
        pytest.param(15 * MINUTE, 1, id="a token of ServiceTitan's own 15 minutes is soon, always"),
        pytest.param(-DAY, 1, id="a token that has expired, too"),
    ],
)
def test_tokens_expiring_within_7_days(left, alerts) -> None:
    """The dashboard's "Tokens expiring within 7 days", and "Check for expired tokens"."""
    credential = replace(ACME, token_expires_at=AS_OF + left, updated_at=AS_OF)
    found = run_check(STORY, credentials=[credential], check=CREDENTIAL_HEALTH).found("token_expiry")

    assert [alert.severity for alert in found] == [Severity.MEDIUM] * alerts


def test_connection_error_alert() -> None:
    """``if ($credential->getConnectionStatus() === 'error')``, also where a sync has completed since."""
    credential = replace(ACME, status="error", updated_at=AS_OF - HOUR)
    rows = [completed(5 * MINUTE, number=1)]
    (alert,) = run_check(STORY, rows=rows, credentials=[credential], check=CREDENTIAL_HEALTH).found("connection_error")

    assert (alert.type, alert.title) == ("servicetitan_connection_error", "ServiceTitan Connection Error")
    assert alert.message == "ServiceTitan connection for Acme Heating (production) has been in error for 1 hour"


@pytest.mark.parametrize(
    ("ago", "alerts"),
    [
        pytest.param(48 * HOUR, 0, id="48 hours are not yet more than 48 hours"),
        pytest.param(48 * HOUR + SECOND, 1, id="a second more is stale"),
    ],
)
def test_stale_sync_alert(ago, alerts) -> None:
    """``// Check for stale syncs (no sync in 48 hours)``."""
    found = run_check(STORY, rows=[completed(ago, number=1)], check=CREDENTIAL_HEALTH).found("stale_sync")

    assert [alert.type for alert in found] == ["servicetitan_stale_sync"] * alerts


def test_a_credential_that_is_not_in_use_is_checked_like_any_other() -> None:
    """``$this->credentialRepository->findAll()``."""
    idle = replace(ACME, status="inactive", token_expires_at=AS_OF + DAY, created_at=AS_OF - 90 * DAY)
    run = run_check(STORY, rows=[completed(3 * DAY, number=1)], credentials=[idle], check=CREDENTIAL_HEALTH)

    assert len(run.found("token_expiry")) == 1
    assert len(run.found("stale_sync")) == 1


# -- checkDataQuality ----------------------------------------------------------------------------


def test_data_quality_alert() -> None:
    """``sendDataQualityAlert``: MEDIUM, with ``%.1f%%``."""
    run = run_check(STORY, rows=[completed(HOUR, number=31, processed=90, failures=30)], check=DATA_QUALITY)

    (alert,) = run.found("data_quality")
    assert alert.type == "servicetitan_data_quality"
    assert alert.severity is Severity.MEDIUM
    assert alert.title == "ServiceTitan Data Quality Issues"
    assert alert.message == (
        "ServiceTitan sync for Acme Heating has high failure rate: 33.3% (30 of 90 records failed)"
    )
    assert {
        "credential_id": "7",
        "sync_id": "31",
        "company_name": "Acme Heating",
        "failed_records": 30,
        "total_records": 90,
    }.items() <= alert.metadata.items()
    assert alert.metadata["failure_rate"] == pytest.approx(100 / 3)


def test_every_sync_is_told() -> None:
    """``foreach ($recentSyncs as $sync)``: two bad syncs of one data type are two alerts."""
    rows = [completed(hours * HOUR, number=hours, failures=40) for hours in (1, 2)] + [completed(3 * HOUR, number=3)]
    run = run_check(STORY, rows=rows, check=DATA_QUALITY)

    assert sorted(alert.metadata["sync_id"] for alert in run.found("data_quality")) == ["1", "2"]
    assert run.sent() == [NotifyReason.FIRST, NotifyReason.FIRST]


def test_sync_metrics_recording() -> None:
    """``testSyncMetricsRecording``: 95 of 100 records are a rate of 95 percent, and no issue."""
    row = completed(HOUR, number=1, processed=100, failures=5)

    daily = aggregate_days(
        counted_runs([row]).assign(processing_seconds=120.0),
        names=CompanyNames.of(credentials_of([ACME])),
        days=[AS_OF.date()],
        timezone=STORY.reporting_timezone,
        as_of=AS_OF,
        late_data_days=STORY.late_data_days,
        duration_fallback=STORY.duration_fallback,
    ).daily

    (day,) = daily.to_dict("records")
    assert (day["records_processed"], day["records_successful"], day["records_failed"]) == (100, 95, 5)
    assert day["quality_score"] == 95
    assert day["duration_avg_seconds"] == 120
    assert run_check(STORY, rows=[row], check=DATA_QUALITY).found("data_quality") == []


# -- every run sends what it finds ---------------------------------------------------------------


def test_the_next_run_sends_again_what_it_still_finds() -> None:
    """Nothing is remembered between two runs of ``checkSyncFailures``."""
    first = run_check(STORY, rows=three_failures(), check=SYNC_FAILURES)
    again = run_check(
        STORY, rows=three_failures(), check=SYNC_FAILURES, as_of=AS_OF + FIFTEEN_MINUTES, alerts=first.alerts
    )

    assert first.sent() == [NotifyReason.FIRST]
    assert again.sent() == [NotifyReason.REPEAT]


def test_a_run_that_finds_nothing_repeats_nothing() -> None:
    """An hour later the failures lie outside: the alert may not have closed, but there is nothing to send."""
    first = run_check(STORY, rows=three_failures(), check=SYNC_FAILURES)
    later = run_check(STORY, rows=three_failures(), check=SYNC_FAILURES, as_of=AS_OF + HOUR, alerts=first.alerts)

    assert later.found("sync_failures") == []
    assert later.sent() == []


def test_the_six_hour_check_sends_every_six_hours() -> None:
    """``checkCredentialHealth`` at ``0 */6 * * *``; the 15-minute check between two of them says nothing of tokens."""
    credential = replace(ACME, token_expires_at=AS_OF + 5 * DAY)
    first = run_check(STORY, credentials=[credential], check=CREDENTIAL_HEALTH)
    between = run_check(
        STORY, credentials=[credential], check=SYNC_FAILURES, as_of=AS_OF + FIFTEEN_MINUTES, alerts=first.alerts
    )
    again = run_check(
        STORY, credentials=[credential], check=CREDENTIAL_HEALTH, as_of=AS_OF + SIX_HOURS, alerts=between.alerts
    )

    assert [run.sent() for run in (first, between, again)] == [[NotifyReason.FIRST], [], [NotifyReason.REPEAT]]


def test_the_15_minute_check_speaks_of_failures_alone() -> None:
    """``checkSyncFailures``: what ships looks at a failing credential's token in the same run."""
    credential = replace(ACME, status="error", token_expires_at=AS_OF + DAY)
    run = run_check(STORY, rows=three_failures(), credentials=[credential], check=SYNC_FAILURES)

    assert {each.rule for each in run.observations} == {"sync_failures"}

"""Every mistake in the rules of a policy file, as `test_policy_mistakes` has those of its other sections."""

from __future__ import annotations

import pytest

from tests.orchestration.told_mistakes import Write, mistake_at


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        pytest.param(
            "rules: {sync_failure: {}}", "rules.sync_failure", "did you mean sync_failures?", id="a wrong rule"
        ),
        pytest.param(
            "rules: {stuck_sync: {treshold: 3}}",
            "rules.stuck_sync.treshold",
            "use one of for, high_after, keep_firing_for, mode, open_for, severity",
            id="a key of another rule lists the right ones",
        ),
        pytest.param(
            "rules: {stuck_sync: {mode: on}}", "rules.stuck_sync.mode", "live, off, shadow", id="on is no mode"
        ),
        pytest.param(
            "rules: {stuck_sync: {severity: hihg}}",
            "rules.stuck_sync.severity",
            "did you mean high?",
            id="a wrong severity",
        ),
        pytest.param(
            "rules: {stuck_sync: {severity: HIGH}}", "rules.stuck_sync.severity", "high", id="severities are lower case"
        ),
        pytest.param(
            "rules: {sync_failures: {window: 60}}",
            "rules.sync_failures.window",
            "60 is not allowed; a duration needs its unit",
            id="a number without unit",
        ),
        pytest.param(
            "rules: {sync_failures: {window: 1:00}}",
            "rules.sync_failures.window",
            "'1:00'",
            id="a clock is no duration",
        ),
        pytest.param(
            "rules: {sync_failures: {window: 2 weeks}}", "rules.sync_failures.window", "45s, 30m, 6h", id="a unit"
        ),
        pytest.param(
            "rules: {sync_failures: {window: 8d}}", "rules.sync_failures.window", "use 1s to 7d", id="too long"
        ),
        pytest.param(
            "rules: {sync_failures: {window: 0m}}", "rules.sync_failures.window", "use 1s to 7d", id="no window"
        ),
        pytest.param(
            "rules: {sync_failures: {window: 99999999999999d}}",
            "rules.sync_failures.window",
            "45s",
            id="longer than time",
        ),
        pytest.param(
            "rules: {sync_failures: {threshold: 0}}",
            "rules.sync_failures.threshold",
            "from 1 to",
            id="a threshold of 0",
        ),
        pytest.param(
            "rules: {sync_failures: {threshold: true}}",
            "rules.sync_failures.threshold",
            "whole number",
            id="true is no 1",
        ),
        pytest.param(
            "rules: {sync_failures: {threshold: '3'}}",
            "rules.sync_failures.threshold",
            "whole number",
            id="a text is no 3",
        ),
        pytest.param(
            "rules: {sync_failures: {threshold: 3.0}}", "rules.sync_failures.threshold", "whole number", id="a fraction"
        ),
        pytest.param(
            "rules: {sync_failures: {count_cancelled: yes}}",
            "rules.sync_failures.count_cancelled",
            "use true or false",
            id="yes is a word, no switch",
        ),
        pytest.param(
            "rules: {sync_failures: {evidence_window: 30m}}",
            "rules.sync_failures.evidence_window",
            "at least window, which is 1h",
            id="evidence shorter than the window",
        ),
        pytest.param(
            "rules: {sync_failures: {window: 2d}}",
            "rules.sync_failures.evidence_window",
            "at least window, which is 2d (mine.yaml line 1)",
            id="a window longer than the evidence is told where the overlay set it",
        ),
        pytest.param(
            "rules: {consecutive_failures: {high_from: 2}}",
            "rules.consecutive_failures.high_from",
            "at least threshold, which is 3",
            id="high from fewer than the threshold",
        ),
        pytest.param(
            "rules: {stuck_sync: {high_after: 1h}}",
            "rules.stuck_sync.high_after",
            "more than open_for, which is 1h",
            id="high no later than open",
        ),
        pytest.param(
            "rules: {consecutive_failures: {high_from: rarely}}",
            "rules.consecutive_failures.high_from",
            "use a whole number from 1 to 10000; or never",
            id="never, in other words",
        ),
        pytest.param(
            "rules: {platform_outage: {breach_share: 50%}}",
            "rules.platform_outage.breach_share",
            "without the sign",
            id="a percent sign",
        ),
        pytest.param(
            "rules: {platform_outage: {breach_share: 0}}",
            "rules.platform_outage.breach_share",
            "from more than 0 to 100",
            id="0 percent and more is always",
        ),
        pytest.param(
            "rules: {platform_outage: {breach_share: true}}",
            "rules.platform_outage.breach_share",
            "use a percentage",
            id="true is no share",
        ),
        pytest.param(
            "rules: {platform_outage: {breach_share: 20}}",
            "rules.platform_outage.clear_share",
            "at most breach_share, which is 20",
            id="clear above the breach",
        ),
        pytest.param(
            "rules: {platform_outage: {environments: []}}",
            "rules.platform_outage.environments",
            "name at least one",
            id="an outage of nowhere",
        ),
        pytest.param(
            "rules: {no_syncs: {environments: [prod]}}",
            "rules.no_syncs.environments[0]",
            "use one of integration, production",
            id="silence in no environment",
        ),
        pytest.param(
            "rules: {no_syncs: {environments: [production, production]}}",
            "rules.no_syncs.environments",
            "name production only once",
            id="an environment twice",
        ),
        pytest.param(
            "rules: {no_syncs: {silent_for: 5m}}", "rules.no_syncs.silent_for", "use 15m to 1d", id="hardly silent"
        ),
        pytest.param(
            "rules: {no_syncs: {busy_hours: 25}}", "rules.no_syncs.busy_hours", "from 1 to 24", id="a long day"
        ),
        pytest.param(
            "rules: {token_expiry: {judge_by: letter}}",
            "rules.token_expiry.judge_by",
            "use one of lifetime_aware, literal",
            id="judged by no such thing",
        ),
        pytest.param(
            "rules: {token_expiry: {within: 1d}}",
            "rules.token_expiry.high_within",
            "less than within, which is 1d",
            id="high no nearer than at all",
        ),
        pytest.param(
            "rules: {stale_sync: {stale_after: 5d}}",
            "rules.stale_sync.high_after",
            "more than stale_after, which is 5d",
            id="high no later than stale",
        ),
        pytest.param(
            "rules: {data_quality: {breach_share: 100}}",
            "rules.data_quality.breach_share",
            "from 0 to less than 100",
            id="more than 100 percent is never",
        ),
        pytest.param(
            "rules: {data_quality: {breach_share: 5}}",
            "rules.data_quality.clear_share",
            "at most breach_share, which is 5",
            id="bad data that is clear",
        ),
        pytest.param(
            "rules: {data_quality: {high_share: 19.5}}",
            "rules.data_quality.high_share",
            "at least breach_share, which is 20",
            id="high before it breaches",
        ),
        pytest.param(
            "rules: {data_quality: {identity: row}}", "rules.data_quality.identity", "data_type, sync", id="each row"
        ),
        pytest.param(
            "rules: {quality_drop: {min_days: 9}}",
            "rules.quality_drop.min_days",
            "at most weeks, which is 8",
            id="more days than are looked at",
        ),
        pytest.param(
            "rules: {quality_drop: {high_drop: 4.5}}",
            "rules.quality_drop.high_drop",
            "at least min_drop, which is 5",
            id="high before it is a drop",
        ),
        pytest.param(
            "rules: {quality_drop: {min_drop: '5'}}",
            "rules.quality_drop.min_drop",
            "use a number from 0 to 100",
            id="points in quotes",
        ),
        pytest.param(
            "rules: {quality_drop: {spread: true}}",
            "rules.quality_drop.spread",
            "use a number from 0 to 100",
            id="true is no number",
        ),
        pytest.param(
            "rules: {empty_syncs: {weeks: 3}}",
            "rules.empty_syncs.min_days",
            "at most weeks, which is 3",
            id="fewer weeks than days are needed",
        ),
        pytest.param(
            "rules: {empty_syncs: {weeks: 0}}", "rules.empty_syncs.weeks", "from 1 to 52", id="no week to compare with"
        ),
        pytest.param(
            "rules: {api_errors: {window: 90m}}", "rules.api_errors.window", "use whole hours", id="an hour and a half"
        ),
        pytest.param(
            "rules: {api_errors: {clear_share: 2}}",
            "rules.api_errors.clear_share",
            "at most breach_share, which is 1",
            id="errors that are clear",
        ),
        pytest.param(
            "rules: {api_errors: {high_share: 0.9}}",
            "rules.api_errors.high_share",
            "at least breach_share, which is 1",
            id="errors that are high before they breach",
        ),
        pytest.param(
            "rules: {api_latency: {clear_below: 6s}}",
            "rules.api_latency.clear_below",
            "at most slower_than, which is 5s",
            id="slow and clear",
        ),
        pytest.param(
            "rules: {api_incidents: {circuit_openings: 0}}",
            "rules.api_incidents.circuit_openings",
            "from 1 to 10000",
            id="no opening is none",
        ),
        pytest.param(
            "rules: {error_budget: {short_days: 3}}",
            "rules.error_budget.short_days",
            "less than long_days, which is 3",
            id="a short span that is the long one",
        ),
    ],
)
def test_a_mistake_names_its_path_value_and_what_is_allowed(overlay: Write, text: str, path: str, says: str) -> None:
    mistake = mistake_at(overlay(text), path)

    assert says in mistake
    assert "mine.yaml line 1" in mistake or "monitor.yaml line" in mistake

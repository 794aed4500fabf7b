"""Valid policies of every kind, for properties that must hold of all of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st

from include.sync_health import alerting_policies as alerting
from include.sync_health import policy as core
from include.sync_health import rule_policies
from include.sync_health.matchers import Matcher, Tagged
from include.sync_health.measuring_policies import (
    ApiCallsPolicy,
    HealthPolicy,
    MetricsPolicy,
    ServiceLevel,
    ServiceLevelsPolicy,
)
from include.sync_health.verdicts import Severity

T = TypeVar("T")

SECONDS = st.integers(1, 86_400)
ADDRESSES = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.example", fullmatch=True)
CHANNELS = st.from_regex(r"#[a-z0-9_-]{1,20}", fullmatch=True) | st.from_regex(r"[CG][A-Z0-9]{8}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)
LOG_FILES = st.sampled_from(["/var/log/hub-plus/servicetitan*.log", "s3://bucket/logs/*.gz", "/var/log/it's a log.log"])
IDS = st.integers(1, 99_999).map(str) | st.uuids().map(str)
TAGGED = st.builds(Tagged, companies=st.frozensets(IDS, max_size=3), credentials=st.frozensets(IDS, max_size=3))
RULES = tuple(rule_policies.RulePolicies.__slots__)


@st.composite
def policies(draw: st.DrawFn) -> core.Policy:
    """Valid policies: any value that a file can hold, in any section."""

    def span(low: int = 0, high: int = 604_800) -> timedelta:
        return timedelta(seconds=draw(st.integers(low, high)))

    def common() -> dict[str, object]:
        return {
            "mode": draw(st.sampled_from(rule_policies.RuleMode)),
            "severity": draw(st.sampled_from(Severity)),
            "for_": span(),
            "keep_firing_for": span(),
        }

    def shares() -> list[float]:
        """Two shares, the smaller first."""
        numbers = st.integers(1, 99).map(float) | st.floats(0.001, 99.999)
        return sorted([draw(numbers), draw(numbers)])

    def environments() -> tuple[str, ...]:
        return draw(st.sampled_from([("production",), ("integration",), ("integration", "production")]))

    def or_never(value: T) -> T | None:
        return draw(st.sampled_from([value, None]))

    window, threshold, open_for, within = span(1), draw(st.integers(1, 100)), span(1, 86_400), span(2)
    (outage_clear, outage_breach), (quality_clear, quality_breach) = shares(), shares()
    weeks, whole_hours = draw(st.integers(1, 52)), timedelta(hours=draw(st.integers(1, 168)))
    statuses = st.sampled_from(["active", "connected", "error", "inactive", "pending"])
    receivers = draw(
        st.dictionaries(
            NAMES,
            st.builds(
                alerting.Receiver,
                slack=st.lists(CHANNELS, unique=True, min_size=1, max_size=3).map(tuple),
                email=st.lists(ADDRESSES, unique=True, max_size=3).map(tuple),
            ),
            min_size=1,
            max_size=3,
        )
    )
    match = st.builds(
        Matcher,
        severity=st.frozensets(st.sampled_from(Severity)),
        rule=st.frozensets(st.sampled_from(RULES)),
        environment=st.frozensets(st.sampled_from(["production", "integration"])),
        company=st.frozensets(IDS, max_size=2),
        credential=st.frozensets(IDS, max_size=2),
        data_type=st.frozensets(st.sampled_from(["customers", "invoices"])),
    )
    routes = draw(
        st.lists(
            st.builds(alerting.Route, match=match, to=st.sampled_from(sorted(receivers)), continue_=st.just(True)),
            max_size=4,
        )
    )
    return core.Policy(
        source=core.SourcePolicy(
            connection=draw(NAMES),
            sync_log_table=draw(st.sampled_from([None, "servicetitan_sync_log"])),
            timezone=draw(st.sampled_from(["UTC", "America/New_York", "Asia/Kolkata"])),
            id_slack=span(1),
            open_lookback=timedelta(days=draw(st.integers(31, 366))),
            statement_timeout=span(1, 3600),
        ),
        late_data_days=draw(st.integers(0, 31)),
        live_horizon={name: span(1) for name in core.Policy().live_horizon},
        severity_caps=draw(st.dictionaries(st.sampled_from(["production", "integration"]), st.sampled_from(Severity))),
        rules=rule_policies.RulePolicies(
            sync_failures=rule_policies.SyncFailuresPolicy(
                **common(), threshold=threshold, window=window, evidence_window=max(window, span(1))
            ),
            consecutive_failures=rule_policies.ConsecutiveFailuresPolicy(
                **common(),
                threshold=threshold,
                window=window,
                high_from=or_never(threshold + 1),
                count_cancelled=draw(st.booleans()),
            ),
            stuck_sync=rule_policies.StuckSyncPolicy(
                **common(), open_for=open_for, high_after=or_never(open_for + span(1))
            ),
            platform_outage=rule_policies.PlatformOutagePolicy(
                **common(),
                window=window,
                breach_share=outage_breach,
                clear_share=outage_clear,
                min_credentials=draw(st.integers(1, 100)),
                environments=environments(),
            ),
            no_syncs=rule_policies.NoSyncsPolicy(
                **common(),
                silent_for=span(900, 86_400),
                busy_hours=draw(st.integers(1, 24)),
                environments=environments(),
            ),
            token_expiry=rule_policies.TokenExpiryPolicy(
                **common(),
                judge_by=draw(st.sampled_from(rule_policies.TokenJudgement)),
                within=within,
                high_within=or_never(within - timedelta(seconds=1)),
                long_lived_from=span(1),
                short_lived_expired_for=span(),
            ),
            connection_error=rule_policies.ConnectionErrorPolicy(**common(), status_alone=draw(st.booleans())),
            stale_sync=rule_policies.StaleSyncPolicy(
                **common(), stale_after=open_for, high_after=or_never(open_for + span(1))
            ),
            data_quality=rule_policies.DataQualityPolicy(
                **common(),
                window=window,
                breach_share=quality_breach,
                clear_share=quality_clear,
                high_share=or_never(quality_breach),
                min_records=draw(st.integers(0, 1_000_000)),
                identity=draw(st.sampled_from(rule_policies.QualityIdentity)),
                active_only=draw(st.booleans()),
            ),
            quality_drop=rule_policies.QualityDropPolicy(
                **common(),
                weeks=weeks,
                min_days=draw(st.integers(1, weeks)),
                min_records=draw(st.integers(0, 1_000_000)),
                min_drop=quality_clear,
                spread=draw(st.floats(0, 100)),
                clear_share=outage_clear,
                high_drop=or_never(quality_breach),
            ),
            empty_syncs=rule_policies.EmptySyncsPolicy(
                **common(),
                window=window,
                min_syncs=draw(st.integers(1, 10_000)),
                weeks=weeks,
                min_days=draw(st.integers(1, weeks)),
                usual_share=outage_breach,
            ),
            api_errors=rule_policies.ApiErrorsPolicy(
                **common(),
                window=whole_hours,
                breach_share=quality_breach,
                clear_share=quality_clear,
                high_share=or_never(quality_breach),
                min_calls=draw(st.integers(0, 1_000_000)),
            ),
            api_latency=rule_policies.ApiLatencyPolicy(
                **common(),
                window=whole_hours,
                slower_than=timedelta(hours=1),
                clear_below=span(1, 3_600),
                min_calls=draw(st.integers(0, 1_000_000)),
            ),
            api_incidents=rule_policies.ApiIncidentsPolicy(
                **common(),
                window=whole_hours,
                rate_limits=threshold,
                circuit_openings=draw(st.integers(1, 100)),
                clear_share=outage_clear,
                circuit_severity=draw(st.sampled_from(Severity)),
            ),
            error_budget=rule_policies.ErrorBudgetPolicy(
                **common(),
                burn_factor=draw(st.floats(0.1, 100)),
                long_days=draw(st.integers(3, 28)),
                short_days=draw(st.integers(1, 2)),
                min_events=draw(st.integers(0, 1_000_000)),
            ),
            monitor_health=rule_policies.MonitorHealthPolicy(**common()),
        ),
        receivers=receivers,
        routes=tuple(routes),
        repeat={
            severity: draw(st.none() | SECONDS.map(lambda s: timedelta(minutes=s % 9999))) for severity in Severity
        },
        duration_fallback=draw(st.booleans()),
        monitored_statuses=tuple(draw(st.lists(statuses, unique=True, min_size=1))),
        recheck_open=draw(st.booleans()),
        inhibition=draw(st.booleans()),
        retention=core.RetentionPolicy(
            check_runs=timedelta(days=draw(st.integers(30, 3_650))),
            deliveries=timedelta(days=draw(st.integers(60, 3_650))),
            alert_events=timedelta(days=draw(st.integers(60, 3_650))),
            credential_snapshots=timedelta(days=draw(st.integers(90, 3_650))),
            token_detail=timedelta(days=draw(st.integers(2, 90))),
            api_calls=timedelta(days=draw(st.integers(60, 3_650))),
            sync_hours=timedelta(days=draw(st.integers(30, 3_650))),
            health_snapshots=timedelta(days=draw(st.integers(1, 3_650))),
        ),
        backfill=core.BackfillPolicy(
            connection=draw(st.sampled_from([None, "hub_plus_replica"])),
            statement_timeout=span(1, 3_600),
            pause=span(0, 60),
            rows_per_read=draw(st.integers(1_000, 2_000_000)),
        ),
        summary_above=draw(st.integers(1, 10_000)),
        tags=draw(st.dictionaries(NAMES, TAGGED, max_size=3)),
        alerting=alerting_of(draw, receivers=sorted(receivers)),
        monitoring_level=draw(st.sampled_from(core.MonitoringLevel)),
        **measuring(draw),
    )


def alerting_of(draw: st.DrawFn, *, receivers: list[str]) -> alerting.AlertingPolicy:
    """Return what is so of every alert."""

    def span(low: int = 0, high: int = 604_800) -> timedelta:
        return timedelta(seconds=draw(st.integers(low, high)))

    flap_window, every = span(1), draw(st.sampled_from([None, timedelta(hours=24)]))
    minutes = st.times().map(lambda each: each.replace(second=0, microsecond=0))
    mute = st.builds(
        alerting.Mute,
        name=NAMES,
        match=st.builds(Matcher, severity=st.frozensets(st.sampled_from(Severity), min_size=1)),
        days=st.frozensets(st.integers(0, 6), min_size=1),
        start=minutes,
        end=minutes,
        timezone=st.sampled_from(["UTC", "America/Chicago"]),
        reason=st.sampled_from(["nobody reads it", "maintenance; see the wiki"]),
    )
    return alerting.AlertingPolicy(
        lifecycle=alerting.LifecyclePolicy(
            nodata_grace=span(),
            max_stale=span(3_600, 7_776_000),
            reopen_within=span(),
            flap_returns=draw(st.none() | st.integers(1, 1_000)),
            flap_window=flap_window,
            settle_after=draw(st.sampled_from([timedelta(0), flap_window])),
        ),
        grouping=alerting.GroupingPolicy(by=draw(st.sampled_from([(), ("rule",), ("rule", "environment", "cause")]))),
        mutes=tuple(draw(st.lists(mute, max_size=2, unique_by=lambda each: each.name))),
        inhibits_for=span(),
        budget=draw(st.none() | st.integers(1, 10_000)),
        fallback=draw(st.sampled_from([{}, {"slack:#ops": "email:ops@hub.example"}])),
        links=draw(
            st.sampled_from([alerting.LinksPolicy(), alerting.LinksPolicy(dashboard="https://airflow.example/monitor")])
        ),
        heartbeat=alerting.HeartbeatPolicy(every=every, to=draw(st.sampled_from(receivers)) if every else None),
        catch_up=span(0, 86_400),
        ping_connection=draw(st.sampled_from([None, "dead_man"])),
    )


def measuring(draw: st.DrawFn) -> dict[str, Any]:
    """Return what is measured beside the rules."""
    failed = draw(st.floats(0, 99).map(lambda share: round(share, 1)))
    objective = st.floats(50, 99.9).map(lambda share: ServiceLevel(objective=round(share, 2)))

    def span(low: int, high: int) -> timedelta:
        return timedelta(seconds=draw(st.integers(low, high)))

    return {
        "metrics": MetricsPolicy(
            series_cap=draw(st.integers(1_000, 5_000_000)),
            late_syncs=span(3_600, 600_000),
            timings_cap=draw(st.integers(0, 1_000_000)),
            cache=span(0, 600),
        ),
        "api_calls": ApiCallsPolicy(
            table=draw(st.booleans()),
            logs=tuple(draw(st.lists(LOG_FILES, unique=True, max_size=3))),
            logs_connection=draw(st.sampled_from([None, "aws_logs"])),
            late_calls=span(3_600, 600_000),
        ),
        "health": HealthPolicy(
            failed_share=failed,
            unhealthy_share=draw(st.sampled_from([failed, 99.5])),
            min_syncs=draw(st.integers(1, 10_000)),
            probe_sample=draw(st.integers(0, 100)),
            probe_timeout=span(1, 120),
            disk_free_share=draw(st.sampled_from([0.5, 10.0, 100.0])),
            memory_free_share=draw(st.sampled_from([0.5, 10.0, 100.0])),
            max_lag=span(1, 600_000),
        ),
        "service_levels": ServiceLevelsPolicy(
            days=draw(st.integers(7, 90)),
            sync_completion=draw(objective),
            quality=draw(objective),
            api_latency=draw(objective),
            api_latency_within=span(1, 120),
        ),
    }

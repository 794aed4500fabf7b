"""
The layout of the policy file, as pydantic models: what each key may hold, and which keys contradict each other.

Every key is required: the shipped `include/monitor.yaml` has them all, so that no default stands in two places.
`policy_of` turns a merged tree into the core's `Policy` or tells all mistakes; `tree_of` is its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from include.orchestration import policy_sections as of
from include.orchestration import policy_values as values
from include.orchestration.policy_alerting_schema import (
    AlertingSection,
    ReceiverSection,
    RouteSection,
    TagName,
    TagSection,
    alerting_of,
    alerting_tree_of,
    receivers_of,
    receivers_tree_of,
    routes_of,
    routes_tree_of,
    tags_of,
    tags_tree_of,
)
from include.orchestration.policy_measuring_schema import (
    ApiCallsSection,
    HealthSection,
    MetricsSection,
    ServiceLevelsSection,
    service_levels_of,
    service_levels_tree_of,
)
from include.orchestration.policy_rules_schema import RulesSection, rules_of, rules_tree_of
from include.orchestration.policy_sections import Section, agreeing, chosen_once, shown
from include.sync_health import policy as core
from include.sync_health.measuring_policies import ApiCallsPolicy, HealthPolicy, MetricsPolicy
from include.sync_health.verdicts import Severity

KEPT_AT_MOST = 3_650 * of.DAY


class SourceSection(Section):
    """`source`."""

    connection: of.ConnectionId
    schema_: of.Identifier = Field(alias="schema")
    sync_log_table: of.SyncLogTable | None
    timezone: of.Zone
    id_slack: of.Window
    open_lookback: of.Lookback
    statement_timeout: of.Timeout

    @model_validator(mode="after")
    def _agree(self) -> SourceSection:
        return agreeing(self, "open_lookback", self.open_lookback >= self.id_slack, "at least", "id_slack")


class StorageSection(Section):
    """`storage`."""

    connection: of.ConnectionId


class ReportingSection(Section):
    """`reporting`."""

    timezone: of.Zone
    late_data_days: of.Days
    duration_fallback: of.Switch


class LiveHorizonSection(Section):
    """`live_horizon`: one key for each check."""

    sync_failures: of.LongWindow
    credential_health: of.LongWindow
    data_quality: of.LongWindow
    api_metrics: of.LongWindow


class CredentialsSection(Section):
    """`credentials`."""

    monitored_statuses: Annotated[list[of.ConnectionStatus], AfterValidator(chosen_once), Field(min_length=1)]


class EnvironmentSection(Section):
    """`environments.NAME`."""

    severity_cap: of.SeverityWord | None


class EnvironmentsSection(Section):
    """`environments`."""

    production: EnvironmentSection
    integration: EnvironmentSection


class RepeatSection(Section):
    """`repeat`: one key for each severity."""

    critical: of.Repeat
    high: of.Repeat
    medium: of.Repeat
    low: of.Repeat


class RetentionSection(Section):
    """
    `retention`: no shorter than what the checks remember, or somebody at night needs.

    A retried run of any age within a `live_horizon` (at most 30 days) must find that it was evaluated, and `repeat` and
    the reopening of an alert reach as far back.
    """

    check_runs: Annotated[timedelta, BeforeValidator(values.duration(at_least=30 * of.DAY, at_most=KEPT_AT_MOST))]
    deliveries: Annotated[timedelta, BeforeValidator(values.duration(at_least=60 * of.DAY, at_most=KEPT_AT_MOST))]
    alert_events: Annotated[timedelta, BeforeValidator(values.duration(at_least=60 * of.DAY, at_most=KEPT_AT_MOST))]
    credential_snapshots: Annotated[
        timedelta, BeforeValidator(values.duration(at_least=90 * of.DAY, at_most=KEPT_AT_MOST))
    ]
    token_detail: Annotated[timedelta, BeforeValidator(values.duration(at_least=2 * of.DAY, at_most=KEPT_AT_MOST))]
    api_calls: Annotated[timedelta, BeforeValidator(values.duration(at_least=60 * of.DAY, at_most=KEPT_AT_MOST))]
    sync_hours: Annotated[timedelta, BeforeValidator(values.duration(at_least=30 * of.DAY, at_most=KEPT_AT_MOST))]
    health_snapshots: Annotated[timedelta, BeforeValidator(values.duration(at_least=of.DAY, at_most=KEPT_AT_MOST))]

    @model_validator(mode="after")
    def _agree(self) -> RetentionSection:
        agrees = self.token_detail <= self.credential_snapshots
        return agreeing(self, "token_detail", agrees, "at most", "credential_snapshots")


class BackfillSection(Section):
    """`backfill`; without a connection of its own it reads where everything else does."""

    connection: of.ConnectionId | None
    statement_timeout: of.Timeout
    pause: Annotated[timedelta, BeforeValidator(values.duration(at_most=timedelta(minutes=1)))]
    rows_per_read: Annotated[int, BeforeValidator(values.whole_number(at_least=1_000, at_most=2_000_000))]


class PolicySection(Section):
    """The whole file."""

    source: SourceSection
    storage: StorageSection
    reporting: ReportingSection
    live_horizon: LiveHorizonSection
    environments: EnvironmentsSection
    credentials: CredentialsSection
    rules: RulesSection
    recheck_open: of.Switch
    receivers: dict[of.ReceiverName, ReceiverSection]
    routes: list[RouteSection]
    tags: dict[TagName, TagSection]
    alerting: AlertingSection
    repeat: RepeatSection
    inhibition: of.Switch
    summary_above: of.Count
    retention: RetentionSection
    backfill: BackfillSection
    monitoring_level: of.LevelWord
    metrics: MetricsSection
    api_calls: ApiCallsSection
    health: HealthSection
    service_levels: ServiceLevelsSection


def policy_of(section: PolicySection) -> core.Policy:
    """Return the core's policy of a valid file."""
    caps = {name: getattr(section.environments, name).severity_cap for name in EnvironmentsSection.model_fields}
    return core.Policy(
        source=core.SourcePolicy(schema=section.source.schema_, **{k: v for k, v in section.source if k != "schema_"}),
        storage_connection=section.storage.connection,
        reporting_timezone=section.reporting.timezone,
        late_data_days=section.reporting.late_data_days,
        duration_fallback=section.reporting.duration_fallback,
        live_horizon=dict(section.live_horizon),
        severity_caps={name: cap for name, cap in caps.items() if cap is not None},
        monitored_statuses=tuple(section.credentials.monitored_statuses),
        rules=rules_of(section.rules),
        recheck_open=section.recheck_open,
        receivers=receivers_of(section.receivers),
        routes=routes_of(section.routes),
        tags=tags_of(section.tags),
        alerting=alerting_of(section.alerting),
        repeat={Severity(name): wait for name, wait in section.repeat},
        inhibition=section.inhibition,
        summary_above=section.summary_above,
        retention=core.RetentionPolicy(**dict(section.retention)),
        backfill=core.BackfillPolicy(**dict(section.backfill)),
        monitoring_level=section.monitoring_level,
        metrics=MetricsPolicy(**dict(section.metrics)),
        api_calls=ApiCallsPolicy(**{**dict(section.api_calls), "logs": tuple(section.api_calls.logs)}),
        health=HealthPolicy(**dict(section.health)),
        service_levels=service_levels_of(section.service_levels),
    )


def tree_of(policy: core.Policy) -> dict[str, Any]:
    """
    Return the policy as a file would have it: every key, plain values, in the order of `include/monitor.yaml`.

    Raises:
        ValueError: a duration with a fraction of a second, which no file can hold.
    """
    return {
        "source": _plain(policy.source, SourceSection),
        "storage": {"connection": policy.storage_connection},
        "reporting": {
            "timezone": policy.reporting_timezone,
            "late_data_days": policy.late_data_days,
            "duration_fallback": policy.duration_fallback,
        },
        "live_horizon": {name: shown(policy.live_horizon[name]) for name in LiveHorizonSection.model_fields},
        "environments": {
            name: {"severity_cap": shown(policy.severity_caps.get(name))} for name in EnvironmentsSection.model_fields
        },
        "credentials": {"monitored_statuses": list(policy.monitored_statuses)},
        "rules": rules_tree_of(policy.rules),
        "recheck_open": policy.recheck_open,
        "receivers": receivers_tree_of(policy.receivers),
        "routes": routes_tree_of(policy.routes),
        "tags": tags_tree_of(policy.tags),
        "alerting": alerting_tree_of(policy.alerting),
        "repeat": {name: _repeat_words(policy.repeat.get(Severity(name))) for name in RepeatSection.model_fields},
        "inhibition": policy.inhibition,
        "summary_above": policy.summary_above,
        "retention": _plain(policy.retention, RetentionSection),
        "backfill": _plain(policy.backfill, BackfillSection),
        "monitoring_level": str(policy.monitoring_level),
        "metrics": _plain(policy.metrics, MetricsSection),
        "api_calls": {**_plain(policy.api_calls, ApiCallsSection), "logs": list(policy.api_calls.logs)},
        "health": _plain(policy.health, HealthSection),
        "service_levels": service_levels_tree_of(policy.service_levels),
    }


def _plain(value: Any, section: type[Section]) -> dict[str, Any]:
    # `schema_` of the file is `schema` of the core: pydantic keeps that name for itself.
    return {
        field.alias or name: shown(getattr(value, name.rstrip("_"))) for name, field in section.model_fields.items()
    }


def _repeat_words(wait: timedelta | None) -> str:
    if wait is None:
        return values.NEVER
    return str(shown(wait)) if wait else values.EVERY_RUN


def section_at(path: Sequence[str | int]) -> type[Section] | None:
    """Return the model of the mapping at a path of the file; None where it is not one of fixed keys."""
    annotation: Any = PolicySection
    for part in path:
        if isinstance(annotation, type) and issubclass(annotation, Section):
            fields = {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
            annotation = fields.get(str(part))
        else:  # dict[name, section] and list[section]
            annotation = (get_args(annotation) or (None,))[-1]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def keys_of(section: type[Section]) -> tuple[str, ...]:
    """Return a section's keys as the file writes them."""
    return tuple(field.alias or name for name, field in section.model_fields.items())

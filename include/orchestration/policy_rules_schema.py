"""
The layout of the policy file's `rules`: one section for each rule, with the keys that `include.sync_health.policy` has.

``never`` stands for the core's None: a rule that is never `high`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from include.orchestration import policy_sections as of
from include.orchestration import policy_values as values
from include.orchestration.policy_sections import Section, agreeing, chosen_once, shown
from include.orchestration.policy_values import NEVER
from include.sync_health import rule_policies

WholeHours = Annotated[of.Window, AfterValidator(values.whole_hours)]
Environments = Annotated[list[of.Environment], AfterValidator(chosen_once), Field(min_length=1)]


class RuleSection(Section):
    """What every rule has."""

    mode: of.ModeWord
    severity: of.SeverityWord
    for_: of.Span = Field(alias="for")
    keep_firing_for: of.Span


class SyncFailuresSection(RuleSection):
    """`rules.sync_failures`."""

    threshold: of.Count
    window: of.Window
    evidence_window: of.Window
    count_cancelled: of.Switch

    @model_validator(mode="after")
    def _agree(self) -> SyncFailuresSection:
        return agreeing(self, "evidence_window", self.evidence_window >= self.window, "at least", "window")


class ConsecutiveFailuresSection(RuleSection):
    """`rules.consecutive_failures`."""

    threshold: of.Count
    window: of.LongWindow
    high_from: of.CountOrNever
    count_cancelled: of.Switch

    @model_validator(mode="after")
    def _agree(self) -> ConsecutiveFailuresSection:
        agrees = self.high_from is None or self.high_from >= self.threshold
        return agreeing(self, "high_from", agrees, "at least", "threshold")


class StuckSyncSection(RuleSection):
    """`rules.stuck_sync`."""

    open_for: of.LongWindow
    high_after: of.LongWindowOrNever

    @model_validator(mode="after")
    def _agree(self) -> StuckSyncSection:
        agrees = self.high_after is None or self.high_after > self.open_for
        return agreeing(self, "high_after", agrees, "more than", "open_for")


class PlatformOutageSection(RuleSection):
    """`rules.platform_outage`."""

    window: of.Window
    breach_share: of.Share
    clear_share: of.Share
    min_credentials: of.Count
    environments: Environments

    @model_validator(mode="after")
    def _agree(self) -> PlatformOutageSection:
        return agreeing(self, "clear_share", self.clear_share <= self.breach_share, "at most", "breach_share")


class NoSyncsSection(RuleSection):
    """`rules.no_syncs`."""

    silent_for: of.Silence
    busy_hours: of.HoursOfDay
    environments: Environments


class TokenExpirySection(RuleSection):
    """`rules.token_expiry`."""

    judge_by: of.TokenWord
    within: of.Lookback
    high_within: of.LookbackOrNever
    long_lived_from: of.Lookback
    short_lived_expired_for: of.LongSpan

    @model_validator(mode="after")
    def _agree(self) -> TokenExpirySection:
        agrees = self.high_within is None or self.high_within < self.within
        return agreeing(self, "high_within", agrees, "less than", "within")


class ConnectionErrorSection(RuleSection):
    """`rules.connection_error`."""

    status_alone: of.Switch


class StaleSyncSection(RuleSection):
    """`rules.stale_sync`."""

    stale_after: of.LongWindow
    high_after: of.LongWindowOrNever

    @model_validator(mode="after")
    def _agree(self) -> StaleSyncSection:
        agrees = self.high_after is None or self.high_after > self.stale_after
        return agreeing(self, "high_after", agrees, "more than", "stale_after")


class DataQualitySection(RuleSection):
    """`rules.data_quality`."""

    window: of.Window
    breach_share: of.ShareAbove
    clear_share: of.Share
    high_share: of.ShareAboveOrNever
    min_records: of.Records
    identity: of.QualityWord
    active_only: of.Switch

    @model_validator(mode="after")
    def _agree(self) -> DataQualitySection:
        # A breach share of 0 has no share below it: there, only a sync without a failed record is clear.
        clears = self.clear_share <= self.breach_share or not self.breach_share
        agreeing(self, "clear_share", clears, "at most", "breach_share")
        is_above = self.high_share is None or self.high_share >= self.breach_share
        return agreeing(self, "high_share", is_above, "at least", "breach_share")


class QualityDropSection(RuleSection):
    """`rules.quality_drop`."""

    weeks: of.Weeks
    min_days: of.Count
    min_records: of.Records
    min_drop: of.Points
    spread: of.Deviations
    clear_share: of.Share
    high_drop: of.PointsOrNever

    @model_validator(mode="after")
    def _agree(self) -> QualityDropSection:
        agreeing(self, "min_days", self.min_days <= self.weeks, "at most", "weeks")
        is_above = self.high_drop is None or self.high_drop >= self.min_drop
        return agreeing(self, "high_drop", is_above, "at least", "min_drop")


class EmptySyncsSection(RuleSection):
    """`rules.empty_syncs`."""

    window: of.Window
    min_syncs: of.Count
    weeks: of.Weeks
    min_days: of.Count
    usual_share: of.Share

    @model_validator(mode="after")
    def _agree(self) -> EmptySyncsSection:
        return agreeing(self, "min_days", self.min_days <= self.weeks, "at most", "weeks")


class ApiErrorsSection(RuleSection):
    """`rules.api_errors`."""

    window: WholeHours
    breach_share: of.ShareAbove
    clear_share: of.Share
    high_share: of.ShareAboveOrNever
    min_calls: of.Records

    @model_validator(mode="after")
    def _agree(self) -> ApiErrorsSection:
        # As in data_quality: below a breach share of 0 there is no share.
        clears = self.clear_share <= self.breach_share or not self.breach_share
        agreeing(self, "clear_share", clears, "at most", "breach_share")
        is_above = self.high_share is None or self.high_share >= self.breach_share
        return agreeing(self, "high_share", is_above, "at least", "breach_share")


class ApiLatencySection(RuleSection):
    """`rules.api_latency`."""

    window: WholeHours
    slower_than: of.Timeout
    clear_below: of.Timeout
    min_calls: of.Records

    @model_validator(mode="after")
    def _agree(self) -> ApiLatencySection:
        return agreeing(self, "clear_below", self.clear_below <= self.slower_than, "at most", "slower_than")


class ApiIncidentsSection(RuleSection):
    """`rules.api_incidents`."""

    window: WholeHours
    rate_limits: of.Count
    circuit_openings: of.Count
    clear_share: of.Share
    circuit_severity: of.SeverityWord


class ErrorBudgetSection(RuleSection):
    """`rules.error_budget`."""

    burn_factor: of.BurnFactor
    long_days: of.BurnDays
    short_days: of.BurnDays
    min_events: of.Records

    @model_validator(mode="after")
    def _agree(self) -> ErrorBudgetSection:
        return agreeing(self, "short_days", self.short_days < self.long_days, "less than", "long_days")


class RulesSection(Section):
    """`rules`: the names of `RulePolicies`."""

    platform_outage: PlatformOutageSection
    no_syncs: NoSyncsSection
    token_expiry: TokenExpirySection
    connection_error: ConnectionErrorSection
    sync_failures: SyncFailuresSection
    consecutive_failures: ConsecutiveFailuresSection
    stuck_sync: StuckSyncSection
    stale_sync: StaleSyncSection
    data_quality: DataQualitySection
    quality_drop: QualityDropSection
    empty_syncs: EmptySyncsSection
    api_errors: ApiErrorsSection
    api_latency: ApiLatencySection
    api_incidents: ApiIncidentsSection
    error_budget: ErrorBudgetSection
    monitor_health: RuleSection


def rules_of(section: RulesSection) -> rule_policies.RulePolicies:
    """Return the core's rules of a valid section."""
    return rule_policies.RulePolicies(
        platform_outage=rule_policies.PlatformOutagePolicy(**_of_core(section.platform_outage)),
        no_syncs=rule_policies.NoSyncsPolicy(**_of_core(section.no_syncs)),
        token_expiry=rule_policies.TokenExpiryPolicy(**_of_core(section.token_expiry)),
        connection_error=rule_policies.ConnectionErrorPolicy(**_of_core(section.connection_error)),
        sync_failures=rule_policies.SyncFailuresPolicy(**_of_core(section.sync_failures)),
        consecutive_failures=rule_policies.ConsecutiveFailuresPolicy(**_of_core(section.consecutive_failures)),
        stuck_sync=rule_policies.StuckSyncPolicy(**_of_core(section.stuck_sync)),
        stale_sync=rule_policies.StaleSyncPolicy(**_of_core(section.stale_sync)),
        data_quality=rule_policies.DataQualityPolicy(**_of_core(section.data_quality)),
        quality_drop=rule_policies.QualityDropPolicy(**_of_core(section.quality_drop)),
        empty_syncs=rule_policies.EmptySyncsPolicy(**_of_core(section.empty_syncs)),
        api_errors=rule_policies.ApiErrorsPolicy(**_of_core(section.api_errors)),
        api_latency=rule_policies.ApiLatencyPolicy(**_of_core(section.api_latency)),
        api_incidents=rule_policies.ApiIncidentsPolicy(**_of_core(section.api_incidents)),
        error_budget=rule_policies.ErrorBudgetPolicy(**_of_core(section.error_budget)),
        monitor_health=rule_policies.MonitorHealthPolicy(**_of_core(section.monitor_health)),
    )


def rules_tree_of(rules: rule_policies.RulePolicies) -> dict[str, dict[str, Any]]:
    """Return `rules` as a file would have it; see `policy_schema.tree_of`."""
    tree: dict[str, dict[str, Any]] = {}
    for name, field in RulesSection.model_fields.items():
        section = field.annotation
        if not (isinstance(section, type) and issubclass(section, Section)):
            raise TypeError(f"{name} is no section")
        rule = rules.named(name)
        tree[name] = {
            key.alias or attribute: _of_file(getattr(rule, attribute))
            for attribute, key in section.model_fields.items()
        }
    return tree


def _of_core(section: RuleSection) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in section}


def _of_file(value: Any) -> Any:
    if value is None:
        return NEVER
    return [shown(choice) for choice in value] if isinstance(value, tuple) else shown(value)

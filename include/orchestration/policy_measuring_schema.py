"""
The layout of the policy file's `metrics`, `api_calls`, `health` and `service_levels`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from include.orchestration import policy_sections as of
from include.orchestration import policy_values as values
from include.orchestration.policy_sections import Section, agreeing, chosen_once, shown
from include.sync_health.measuring_policies import ServiceLevel, ServiceLevelsPolicy

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)

Objective = Annotated[float, BeforeValidator(values.percentage(at_least=50, below=100))]
"""Of 100 there is no budget, and a promise of less than half is none."""


LogFiles = Annotated[str, BeforeValidator(values.log_files)]


class MetricsSection(Section):
    """`metrics`."""

    series_cap: Annotated[int, BeforeValidator(values.whole_number(at_least=1_000, at_most=5_000_000))]
    late_syncs: Annotated[timedelta, BeforeValidator(values.duration(at_least=timedelta(hours=1), at_most=7 * of.DAY))]
    timings_cap: Annotated[int, BeforeValidator(values.whole_number(at_least=0, at_most=1_000_000))]
    cache: Annotated[timedelta, BeforeValidator(values.duration(at_most=10 * MINUTE))]


class ApiCallsSection(Section):
    """`api_calls`."""

    table: of.Switch
    logs: Annotated[list[LogFiles], AfterValidator(chosen_once)]
    logs_connection: of.ConnectionId | None
    late_calls: Annotated[timedelta, BeforeValidator(values.duration(at_least=timedelta(hours=1), at_most=7 * of.DAY))]


class HealthSection(Section):
    """`health`."""

    failed_share: of.ShareAbove
    unhealthy_share: of.ShareAbove
    min_syncs: of.Count
    probe_sample: Annotated[int, BeforeValidator(values.whole_number(at_least=0, at_most=100))]
    probe_timeout: Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=2 * MINUTE))]
    disk_free_share: of.Share
    memory_free_share: of.Share
    max_lag: of.Window

    @model_validator(mode="after")
    def _agree(self) -> HealthSection:
        return agreeing(self, "unhealthy_share", self.unhealthy_share >= self.failed_share, "at least", "failed_share")


class ObjectiveSection(Section):
    """`service_levels.NAME`."""

    objective: Objective


class LatencySection(ObjectiveSection):
    """`service_levels.api_latency`."""

    within: Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=2 * MINUTE))]


class ServiceLevelsSection(Section):
    """`service_levels`."""

    days: Annotated[int, BeforeValidator(values.whole_number(at_least=7, at_most=90))]
    sync_completion: ObjectiveSection
    quality: ObjectiveSection
    api_latency: LatencySection


def service_levels_of(section: ServiceLevelsSection) -> ServiceLevelsPolicy:
    """Return the core's service levels of a valid section."""
    return ServiceLevelsPolicy(
        days=section.days,
        sync_completion=ServiceLevel(objective=section.sync_completion.objective),
        quality=ServiceLevel(objective=section.quality.objective),
        api_latency=ServiceLevel(objective=section.api_latency.objective),
        api_latency_within=section.api_latency.within,
    )


def service_levels_tree_of(levels: ServiceLevelsPolicy) -> dict[str, Any]:
    """Return `service_levels` as a file would have it; see `policy_schema.tree_of`."""
    return {
        "days": levels.days,
        "sync_completion": {"objective": shown(levels.sync_completion.objective)},
        "quality": {"objective": shown(levels.quality.objective)},
        "api_latency": {
            "objective": shown(levels.api_latency.objective),
            "within": shown(levels.api_latency_within),
        },
    }

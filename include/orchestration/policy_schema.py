"""
The layout of the policy file, as pydantic models: what each key may hold, and which keys contradict each other.

Every key is required: the shipped `include/monitor.yaml` has them all, so that no default stands in two places.
`policy_of` turns a merged tree into the core's `Policy` or tells all mistakes; `tree_of` is its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from include.orchestration import policy_values as values
from include.sync_health import policy as core
from include.sync_health.durations import format_duration
from include.sync_health.verdicts import Severity

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
MAX_COUNT = 10_000

Part = TypeVar("Part", bound="Section")

Span = Annotated[timedelta, BeforeValidator(values.duration(at_most=7 * DAY))]
Window = Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=7 * DAY))]
LongWindow = Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=30 * DAY))]
Lookback = Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=366 * DAY))]
Timeout = Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=timedelta(hours=1)))]
Repeat = Annotated[
    timedelta | None, BeforeValidator(values.duration_or_never(at_least=timedelta(minutes=1), at_most=30 * DAY))
]
Count = Annotated[int, BeforeValidator(values.whole_number(at_least=1, at_most=MAX_COUNT))]
Days = Annotated[int, BeforeValidator(values.whole_number(at_least=0, at_most=31))]
Switch = Annotated[bool, BeforeValidator(values.switch)]
Zone = Annotated[str, BeforeValidator(values.zone)]
ConnectionId = Annotated[str, BeforeValidator(values.connection_id)]
Identifier = Annotated[str, BeforeValidator(values.identifier)]
SeverityWord = Annotated[Severity, BeforeValidator(values.word(Severity))]
ModeWord = Annotated[core.RuleMode, BeforeValidator(values.word(core.RuleMode))]
LevelWord = Annotated[core.MonitoringLevel, BeforeValidator(values.word(core.MonitoringLevel))]
SyncLogTable = Annotated[str, BeforeValidator(values.one_of(values.SYNC_LOG_TABLES))]
Environment = Annotated[str, BeforeValidator(values.one_of(values.ENVIRONMENTS))]
RuleName = Annotated[str, BeforeValidator(values.one_of(tuple(core.RulePolicies.__slots__)))]
ReceiverName = Annotated[str, BeforeValidator(values.receiver_name)]
SlackChannel = Annotated[str, BeforeValidator(values.slack_channel)]
EmailAddress = Annotated[str, BeforeValidator(values.email_address)]


class Section(BaseModel):
    """A mapping of the file: no key but these, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SourceSection(Section):
    """`source`."""

    connection: ConnectionId
    schema_: Identifier = Field(alias="schema")
    sync_log_table: SyncLogTable | None
    timezone: Zone
    id_slack: Window
    open_lookback: Lookback
    statement_timeout: Timeout

    @model_validator(mode="after")
    def _agree(self) -> SourceSection:
        return _agreeing(self, "open_lookback", self.open_lookback >= self.id_slack, "at least", "id_slack")


class StorageSection(Section):
    """`storage`."""

    connection: ConnectionId


class ReportingSection(Section):
    """`reporting`."""

    timezone: Zone
    late_data_days: Days


class LiveHorizonSection(Section):
    """`live_horizon`: one key for each check."""

    sync_failures: LongWindow
    credential_health: LongWindow
    data_quality: LongWindow


class EnvironmentSection(Section):
    """`environments.NAME`."""

    severity_cap: SeverityWord | None


class EnvironmentsSection(Section):
    """`environments`."""

    production: EnvironmentSection
    integration: EnvironmentSection


class RuleSection(Section):
    """What every rule has."""

    mode: ModeWord
    severity: SeverityWord
    for_: Span = Field(alias="for")
    keep_firing_for: Span


class SyncFailuresSection(RuleSection):
    """`rules.sync_failures`."""

    threshold: Count
    window: Window
    evidence_window: Window
    count_cancelled: Switch

    @model_validator(mode="after")
    def _agree(self) -> SyncFailuresSection:
        return _agreeing(self, "evidence_window", self.evidence_window >= self.window, "at least", "window")


class ConsecutiveFailuresSection(RuleSection):
    """`rules.consecutive_failures`."""

    threshold: Count
    window: LongWindow
    high_from: Count
    count_cancelled: Switch

    @model_validator(mode="after")
    def _agree(self) -> ConsecutiveFailuresSection:
        return _agreeing(self, "high_from", self.high_from >= self.threshold, "at least", "threshold")


class StuckSyncSection(RuleSection):
    """`rules.stuck_sync`."""

    open_for: LongWindow
    high_after: LongWindow

    @model_validator(mode="after")
    def _agree(self) -> StuckSyncSection:
        return _agreeing(self, "high_after", self.high_after > self.open_for, "more than", "open_for")


class RulesSection(Section):
    """`rules`: the names of `RulePolicies`."""

    sync_failures: SyncFailuresSection
    consecutive_failures: ConsecutiveFailuresSection
    stuck_sync: StuckSyncSection
    monitor_health: RuleSection


class ReceiverSection(Section):
    """`receivers.NAME`."""

    slack: list[SlackChannel] = []
    email: list[EmailAddress] = []

    @model_validator(mode="after")
    def _reaches_somebody(self) -> ReceiverSection:
        channels = [*self.slack, *(address.lower() for address in self.email)]
        if not channels:
            raise PydanticCustomError("policy", "{allowed}", {"allowed": "give it at least one slack or email channel"})
        if repeated := sorted({channel for channel in channels if channels.count(channel) > 1}):
            raise PydanticCustomError("policy", "{allowed}", {"allowed": f"name {', '.join(repeated)} only once"})
        return self


class MatchSection(Section):
    """`routes[n].match`; a key left out matches everything."""

    severity: list[SeverityWord] = Field(default=[], min_length=1)
    rule: list[RuleName] = Field(default=[], min_length=1)
    environment: list[Environment] = Field(default=[], min_length=1)


class RouteSection(Section):
    """`routes[n]`."""

    match: MatchSection = MatchSection()
    to: ReceiverName
    continue_: Switch = Field(default=False, alias="continue")


class RepeatSection(Section):
    """`repeat`: one key for each severity."""

    critical: Repeat
    high: Repeat
    medium: Repeat
    low: Repeat


class PolicySection(Section):
    """The whole file."""

    source: SourceSection
    storage: StorageSection
    reporting: ReportingSection
    live_horizon: LiveHorizonSection
    environments: EnvironmentsSection
    rules: RulesSection
    receivers: dict[ReceiverName, ReceiverSection]
    routes: list[RouteSection]
    repeat: RepeatSection
    summary_above: Count
    monitoring_level: LevelWord


def policy_of(section: PolicySection) -> core.Policy:
    """Return the core's policy of a valid file."""
    caps = {name: getattr(section.environments, name).severity_cap for name in EnvironmentsSection.model_fields}
    return core.Policy(
        source=core.SourcePolicy(schema=section.source.schema_, **{k: v for k, v in section.source if k != "schema_"}),
        storage_connection=section.storage.connection,
        reporting_timezone=section.reporting.timezone,
        late_data_days=section.reporting.late_data_days,
        live_horizon=dict(section.live_horizon),
        severity_caps={name: cap for name, cap in caps.items() if cap is not None},
        rules=core.RulePolicies(
            sync_failures=core.SyncFailuresPolicy(**dict(section.rules.sync_failures)),
            consecutive_failures=core.ConsecutiveFailuresPolicy(**dict(section.rules.consecutive_failures)),
            stuck_sync=core.StuckSyncPolicy(**dict(section.rules.stuck_sync)),
            monitor_health=core.MonitorHealthPolicy(**dict(section.rules.monitor_health)),
        ),
        receivers={
            name: core.Receiver(slack=tuple(receiver.slack), email=tuple(receiver.email))
            for name, receiver in section.receivers.items()
        },
        routes=tuple(
            core.Route(
                match=core.RouteMatch(**{key: frozenset(chosen) for key, chosen in route.match}),
                to=route.to,
                continue_=route.continue_,
            )
            for route in section.routes
        ),
        repeat={Severity(name): wait for name, wait in section.repeat},
        summary_above=section.summary_above,
        monitoring_level=section.monitoring_level,
    )


def tree_of(policy: core.Policy) -> dict[str, Any]:
    """
    Return the policy as a file would have it: every key, plain values, in the order of `include/monitor.yaml`.

    Raises:
        ValueError: a duration with a fraction of a second, which no file can hold.
    """
    rules = {name: _plain(policy.rules.named(name), RulesSection, name) for name in RulesSection.model_fields}
    return {
        "source": _plain(policy.source, PolicySection, "source"),
        "storage": {"connection": policy.storage_connection},
        "reporting": {"timezone": policy.reporting_timezone, "late_data_days": policy.late_data_days},
        "live_horizon": {name: _shown(policy.live_horizon[name]) for name in LiveHorizonSection.model_fields},
        "environments": {
            name: {"severity_cap": _shown(policy.severity_caps.get(name))} for name in EnvironmentsSection.model_fields
        },
        "rules": rules,
        "receivers": {
            name: {"slack": list(receiver.slack), "email": list(receiver.email)}
            for name, receiver in policy.receivers.items()
        },
        "routes": [
            {
                "match": {
                    # Sorted by meaning or name: a set has no order, and the version is a hash of this.
                    key: [str(choice) for choice in _ordered(getattr(route.match, key))]
                    for key in MatchSection.model_fields
                    if getattr(route.match, key)
                },
                "to": route.to,
                "continue": route.continue_,
            }
            for route in policy.routes
        ],
        "repeat": {
            name: values.NEVER if policy.repeat.get(Severity(name)) is None else _shown(policy.repeat[Severity(name)])
            for name in RepeatSection.model_fields
        },
        "summary_above": policy.summary_above,
        "monitoring_level": str(policy.monitoring_level),
    }


def _plain(value: Any, parent: type[Section], key: str) -> dict[str, Any]:
    section = parent.model_fields[key].annotation
    if not (isinstance(section, type) and issubclass(section, Section)):
        raise TypeError(f"{key} is no section")
    plain = {}
    for name, field in section.model_fields.items():
        attribute = name if hasattr(value, name) else name.rstrip("_")
        plain[field.alias or name] = _shown(getattr(value, attribute))
    return plain


def _shown(value: Any) -> Any:
    if isinstance(value, timedelta):
        return format_duration(value)
    return str(value) if isinstance(value, str) else value


def _ordered(chosen: frozenset[Any]) -> Sequence[Any]:
    return sorted(chosen, key=lambda choice: (-choice.rank if isinstance(choice, Severity) else 0, str(choice)))


def _agreeing(section: Part, key: str, agrees: bool, relation: str, other: str) -> Part:
    """Return the section, or raise the contradiction between two of its keys."""
    if agrees:
        return section
    value, bound = _shown(getattr(section, key)), _shown(getattr(section, other))
    allowed = f"it must be {relation} {other}, which is {bound}"
    context = {"key": key, "value": value, "other": other, "allowed": allowed}
    raise PydanticCustomError("contradiction", "{allowed}", context)


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

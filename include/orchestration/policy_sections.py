"""
What the sections of the policy file are made of: their base, and the types of single values by what they mean.

`policy_rules_schema` and `policy_schema` are built of these. A type's bounds are the widest that any policy could mean;
what is nonsense only beside another key, the sections themselves tell (`agreeing`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

from include.orchestration import policy_values as values
from include.sync_health import policy as core
from include.sync_health import rule_policies
from include.sync_health.durations import format_duration
from include.sync_health.verdicts import Severity

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
MAX_COUNT = 10_000

Part = TypeVar("Part", bound="Section")


_window = values.duration(at_least=SECOND, at_most=7 * DAY)
_long_window = values.duration(at_least=SECOND, at_most=30 * DAY)
_lookback = values.duration(at_least=SECOND, at_most=366 * DAY)
_count = values.whole_number(at_least=1, at_most=MAX_COUNT)
_share_above = values.percentage(at_least=0, below=100)
_points = values.number(at_least=0, at_most=100)

Span = Annotated[timedelta, BeforeValidator(values.duration(at_most=7 * DAY))]
LongSpan = Annotated[timedelta, BeforeValidator(values.duration(at_most=30 * DAY))]
Window = Annotated[timedelta, BeforeValidator(_window)]
LongWindow = Annotated[timedelta, BeforeValidator(_long_window)]
LongWindowOrNever = Annotated[timedelta | None, BeforeValidator(values.or_never(_long_window))]
Lookback = Annotated[timedelta, BeforeValidator(_lookback)]
LookbackOrNever = Annotated[timedelta | None, BeforeValidator(values.or_never(_lookback))]
Silence = Annotated[timedelta, BeforeValidator(values.duration(at_least=timedelta(minutes=15), at_most=DAY))]
"""Less than a run of the 15-minute check is silent in every quiet quarter of an hour."""
Timeout = Annotated[timedelta, BeforeValidator(values.duration(at_least=SECOND, at_most=timedelta(hours=1)))]
Repeat = Annotated[
    timedelta | None,
    BeforeValidator(
        values.or_every_run(values.or_never(values.duration(at_least=timedelta(minutes=1), at_most=30 * DAY)))
    ),
]
Count = Annotated[int, BeforeValidator(_count)]
CountOrNever = Annotated[int | None, BeforeValidator(values.or_never(_count))]
Records = Annotated[int, BeforeValidator(values.whole_number(at_least=0, at_most=1_000_000))]
HoursOfDay = Annotated[int, BeforeValidator(values.whole_number(at_least=1, at_most=24))]
Weeks = Annotated[int, BeforeValidator(values.whole_number(at_least=1, at_most=52))]
Days = Annotated[int, BeforeValidator(values.whole_number(at_least=0, at_most=31))]
Share = Annotated[float, BeforeValidator(values.percentage(above=0, at_most=100))]
"""For "this and more" and "less than this", which 0 would make always and never."""
ShareAbove = Annotated[float, BeforeValidator(_share_above)]
"""For "more than this", which 100 would make never."""
ShareAboveOrNever = Annotated[float | None, BeforeValidator(values.or_never(_share_above))]
Points = Annotated[float, BeforeValidator(_points)]
"""Between two percentages."""
PointsOrNever = Annotated[float | None, BeforeValidator(values.or_never(_points))]
Deviations = Annotated[float, BeforeValidator(values.number(at_least=0, at_most=100))]
BurnFactor = Annotated[float, BeforeValidator(values.number(at_least=0.1, at_most=100))]
BurnDays = Annotated[int, BeforeValidator(values.whole_number(at_least=1, at_most=28))]
Switch = Annotated[bool, BeforeValidator(values.switch)]
Zone = Annotated[str, BeforeValidator(values.zone)]
ConnectionId = Annotated[str, BeforeValidator(values.connection_id)]
Identifier = Annotated[str, BeforeValidator(values.identifier)]
SeverityWord = Annotated[Severity, BeforeValidator(values.word(Severity))]
ModeWord = Annotated[rule_policies.RuleMode, BeforeValidator(values.word(rule_policies.RuleMode))]
LevelWord = Annotated[core.MonitoringLevel, BeforeValidator(values.word(core.MonitoringLevel))]
TokenWord = Annotated[rule_policies.TokenJudgement, BeforeValidator(values.word(rule_policies.TokenJudgement))]
QualityWord = Annotated[rule_policies.QualityIdentity, BeforeValidator(values.word(rule_policies.QualityIdentity))]
SyncLogTable = Annotated[str, BeforeValidator(values.one_of(values.SYNC_LOG_TABLES))]
Environment = Annotated[str, BeforeValidator(values.one_of(values.ENVIRONMENTS))]
ConnectionStatus = Annotated[str, BeforeValidator(values.one_of(values.CONNECTION_STATUSES))]
RuleName = Annotated[str, BeforeValidator(values.one_of(tuple(rule_policies.RulePolicies.__slots__)))]
ReceiverName = Annotated[str, BeforeValidator(values.receiver_name)]
SlackChannel = Annotated[str, BeforeValidator(values.slack_channel)]
EmailAddress = Annotated[str, BeforeValidator(values.email_address)]


class Section(BaseModel):
    """A mapping of the file: no key but these, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def agreeing(section: Part, key: str, agrees: bool, relation: str, other: str) -> Part:
    """Return the section, or raise the contradiction between two of its keys."""
    if agrees:
        return section
    value, bound = shown(getattr(section, key)), shown(getattr(section, other))
    allowed = f"it must be {relation} {other}, which is {bound}"
    context = {"key": key, "value": value, "other": other, "allowed": allowed}
    raise PydanticCustomError("contradiction", "{allowed}", context)


def chosen_once(chosen: list[str]) -> list[str]:
    """Validate a list whose items must differ."""
    if repeated := sorted({choice for choice in chosen if chosen.count(choice) > 1}):
        raise values.refused(f"name {', '.join(repeated)} only once")
    return chosen


def shown(value: Any) -> Any:
    """Return a value of the core as the file writes it."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 50, not 50.0
    return str(value) if isinstance(value, str) else value

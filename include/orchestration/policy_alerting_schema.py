"""
The layout of the policy file's `routes`, `receivers`, `tags` and `alerting`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import time, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from include.orchestration import policy_sections as of
from include.orchestration import policy_values as values
from include.orchestration.policy_sections import Section, agreeing, chosen_once, shown
from include.sync_health import alerting_policies as core
from include.sync_health.matchers import Matcher, Tagged
from include.sync_health.verdicts import Severity

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
GROUPED_BY = ("rule", "environment", "cause")
DATA_TYPES = ("both", "customers", "invoices", "unknown")
CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
ID = re.compile(r"[0-9A-Za-z-]{1,36}")
LONGEST_TEXT = 200


def _id(value: Any) -> str:
    """Validate the id of a company or a credential: a whole number or a UUID; as text."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not ID.fullmatch(str(value)):
        raise values.refused("use an id of Hub Plus, such as 42")
    return str(value)


def _clock(value: Any) -> time:
    """Validate a time of the day: HH:MM, in quotes, since YAML takes 22:00 for a number."""
    if isinstance(value, str) and CLOCK.fullmatch(value):
        return time.fromisoformat(value)
    raise values.refused('use a time of the day in quotes, such as "22:00"')


def _text(value: Any) -> str:
    """Validate a line that a person reads."""
    if isinstance(value, str) and 0 < len(value.strip()) <= LONGEST_TEXT and value.isprintable():
        return value.strip()
    raise values.refused(f"use one line of text, at most {LONGEST_TEXT} characters")


def _page(value: Any) -> str:
    """Validate the address of a page; without a trailing slash, so that a path can follow."""
    if isinstance(value, str) and len(value) <= 1_000 and value.isprintable() and " " not in value:
        try:
            parts = urlsplit(value)
            if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
                return value.rstrip("/")
        except ValueError:
            pass
    raise values.refused("use the address of a page, such as https://airflow.example.com, without a user or password")


Id = Annotated[str, BeforeValidator(_id)]
Clock = Annotated[time, BeforeValidator(_clock)]
Line = Annotated[str, BeforeValidator(_text)]
Page = Annotated[str, BeforeValidator(_page)]
TagName = Annotated[str, BeforeValidator(values.receiver_name)]
Weekday = Annotated[str, BeforeValidator(values.one_of(WEEKDAYS))]
DataType = Annotated[str, BeforeValidator(values.one_of(DATA_TYPES))]
GroupedBy = Annotated[str, BeforeValidator(values.one_of(GROUPED_BY))]
ChannelKey = Annotated[str, BeforeValidator(lambda value: values.channel_key(str(value)))]


class ReceiverSection(Section):
    """`receivers.NAME`."""

    slack: list[of.SlackChannel] = Field(default_factory=list)
    email: list[of.EmailAddress] = Field(default_factory=list)

    @model_validator(mode="after")
    def _reaches_somebody(self) -> ReceiverSection:
        channels = [*self.slack, *(address.lower() for address in self.email)]
        if not channels:
            raise values.refused("give it at least one slack or email channel")
        chosen_once(channels)
        return self


class MatchSection(Section):
    """`match` of a route or a mute; a key left out matches everything."""

    severity: list[of.SeverityWord] = Field(default=[], min_length=1)
    rule: list[of.RuleName] = Field(default=[], min_length=1)
    environment: list[of.Environment] = Field(default=[], min_length=1)
    company: list[Id] = Field(default=[], min_length=1)
    credential: list[Id] = Field(default=[], min_length=1)
    data_type: list[DataType] = Field(default=[], min_length=1)
    tag: list[TagName] = Field(default=[], min_length=1)


class RouteSection(Section):
    """`routes[n]`."""

    match: MatchSection = MatchSection()
    to: of.ReceiverName
    continue_: of.Switch = Field(default=False, alias="continue")


class TagSection(Section):
    """`tags.NAME`."""

    companies: Annotated[list[Id], AfterValidator(chosen_once)] = Field(default_factory=list)
    credentials: Annotated[list[Id], AfterValidator(chosen_once)] = Field(default_factory=list)


class LifecycleSection(Section):
    """`alerting.lifecycle`."""

    nodata_grace: of.Span
    max_stale: Annotated[timedelta, BeforeValidator(values.duration(at_least=HOUR, at_most=90 * DAY))]
    reopen_within: of.Span
    flap_returns: Annotated[
        int | None, BeforeValidator(values.or_never(values.whole_number(at_least=1, at_most=1_000)))
    ]
    flap_window: of.Window
    settle_after: of.Span

    @model_validator(mode="after")
    def _agree(self) -> LifecycleSection:
        return agreeing(self, "settle_after", self.settle_after <= self.flap_window, "at most", "flap_window")


class GroupingSection(Section):
    """`alerting.grouping`."""

    by: Annotated[list[GroupedBy], AfterValidator(chosen_once)]


class MuteSection(Section):
    """`alerting.mutes[n]`."""

    name: of.ReceiverName
    match: MatchSection
    days: Annotated[list[Weekday], AfterValidator(chosen_once)] = Field(
        default_factory=lambda: list(WEEKDAYS), min_length=1
    )
    from_: Clock = Field(alias="from")
    until: Clock
    timezone: of.Zone
    reason: Line

    @model_validator(mode="after")
    def _mutes_something(self) -> MuteSection:
        if not any(chosen for _, chosen in self.match):
            raise values.refused("its match is empty, which would mute everything; name a rule, a severity, ...")
        return self


class LinksSection(Section):
    """`alerting.links`."""

    dashboard: Page | None
    airflow: Page | None
    runbook: Page | None


class HeartbeatSection(Section):
    """`alerting.heartbeat`."""

    every: Annotated[
        timedelta | None, BeforeValidator(values.or_never(values.duration(at_least=HOUR, at_most=30 * DAY)))
    ]
    to: of.ReceiverName | None

    @model_validator(mode="after")
    def _goes_somewhere(self) -> HeartbeatSection:
        if self.every is not None and self.to is None:
            raise values.refused("name in `to` the receiver that it goes to")
        return self


def _each_named_once(mutes: list[MuteSection]) -> list[MuteSection]:
    chosen_once([mute.name for mute in mutes])
    return mutes


def _one_step(fallback: dict[str, str]) -> dict[str, str]:
    for channel, other in fallback.items():
        if channel == other:
            raise values.refused(f"the fallback of {channel} is itself")
        if other in fallback:
            raise values.refused(f"{other} is the fallback of {channel} and has one itself; one step is all there is")
    return fallback


class AlertingSection(Section):
    """`alerting`."""

    lifecycle: LifecycleSection
    grouping: GroupingSection
    mutes: Annotated[list[MuteSection], AfterValidator(_each_named_once)]
    inhibits_for: of.Span
    budget: of.CountOrNever
    fallback: Annotated[dict[ChannelKey, ChannelKey], AfterValidator(_one_step)]
    links: LinksSection
    heartbeat: HeartbeatSection
    catch_up: Annotated[timedelta, BeforeValidator(values.duration(at_most=DAY))]
    ping_connection: of.ConnectionId | None


def receivers_of(sections: Mapping[str, ReceiverSection]) -> dict[str, core.Receiver]:
    """Return the receivers by name."""
    return {
        name: core.Receiver(slack=tuple(receiver.slack), email=tuple(receiver.email))
        for name, receiver in sections.items()
    }


def routes_of(sections: Sequence[RouteSection]) -> tuple[core.Route, ...]:
    """Return the routes in their order."""
    return tuple(
        core.Route(match=_matcher_of(route.match), to=route.to, continue_=route.continue_) for route in sections
    )


def tags_of(sections: Mapping[str, TagSection]) -> dict[str, Tagged]:
    """Return the tags by name."""
    return {
        name: Tagged(companies=frozenset(tag.companies), credentials=frozenset(tag.credentials))
        for name, tag in sections.items()
    }


def alerting_of(section: AlertingSection) -> core.AlertingPolicy:
    """Return the policy of alerts."""
    return core.AlertingPolicy(
        lifecycle=core.LifecyclePolicy(**dict(section.lifecycle)),
        grouping=core.GroupingPolicy(by=tuple(section.grouping.by)),
        mutes=tuple(
            core.Mute(
                name=mute.name,
                match=_matcher_of(mute.match),
                days=frozenset(WEEKDAYS.index(day) for day in mute.days),
                start=mute.from_,
                end=mute.until,
                timezone=mute.timezone,
                reason=mute.reason,
            )
            for mute in section.mutes
        ),
        inhibits_for=section.inhibits_for,
        budget=section.budget,
        fallback=dict(section.fallback),
        links=core.LinksPolicy(**dict(section.links)),
        heartbeat=core.HeartbeatPolicy(**dict(section.heartbeat)),
        catch_up=section.catch_up,
        ping_connection=section.ping_connection,
    )


def receivers_tree_of(receivers: Mapping[str, core.Receiver]) -> dict[str, Any]:
    """Return the receivers as a file would have them."""
    return {name: {"slack": list(each.slack), "email": list(each.email)} for name, each in receivers.items()}


def routes_tree_of(routes: Sequence[core.Route]) -> list[Any]:
    """Return the routes as a file would have them."""
    return [{"match": _match_tree(each.match), "to": each.to, "continue": each.continue_} for each in routes]


def tags_tree_of(tags: Mapping[str, Tagged]) -> dict[str, Any]:
    """Return the tags as a file would have them."""
    return {
        name: {"companies": sorted(tag.companies), "credentials": sorted(tag.credentials)} for name, tag in tags.items()
    }


def alerting_tree_of(alerting: core.AlertingPolicy) -> dict[str, Any]:
    """Return the policy of alerts as a file would have it."""
    life, heartbeat = alerting.lifecycle, alerting.heartbeat
    return {
        "lifecycle": {
            name: values.NEVER if name == "flap_returns" and life.flap_returns is None else shown(getattr(life, name))
            for name in LifecycleSection.model_fields
        },
        "grouping": {"by": list(alerting.grouping.by)},
        "mutes": [
            {
                "name": mute.name,
                "match": _match_tree(mute.match),
                "days": [WEEKDAYS[day] for day in sorted(mute.days)],
                "from": f"{mute.start:%H:%M}",
                "until": f"{mute.end:%H:%M}",
                "timezone": mute.timezone,
                "reason": mute.reason,
            }
            for mute in alerting.mutes
        ],
        "inhibits_for": shown(alerting.inhibits_for),
        "budget": values.NEVER if alerting.budget is None else alerting.budget,
        "fallback": dict(alerting.fallback),
        "links": {name: getattr(alerting.links, name) for name in LinksSection.model_fields},
        "heartbeat": {
            "every": values.NEVER if heartbeat.every is None else shown(heartbeat.every),
            "to": heartbeat.to,
        },
        "catch_up": shown(alerting.catch_up),
        "ping_connection": alerting.ping_connection,
    }


def _matcher_of(section: MatchSection) -> Matcher:
    return Matcher(**{key: frozenset(chosen) for key, chosen in section})


def _match_tree(match: Matcher) -> dict[str, list[str]]:
    """Return a match with its choices sorted by meaning or name: a set has no order, and the version is a hash of this."""
    return {
        key: [str(choice) for choice in _ordered(getattr(match, key))]
        for key in MatchSection.model_fields
        if getattr(match, key)
    }


def _ordered(chosen: frozenset[Any]) -> Sequence[Any]:
    return sorted(chosen, key=lambda choice: (-choice.rank if isinstance(choice, Severity) else 0, str(choice)))

"""``route``: where an alert would go by the policy, and why; without a database, so that it can run in CI."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.sync_health.alerting_policies import Mute, Route
    from include.sync_health.matchers import Labels
    from include.sync_health.policy import Policy
    from include.sync_health.verdicts import Severity


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "route",
        help="say where an alert would go, and why",
        description="Say where such an alert would go by the policy in force, and why: every route in its order, the "
        "channels, the mode of its rule, the cap of its environment, and the mutes. No database is read. Not looked at is "
        "what depends on other alerts or on the day: silences, causes that hide symptoms, and the budget. With --expect, "
        "exit code 2 when it would go elsewhere; mutes, which come and go with the clock, do not count there.",
    )
    parser.add_argument(
        "--type", required=True, metavar="TYPE", help="such as servicetitan_sync_failures or stale_sync"
    )
    parser.add_argument("--severity", metavar="WORD", help="low, medium, high or critical (default: the rule's own)")
    parser.add_argument(
        "--environment",
        metavar="NAME",
        help="production or integration (default: production; an alert of monitor_health is about none)",
    )
    parser.add_argument("--company", metavar="ID", help="of this company, with its tags")
    parser.add_argument("--credential", metavar="ID", help="of this credential, with its tags")
    parser.add_argument("--data-type", metavar="NAME", help="such as invoices")
    parser.add_argument(
        "--tag", metavar="NAME", action="append", default=[], help="with this tag as well; may be given several times"
    )
    parser.add_argument(
        "--at", metavar="TIME", help="what mutes it at this instant, ISO 8601 with an offset (default: now)"
    )
    parser.add_argument(
        "--expect", metavar="CHANNELS", help="where it must go, such as slack:#ops,email:ops@example.com; or none"
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print where the alert would go.

    With ``--json``: ``{"type", "severity", "severity_before_cap", "environment", "company", "credential", "data_type",
    "tags", "mode", "routes": [{"route", "match", "to", "matches", "mismatches", "then"}], "routed", "channels", "fallback":
    {channel: channel}, "at", "mutes": [{"name", "reason", "mismatches", "mutes_now"}], "expected", "as_expected"}``.
    ``routed`` is what the routes say, ``channels`` who is told: nobody where the rule is not live. ``then`` is "stops",
    "continues", or null for a route that does not match or is not reached; ``matches`` is null for the latter.

    Returns:
        0: told; 2: it would go elsewhere than ``--expect`` says.

    Raises:
        MonitorError: the policy or an argument is wrong.
    """
    from include.commands.alert_arguments import channels_of
    from include.orchestration.policy_file import load_policy
    from include.sync_health.windows import parse_instant

    policy = load_policy().policy
    way = way_of(
        _asked(args, policy=policy),
        policy=policy,
        at=datetime.now(UTC) if args.at is None else parse_instant(args.at, name="--at"),
    )
    expected = None if args.expect is None else channels_of(args.expect, option="--expect")
    answer = as_json(way)
    if expected is not None:
        answer |= {"expected": list(expected), "as_expected": set(expected) == set(way.channels)}
    if args.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for line in lines_of(way):
            print(line)
    if expected is None or answer["as_expected"]:
        return 0
    print(f"error: --expect: {_difference(expected, way.channels)}", file=sys.stderr)
    return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one route does with the alert; a route that is not reached has no mismatches and ``reached`` False."""

    place: int  # in the policy's list
    route: Route
    reached: bool
    mismatches: tuple[str, ...] = ()

    @property
    def takes(self) -> bool:
        """Whether the alert goes to its receiver."""
        return self.reached and not self.mismatches


@dataclass(frozen=True, slots=True, kw_only=True)
class MuteNow:
    """What a mute of the policy does with the alert at the instant asked for."""

    mute: Mute
    mismatches: tuple[str, ...]
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    Where an alert goes, and why.

    Args:
        labels: the alert's, its severity already capped.
        before_cap: its severity before that.
        policy: whose.
        steps: every route, in order.
        at, mutes: every mute, at that aware instant.
        routed: the channels of the routes that take it.
    """

    labels: Labels
    before_cap: Severity
    policy: Policy
    steps: tuple[Step, ...]
    at: datetime
    mutes: tuple[MuteNow, ...]
    routed: tuple[str, ...]

    @property
    def mode(self) -> str:
        """Of its rule."""
        return str(self.policy.rules.named(self.labels.rule).mode)

    @property
    def channels(self) -> tuple[str, ...]:
        """Who is told: nobody where the rule is off or in shadow."""
        return self.routed if self.mode == "live" else ()


def way_of(asked: Labels, *, policy: Policy, at: datetime) -> Way:
    """Return where an alert with these labels goes; its severity is capped as that of a real one."""
    from dataclasses import replace

    from include.sync_health.muting import mutes_at
    from include.sync_health.routing import channels_for

    labels = replace(asked, severity=asked.severity.capped(policy.severity_caps.get(asked.environment or "")))
    steps: list[Step] = []
    for place, route in enumerate(policy.routes):
        stopped = any(step.takes and not step.route.continue_ for step in steps)
        mismatches = () if stopped else route.match.mismatches(labels)
        steps.append(Step(place=place, route=route, reached=not stopped, mismatches=mismatches))
    return Way(
        labels=labels,
        before_cap=asked.severity,
        policy=policy,
        steps=tuple(steps),
        at=at,
        mutes=tuple(
            MuteNow(mute=mute, mismatches=mute.match.mismatches(labels), holds=mutes_at(mute, at))
            for mute in policy.alerting.mutes
        ),
        routed=channels_for(policy, labels),
    )


def as_json(way: Way) -> dict[str, Any]:
    """Return the answer that `run` describes, without what was expected."""
    from include.commands.alert_arguments import TYPE_PREFIX, match_tree

    labels = way.labels
    fallback = way.policy.alerting.fallback
    return {
        "type": TYPE_PREFIX + labels.rule,
        "severity": str(labels.severity),
        "severity_before_cap": str(way.before_cap),
        "environment": labels.environment,
        "company": labels.company,
        "credential": labels.credential,
        "data_type": labels.data_type,
        "tags": sorted(labels.tags),
        "mode": way.mode,
        "routes": [
            {
                "route": step.place,
                "match": match_tree(step.route.match),
                "to": step.route.to,
                "matches": step.takes if step.reached else None,
                "mismatches": list(step.mismatches),
                "then": ("continues" if step.route.continue_ else "stops") if step.takes else None,
            }
            for step in way.steps
        ],
        "routed": list(way.routed),
        "channels": list(way.channels),
        "fallback": {channel: fallback[channel] for channel in way.channels if channel in fallback},
        "at": way.at.isoformat(),
        "mutes": [
            {
                "name": each.mute.name,
                "reason": each.mute.reason,
                "mismatches": list(each.mismatches),
                "mutes_now": each.holds and not each.mismatches,
            }
            for each in way.mutes
        ],
    }


def lines_of(way: Way) -> Iterator[str]:
    """Yield the answer as people read it."""
    from include.commands.alert_arguments import TYPE_PREFIX, match_words

    labels = way.labels
    about = [labels.environment or "no environment"]
    about += [f"{name} {value}" for name in ("company", "credential") if (value := getattr(labels, name))]
    about += [labels.data_type] if labels.data_type else []
    about += [f"tag {tag}" for tag in sorted(labels.tags)]
    yield f"{TYPE_PREFIX}{labels.rule}, {labels.severity}, {', '.join(about)}"
    if labels.severity is not way.before_cap:
        yield f"severity: {way.before_cap}, capped at {labels.severity} in {labels.environment}"
    if way.mode == "off":
        yield "rule: off: it is not judged, and no such alert opens"
    elif way.mode == "shadow":
        yield "rule: shadow: such an alert is recorded, and told to nobody"
    for step in way.steps:
        yield f"routes[{step.place}] ({match_words(step.route.match)}) to {step.route.to}: {_what(step)}"
    if not way.routed:
        yield "goes to: nobody; such an alert is recorded as no_route"
    elif not way.channels:
        yield f"goes to: nobody, because the rule is {way.mode}; else to {', '.join(way.routed)}"
    else:
        yield f"goes to: {', '.join(way.channels)}"
    for channel in way.channels:
        if fallback := way.policy.alerting.fallback.get(channel):
            yield f"fallback: {fallback}, where {channel} refuses us"
    for each in way.mutes:
        yield f"mute {each.mute.name} ({each.mute.reason}): {_muting(each, at=way.at)}"


def _what(step: Step) -> str:
    if not step.reached:
        return "not reached"
    if step.mismatches:
        return f"does not match: {', '.join(name.replace('_', ' ') for name in step.mismatches)}"
    return f"matches, {'continues' if step.route.continue_ else 'stops here'}"


def _muting(each: MuteNow, *, at: datetime) -> str:
    if each.mismatches:
        return f"does not match: {', '.join(name.replace('_', ' ') for name in each.mismatches)}"
    instant = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    mute = each.mute
    span = f"{mute.start:%H:%M} to {mute.end:%H:%M} {mute.timezone}"
    return f"{'keeps it back' if each.holds else 'matches, and does not hold'} at {instant} ({span})"


def _asked(args: argparse.Namespace, *, policy: Policy) -> Labels:
    """Return the labels that the arguments name; the tags are those given, and the policy's of company and credential."""
    from include.commands.alert_arguments import is_about, shown, value_of
    from include.sync_health.errors import RequestError
    from include.sync_health.matchers import Labels, tags_of

    rule = value_of("rule", args.type, option="--type")
    asked = {key: getattr(args, key) for key in ("environment", "company", "credential", "data_type")}
    for key, given in {**asked, "tag": next(iter(args.tag), None)}.items():
        # Such an alert never opens: where it would go says nothing.
        if given is not None and not is_about(rule, key):
            option = f"--{key.replace('_', '-')}"
            raise RequestError(f"{option}: {shown(given)} with an alert of {rule}, which is about none; leave it out")
    own = policy.rules.named(rule).severity
    environment = _value(args, "environment") or ("production" if is_about(rule, "environment") else None)
    company, credential = (_value(args, key) for key in ("company", "credential"))
    tags = frozenset(value_of("tag", tag, option="--tag", tags=policy.tags) for tag in args.tag)
    return Labels(
        rule=rule,
        severity=own if args.severity is None else value_of("severity", args.severity, option="--severity"),
        environment=environment,
        company=company,
        credential=credential,
        data_type=_value(args, "data_type"),
        tags=tags | tags_of(policy.tags, company=company, credential=credential),
    )


def _value(args: argparse.Namespace, key: str) -> str | None:
    from include.commands.alert_arguments import value_of

    given = getattr(args, key)
    found: str | None = None if given is None else value_of(key, given, option=f"--{key.replace('_', '-')}")
    return found


def _difference(expected: Collection[str], channels: Collection[str]) -> str:
    missing = [channel for channel in expected if channel not in channels]
    more = [channel for channel in channels if channel not in expected]
    told = [f"missing: {', '.join(missing)}"] if missing else []
    told += [f"too many: {', '.join(more)}"] if more else []
    wanted, found = (", ".join(each) or "nobody" for each in (expected, channels))
    return f"it should go to {wanted} and goes to {found}; {'; '.join(told)}"

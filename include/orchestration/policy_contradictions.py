"""
Contradictions between sections of the policy file, found on the merged tree.

They are looked for even when other keys are wrong, so that one look at the answer tells everything there is to mend;
what is malformed itself is passed over here: `policy_schema` tells that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from include.orchestration.policy_document import KeyPath
from include.orchestration.policy_mistakes import choose_from
from include.sync_health.durations import parse_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradiction:
    """A key whose value cannot stand beside that of ``other``."""

    path: KeyPath
    value: object
    allowed: str
    problem: str = ""
    other: KeyPath = ()


def contradictions(tree: Mapping[str, Any]) -> Iterator[Contradiction]:
    """Yield every contradiction between sections of the merged tree."""
    yield from _unknown_receivers(tree)
    yield from _unreachable_routes(tree)
    yield from _unknown_tags(tree)
    yield from _never_stuck(tree)


def _unknown_receivers(tree: Mapping[str, Any]) -> Iterator[Contradiction]:
    receivers = tree.get("receivers")
    if not isinstance(receivers, Mapping):
        return
    alerting = tree.get("alerting")
    heartbeat = alerting.get("heartbeat") if isinstance(alerting, Mapping) else None
    goes_to = heartbeat.get("to") if isinstance(heartbeat, Mapping) else None
    if isinstance(goes_to, str) and goes_to not in receivers:
        yield Contradiction(
            path=("alerting", "heartbeat", "to"),
            value=goes_to,
            allowed=f"no such receiver: {choose_from(receivers, wrong=goes_to)}",
        )
    for index, route in _routes(tree):
        to = route.get("to")
        if isinstance(to, str) and to not in receivers:
            yield Contradiction(
                path=("routes", index, "to"), value=to, allowed=f"no such receiver: {choose_from(receivers, wrong=to)}"
            )


def _unknown_tags(tree: Mapping[str, Any]) -> Iterator[Contradiction]:
    tags = tree.get("tags")
    alerting = tree.get("alerting")
    mutes = alerting.get("mutes") if isinstance(alerting, Mapping) else None
    muting = enumerate(mutes) if isinstance(mutes, list) else ()
    matches: list[tuple[KeyPath, Any]] = [
        (("routes", index, "match"), each.get("match")) for index, each in _routes(tree)
    ]
    matches += [
        (("alerting", "mutes", index, "match"), each.get("match"))
        for index, each in muting
        if isinstance(each, Mapping)
    ]
    for path, match in matches:
        named = match.get("tag") if isinstance(match, Mapping) else None
        for place, tag in enumerate(named if isinstance(named, list) else ()):
            if isinstance(tags, Mapping) and isinstance(tag, str) and tag not in tags:
                allowed = f"no such tag: {choose_from(tags, wrong=tag)}" if tags else "no such tag: `tags` has none"
                yield Contradiction(path=(*path, "tag", place), value=tag, allowed=allowed)


def _unreachable_routes(tree: Mapping[str, Any]) -> Iterator[Contradiction]:
    takers: list[tuple[int, Mapping[str, Any]]] = []
    for index, route in _routes(tree):
        match = route.get("match", {})
        if not isinstance(match, Mapping) or not all(isinstance(chosen, list) for chosen in match.values()):
            continue
        taker = next((place for place, earlier in takers if _covers(earlier, match)), None)
        if taker is not None:
            yield Contradiction(
                path=("routes", index),
                value=route.get("to"),
                problem=f"can never be reached: routes[{taker}] takes all that it matches",
                allowed=f"move it before routes[{taker}], or give that one `continue: true`",
            )
        if route.get("continue", False) is False:
            takers.append((index, match))


def _never_stuck(tree: Mapping[str, Any]) -> Iterator[Contradiction]:
    lookback = _span(tree, ("source", "open_lookback"))
    for key in ("open_for", "high_after"):
        path = ("rules", "stuck_sync", key)
        span = _span(tree, path)
        if lookback is not None and span is not None and span >= lookback:
            yield Contradiction(
                path=path,
                value=_at(tree, path),
                allowed="it must be less than source.open_lookback, which is "
                f"{_at(tree, ('source', 'open_lookback'))}: an older open sync is abandoned",
                other=("source", "open_lookback"),
            )


def _routes(tree: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    routes = tree.get("routes")
    if isinstance(routes, list):
        yield from ((index, route) for index, route in enumerate(routes) if isinstance(route, Mapping))


def _covers(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> bool:
    """True when everything that ``later`` matches, ``earlier`` matches too."""
    return all(
        key in later and all(choice in chosen for choice in later[key]) for key, chosen in earlier.items() if chosen
    )


def _at(tree: Mapping[str, Any], path: KeyPath) -> Any:
    value: Any = tree
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _span(tree: Mapping[str, Any], path: KeyPath) -> timedelta | None:
    value = _at(tree, path)
    try:
        return parse_duration(value) if isinstance(value, str) else None
    except ValueError:
        return None

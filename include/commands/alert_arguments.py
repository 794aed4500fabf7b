"""What the commands about alerts are given: matchers, channels, fingerprints, spans of time, and the words of a person."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from include.orchestration import policy_sections as of
from include.orchestration.policy_alerting_schema import ChannelKey, DataType, Id
from include.orchestration.policy_mistakes import choose_from, looks_secret
from include.sync_health.durations import parse_duration
from include.sync_health.errors import RequestError
from include.sync_health.matchers import Matcher
from include.sync_health.verdicts import Severity

KEYS = tuple(each.name for each in fields(Matcher))
"""What a match may ask of an alert."""

NO_ENVIRONMENT = frozenset({"monitor_health"})
NO_CREDENTIAL = NO_ENVIRONMENT | {"platform_outage", "no_syncs", "api_errors", "api_latency", "error_budget"}
WITH_DATA_TYPE = frozenset({"consecutive_failures", "stuck_sync", "data_quality", "quality_drop", "empty_syncs"})
"""The rules whose alerts are about no environment; about no credential, and so no company, and without tags; about a data type."""

TYPE_PREFIX = "servicetitan_"
FEWEST_DIGITS = 6
"""Of a fingerprint: enough to tell some thousands of alerts apart, and few enough to type."""

LONGEST_TEXT = 500
"""Characters of what a person says."""

_FINGERPRINT = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")
_TAG = "tag"
_VALIDATORS: dict[str, TypeAdapter[Any]] = {
    "severity": TypeAdapter(of.SeverityWord),
    "rule": TypeAdapter(of.RuleName),
    "environment": TypeAdapter(of.Environment),
    "company": TypeAdapter(Id),
    "credential": TypeAdapter(Id),
    "data_type": TypeAdapter(DataType),
    "channel": TypeAdapter(ChannelKey),
}
"""As the policy file takes them."""


def matcher_of(arguments: Sequence[str], *, tags: Collection[str]) -> Matcher:
    """
    Return the matcher that ``--match KEY=VALUE ...`` means; values of one key are alternatives.

    Args:
        arguments: as given.
        tags: the names of the policy's tags.

    Raises:
        RequestError: an argument without ``=``, or a key or a value that no alert can have, alone or with the others.
    """
    chosen: dict[str, set[str]] = {}
    for argument in arguments:
        written, equals, text = argument.partition("=")
        key = "rule" if _folded(written) == "type" else _folded(written)
        if not equals:
            raise RequestError(f"--match: {shown(argument)} is no KEY=VALUE; write it such as rule=stale_sync")
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RequestError(f"--match: unknown key {shown(written)}; {hint}use one of {', '.join(KEYS)}")
        chosen.setdefault(key, set()).add(value_of(key, text, option="--match", tags=tags))
    rules = chosen.get("rule", set())
    for key in chosen:
        if rules and not any(is_about(rule, key) for rule in rules):
            named = " or ".join(sorted(rules))
            raise RequestError(f"--match: {key} with rule {named}, whose alerts are about none; leave one of them out")
    sets: dict[str, Any] = {key: frozenset(values) for key, values in chosen.items()}
    return Matcher(**sets)


def is_about(rule: str, key: str) -> bool:
    """Return whether alerts of a rule have what a key of `KEYS` asks for."""
    match key:
        case "environment":
            return rule not in NO_ENVIRONMENT
        case "company" | "credential" | "tag":
            return rule not in NO_CREDENTIAL
        case "data_type":
            return rule in WITH_DATA_TYPE
    return True


def value_of(key: str, text: str, *, option: str, tags: Collection[str] = ()) -> Any:
    """
    Return one value of a key of `KEYS`, or of ``channel``, as the core has it.

    Args:
        key: which.
        text: as given; a rule may have the prefix of its type.
        option: how the error names it.
        tags: the names of the policy's tags.

    Raises:
        RequestError: no alert can have it; names what was probably meant, and what there is.
    """
    if key == "fingerprint":
        return fingerprint_of(text, option=option)
    if key == _TAG:
        if text in tags:
            return text
        fix = choose_from(tags, wrong=text) if tags else "the policy has none yet: add it to its `tags`"
        raise RequestError(f"{option}: {shown(text)} is no tag of the policy; {fix}")
    given = text.removeprefix(TYPE_PREFIX) if key == "rule" else text
    try:
        return _VALIDATORS[key].validate_python(given)
    except ValidationError as error:
        word = "rule" if key == "rule" else key.replace("_", " ")
        raise RequestError(f"{option}: {shown(text)} is no {word}; {error.errors()[0]['msg']}") from None


def channels_of(text: str, *, option: str) -> tuple[str, ...]:
    """
    Return the channel keys of a list with commas, each once; none for the word ``none``.

    Raises:
        RequestError: one is no channel.
    """
    if text.strip() == "none":
        return ()
    return tuple(
        dict.fromkeys(value_of("channel", channel.strip(), option=option) for channel in text.split(",")),
    )


def fingerprint_of(text: str, *, option: str = "FINGERPRINT") -> str:
    """
    Return the beginning of a fingerprint in lower case, without the "…" that a copied one may end with.

    Raises:
        RequestError: it has other characters, or too few.
    """
    folded = text.strip().rstrip("…").lower()
    if _FINGERPRINT.fullmatch(folded):
        return folded
    raise RequestError(
        f"{option}: {shown(text)} is no fingerprint; write the hexadecimal digits that a message ends with, at least "
        f"{FEWEST_DIGITS} of them"
    )


def span_of(text: str, *, option: str, at_most: timedelta) -> timedelta:
    """
    Return how long ``--for 2h`` means.

    Raises:
        RequestError: it is no duration, is zero, or more than ``at_most``.
    """
    try:
        span = parse_duration(text)
    except ValueError as error:
        raise RequestError(f"{option}: {error}") from None
    if not timedelta(0) < span <= at_most:
        raise RequestError(f"{option}: {shown(text)} is not allowed; choose more than 0 and at most {at_most.days}d")
    return span


def words(text: str, *, option: str) -> str:
    """
    Return what a person says, or who says it, on one line.

    Raises:
        RequestError: it is empty, too long, or holds what cannot be printed.
    """
    line = " ".join(text.split())
    if not line:
        raise RequestError(f"{option}: it is empty; say {'why' if option == '--reason' else 'who'}")
    if len(line) > LONGEST_TEXT:
        raise RequestError(f"{option}: {len(line)} characters are too many; use at most {LONGEST_TEXT}")
    if not line.isprintable():
        raise RequestError(f"{option}: {shown(line)} holds characters that cannot be printed; leave them out")
    return line


def shown(text: str, *, limit: int = 60) -> str:
    """Return an argument as an error may repeat it."""
    if looks_secret(text):
        return "a text that looks like a secret"
    return repr(text if len(text) <= limit else text[: limit - 1] + "…")


def match_words(match: Matcher) -> str:
    """Return what a matcher asks, such as "rule stale_sync, credential 42 or 43"; "everything" when it asks nothing."""
    asked = [(key, _sorted(getattr(match, key))) for key in KEYS if getattr(match, key)]
    return ", ".join(f"{key.replace('_', ' ')} {' or '.join(values)}" for key, values in asked) or "everything"


def match_tree(match: Matcher) -> dict[str, list[str]]:
    """Return a matcher for JSON: its keys with their alternatives."""
    return {key: _sorted(getattr(match, key)) for key in KEYS if getattr(match, key)}


def _sorted(values: Iterable[str]) -> list[str]:
    """Return severities with the worst first, other values by name, and numbers by size."""

    def place(value: str) -> tuple[int, str]:
        if isinstance(value, Severity):
            return -value.rank, ""
        return (len(value) if value.isdigit() else 0), value

    return [str(each) for each in sorted(values, key=place)]


def _folded(key: str) -> str:
    return key.strip().lower().replace("-", "_")

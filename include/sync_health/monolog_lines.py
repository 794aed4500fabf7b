"""
One line of a file of Monolog's JSON formatter, as far as it tells of calls of the ServiceTitan API.

A line is looked at only when it holds one of `WORDS`: what else the application logs is passed over unread, and its context with
it. Of a line that is read the fields of `Entry` are kept and nothing else: no params, error texts, bodies or tokens ever
become values here.

msgspec reads the common shape at once; whatever it refuses is read by ``json`` with the same outcome, or counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import msgspec

MAX_LINE_BYTES = 1 << 20
"""A longer line is passed over, and counted: Monolog cuts none, but a body that is logged may have any size."""


class Kind(IntEnum):
    """What a line tells."""

    REQUEST = 0  # a call begins: one line per call, however often the client tries
    RESPONSE = 1  # its answer, at level debug
    FAILED = 2  # it came to nothing: transport
    RETRIED = 3
    EXHAUSTED = 4  # the last try failed; the client may tell FAILED of the same call right after it
    UNDECODED = 5  # the answer was no JSON
    REFUSED = 6  # an error with a status
    RATE_LIMITED = 7
    CIRCUIT_OPENED = 8


METHODS = ("", "GET", "POST", "PUT", "DELETE", "PATCH")
"""HTTP methods that the client logs; the first is an unknown one."""

MESSAGES: MappingProxyType[str, tuple[Kind, int]] = MappingProxyType(
    {f"ServiceTitan API {name} request": (Kind.REQUEST, place) for place, name in enumerate(METHODS) if name}
    | {f"ServiceTitan API {name} request failed": (Kind.FAILED, place) for place, name in enumerate(METHODS) if name}
    | {
        "ServiceTitan API response processed": (Kind.RESPONSE, 0),
        "ServiceTitan API request failed, retrying": (Kind.RETRIED, 0),
        "ServiceTitan API request failed after all retries": (Kind.EXHAUSTED, 0),
        "Failed to decode ServiceTitan API response": (Kind.UNDECODED, 0),
        "ServiceTitan API error": (Kind.REFUSED, 0),
        # The client's own "ServiceTitan API rate limited, waiting before retry" is the same incident once more, and
        # "Rate limit throttling applied" none of ServiceTitan's.
        "ServiceTitan API rate limit exceeded": (Kind.RATE_LIMITED, 0),
        "Rate limited, waiting before retry": (Kind.RATE_LIMITED, 0),  # of the authentication
        "Circuit breaker opened": (Kind.CIRCUIT_OPENED, 0),
    }
)
"""The messages that count, with the method that each names, as the application's client writes them."""

WORDS = (b"ServiceTitan API", b"Rate limited, waiting", b"Circuit breaker opened", b"\\u00")
"""A line with none of these holds none of `MESSAGES`, and is not read; letters may be escaped, which the last one tells."""


class Context(msgspec.Struct, gc=False):
    """What is kept of a context. Stories, architecture and code of the application name the same things differently."""

    credential_id: int | str | None = None
    credentialId: int | str | None = None  # noqa: N815 - a key of the log
    endpoint: str | None = None
    api_endpoint: str | None = None
    status_code: int | str | None = None
    response_code: int | str | None = None
    method: str | None = None
    duration_ms: float | int | None = None
    response_time: float | int | None = None
    duration: float | int | None = None
    sync_duration: float | int | None = None


class Extra(msgspec.Struct, gc=False):
    """Who wrote a line: Monolog's ProcessIdProcessor, HostnameProcessor and UidProcessor."""

    process_id: int | str | None = None
    pid: int | str | None = None
    uid: int | str | None = None
    hostname: str | None = None


class Moment(msgspec.Struct, gc=False):
    """A time as Monolog 1 writes it: a PHP DateTime."""

    date: str | None = None
    timezone: str | None = None


class Entry(msgspec.Struct, gc=False):
    """One line; an empty context or extra is a list in PHP."""

    message: str
    context: Context | list[Any] | None = None
    datetime: str | Moment | None = None
    extra: Extra | list[Any] | None = None


@dataclass(slots=True)
class LineCounts:
    """
    What the lines were. Those that are in none of the numbers but the first tell of no call.

    Args:
        lines: all.
        entries: that tell of a call; a line with an array has several.
        blank: nothing but white space.
        not_json: they begin with neither { nor [.
        broken: they begin so, and are no JSON, or no object.
        not_utf8: their bytes are no text.
        too_long: above `MAX_LINE_BYTES`.
        no_time: entries whose time is missing or none; they are not counted as calls.
        ids_unknown: entries whose credential id is neither a number nor a UUID; they count for no credential.
    """

    lines: int = 0
    entries: int = 0
    blank: int = 0
    not_json: int = 0
    broken: int = 0
    not_utf8: int = 0
    too_long: int = 0
    no_time: int = 0
    ids_unknown: int = 0

    def add(self, other: LineCounts) -> None:
        """Add another's numbers to these."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def told(self) -> dict[str, int]:
        """Return the numbers by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


decode = msgspec.json.Decoder(Entry).decode
"""Read a line of the common shape; its bytes must be text, for msgspec does not look into what it passes over."""


def read_line(line: bytes, counts: LineCounts) -> list[Entry]:
    """
    Return the entries of a line that may matter: one, several of an array, none of what is no JSON.

    Args:
        line: without its line feed.
        counts: is added to: what the line is, if it cannot be read.
    """
    if not (line.isascii() or _is_utf8(line)):
        counts.not_utf8 += 1
        return []
    try:
        return [decode(line)]
    except msgspec.DecodeError:
        return _slowly(line, counts)


def count_unread(line: bytes, counts: LineCounts) -> None:
    """Count a line that does not matter, if it is blank or no JSON."""
    text = line.strip()
    if not text:
        counts.blank += 1
    elif text[:1] not in (b"{", b"["):
        counts.not_json += 1


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _slowly(line: bytes, counts: LineCounts) -> list[Entry]:
    """Return what a line holds that is not of the common shape: an array, unexpected types, or no JSON at all."""
    text = line.strip()
    if text[:1] not in (b"{", b"["):
        counts.not_json += 1
        return []
    try:
        value = _strict.decode(text.decode())
    except (ValueError, RecursionError):
        counts.broken += 1
        return []
    values = value if isinstance(value, list) else [value]
    objects = [each for each in values if isinstance(each, dict)]
    counts.broken += len(values) - len(objects)
    return [_entry(each) for each in objects if isinstance(each.get("message"), str)]


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not in JSON")


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= 40 else None  # Python refuses thousands of digits; no id has so many


_strict = json.JSONDecoder(parse_constant=_refuse, parse_int=_integer)


def _entry(value: dict[str, Any]) -> Entry:
    moment, extra, context = value.get("datetime"), value.get("extra"), value.get("context")
    if isinstance(moment, dict):
        moment = Moment(date=_of(moment, "date", str), timezone=_of(moment, "timezone", str))
    return Entry(
        message=value["message"],
        context=_struct(Context, context) if isinstance(context, dict) else None,
        datetime=moment if isinstance(moment, str | Moment) else None,
        extra=_struct(Extra, extra) if isinstance(extra, dict) else None,
    )


def _struct(kind: type[Any], value: dict[str, Any]) -> Any:
    return kind(**{name: _of(value, name, *_TYPES[kind][name]) for name in kind.__struct_fields__ if name in value})


def _of(value: dict[str, Any], name: str, *types: type) -> Any:
    """Return a field when it has one of the types exactly: true is no number."""
    found = value.get(name)
    return found if type(found) in types else None


_NUMBERS = {"duration_ms", "response_time", "duration", "sync_duration"}
_TEXTS = {"endpoint", "api_endpoint", "method", "hostname"}
_TYPES: dict[type[Any], dict[str, tuple[type, ...]]] = {
    kind: {
        name: (int, float) if name in _NUMBERS else (str,) if name in _TEXTS else (int, str)
        for name in kind.__struct_fields__
    }
    for kind in (Context, Extra)
}

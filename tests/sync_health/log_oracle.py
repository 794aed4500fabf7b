"""Calls out of log lines the slow way: one line, one dictionary, one step at a time. Shares no code with what it judges."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

WORDS = (b"ServiceTitan API", b"Rate limited, waiting", b"Circuit breaker opened", b"\\u00")
WAIT = timedelta(minutes=15)
METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
SECONDS = {"duration_ms": 1, "response_time": 1, "duration": 1_000, "sync_duration": 1_000}


@dataclass
class Told:
    """What the lines come to; counters are by (hour, credential, endpoint, status)."""

    requests: Counter[Any] = field(default_factory=Counter)
    errors: Counter[Any] = field(default_factory=Counter)
    retries: Counter[Any] = field(default_factory=Counter)
    rate_limited: Counter[Any] = field(default_factory=Counter)
    circuit_opened: Counter[Any] = field(default_factory=Counter)
    times: dict[Any, list[float]] = field(default_factory=lambda: defaultdict(list))
    lines: Counter[str] = field(default_factory=Counter)


def calls_of(data: bytes) -> Told:
    """Return what whole lines tell, with everything closed at their end."""
    told = Told()
    lines = data.split(b"\n")[: -1 if data.endswith(b"\n") else None] if data else []
    events = [event for line in lines for event in _line(line, told)]
    _requests(events, told)
    for place, event in enumerate(events):
        key = (event["hour"], event["credential"], event["endpoint"], event["status"])
        kind = event["kind"]
        if kind in ("failed", "undecoded", "refused") or (kind == "answer" and event["status"] >= 400):
            told.errors[key] += 1
        elif kind == "exhausted":
            later = [each for each in events[place + 1 :] if _process(each) == _process(event)]
            after = later[0] if later else None
            is_near = after and timedelta(0) <= after["at"] - event["at"] <= WAIT
            if not (after and after["kind"] == "failed" and is_near):
                told.errors[event["hour"], event["credential"], "", 0] += 1
        counter = {"retry": told.retries, "rate": told.rate_limited, "circuit": told.circuit_opened}.get(kind)
        if counter is not None:
            counter[key] += 1
    return told


def _requests(events: list[dict[str, Any]], told: Told) -> None:
    streams: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event["kind"] in ("request", "answer", "failed"):
            streams[*_process(event), event["method"], event["endpoint"]].append(event)
    for stream in streams.values():
        for place, event in enumerate(stream):
            before = stream[place - 1] if place else None
            after = stream[place + 1] if place + 1 < len(stream) else None
            if event["kind"] == "request":
                answered = after and after["kind"] == "answer" and _is_soon(event, after)
                status = after["status"] if answered and after else 0
                told.requests[event["hour"], event["credential"], event["endpoint"], status] += 1
            if event["kind"] == "answer":
                taken = event["took"]
                if taken is None and before and before["kind"] == "request" and _is_soon(before, event):
                    earlier = stream[place - 2] if place > 1 else None
                    is_unclear = earlier and earlier["kind"] == "request" and _is_soon(earlier, before)
                    if event["writer"] or not is_unclear:
                        taken = (event["at"] - before["at"]) / timedelta(milliseconds=1)
                if taken is not None:
                    key = (event["hour"], event["credential"], event["endpoint"], event["status"])
                    told.times[key].append(min(taken, 3_600_000.0))


def _is_soon(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return timedelta(0) <= other["at"] - one["at"] <= WAIT


def _process(event: dict[str, Any]) -> tuple[str, str]:
    return event["credential"], event["writer"]


def _line(line: bytes, told: Told) -> list[dict[str, Any]]:
    told.lines["lines"] += 1
    if not any(word in line for word in WORDS):
        if not line.strip():
            told.lines["blank"] += 1
        elif line.strip()[:1] not in (b"{", b"["):
            told.lines["not_json"] += 1
        return []
    try:
        text = line.decode()
    except UnicodeDecodeError:
        told.lines["not_utf8"] += 1
        return []
    if line.strip()[:1] not in (b"{", b"["):
        told.lines["not_json"] += 1
        return []
    try:
        value = json.loads(text.encode().strip(), parse_constant=_no_constant)
    except ValueError:
        told.lines["broken"] += 1
        return []
    values = value if isinstance(value, list) else [value]
    told.lines["broken"] += sum(not isinstance(each, dict) for each in values)
    found = [_event(each, told) for each in values if isinstance(each, dict)]
    return [each for each in found if each is not None]


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _kind(message: Any) -> tuple[str, str] | None:
    if not isinstance(message, str):
        return None
    for method in METHODS:
        if message == f"ServiceTitan API {method} request":
            return "request", method
        if message == f"ServiceTitan API {method} request failed":
            return "failed", method
    kind = {
        "ServiceTitan API response processed": "answer",
        "ServiceTitan API request failed, retrying": "retry",
        "ServiceTitan API request failed after all retries": "exhausted",
        "Failed to decode ServiceTitan API response": "undecoded",
        "ServiceTitan API error": "refused",
        "ServiceTitan API rate limit exceeded": "rate",
        "Rate limited, waiting before retry": "rate",
        "Circuit breaker opened": "circuit",
    }.get(message)
    return (kind, "") if kind else None


def _event(value: dict[str, Any], told: Told) -> dict[str, Any] | None:
    kind = _kind(value.get("message"))
    if kind is None:
        return None
    told.lines["entries"] += 1
    at = _time(value.get("datetime"))
    if at is None:
        told.lines["no_time"] += 1
        return None
    context = value["context"] if isinstance(value.get("context"), dict) else {}
    extra = value["extra"] if isinstance(value.get("extra"), dict) else {}
    credential = _first(context, ("credential_id", "credentialId"), (int, str))
    known = str(credential).strip() if credential is not None else ""
    if not re.fullmatch(r"[0-9]{1,20}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", known):
        told.lines["ids_unknown"] += credential is not None
        known = ""
    status = _first(context, ("status_code", "response_code"), (int, str))
    if isinstance(status, str):
        status = int(status) if re.fullmatch("[0-9]{3}", status) else None
    took = None
    for name, factor in SECONDS.items():
        number = context.get(name)
        if took is None and type(number) in (int, float) and number >= 0:
            took = min(number, 10**18) * factor
    method = context.get("method")
    method = method.strip().upper() if isinstance(method, str) else ""
    number = _first(extra, ("process_id", "pid", "uid"), (int, str))
    writer = str(number) if number is not None and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", str(number)) else ""
    host = extra.get("hostname")
    if writer and isinstance(host, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}", host):
        writer += "@" + host
    return {
        "kind": kind[0],
        "method": kind[1] or (method if method in METHODS else ""),
        "at": at,
        "hour": at.replace(minute=0, second=0, microsecond=0),
        "credential": known,
        "endpoint": _endpoint(_first(context, ("endpoint", "api_endpoint"), (str,))),
        "status": status if status is not None and 100 <= status <= 599 else 0,
        "took": took,
        "writer": writer,
    }


def _first(value: dict[str, Any], names: tuple[str, ...], types: tuple[type, ...]) -> Any:
    return next((value[name] for name in names if type(value.get(name)) in types), None)


def _endpoint(text: str | None) -> str:
    """Return the endpoints of these tests: words, versions and ids, perhaps with a query."""
    if not text:
        return ""
    parts = text.split("?")[0].strip("/").split("/")
    masked = [
        part if re.fullmatch("[a-z]+|v[0-9]", part) and (not place or parts[place - 1] != "tenant") else "{id}"
        for place, part in enumerate(parts)
    ]
    return "/" + "/".join(masked)


def _time(value: Any) -> datetime | None:
    zone: Any = UTC
    if isinstance(value, dict):
        name = value.get("timezone")
        if not isinstance(name, str) or not name:
            return None
        offset = re.fullmatch(r"([+-])([0-9]{2}):([0-9]{2})", name)
        try:
            zone = datetime.fromisoformat(f"2000-01-01T00:00:00{name}").tzinfo if offset else ZoneInfo(name)
        except (ValueError, KeyError):
            return None
        value = value.get("date")
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=zone)
    return at.astimezone(UTC) if 2000 <= at.year <= 2199 else None

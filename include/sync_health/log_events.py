"""
What lines of a log tell of calls: when, whose, which endpoint, how it ended; one by one, and as columns.

Values that no metric may carry end here: endpoints are templated, ids are numbers or UUIDs, everything else is dropped.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from include.sync_health.endpoints import UNKNOWN, templated
from include.sync_health.monolog_lines import MESSAGES, METHODS, Context, Entry, Extra, Kind
from include.sync_health.response_times import LONGEST_MS

_DURATIONS = (("duration_ms", 1.0), ("response_time", 1.0), ("duration", 1_000.0), ("sync_duration", 1_000.0))
"""
Keys of a duration, the first that is there wins, with the milliseconds of one: the application's stories pass
``response_time`` in milliseconds and tell durations in seconds, as PHP's microtime(true) does.
"""

NO_CALL = len(Kind)
"""The kind of a line that tells of no call."""

_ID = re.compile(r"[0-9]{1,20}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WRITER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NUMBER = re.compile(r"/[0-9]+(?=[/?#]|\Z)")
_METHOD = {name: place for place, name in enumerate(METHODS)}
_NOTHING = Context()


@dataclass(frozen=True, slots=True)
class Events:
    """
    One event per line that tells of a call, in the order of the lines; all arrays have the same length.

    Args:
        at: microseconds since 1970.
        kind: `Kind`.
        method: place in `METHODS`.
        status: HTTP status, 0 where none is told.
        response_ms: told by the line; NaN where it tells none.
        credential, endpoint, writer: codes into the tuples below.
        credentials: ids, "" for none.
        endpoints: templated, "" for none.
        writers: what names the process that wrote the line, "" for none.
    """

    at: NDArray[np.int64]
    kind: NDArray[np.int8]
    method: NDArray[np.int8]
    status: NDArray[np.int16]
    response_ms: NDArray[np.float64]
    credential: NDArray[np.int64]
    endpoint: NDArray[np.int64]
    writer: NDArray[np.int64]
    credentials: tuple[str, ...]
    endpoints: tuple[str, ...]
    writers: tuple[str, ...]


class Meaning(NamedTuple):
    """
    What an entry tells beside its time and its writer; see `Events`.

    Args:
        kind: `Kind`; `NO_CALL` where the message is none of `MESSAGES`.
        is_id_unknown: it names a credential that is none.
    """

    kind: int
    method: int = 0
    status: int = 0
    response_ms: float = math.nan
    credential: str = ""
    endpoint: str = UNKNOWN
    is_id_unknown: bool = False


def meaning_of(entry: Entry) -> Meaning:
    """Return what an entry tells, with nothing in it that no metric may carry."""
    if entry.message not in MESSAGES:
        return Meaning(NO_CALL)
    kind, method = MESSAGES[entry.message]
    context = entry.context if type(entry.context) is Context else _NOTHING
    told = context.credential_id if context.credential_id is not None else context.credentialId
    credential = "" if told is None else str(told).strip()
    is_id = _ID.fullmatch(credential) is not None
    return Meaning(
        kind=int(kind),
        method=method or _method_of(context.method),
        status=_status_of(context.status_code if context.status_code is not None else context.response_code),
        response_ms=_duration_of(context),
        credential=credential if is_id else "",
        endpoint=_endpoint_of(context.endpoint if context.endpoint is not None else context.api_endpoint),
        is_id_unknown=told is not None and not is_id,
    )


def writer_of(entry: Entry) -> str:
    """Return what names the process of an entry: its number or that of its web request, with the host where it is told."""
    extra = entry.extra
    if type(extra) is not Extra:
        return ""
    number = next((each for each in (extra.process_id, extra.pid, extra.uid) if each is not None), "")
    text = str(number)
    if not _WRITER.fullmatch(text):
        return ""
    return f"{text}@{extra.hostname}" if extra.hostname and _WRITER.fullmatch(extra.hostname) else text


def _duration_of(context: Context) -> float:
    for name, factor in _DURATIONS:
        value = getattr(context, name)
        if value is not None and value >= 0:
            return min(_number(value) * factor, LONGEST_MS)
    return math.nan


def _number(value: float) -> float:
    return float(max(-1, min(value, 10**18)))  # an integer of JSON may be too large for a float


def _endpoint_of(value: str | None) -> str:
    # To `templated` a number in a path is one like any other, and there are as many as there are customers.
    return templated(_NUMBER.sub("/0", value)) if value else UNKNOWN


def _status_of(value: int | str | None) -> int:
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"[0-9]{3}", value) else None
    return value if value is not None and 100 <= value <= 599 else 0


def _method_of(value: str | None) -> int:
    return _METHOD.get(value.strip().upper(), 0) if value else 0

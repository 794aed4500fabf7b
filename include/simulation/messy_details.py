"""
What a generated Hub Plus writes into ``error_details`` and ``metadata``: every shape of the contract, and worse.

The real one writes only errors of its API client there; `include.sync_health.error_details` has the contract. Which
document a run gets depends on a number of its own and on nothing else, so no other part of a world changes with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

API_DETAILS: tuple[Any, ...] = (
    # What upstream's own tests write, and what its failed rows hold when there is nothing to say.
    {"status_code": 500, "trace": [1, None]},
    {"error": "Connection timeout", "code": 504},
    {"status_code": 429, "response": {"title": "Too Many Requests", "status": 429, "traceId": "00-4bf92f35"}},
    {"api_error": "RateLimited", "retry_after": 60, "request_id": "r-17", "nested": {"key": "value", "count": 3}},
    {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "errors": {"modifiedOnOrAfter": ["The value is not valid."]},
    },
    [],
    {},
    "",
    None,
)
"""Of failed runs: errors of the API, which tell nothing of any record."""

_NOBODY = "Jane Doe, 12 Elm Street, jane.doe@example.com, (555) 555-0100"

HOSTILE_DETAILS: tuple[Any, ...] = (
    {
        "validation_errors": [
            {"field": f"name\u0000\u202e{_NOBODY}", "message": f"<!channel> {{{{ 7*7 }}}} {_NOBODY}\ud800"}
        ]
    },
    {"validation_errors": [{"field": "zip", "message": "Zip Code is Empty", "index": 10**300, "value": 1e308}] * 3},
    {"fields": {"zip": {"missing": -5}, "email": {"missing": 10**40}, _NOBODY: {"invalid": 1}}},
    {"errors": "x" * 80_000},
    json.loads("[" * 300 + "]" * 300),
    {"details": json.dumps({"validation_errors": [_NOBODY]}), "errors": [None, True, 7, [], {}, [[_NOBODY]]]},
)
"""Too large, too deep, with values for names, numbers that cannot be, control characters and half characters."""


def _missing(data_type: str) -> tuple[str, str]:
    """Return a field that is required of the data type, and the message that it is missing."""
    return (
        ("name", "Customer name is required") if data_type == "customers" else ("customerId", "Customer ID is required")
    )


def _by_index(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {
        "validation_errors": [
            {"field": field, "message": message, "code": "required", "index": index} for index in indexes
        ]
    }


def _texts(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return [message for _ in indexes]


def _map(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {str(index): [message] for index in indexes}


def _batch(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {
        "totalItems": processed,
        "validItems": processed - len(indexes),
        "invalidItems": len(indexes),
        "itemErrors": _map(indexes, field, message, processed),
    }


def _numbers(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {"fields": {field: {"missing": len(indexes), "invalid": 0, "total": processed}}}


def _by_name(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {"missing_fields": {field: len(indexes)}}


def _nested(indexes: Sequence[int], field: str, message: str, processed: int) -> Any:
    return {"context": {"response": _by_index(indexes, field, message, processed)}}


REJECTIONS: tuple[Callable[[Sequence[int], str, str, int], Any], ...] = (
    _by_index,
    _texts,
    _map,
    _batch,
    _numbers,
    _by_name,
    _nested,
)
"""The shapes in which a completed run tells which field its rejected records lack."""


def run_number(*parts: object) -> int:
    """Return a number that depends on the parts and on nothing else."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:4], "big")


def failure_details(number: int) -> Any:
    """Return what a failed run holds: one time in eight something hostile, else an error of the API, or nothing."""
    source = HOSTILE_DETAILS if number % 8 == 0 else API_DETAILS
    return source[number // 8 % len(source)]


def rejection_details(number: int, *, data_type: str, processed: int, rejected: int) -> tuple[Any, Any]:
    """
    Return ``error_details`` and ``metadata`` of a completed run; two times in three it tells why records were rejected.

    Then each of the ``rejected`` lacks one required field of its data type: ``customerId`` of invoices, ``name`` of
    customers; in either of the two columns. Without a rejected record it may say that there was none, and mostly says nothing.
    """
    if number % 3 == 0 or not (rejected or number % 5 == 0):
        return None, None
    field, message = _missing(data_type)
    shape = REJECTIONS[number // 3 % len(REJECTIONS)]
    # A record's index is not its place in the list.
    document = (
        shape(range(1, 1 + 2 * rejected, 2), field, message, processed) if rejected else {"validation_errors": []}
    )
    return (document, None) if number // 21 % 2 else (None, document)

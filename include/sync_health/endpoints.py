"""
Endpoints of the ServiceTitan API as metrics name them: the path alone, with everything masked that is not a word.

What may stand is a list, not what must go: a path can carry ids, names, mail addresses and tokens in any shape, and a
label must have few values and no personal data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

ID = "{id}"
"""What stands for a part of a path that is not a word."""

OTHER = "other"
"""What stands for every endpoint beyond the most frequent ones; no path, so that none is mistaken for it."""

MOST_ENDPOINTS = 200
"""Different endpoints that one read of one source may name: ServiceTitan's API has fewer that a sync uses."""

MOST_SEGMENTS = 12
"""Parts of a path that are told; ServiceTitan's own have at most seven."""

UNKNOWN = ""
"""The endpoint of a call of which nobody knows it."""

_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{0,39}")
_VERSION = re.compile(r"[vV][0-9]{1,2}")
_METHOD = re.compile(r"(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS)\s+", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


@lru_cache(maxsize=65_536)
def templated(endpoint: str) -> str:
    """
    Return an endpoint with its ids masked, such as ``/crm/v2/tenant/{id}/customers/{id}``.

    Method, scheme, host, query and fragment are dropped. A part of the path stays when it is a word of ASCII letters,
    ``_``, ``.`` and ``-`` of at most 40 characters, or a version such as ``v2``; every other one, and the one that follows
    ``tenant``, becomes ``{id}``. The result begins with ``/``, or is empty for an empty endpoint; a second time changes
    nothing.

    Args:
        endpoint: as the application, a log or a probe writes it; a path or a whole URL.
    """
    path = _METHOD.sub("", endpoint.strip(), count=1)
    path = _HOST.sub("", path, count=1)
    path = re.split(r"[?#]", path, maxsplit=1)[0]
    parts = [part for part in path.split("/") if part.strip()]
    if not parts:
        return "/" if "/" in path else UNKNOWN
    told: list[str] = []
    for part in parts[: MOST_SEGMENTS + 1]:
        follows_tenant = bool(told) and told[-1].lower() == "tenant"
        is_told = (_WORD.fullmatch(part) or _VERSION.fullmatch(part)) and not follows_tenant
        told.append(part if is_told and len(told) < MOST_SEGMENTS else ID)
    return "/" + "/".join(told)


def most_frequent(calls: Mapping[str, int], *, most: int = MOST_ENDPOINTS, known: Iterable[str] = ()) -> frozenset[str]:
    """
    Return which endpoints keep their name; the others are to be told as `OTHER`.

    Args:
        calls: the number of calls by templated endpoint.
        most: how many may keep it.
        known: those that have been told before, and come first: an endpoint must not change its name from run to run.
    """
    before = frozenset(known)
    ranked = sorted(calls, key=lambda name: (name not in before, -calls[name], name))
    return frozenset(ranked[:most])


def endpoint_in_words(endpoint: str) -> str:
    """Return a template as messages name it: "/customers", "other endpoints", "an unknown endpoint"."""
    if endpoint == OTHER:
        return "other endpoints"
    return endpoint or "an unknown endpoint"

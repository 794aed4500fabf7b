"""Which names are time zones: those that Python and PostgreSQL read alike."""

from __future__ import annotations

import zoneinfo
from functools import cache

NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
"""Files that are no zones: "not set", this machine's own zone, and rules. PostgreSQL refuses or misreads them."""


@cache
def known_zones() -> frozenset[str]:
    """
    Return the IANA names that this machine knows, without `NO_ZONES` and the folders ``posix`` and ``right``.

    `zoneinfo.ZoneInfo` takes any file of the zones' folder, so that it opens is no proof. The folder is read once.
    """
    return frozenset(zoneinfo.available_timezones()) - NO_ZONES

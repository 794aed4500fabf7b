"""Keys of the source's tables: what an id's text means, and the ends of their range."""

from __future__ import annotations

import uuid
from typing import Literal

FIRST_KEY, LAST_KEY = -(2**63), 2**63 - 1
"""The ends of int8: no bound."""


def key_of(text: str, kind: Literal["integer", "uuid"]) -> int | uuid.UUID | None:
    """Return the key that an id's text means, None when it is no key of that kind."""
    try:
        if kind == "uuid":
            return uuid.UUID(text)
        key = int(text)
    except ValueError:
        return None
    return key if FIRST_KEY <= key <= LAST_KEY else None

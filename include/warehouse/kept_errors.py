"""How much of an error the ledger keeps."""

from __future__ import annotations

from include.warehouse.stored_values import storable_text

ERROR_LIMIT = 500
"""Characters of an error that are kept; the caller has redacted it."""


def kept_error(text: str) -> str:
    """Return an error as it is stored: what PostgreSQL can hold of it, cut to `ERROR_LIMIT`."""
    clean = storable_text(text)
    return clean if len(clean) <= ERROR_LIMIT else clean[: ERROR_LIMIT - 1] + "…"

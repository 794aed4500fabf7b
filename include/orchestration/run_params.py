"""Which Params a run may be given: Airflow takes every key of a run's ``conf`` into its Params, a misspelt one too."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from include.sync_health.errors import RequestError

SHOWN_CHARS = 40
"""Of a key that nobody knows, which may be anything."""


def unknown_params(given: Iterable[str], *, known: Sequence[str]) -> list[str]:
    """Return those of the names that are none of the known ones, as they were given."""
    return [name for name in given if name not in known]


def require_known_params(given: Iterable[str], *, known: Sequence[str]) -> None:
    """
    Refuse a Param that the DAG does not have: what was meant by it would be left undone, and nobody would hear of it.

    Args:
        given: the names of the run's Params.
        known: those that the DAG has, in the order of its form.

    Raises:
        RequestError: there is one; names it, what was probably meant, and all that there are.
    """
    unknown = unknown_params(given, known=known)
    if not unknown:
        return
    near = [match for name in unknown for match in difflib.get_close_matches(_folded(name), known, n=1)]
    hint = f"did you mean {' and '.join(dict.fromkeys(near))}? " if near else ""
    named = ", ".join(repr(name[:SHOWN_CHARS]) for name in unknown)
    raise RequestError(f"unknown Param{'s' if len(unknown) > 1 else ''} {named}; {hint}use {', '.join(known)}")


def _folded(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")

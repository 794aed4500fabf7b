"""
Exceptions fit for a log: where they were raised stays, their texts are redacted.

A traceback ends with the exception's text, and that may quote a row, an address or a token: a driver tells the value
that it could not convert. Loggers take an exception as it is, so it is replaced before they see it.
"""

from __future__ import annotations

from include.sync_health.redaction import clean

TEXT_LIMIT = 1_000
"""Characters of one exception's text that are kept."""

LONGEST_CHAIN = 5
"""So many causes and contexts are told; a chain may even lead back to itself."""


def without_secrets(error: BaseException, *, links: int = LONGEST_CHAIN) -> BaseException:
    """
    Return a stand-in for an exception: the name of its class, its traceback and its causes, with redacted texts.

    The stand-in is for loggers alone: it is of another class, and has no attributes. Notes and the members of a group
    are left out.

    Args:
        error: the exception; it is not changed.
        links: how many causes and contexts, one behind the other, go with it.
    """
    kind = type(error)
    stand_in: BaseException = type(kind.__name__, (Exception,), {"__module__": kind.__module__})(
        clean(_text_of(error), limit=TEXT_LIMIT)
    )
    stand_in.__traceback__ = error.__traceback__
    if links > 0:
        if error.__cause__ is not None:
            stand_in.__cause__ = without_secrets(error.__cause__, links=links - 1)
        elif error.__context__ is not None and not error.__suppress_context__:
            stand_in.__context__ = without_secrets(error.__context__, links=links - 1)
    return stand_in


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__ must not hide that there was an error
        return "(an error without a text)"

"""The words a rule may answer with, and how bad an answer is."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """
    What a rule says of one identity at one instant.

    Only BREACH opens an alert and only CLEAR closes one; the others freeze what is there
    (`reference: docs/architecture.md`, "Verdicts").
    """

    BREACH = "breach"
    CLEAR = "clear"
    BAND = "band"  # between the two thresholds: neither opens nor closes
    INSUFFICIENT = "insufficient"  # too few events to judge
    NO_DATA = "no_data"  # nothing to judge by
    ERROR = "error"  # the evaluation itself failed
    REMOVED = "removed"  # the target is gone: a credential or row deleted upstream
    RETIRED = "retired"  # the rule is off: nobody looks any more
    EXPIRED = "expired"  # out of the horizon that we follow: closed without evidence of recovery


class Severity(StrEnum):
    """How bad a breach is; compare with ``rank``, never as text."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for low to 3 for critical."""
        return list(Severity).index(self)

    def capped(self, cap: Severity | None) -> Severity:
        """Return the lesser of this severity and ``cap``."""
        return self if cap is None or self.rank <= cap.rank else cap


class ErrorClass(StrEnum):
    """Why a sync failed, as far as its text tells."""

    AUTH = "auth"
    PERMISSION = "permission"
    RATE_LIMIT = "rate_limit"
    TIMEOUT = "timeout"
    SERVER = "server"
    DECODE = "decode"
    VALIDATION = "validation"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

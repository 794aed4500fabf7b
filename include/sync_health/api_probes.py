"""What one call of our own to ServiceTitan came to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from include.sync_health.verdicts import ErrorClass

SIGN_IN_PATH = "/connect/token"
"""Where a token is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """
    One probe of one credential.

    ``endpoint`` is the last one that was called (`SIGN_IN_PATH` where signing in failed), with ids masked, and None where
    nothing was called: the connection cannot be used as it is, or the result comes from the store, which does not keep it.
    ``status_code`` and ``response_ms`` are that call's; None without an answer.
    """

    at: datetime  # when it began; aware
    status_code: int | None = None
    response_ms: float | None = None  # milliseconds from connecting to the last byte, without signing in
    error_class: ErrorClass | None = None  # None: all is well
    error: str | None = None  # one line without secrets
    endpoint: str | None = None
    credential_id: str = ""
    environment: str = "unknown"  # the credential's, as the source says
    company_id: str = ""  # empty: not known

    @property
    def status(self) -> Literal["success", "error"]:
        """Return ``success`` or ``error``."""
        return "success" if self.error_class is None else "error"

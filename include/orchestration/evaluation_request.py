"""What one evaluation of a check is given: all of it values."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from include.orchestration.check_reading import RunFilters
from include.sync_health.checks import SYNC_FAILURES, Check
from include.sync_health.errors import PolicyError, SourceError
from include.sync_health.policy import Policy
from include.sync_health.windows import RunMode, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """
    What one evaluation needs, all of it values.

    Args:
        check: which rules, and of whom.
        source_conninfo: libpq conninfo of the Hub Plus database, or why there is none: then the source cannot be seen.
        monitoring_conninfo: libpq conninfo of ours.
        policy: what is in force, with its canonical text and version as ``policy_file`` gives them.
        policy_error: why the file on disk is not what is in force; None when it is.
        window: the window; ``as_of`` is the only now that the rules know.
        mode: LIVE moves alerts and sends; HISTORICAL writes history.
        configured: kinds of channel that have a connection.
        now: the wall clock, read once by the caller; aware.
        last_try: False lets a passing trouble with the source raise, for the caller to try again.
        as_baseline: what opens was broken before anybody watched: one summary per channel. Then a source that cannot be
            seen, or not all of it, raises: there is nothing to adopt.
        dry_run: do everything, and undo it: the outcome says what would have been.
    """

    check: Check = SYNC_FAILURES
    source_conninfo: str | SourceError
    monitoring_conninfo: str
    policy: Policy
    policy_error: PolicyError | None = None
    window: Window
    mode: RunMode
    filters: RunFilters = field(default_factory=RunFilters)
    configured: Collection[str] = ()
    may_notify: bool = True
    now: datetime
    last_try: bool = True
    as_baseline: bool = False
    dry_run: bool = False

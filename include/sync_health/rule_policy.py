"""What the policy of every rule has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from include.sync_health.errors import PolicyError
from include.sync_health.verdicts import Severity


class RuleMode(StrEnum):
    """What becomes of a rule's verdicts."""

    LIVE = "live"  # recorded and sent
    SHADOW = "shadow"  # recorded, not sent
    OFF = "off"  # not evaluated


@dataclass(frozen=True, slots=True, kw_only=True)
class RulePolicy:
    """What every rule has."""

    mode: RuleMode = RuleMode.LIVE
    severity: Severity = Severity.MEDIUM
    for_: timedelta = timedelta(0)  # how long a breach must last before it opens (`for` in the file)
    keep_firing_for: timedelta = timedelta(0)  # how long it must stay clear before it closes

    def __post_init__(self) -> None:
        """Refuse negative durations."""
        for name in ("for_", "keep_firing_for"):
            if getattr(self, name) < timedelta(0):
                raise PolicyError(path=name.rstrip("_"), value=getattr(self, name), allowed="use 0 or more")

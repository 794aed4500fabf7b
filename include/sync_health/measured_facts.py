"""What a run judges beside the syncs: our own hours of API calls, and the days of the service levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.sync_health.checks import API_RULES

if TYPE_CHECKING:
    import pandas as pd

    from include.sync_health.api_window import ApiWindow


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredFacts:
    """
    What our own tables have measured.

    Args:
        api: hours of API calls; None where they were not read.
        objective_days: `include.sync_health.service_levels.OBJECTIVE_DAY_COLUMNS`; None where they were not read, as in a
            historical run: the budget of the past would be told by days that came after it.
    """

    api: ApiWindow | None = None
    objective_days: pd.DataFrame | None = None

    def has(self, rule: str) -> bool:
        """Return whether what a rule needs of it was read; of a rule that needs nothing, True."""
        if rule in API_RULES:
            return self.api is not None
        return rule != "error_budget" or self.objective_days is not None


NOTHING_MEASURED = MeasuredFacts()

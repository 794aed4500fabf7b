"""Calls and days that the rules over what is measured breach by, as of the story tests' instant."""

from __future__ import annotations

from datetime import timedelta

import pandas as pd

from include.sync_health.api_window import judged_hours
from include.sync_health.measured_facts import MeasuredFacts
from tests.sync_health.api_windows import state, stored, window
from tests.sync_health.call_rows import Call
from tests.sync_health.frames_of import AS_OF

_HOUR, _ = judged_hours(AS_OF, window=timedelta(hours=1))

BAD_CALLS = MeasuredFacts(
    api=window(
        stored([Call(at=_HOUR, ms=8_000.0)] * 180 + [Call(at=_HOUR, status=429, ms=8_000.0)] * 16),
        sources={"table": state(looked_at=AS_OF)},
    )
)
"""An hour of slow calls, some of which were refused for the rate."""

BURNT_DAYS = MeasuredFacts(
    objective_days=pd.DataFrame(
        {
            "day": [AS_OF.date() - timedelta(days=number) for number in (1, 2, 3)],
            "environment": "production",
            "objective": "sync_completion",
            "good": 950,
            "total": 1_000,
        }
    )
)
"""Three days in which one sync of twenty failed."""

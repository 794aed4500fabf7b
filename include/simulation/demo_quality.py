"""The daily quality of the demo's history, computed as a backfill computes it, for the plot and the exports to show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from include.orchestration.backfill_days import Which
from include.orchestration.history import History, wanted_days
from include.orchestration.quality_backfill import restate_range
from include.orchestration.settings import policy_in_force
from include.simulation.demo_history import PAST_DAYS
from include.simulation.demo_script import HISTORY_DAYS
from include.simulation.generated_timeline import SEASONING
from include.simulation.world_plan import DAY
from include.sync_health.errors import MonitorError

log = logging.getLogger("servicetitan")


def compute_history(
    source_dsn: str, monitoring_dsn: str, *, since: datetime, now: datetime, tell: Callable[[str], None]
) -> None:
    """
    Compute what is missing of the whole days before ``since``; what a start has computed, the next one leaves.

    Nothing of the demo depends on it: what keeps it from being done is told, and no more.

    Args:
        source_dsn, monitoring_dsn: of the simulated Hub Plus, seeded up to ``since``, and of our schema, migrated.
        since: when the rounds began; aware.
        now: by whose day days are final; aware.
        tell: called with one line.
    """
    # What a backfill warns of row by row is for its log; the simulated rows are odd on purpose.
    quiet = logging.NullHandler()
    log.addHandler(quiet)
    try:
        history = History(
            source_conninfo=source_dsn,
            monitoring_conninfo=monitoring_dsn,
            policy=policy_in_force().loaded.policy,
            as_of=now,
        )
        # Whatever the reporting time zone: days older than the source's oldest row are refused, and told of as such.
        first = (since - SEASONING).astimezone(UTC).date() - (HISTORY_DAYS + PAST_DAYS) * DAY
        days = [first + number * DAY for number in range((since.astimezone(UTC).date() - first).days)]
        wanted = wanted_days(history, days, which=Which.MISSING)
        done = restate_range(history, [wanted], clock=lambda: now)
    except MonitorError as error:
        tell(f"not computed: {error}")
        return
    finally:
        log.removeHandler(quiet)
    tell(f"{done.counts.get('days', 0)} days, {done.counts.get('rows', 0):,} rows")

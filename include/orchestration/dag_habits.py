"""What every DAG of this project shares: owner, retries, time-outs, tags. Imported at parse time: nothing heavy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

OWNER = "servicetitan-monitor"
TAGS = ("servicetitan", "monitoring")

START = datetime(2025, 1, 1, tzinfo=UTC)
"""From when on a backfill may ask; nothing is caught up on its own."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "execution_timeout": timedelta(minutes=5),
}

DAGRUN_TIMEOUT = timedelta(minutes=45)
"""Longer than all tries of all tasks in a row: a run that times out skips its last task, which is the one that tells."""

SOURCE_POOL = "servicetitan_source"
"""The pool of tasks that read the Hub Plus database; see airflow_settings.yaml."""

BACKFILL_POOL = "servicetitan_backfill"
"""The pool of the months of a backfill: in the other, they would keep the checks waiting."""

"""
An independent oracle of the metrics of syncs, in plain Python over plain rows, written from the contract's words.

It knows nothing of frames, levels of the code or the warehouse; `told` is what a list of samples comes to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
from hypothesis import strategies as st

from include.sync_health.sync_metrics import Sample
from tests.sync_health.frames_of import AS_OF, runs_frame
from tests.sync_health.oracle import Row, cancelled

BELIEVED = 2_147_483_647
SECOND = timedelta(seconds=1)

Told = dict[tuple[str, tuple[str, ...]], list[float]]

ERROR_CLASSES = {
    "HTTP 401 invalid_client": "auth",
    "ServiceTitan API server error: 503": "server",
    None: "unknown",
    "odd": "unknown",
}


@dataclass(frozen=True, kw_only=True)
class Sync(Row):
    """A row of the log, with the column that upstream hardly ever sets."""

    seconds: int | None = None


def frame_of(rows: Iterable[Sync]) -> pd.DataFrame:
    """Return rows as a read with counts does."""
    rows = list(rows)
    frame = runs_frame(rows)
    for name in ("records_processed", "records_successful", "records_failed"):
        frame[name] = pd.Series([getattr(row, name) for row in rows], dtype="float64")
    return frame.assign(processing_seconds=pd.Series([row.seconds for row in rows], dtype="float64"))


def outcome(row: Row) -> tuple[str, datetime] | None:
    """How and when a sync ended; None of one that has not."""
    if row.completed_at is not None:
        end = row.completed_at
    elif row.status in ("failed", "cancelled"):
        end = row.updated_at
    elif row.status == "completed":
        end = row.started_at
    else:
        return None
    if cancelled(row):
        return "cancelled", end
    return (row.status, end) if row.status in ("completed", "failed") else None


def seconds_of(row: Sync) -> float | None:
    """How long a sync took."""
    length = row.seconds
    if length is None:
        if row.completed_at is None:
            return None
        length = (row.completed_at - row.started_at) / SECOND
    return length if 0 < length <= BELIEVED else None


def told(samples: Iterable[Sample]) -> Told:
    """What samples say, by name and label values: all timings, and the one value of anything else."""
    found: Told = defaultdict(list)
    for sample in samples:
        found[sample.name, tuple(value for _, value in sample.labels)].append(sample.value)
    assert all(len(values) == 1 for (name, _), values in found.items() if name != "servicetitan.sync.duration")
    return {key: sorted(values) for key, values in found.items()}


def expected(
    rows: Iterable[Sync], *, names: Mapping[int, tuple[str, str]], since: datetime, as_of: datetime, level: str
) -> Told:
    """
    What the syncs of ``(since, as_of]`` say.

    Args:
        names: environment and company of each credential.
        level: minimal, standard or detailed.
    """

    def labels(row: Row, *more: str) -> tuple[str, ...]:
        environment, company = names.get(row.credential, ("unknown", "unknown"))
        kept = [environment, row.data_type, *more]
        if level != "minimal":
            kept.append(company)
        return tuple([*kept, str(row.credential)] if level == "detailed" else kept)

    counters: dict[tuple[str, tuple[str, ...]], float] = defaultdict(float)
    durations: Told = defaultdict(list)
    newest: dict[tuple[str, ...], tuple[datetime, int, Sync]] = {}
    for row in rows:
        if since < row.started_at <= as_of:
            counters["servicetitan.sync.started", labels(row)] += 1
        ended = outcome(row)
        if ended is None or not since < ended[1] <= as_of:
            continue
        status, end = ended
        key = labels(row, status)
        counters["servicetitan.sync.completed", key] += 1
        length = seconds_of(row)
        if length is not None:
            durations["servicetitan.sync.duration", key].append(length)
        if status == "failed" and level == "detailed":
            counters["servicetitan.sync.failures", labels(row, ERROR_CLASSES[row.error_message])] += 1
        if key not in newest or newest[key][:2] < (end, row.id):
            newest[key] = (end, row.id, row)
    found: Told = {key: [value] for key, value in counters.items()}
    found |= {key: sorted(values) for key, values in durations.items()}
    if level == "minimal":
        return found
    for key, (_, _, row) in newest.items():
        counts = {
            name: value
            for name in ("records_processed", "records_successful", "records_failed")
            if (value := getattr(row, name)) is not None and abs(value) <= BELIEVED
        }
        found |= {(f"servicetitan.sync.{name}", key): [float(value)] for name, value in counts.items()}
        processed, successful = counts.get("records_processed"), counts.get("records_successful")
        if processed and successful is not None and 0 <= successful <= processed:
            found["servicetitan.sync.success_rate", key] = [100 * successful / processed]
    return found


COUNTS = st.one_of(st.none(), st.integers(-2, 40), st.sampled_from((0, BELIEVED, BELIEVED + 1)))


@st.composite
def syncs(draw: st.DrawFn, *, as_of: datetime = AS_OF, window: timedelta, max_size: int = 25) -> list[Sync]:
    """Rows around both edges of a window that ends at ``as_of``: of every status, odd ones too."""
    edges = st.sampled_from(
        [edge + nudge for edge in (timedelta(0), window) for nudge in (-SECOND, timedelta(0), SECOND)]
    )
    offsets = st.one_of(edges, st.integers(-600, int(window / SECOND) + 600).map(lambda seconds: seconds * SECOND))
    rows = []
    for number in range(1, draw(st.integers(0, max_size)) + 1):
        status = draw(
            st.sampled_from(("completed", "completed", "failed", "running", "pending", "cancelled", "unknown"))
        )
        end = as_of - draw(offsets)
        started = draw(st.sampled_from((end, end - SECOND, end + SECOND, end - timedelta(minutes=20), as_of - window)))
        errors = (*ERROR_CLASSES, "Sync cancelled by user")
        rows.append(
            Sync(
                id=number,
                credential=draw(st.integers(1, 3)),
                data_type=draw(st.sampled_from(("invoices", "both"))),
                status=status,
                started_at=started,
                completed_at=end if draw(st.integers(0, 9)) and status not in ("running", "pending") else None,
                updated_at=end,
                error_message=draw(st.sampled_from(errors)) if status == "failed" else None,
                records_processed=draw(COUNTS),
                records_successful=draw(COUNTS),
                records_failed=draw(COUNTS),
                seconds=draw(st.sampled_from((None, None, 0, -1, 90, BELIEVED, BELIEVED + 1))),
            )
        )
    return rows

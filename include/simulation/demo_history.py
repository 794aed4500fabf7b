"""
The months before the demo's own week: what its credentials synced, so that the daily quality has a trend to show.

They lie before everything that an alert looks at but the comparison with the same weekday, and are on no ordinary day
better than the week that follows: nothing there is a breach because of them. Who syncs every hour now did so every four
hours then, and found four times as much. More and more credentials join; and, counted in days back from their end:

    112 to 52   a check of addresses is too strict, and is loosened bit by bit
    48          maintenance: nothing syncs
    34 to 30    a release loses records of two credentials in three
    17          the API is down for most of the day
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from include.simulation.generated_timeline import Generated
from include.simulation.messy_details import rejection_details, run_number
from include.simulation.messy_rows import EVERYDAY_ERRORS, PlannedRun, count_messy, failed, healthy_run
from include.simulation.planted_faults import clock_changes
from include.simulation.source_shapes import shape_named
from include.simulation.timeline import Table, Write
from include.simulation.world_plan import DAY, HOUR, SECOND, Account

PAST_DAYS = 112
"""As many as the plot draws by itself (90), and the weeks before that its first days are compared with."""

THERE_FROM_THE_START = 12  # accounts
JOIN_EVERY = timedelta(hours=56)
FAILED_SHARE = 0.02  # of the runs of an ordinary day
SLOWER = 4  # times as long between two runs of an hourly stream: a quarter of the rows to make at every start


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """
    Days that were not as the others.

    Args:
        first, last: the earliest and the latest of them, in days back from the day on which the past ends.
        rejected: share of the records that are rejected on the first and on the last of them, on the average; linear
            between.
        spares: which accounts it leaves alone: those whose number is a multiple of this; None: nobody.
        failed: share of the runs that fail.
        is_silent: whether nothing starts.
    """

    first: int
    last: int
    rejected: tuple[float, float] = (0.004, 0.004)
    spares: int | None = None
    failed: float = FAILED_SHARE
    is_silent: bool = False

    def rejected_on(self, day: int) -> float:
        """Return the share of the records that are rejected on a day of it."""
        begin, end = self.rejected
        return begin + (end - begin) * (self.first - day) / max(self.first - self.last, 1)


ORDINARY = Episode(first=0, last=0)
EPISODES = (
    Episode(first=112, last=52, rejected=(0.06, 0.004)),
    Episode(first=48, last=48, is_silent=True),
    Episode(first=34, last=30, rejected=(0.14, 0.10), spares=3),
    Episode(first=17, last=17, failed=0.9),
)


def past_runs(accounts: Sequence[Account], *, until: datetime, days: int, seed: int) -> list[PlannedRun]:
    """
    Return the runs of the past, by start.

    Args:
        accounts: of the world that follows; those that come, go or are not used have no past.
        until: from when on the world has its own runs; aware. The past begins at the UTC midnight ``days`` before.
        days: how many; with 0 there is none.
        seed: of everything that is drawn.
    """
    begin = until.replace(hour=0, minute=0, second=0, microsecond=0) - days * DAY
    source = random.Random(f"past:{seed}")  # noqa: S311  simulated data
    moods = [source.uniform(0.6, 1.4) for _ in range(days + 1)]
    runs = [
        run
        for account in accounts
        if account.is_in_use and account.deleted_at is None and account.created_at < begin
        for run in _account_runs(account, moods, begin=begin, until=until, seed=seed)
    ]
    return sorted(runs, key=lambda run: (run.started_at, run.account, run.data_type)) if days else []


def with_past(generated: Generated, past: Sequence[PlannedRun]) -> Generated:
    """
    Return the world with the past before it: its own runs are numbered after those of the past.

    Args:
        generated: a world.
        past: `past_runs`; all of them ended before the world begins.
    """
    if not past:
        return generated
    plan, shift = generated.plan, len(past)
    writes = [_write(run, number) for number, run in enumerate(past, start=1)]
    writes += [
        replace(write, number=write.number + shift) if write.table is Table.RUN else write for write in generated.writes
    ]
    order = list(Table)
    writes.sort(key=lambda write: (write.at, order.index(write.table) * (1 if write.values is not None else -1)))
    count = max((write.number for write in generated.writes if write.table is Table.RUN), default=0)
    renamed = {
        generated.id_text(Table.RUN, number): generated.id_text(Table.RUN, number + shift)
        for number in range(1, count + 1)
    }
    messy = count_messy(
        past,
        shape=shape_named(plan.shape),
        changes=clock_changes(ZoneInfo(plan.timezone), past[0].started_at, plan.begin),
        gone={},
        until=generated.until,
    )
    return replace(
        generated,
        writes=tuple(writes),
        truths=tuple(
            replace(truth, identity={**truth.identity, "sync": renamed[truth.identity["sync"]]})
            if "sync" in truth.identity
            else truth
            for truth in generated.truths
        ),
        messy={kind: number + messy[kind] for kind, number in generated.messy.items()},
    )


def _account_runs(
    account: Account, moods: Sequence[float], *, begin: datetime, until: datetime, seed: int
) -> Iterator[PlannedRun]:
    """Yield an account's runs; ``moods`` are the factors by which more or fewer records are rejected, by day back."""
    joined = begin + max(0, account.number - THERE_FROM_THE_START) * JOIN_EVERY
    times = SLOWER if account.cadence == HOUR else 1
    account = replace(account, cadence=account.cadence * times)
    for slot, data_type, due in account.slots(since=joined, until=until):
        day = (until.date() - due.date()).days
        episode = next((each for each in EPISODES if each.last <= day <= each.first), ORDINARY)
        if episode.is_silent:
            continue
        source = random.Random(f"past:{seed}:{account.number}:{data_type}:{slot}")  # noqa: S311  simulated data
        start = due + source.randrange(40) * SECOND
        run = healthy_run(account, source=source, data_type=data_type, started_at=start)
        if source.random() < episode.failed:
            yield failed(run, source.choice(EVERYDAY_ERRORS))
            continue
        is_spared = episode.spares is not None and account.number % episode.spares == 0
        share = 0.0 if is_spared else episode.rejected_on(day) * moods[day] * source.uniform(0.5, 1.5)
        yield _sized(run, times, share, source=source)


def _sized(run: PlannedRun, times: int, share: float, *, source: random.Random) -> PlannedRun:
    """Return the run with so many times the records and the rejected ones, or with that share of them rejected if it is more."""
    processed = run.records[0] * times
    rejected = min(processed, max(run.records[2] * times, int(processed * share + source.random())))
    number = run_number(run.account, run.data_type, run.started_at)
    details, metadata = rejection_details(number, data_type=run.data_type, processed=processed, rejected=rejected)
    return replace(run, records=(processed, processed - rejected, rejected), error_details=details, metadata=metadata)


def _write(run: PlannedRun, number: int) -> Write:
    """Return the write of a run that nobody saw running: as it ended."""
    processed, successful, rejected = run.records
    ended_at = run.ended_at or run.started_at
    return Write(
        ended_at,
        Table.RUN,
        number,
        {
            "credential": run.account,
            "sync_type": run.sync_type,
            "data_type": run.data_type,
            "status": run.status,
            "started_at": run.started_at,
            "completed_at": run.completed_at,
            "records_processed": processed,
            "records_successful": successful,
            "records_failed": rejected,
            "error_message": run.error_message,
            "error_details": run.error_details,
            "metadata": run.metadata,
            "processing_time_seconds": run.processing_time_seconds,
            "created_at": run.started_at,
            "updated_at": ended_at,
        },
    )

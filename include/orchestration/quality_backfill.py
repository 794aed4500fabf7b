"""
History of the daily quality in bulk: planning and restating days (`history` says by what, `quality_estimate` how much).

A backfill is historical, whoever starts it: days are final by today's date, no rule is judged, no alert moves, and
nobody is told anything, not even of a failure. Each day is committed by itself, so that one which stops half-way leaves
whole days, and doing it again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Any

from include.orchestration.backfill_days import Month, days_asked_for, months_between, which_of
from include.orchestration.day_restatement import Restated, restate_days
from include.orchestration.history import History, open_history, wanted_days
from include.orchestration.run_params import require_known_params
from include.orchestration.structured_logs import DecisionLog, bound
from include.sync_health.durations import describe

if TYPE_CHECKING:
    from include.orchestration.day_restatement import Progress

log = DecisionLog("servicetitan.quality_backfill")

PARAMS = ("from", "to", "days", "dry_run")
"""Those of the DAG, in the order of its form; a test keeps them equal."""

TELLINGS = 10
"""How often a month tells in the log how far it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfilled:
    """
    What became of the days.

    Args:
        counts: of `Restated.counts`, summed; all zero when there was no day.
        refused: days older than the oldest row of the source: what is stored of them stays.
        notes: sentences for people about how it was read.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[date, ...] = ()
    notes: tuple[str, ...] = ()


def restate_range(
    history: History,
    batches: Sequence[Sequence[date]],
    *,
    clock: Callable[[], datetime],
    progress: Callable[[Progress], None] | None = None,
) -> Backfilled:
    """
    Restate batches of days, one batch after the other; each day is committed by itself.

    Args:
        history: of `open_history`.
        batches: days of one batch are gone through oldest first.
        clock: tells the present moment; aware.
        progress: is told how far all of it is.

    Raises:
        SourceError, StorageError: as `restate_days`; days already replaced stay so.
    """
    counts = Counter(Restated().counts())
    refused: list[date] = []
    notes: dict[str, None] = {}
    total = sum(len(batch) for batch in batches)
    backfill, done, read, written = history.policy.backfill, 0, 0, 0
    for batch in batches:
        if not batch:
            continue
        told = _Rebased(days=done, total=total, read=read, written=written, progress=progress)
        restated = restate_days(
            history.source_conninfo,
            history.monitoring_conninfo,
            policy=history.policy,
            days=batch,
            as_of=history.as_of,
            clock=clock,
            slack=history.policy.source.open_lookback,
            rows_per_read=backfill.rows_per_read,
            pause=backfill.pause,
            progress=told,
        )
        found = restated.counts()
        counts.update(found)
        done, read, written = done + len(batch), read + found["rows_read"], written + found["rows"]
        refused += restated.refused
        notes |= dict.fromkeys(restated.notes)
    return Backfilled(counts=dict(counts), refused=tuple(sorted(refused)), notes=tuple(notes))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rebased:
    """Tells the progress of a batch as that of all batches."""

    days: int
    total: int
    read: int
    written: int
    progress: Callable[[Progress], None] | None

    def __call__(self, of_batch: Progress) -> None:
        if self.progress is not None:
            self.progress(
                replace(
                    of_batch,
                    days_done=self.days + of_batch.days_done,
                    days_total=self.total,
                    rows_read=self.read + of_batch.rows_read,
                    rows_written=self.written + of_batch.rows_written,
                )
            )


class Pace:
    """Tells how far and how fast a backfill is, from its beginning on."""

    def __init__(self, *, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    def line(self, progress: Progress) -> str:
        """Return ``12 of 31 days, 345,000 rows read, 12,000 written, 45,000 rows/s, about 20 seconds left``."""
        seconds = max(self.seconds, 1e-6)
        left = seconds * (progress.days_total - progress.days_done) / max(progress.days_done, 1)
        told = (
            f"{progress.days_done} of {progress.days_total} days, {progress.rows_read:,} rows read, "
            f"{progress.rows_written:,} written, {progress.rows_read / seconds:,.0f} rows/s"
        )
        is_over = progress.days_done >= progress.days_total
        return told if is_over else f"{told}, about {describe(timedelta(seconds=left))} left"


def plan_months(params: Mapping[str, Any], *, now: datetime | None = None) -> list[dict[str, str]]:
    """
    Return the months that Params ask for, newest first, as ``{"month", "first", "last"}``; none for a dry run.

    How much it would be is told in the log; a dry run also reads a day of each month, to tell how much it would write.

    Args:
        params: of `PARAMS`.
        now: the wall clock, aware; read here when not given.

    Raises:
        RequestError: a Param makes no sense, or there is no such Param.
        MonitorError: as `open_history`, and as the source is read.
    """
    from include.orchestration.quality_estimate import estimate_months, lines_of

    require_known_params(params, known=PARAMS)
    now = now or datetime.now(UTC)
    history = open_history(now=now)
    first, last = days_asked_for(
        params.get("from"), params.get("to"), timezone=history.policy.reporting_timezone, now=now
    )
    which, is_dry = which_of(params.get("days")), bool(params.get("dry_run"))
    months = {month: wanted_days(history, month.days(), which=which) for month in months_between(first, last)}
    wanted = {month: days for month, days in months.items() if days}
    for line in lines_of(estimate_months(history, wanted, with_writes=is_dry)):
        log.info("backfill_estimated", "%(note)s", note=line, dry_run=is_dry or None)
    if is_dry:
        log.info("backfill_not_run", "dry run: nothing is read in full, and nothing is written", dry_run=True)
        return []
    return [
        {"month": month.label, "first": month.first.isoformat(), "last": month.last.isoformat()}
        for month in reversed(wanted)
    ]


def restate_month(
    month: Mapping[str, str], params: Mapping[str, Any], *, now: datetime | None = None
) -> dict[str, Any]:
    """
    Restate a month and return its name and counts; how far it is goes to the log.

    Args:
        month: of `plan_months`.
        params: ``days``; with ``missing``, a retry goes on where the try before it stopped.
        now: the wall clock, aware; read as it goes when not given.

    Raises:
        MonitorError: as `open_history` and `restate_range`; days already replaced stay so.
    """
    history = open_history(now=now or datetime.now(UTC))
    of = Month(first=date.fromisoformat(month["first"]), last=date.fromisoformat(month["last"]))
    days = wanted_days(history, of.days(), which=which_of(params.get("days")))
    pace, told = Pace(), 0

    def tell(progress: Progress) -> None:
        nonlocal told
        if (step := progress.days_done * TELLINGS // progress.days_total) > told:
            told = step
            log.info(
                "backfill_progress",
                "%(month)s: %(progress)s",
                progress=pace.line(progress),
                days_done=progress.days_done,
                days_total=progress.days_total,
                rows_read=progress.rows_read,
                rows_written=progress.rows_written,
            )

    with bound(month=of.label):
        done = restate_range(history, [days], clock=lambda: now or datetime.now(UTC), progress=tell)
        for note in done.notes:
            log.info("backfill_note", "%(month)s: %(note)s", note=note)
        if days:
            log.info("month_restated", "%(month)s: %(counts)s", counts=done.counts)
        else:
            log.info("month_complete", "%(month)s: nothing is missing")
    return {"month": of.label, **(done.counts if days else {})}


def summarise(context: Any) -> dict[str, int]:
    """
    Return the counts of all months, and fail when one was not done; nothing is sent.

    Raises:
        AirflowFailException: a task failed; what the others wrote stays.
    """
    from airflow.sdk.exceptions import AirflowFailException

    ti, run_id = context["ti"], context["dag_run"].run_id
    planned = ti.xcom_pull(task_ids="plan") or []
    counts: Counter[str] = Counter()
    # By their places: without, a single month would be no list.
    for result in ti.xcom_pull(task_ids="restate_month", map_indexes=range(len(planned))) if planned else ():
        if result is not None:
            counts.update({name: count for name, count in result.items() if name != "month"})
            counts["months"] += 1
    if counts:
        log.info("backfill_done", "%(counts)s", counts=counts)
    else:
        log.info("backfill_without_months", "no month was restated")
    states: Mapping[str, Any] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[run_id]).get(run_id, {})
    undone = {
        name
        for name, state in states.items()
        if name != ti.task_id and str(getattr(state, "value", state)) not in ("success", "skipped")
    }
    if undone:
        labels = {f"restate_month_{place}": month["month"] for place, month in enumerate(planned)}
        named = ", ".join(sorted((labels.get(name, name) for name in undone), reverse=True))
        raise AirflowFailException(
            f"not done: {named}; see the logs of these tasks, then trigger it again with days: missing, which goes on "
            "where it stopped"
        )
    return dict(counts)

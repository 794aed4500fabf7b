"""``quality``: compute the daily quality of the past, say how much it would be, or what is stored; export and plot it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from include.commands import quality_export, quality_plot
from include.commands.quality_uses import OPTIONS, Use, use_of
from include.sync_health.errors import MonitorError

if TYPE_CHECKING:
    from include.orchestration.day_restatement import Progress
    from include.orchestration.history import History
    from include.orchestration.quality_backfill import Backfilled

NAMES = (OPTIONS["first"], OPTIONS["last"])


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "quality",
        help="compute the daily quality of past days, or export and plot what is stored",
        description="With --from: compute monitoring.quality_daily and field_quality_daily anew for a range of days, "
        "from what the Hub Plus database has of them now. Nobody is told and no alert moves. It may be stopped and "
        "repeated at any time, beside the DAGs: days are replaced whole. With --export or --plot: write what is stored "
        "to a file. With neither: say what is stored. Exit code 0: done; 2: it could not be done.",
    )
    parser.add_argument(NAMES[0], dest="first", metavar="DAY", help="first day, YYYY-MM-DD, reporting time zone")
    parser.add_argument(NAMES[1], dest="last", metavar="DAY", help="last day (default: yesterday)")
    parser.add_argument("--dry-run", action="store_true", help="only say about how much would be read and written")
    parser.add_argument(
        "--missing", action="store_true", help="only days that are not stored as final, by the definitions of now"
    )
    parser.add_argument("--newest-first", action="store_true", help="month by month, the newest first")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    quality_export.add_arguments(parser)
    quality_plot.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Compute, estimate, export, plot, or say what is stored.

    With ``--json``, of a backfill ``{"from", "to", "asked_for", "seconds", "refused_days", "notes"}`` and its counts; of
    a dry run ``{"months": [...], "total": {...}}`` with the fields of `MonthEstimate`; of what is stored, the fields of
    `StoredQuality`; of a file, what `quality_export.run_export` and `quality_plot.run_plot` say.

    Returns:
        0: done.

    Raises:
        MonitorError: an argument, the policy, a connection or a database is wrong.
        KeyboardInterrupt: after Ctrl-C; whole days are done.
    """
    use = use_of(args)
    if use in (Use.EXPORT, Use.STREAM):
        return quality_export.run_export(args)
    if use is Use.PLOT:
        return quality_plot.run_plot(args)
    if use is Use.SUMMARY:
        return _tell_stored(as_json=args.json)
    return _backfill(args)


def _backfill(args: argparse.Namespace) -> int:
    from include.orchestration.backfill_days import Which, days_asked_for, in_batches, months_between, undone_days
    from include.orchestration.history import open_history, wanted_days
    from include.orchestration.quality_backfill import Pace, restate_range

    now = datetime.now(UTC)
    history = open_history(now=now)
    zone = history.policy.reporting_timezone
    first, last = days_asked_for(args.first, args.last, timezone=zone, now=now, names=NAMES)
    which = Which.MISSING if args.missing else Which.ALL
    days = wanted_days(history, [day for month in months_between(first, last) for day in month.days()], which=which)
    if args.dry_run:
        return _tell_estimate(history, days, newest_first=args.newest_first, as_json=args.json)
    if not days:
        nothing = restate_range(history, [], clock=lambda: datetime.now(UTC))
        return _tell_done(nothing, first=first, last=last, asked_for=0, seconds=0.0, as_json=args.json)
    batches = in_batches(days, newest_first=args.newest_first)
    pace, newest = Pace(), _Newest()
    try:
        with _shown(len(days), pace.line) as show:
            done = restate_range(history, batches, clock=lambda: datetime.now(UTC), progress=newest.then(show))
    except (KeyboardInterrupt, MonitorError):
        left = sorted(undone_days(batches, done=newest.days_done))
        if left:
            print(
                f"stopped: {len(days) - len(left)} of {len(days)} days are done, whole; to go on: "
                f"quality --from {left[0]} --to {left[-1]}{' --missing' if args.missing else ''}"
                f"{' --newest-first' if args.newest_first else ''}",
                file=sys.stderr,
            )
        raise
    return _tell_done(done, first=first, last=last, asked_for=len(days), seconds=pace.seconds, as_json=args.json)


class _Newest:
    """Keeps how many days are done, for what is to be said when it stops."""

    def __init__(self) -> None:
        self.days_done = 0

    def then(self, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """Return what keeps a progress and then shows it."""

        def keep(progress: Progress) -> None:
            self.days_done = progress.days_done
            show(progress)

        return keep


@contextmanager
def _shown(days: int, line: Callable[[Progress], str]) -> Iterator[Callable[[Progress], None]]:
    """Yield what shows progress on stderr: a bar in a terminal, else a line whenever a month is left behind."""
    if not sys.stderr.isatty():
        month: tuple[int, int] | None = None
        before: Progress | None = None

        def tell(progress: Progress) -> None:
            nonlocal month, before
            now_in = (progress.day.year, progress.day.month)
            if before is not None and now_in != month:
                print(f"{before.day:%Y-%m}: {line(before)}", file=sys.stderr, flush=True)
            month, before = now_in, progress
            if progress.days_done >= progress.days_total:
                print(f"{progress.day:%Y-%m}: {line(progress)}", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("days, {task.fields[rows]} rows"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("quality", total=days, rows="0")

        def draw(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.days_done,
                description=f"{progress.day:%Y-%m-%d}",
                rows=f"{progress.rows_read:,}",
            )

        yield draw


def _tell_done(done: Backfilled, *, first: date, last: date, asked_for: int, seconds: float, as_json: bool) -> int:
    counts, refused, notes = dict(done.counts), [day.isoformat() for day in done.refused], list(done.notes)
    if as_json:
        answer = {
            "from": first.isoformat(),
            "to": last.isoformat(),
            "asked_for": asked_for,
            "seconds": round(seconds, 1),
            **counts,
            "refused_days": refused,
            "notes": notes,
        }
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0
    if not asked_for:
        print(f"nothing is missing from {first} to {last}")
        return 0
    print(f"{counts.pop('days')} days from {first} to {last} in {seconds:,.1f} s")
    for name, count in counts.items():
        print(f"  {count:>12,} {name.replace('_', ' ')}")
    if refused:
        print(
            f"refused: {len(refused)} days from {refused[0]} to {refused[-1]} lie before the log of the source, "
            "without a row; what is stored of them stays"
        )
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    return 0


def _tell_estimate(history: History, days: list[date], *, newest_first: bool, as_json: bool) -> int:
    from include.orchestration.backfill_days import Month, in_batches
    from include.orchestration.quality_estimate import estimate_months, lines_of, total_of

    batches = in_batches(days, newest_first=True)
    months = {Month(first=batch[0], last=batch[-1]): batch for batch in (batches if newest_first else batches[::-1])}
    estimates = estimate_months(history, months, with_writes=True)
    if as_json:
        answer = {"months": [asdict(each) for each in estimates], "total": asdict(total_of(estimates))}
        print(json.dumps(answer, indent=2))
        return 0
    for line in lines_of(estimates):
        print(line)
    print("dry run: nothing was written")
    return 0


def _tell_stored(*, as_json: bool) -> int:
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.daily_quality import CALC_VERSION
    from include.warehouse.monitoring_session import connect
    from include.warehouse.stored_quality import stored_quality

    zone = policy_in_force().loaded.policy.reporting_timezone
    with connect(postgres_conninfo(storage_connection())) as conn:
        stored = stored_quality(conn, calc_version=CALC_VERSION, timezone=zone)
    if as_json:
        print(json.dumps(asdict(stored), indent=2, default=str))
        return 0
    if not stored.days:
        print("no day is stored; compute some: quality --from 2026-01-01 (a day of the reporting time zone)")
        return 0
    print(
        f"{stored.days} days from {stored.first} to {stored.last}, {stored.rows:,} rows; {stored.final} days are final"
    )
    if stored.missing:
        print(
            f"missing: {stored.missing} days between; quality --from {stored.first} --missing computes those that the "
            "source still has"
        )
    if stored.outdated:
        print(
            f"outdated: {stored.outdated} days are of an older definition or another time zone; "
            f"quality --from {stored.first} --missing computes anew those that the source still has"
        )
    if stored.revisions:
        print(f"revisions: {stored.revisions} changed verdicts of final days, the last at {stored.last_revised_at}")
    return 0

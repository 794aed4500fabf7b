"""
``quality --plot FILE``: the trend of the stored quality as a picture, one credential's or all together.

A day's score with its 95 % interval, the score of the 28 days that end with it, what is usual for its weekday (the median of
the four before), and how many records there were. Days without a score are gaps; days that may still change are drawn open.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.commands.quality_export import days_of, new_file, printable, require_parts
from include.sync_health.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

ENDINGS = (".png", ".svg")
DEFAULT_DAYS = 90
"""How many days are drawn where no range is given, and how far a range may reach beyond the newest day computed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option of the plot; the rest it shares with the export."""
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help=f"draw the trend to FILE (.png or .svg); without --from the last {DEFAULT_DAYS} days",
    )


def run_plot(args: argparse.Namespace) -> int:
    """
    Draw the picture, and say what it shows; with ``--json`` as ``{"file", "format", "from", "to", "days"}``.

    Args:
        args: of `add_arguments` here and in `quality_export`, ``json``, and ``first`` and ``last``: days as YYYY-MM-DD or None.

    Returns:
        0: it is drawn.

    Raises:
        MonitorError: the arguments make no sense, nothing is stored of what was asked for, or the file or the database
            cannot be used; no file is left then.
    """
    from include.commands.trend_picture import USUAL_WEEKS, draw_trend, title_of
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import postgres_conninfo
    from include.warehouse.day_sums import read_credential_names
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_history import computed_days

    ending = Path(args.plot).suffix.lower()
    if ending not in ENDINGS:
        raise RequestError(f"--plot: {printable(args.plot)} ends with neither .png nor .svg; rename it")
    asked_first, asked_last = days_of(args)
    require_parts(args)
    credentials, data_types = list(dict.fromkeys(args.credential or ())), list(dict.fromkeys(args.data_type or ()))
    with (
        connect(postgres_conninfo(storage_connection())) as conn,
        new_file(args.plot, option="--plot", overwrite=args.overwrite) as path,
    ):
        require_current(conn)
        ledger = computed_days(conn, last=asked_last)
        if ledger.empty:
            raise RequestError(
                "--plot: no day was ever computed in that range; compute some with quality --from and --to"
            )
        newest = ledger["day"].iloc[-1]
        last = asked_last or newest
        if last > newest + timedelta(days=DEFAULT_DAYS):
            raise RequestError(f"--to: {last} lies long after {newest}, the newest day computed; choose an earlier one")
        first = asked_first or max(ledger["day"].iloc[0], last - timedelta(days=DEFAULT_DAYS - 1))
        if first > last:
            raise RequestError(f"--from: {first} lies after {last}, the newest day computed; choose an earlier one")
        since = first - timedelta(weeks=USUAL_WEEKS)  # a day more than 28 days need
        daily = read_sums(conn, credentials, data_types, first=since, last=last)
        if not (daily["day"] >= first).any():
            raise RequestError(f"--plot: nothing is stored from {first} to {last} of what was asked for")
        names = read_credential_names(
            conn, first=since, last=last, credential_ids=credentials or None, data_types=data_types or None
        )
        conn.commit()  # drawing takes its time
        title = title_of(names, credentials=credentials, data_types=data_types)
        draw_trend(daily, path=path, title=title, first=first, last=last)
    if args.json:
        told = {
            "file": args.plot,
            "format": ending.removeprefix("."),
            "from": first.isoformat(),
            "to": last.isoformat(),
            "days": (last - first).days + 1,
        }
        print(json.dumps(told, indent=2))
        return 0
    print(f"{printable(args.plot)}: {first} to {last}")
    return 0


def read_sums(
    conn: psycopg.Connection[Any], credentials: Sequence[str], data_types: Sequence[str], *, first: date, last: date
) -> pd.DataFrame:
    """Return what is drawn, summed in the database: of ten thousand credentials the rows themselves would take gigabytes."""
    import pandas as pd

    from include.warehouse.day_sums import read_day_sums

    whose: list[str | None] = [*credentials] or [None]
    of_what: list[str | None] = [*data_types] or [None]
    parts = [
        read_day_sums(conn, first=first, last=last, credential_id=credential, data_type=data_type)
        for credential, data_type in product(whose, of_what)
    ]
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else parts[0]

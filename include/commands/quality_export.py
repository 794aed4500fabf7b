"""
``quality --export FILE``: the stored quality as a file for a spreadsheet, a notebook or another warehouse.

The rows of one of the views, as they are at one moment, in bounded memory. A file is there whole or not at all.

CSV: UTF-8 without a byte order mark, quoted as RFC 4180 says, a header, ISO dates, instants in UTC, ``.`` before decimals,
``true``/``false``, nothing for NULL. A text that a spreadsheet could take for a formula has an apostrophe before it, and so
has one that begins with an apostrophe; remove one leading apostrophe to get a text back. Numbers are never touched.

Parquet: typed columns, and texts as they are: what reads Parquet runs no formulas, and the file is made to be joined.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.sync_health.errors import RequestError
from include.sync_health.spreadsheet import neutralised

if TYPE_CHECKING:
    from include.warehouse.quality_history import ViewRows

FORMATS = ("csv", "parquet")
VIEW_NAMES = ("daily", "weekly", "28-days", "fields", "revisions")
"""Those of `include.warehouse.quality_history.VIEWS`, which a parser need not import pandas for; a test keeps them equal."""

STDOUT = "-"
CHUNK_ROWS = 5_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the export, and those that it shares with the plot."""
    parser.add_argument(
        "--export", metavar="FILE", help="write stored quality to FILE (.csv or .parquet), '-' for CSV on stdout"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the export (default: by the name of the file)")
    parser.add_argument(
        "--view", choices=VIEW_NAMES, default=VIEW_NAMES[0], help="what to export (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--credential", metavar="ID", action="append", help="only of this credential; may be repeated")
    parser.add_argument("--data-type", metavar="TYPE", action="append", help="only of this data type; may be repeated")


def run_export(args: argparse.Namespace) -> int:
    """
    Write the file, and tell on stderr how many rows it holds.

    Args:
        args: of `add_arguments`, and ``first`` and ``last``: days as YYYY-MM-DD or None, both included; of weeks and
            of 28 days the last day is compared.

    Returns:
        0: it is written; also when there was no row, which is told.

    Raises:
        MonitorError: the arguments make no sense, or the file or the database cannot be used; no file is left then.
    """
    from include.orchestration.policy_file import storage_connection
    from include.orchestration.settings import postgres_conninfo
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect
    from include.warehouse.quality_history import stream_view

    kind = _format_of(args.export, args.format)
    first, last = days_of(args)
    require_data_types(args)
    conninfo = postgres_conninfo(storage_connection())
    with connect(conninfo) as conn, _target(args.export, overwrite=args.overwrite) as path:
        require_current(conn)
        with stream_view(
            conn,
            args.view,
            first=first,
            last=last,
            credential_ids=args.credential,
            data_types=args.data_type,
            chunk_rows=CHUNK_ROWS,
        ) as found:
            rows = _WRITERS[kind](found, path)
    where = "standard output" if args.export == STDOUT else args.export
    note = "" if rows else ": nothing is stored of what was asked for, so it holds the header only"
    print(f"{args.view}: {rows} {'row' if rows == 1 else 'rows'} to {where}{note}", file=sys.stderr)
    return 0


def days_of(args: argparse.Namespace) -> tuple[date | None, date | None]:
    """
    Return the days of ``--from`` and ``--to``, None where one is not given.

    Raises:
        RequestError: one is no day, or they end before they begin.
    """
    first, last = _day(args.first, "--from"), _day(args.last, "--to")
    if first and last and first > last:
        raise RequestError(f"--from: {first} is after --to {last}; swap them")
    return first, last


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RequestError(f"{option}: {text!r} is no day; write it as 2026-01-31") from None


def require_data_types(args: argparse.Namespace) -> None:
    """
    Refuse a data type that there is not.

    Raises:
        RequestError: there is not.
    """
    from include.sync_health.frames import DATA_TYPES

    if unknown := sorted(set(args.data_type or ()) - set(DATA_TYPES)):
        raise RequestError(f"--data-type: {unknown[0]!r} is unknown; use one of {', '.join(DATA_TYPES)}")


@contextmanager
def new_file(target: str, *, option: str, overwrite: bool) -> Iterator[Path]:
    """
    Yield a path beside the target to write to; it becomes the target at the end, or is gone after a failure.

    Raises:
        RequestError: the folder is missing or may not be written, or the target is there and may not be replaced.
    """
    path = Path(target)
    if path.is_dir():
        raise RequestError(f"{option}: {target} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise RequestError(f"{option}: the folder {path.parent} does not exist; create it first")
    if path.exists() and not overwrite:
        raise RequestError(f"{option}: {target} exists; add --overwrite to replace it")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise RequestError(f"{option}: {path.parent} cannot be written to: {error.strerror}") from error
    os.close(handle)
    written = Path(name)
    try:
        yield written
        written.chmod(0o666 & ~_umask())  # mkstemp lets nobody else read it
        written.replace(path)
    except OSError as error:
        raise RequestError(f"{option}: {target} cannot be written: {error.strerror or error}") from error
    finally:
        written.unlink(missing_ok=True)


@contextmanager
def _target(target: str, *, overwrite: bool) -> Iterator[Path | None]:
    if target == STDOUT:
        yield None
        return
    with new_file(target, option="--export", overwrite=overwrite) as path:
        yield path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _format_of(target: str, chosen: str | None) -> str:
    if target == STDOUT:
        if chosen == "parquet":
            raise RequestError("--format: parquet cannot go to standard output; name a file")
        return "csv"
    found = chosen or Path(target).suffix.lower().removeprefix(".")
    if found not in FORMATS:
        raise RequestError(f"--export: {target} ends with neither .csv nor .parquet; rename it or add --format")
    return found


def _write_csv(found: ViewRows, path: Path | None) -> int:
    if path is None:
        # As bytes are: no platform's line ends, no locale's encoding.
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="")
        return _write_rows(found, sys.stdout)
    with path.open("w", encoding="utf-8", newline="") as file:
        return _write_rows(found, file)


def _write_rows(found: ViewRows, file: Any) -> int:
    writer = csv.writer(file)
    writer.writerow(found.columns)
    special = [(place, _CELLS[kind]) for place, kind in enumerate(found.columns.values()) if kind in _CELLS]
    count = 0
    for chunk in found.chunks:
        for row in chunk:
            cells = list(row)
            for place, cell in special:
                if cells[place] is not None:
                    cells[place] = cell(cells[place])
            writer.writerow(cells)
        count += len(chunk)
    return count


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


_CELLS: Mapping[str, Callable[[Any], str]] = {
    "text": neutralised,
    "timestamp": _instant,
    "bool": lambda flag: "true" if flag else "false",
}
"""How a cell is written where Python's own way is not it; csv writes floats so that they read back the same."""


def _write_parquet(found: ViewRows, path: Path | None) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "date": pa.date32(),
        "text": pa.string(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "bool": pa.bool_(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in found.columns.items()])
    count = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in found.chunks:
            columns = [
                pa.array(values, type=field.type)
                for values, field in zip(zip(*chunk, strict=True), schema, strict=True)
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(chunk)
    return count


_WRITERS: Mapping[str, Callable[[ViewRows, Path | None], int]] = {"csv": _write_csv, "parquet": _write_parquet}

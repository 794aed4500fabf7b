"""
``quality --export FILE``: the stored quality as a file for a spreadsheet, a notebook or another warehouse.

The rows of one of the views, as they are at one moment, in bounded memory. A file is there whole or not at all; what a
symbolic link leads to is replaced, not the link.

CSV: UTF-8 without a byte order mark, quoted as RFC 4180 says, a header, ISO dates, instants in UTC, ``.`` before decimals,
``true``/``false``, nothing for NULL. A text that a spreadsheet could take for a formula has an apostrophe before it, and so
has one that begins with an apostrophe; remove one leading apostrophe to get a text back. Numbers are never touched.

Parquet: typed columns, and texts as they are: what reads Parquet runs no formulas, and the file is made to be joined.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.commands.quality_uses import OPTIONS, STDOUT
from include.sync_health.errors import RequestError
from include.sync_health.spreadsheet import neutralised

if TYPE_CHECKING:
    from include.warehouse.quality_history import ViewRows

FORMATS = ("csv", "parquet")
VIEW_NAMES = ("daily", "weekly", "28-days", "fields", "revisions")
"""Those of `include.warehouse.quality_history.VIEWS`, which a parser need not import pandas for; a test keeps them equal."""

ID_LIMIT = 36
"""Characters of a credential's id: an integer or a UUID."""

CHUNK_ROWS = 5_000
SUFFIX_LIMIT = 16
"""Characters of an ending that a temporary name takes over, so that it is never longer than a file system allows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the export, and those that it shares with the plot."""
    parser.add_argument(
        "--export", metavar="FILE", help="write stored quality to FILE (.csv or .parquet), '-' for CSV on stdout"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the export (default: by the name of the file)")
    parser.add_argument("--view", choices=VIEW_NAMES, help=f"what to export (default: {VIEW_NAMES[0]})")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--credential", metavar="ID", action="append", help="only of this credential; may be repeated")
    parser.add_argument("--data-type", metavar="TYPE", action="append", help="only of this data type; may be repeated")


def run_export(args: argparse.Namespace) -> int:
    """
    Write the file, and tell on stderr how many rows it holds.

    With ``--json`` that is told on stdout instead, as ``{"file", "view", "format", "rows"}``.

    Args:
        args: of `add_arguments`, ``json``, and ``first`` and ``last``: days as YYYY-MM-DD or None, both included; of
            weeks and of 28 days the last day is compared.

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

    kind, view = _format_of(args.export, args.format), args.view or VIEW_NAMES[0]
    first, last = days_of(args)
    require_parts(args)
    conninfo = postgres_conninfo(storage_connection())
    with connect(conninfo) as conn, _target(args.export, overwrite=args.overwrite) as path:
        require_current(conn)
        with stream_view(
            conn,
            view,
            first=first,
            last=last,
            credential_ids=args.credential,
            data_types=args.data_type,
            chunk_rows=CHUNK_ROWS,
        ) as found:
            rows = _WRITERS[kind](found, path)
    if args.json:
        # Escapes instead of letters that no encoding has: a file's name may be any bytes.
        print(json.dumps({"file": args.export, "view": view, "format": kind, "rows": rows}, indent=2))
        return 0
    where = "standard output" if args.export == STDOUT else printable(args.export)
    note = "" if rows else ": nothing is stored of what was asked for, so it holds the header only"
    print(f"{view}: {rows} {'row' if rows == 1 else 'rows'} to {where}{note}", file=sys.stderr)
    return 0


def days_of(args: argparse.Namespace) -> tuple[date | None, date | None]:
    """
    Return the days of ``--from`` and ``--to``, None where one is not given.

    Raises:
        RequestError: one is no day as `day_of` takes it for a backfill too, or they end before they begin.
    """
    from include.orchestration.backfill_days import day_of

    first, last = (
        None if text is None else day_of(text, name=name)
        for text, name in ((args.first, OPTIONS["first"]), (args.last, OPTIONS["last"]))
    )
    if first and last and first > last:
        raise RequestError(f"--from: {first} is after --to {last}; swap them")
    return first, last


def require_parts(args: argparse.Namespace) -> None:
    """
    Refuse a credential that can be none, and a data type that there is not.

    Raises:
        RequestError: there is one; says what is.
    """
    from include.sync_health.frames import DATA_TYPES

    for each in args.credential or ():
        if not each.replace("-", "").isalnum() or len(each) > ID_LIMIT:
            raise RequestError(
                f"--credential: {each[:ID_LIMIT]!r} is no credential id; write one, such as 42, and --credential again "
                "for another"
            )

    if unknown := sorted(set(args.data_type or ()) - set(DATA_TYPES)):
        raise RequestError(f"--data-type: {unknown[0]!r} is unknown; use one of {', '.join(DATA_TYPES)}")


def printable(target: str) -> str:
    """Return a file's name as it may stand in a line: as it is, or with escapes where it would break the line."""
    return target if target.isprintable() else repr(target)


@contextmanager
def new_file(target: str, *, option: str, overwrite: bool) -> Iterator[Path]:
    """
    Yield a path beside the target to write to; it becomes the target at the end, or is gone after a failure.

    A file that is replaced keeps its permissions. A symbolic link stays: the file that it leads to is written.

    Raises:
        RequestError: the folder is missing or may not be entered or written, the name is too long, or the target is
            there and may not be replaced, or is no file.
    """
    told = printable(target)
    try:
        path = Path(os.path.realpath(target))
        mode = _mode_of(path)
        is_in_folder = path.parent.is_dir()
    except OSError as error:
        raise RequestError(f"{option}: {told} cannot be written: {error.strerror}; choose another file") from error
    if mode is not None and stat.S_ISDIR(mode):
        raise RequestError(f"{option}: {told} is a folder; name a file in it")
    if not is_in_folder:
        raise RequestError(f"{option}: the folder {printable(str(path.parent))} does not exist; create it first")
    if mode is not None and not stat.S_ISREG(mode):
        raise RequestError(f"{option}: {told} is a device or the like, which cannot be replaced; name a file")
    if mode is not None and not overwrite:
        raise RequestError(f"{option}: {told} exists; add --overwrite to replace it")
    try:
        suffix = path.suffix if len(path.suffix) <= SUFFIX_LIMIT else ""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".quality-", suffix=suffix)
    except OSError as error:
        folder = printable(str(path.parent))
        raise RequestError(
            f"{option}: {folder} cannot be written to: {error.strerror}; choose another folder"
        ) from error
    os.close(handle)
    written = Path(name)
    try:
        yield written
        # mkstemp lets nobody else read it.
        written.chmod(0o666 & ~_umask() if mode is None else stat.S_IMODE(mode) & 0o777)
        if not overwrite and _mode_of(path) is not None:
            raise RequestError(f"{option}: {told} is there by now; add --overwrite to replace it")
        written.replace(path)
    except OSError as error:
        raise RequestError(f"{option}: {told} cannot be written: {error.strerror or error}") from error
    finally:
        written.unlink(missing_ok=True)


def _mode_of(path: Path) -> int | None:
    """Return the type and the permissions of what is there, None where nothing is; `OSError` where nobody may look."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


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
        raise RequestError(
            f"--export: {printable(target)} ends with neither .csv nor .parquet; rename it or add --format"
        )
    return found


def _write_csv(found: ViewRows, path: Path | None) -> int:
    if path is None:
        if sys.stdout is None:
            raise RequestError("--export: standard output is closed; name a file")
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

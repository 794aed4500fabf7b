"""A file holds what is stored, whole or not at all, and runs no formula."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from include.cli import main
from include.commands import quality_export
from include.commands.quality_export import new_file
from include.sync_health.errors import MonitorError, RequestError
from include.sync_health.spreadsheet import original
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from include.warehouse.quality_history import DAILY_STORED_COLUMNS, VIEWS
from tests.commands.quality_files import export
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.stored_history import store_days, store_field, store_revision

DAY = date(2026, 3, 2)
NOBODY = 65534
EVIL = '=HYPERLINK("http://evil.example", "two\nlines")'


@pytest.fixture
def dsn(make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A migrated database behind the connection ``monitoring_db``."""
    dsn = make_database("export")
    upgrade(dsn)
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", dsn)
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    return dsn


@pytest.fixture
def stored(dsn: str) -> str:
    """Six days of two credentials, one of a company whose name is a formula, and a day of the first definition."""
    rows = [day_row(DAY, n=n, credential=c, company_name=EVIL if c == "8" else "Acme") for n in range(6) for c in "78"]
    with connect(dsn) as conn:
        store_days(conn, days_frame(*rows, day_row(DAY, data_type="both", processed=0, successful=0, old=True)))
        store_field(conn, DAY, field="total", sample="-1 is negative", share=None)
        store_revision(conn, DAY)
    return dsn


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_holds_every_column_and_no_formula(
    stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "daily.csv"
    assert export(["--export", str(path)]) == 0

    rows = read_csv(path)
    assert set(rows[0]) >= set(DAILY_STORED_COLUMNS)
    assert [row["day"] for row in rows] == sorted(row["day"] for row in rows)
    evil = next(row for row in rows if row["credential_id"] == "8")
    assert (evil["company_name"], original(evil["company_name"])) == (f"'{EVIL}", EVIL)
    old = next(row for row in rows if row["data_type"] == "both")
    assert (old["day"], old["quality_score"], old["syncs_timed"], old["is_final"]) == ("2026-03-02", "", "", "true")
    assert evil["quality_score"] == "75.0"
    assert evil["computed_at"].endswith("+00:00")
    assert path.read_bytes().count(b"\r\n") == len(rows) + 1
    assert capsys.readouterr().err == f"daily: 13 rows to {path}\n"


def test_a_number_below_zero_stays_a_number_and_a_text_does_not(stored: str, tmp_path: Path) -> None:
    """Only columns of texts are touched."""
    with connect(stored) as conn:
        conn.execute("UPDATE monitoring.quality_daily SET records_failed = -5")
    export(["--export", str(tmp_path / "daily.csv")])
    export(["--export", str(tmp_path / "fields.csv"), "--view", "fields"])
    assert read_csv(tmp_path / "daily.csv")[0]["records_failed"] == "-5"
    assert read_csv(tmp_path / "fields.csv")[0]["sample"] == "'-1 is negative"


@pytest.mark.parametrize("view", VIEWS)
def test_parquet_and_csv_hold_the_same(stored: str, tmp_path: Path, view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written in chunks; the types are right, and the texts as they are."""
    monkeypatch.setattr(quality_export, "CHUNK_ROWS", 2)
    export(["--export", str(tmp_path / "file.csv"), "--view", view])
    export(["--export", str(tmp_path / "file.parquet"), "--view", view])
    texts, table = read_csv(tmp_path / "file.csv"), parquet.read_table(tmp_path / "file.parquet")
    assert table.num_rows == len(texts) > 0
    assert table.column_names == list(texts[0])
    for row, cells in zip(table.to_pylist(), texts, strict=True):
        for name, value in row.items():
            assert cells[name] == cell_of(value, is_text=table.schema.field(name).type == pa.string())
    if view == "daily":
        types = {
            name: str(table.schema.field(name).type) for name in ("day", "syncs_total", "score_low", "computed_at")
        }
        assert types == {
            "day": "date32[day]",
            "syncs_total": "int64",
            "score_low": "double",
            "computed_at": "timestamp[us, tz=UTC]",
        }
        assert EVIL in table["company_name"].to_pylist()


def cell_of(value: Any, *, is_text: bool) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if is_text:
        return f"'{value}" if value.startswith(("=", "-")) else value
    return str(value).replace(" ", "T")


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        pytest.param(["--from", "2026-03-04"], 8, id="from a day, included"),
        pytest.param(["--from", "2026-03-04", "--to", "2026-03-04"], 2, id="one day"),
        pytest.param(["--credential", "8"], 6, id="a credential"),
        pytest.param(["--credential", "7", "--credential", "8"], 13, id="two credentials"),
        pytest.param(["--data-type", "both"], 1, id="a data type"),
        pytest.param(["--view", "weekly"], 3, id="weeks"),
        pytest.param(["--view", "28-days", "--to", "2026-03-03"], 6, id="28 days, until the day that ends them"),
    ],
)
def test_part_of_it_can_be_asked_for(stored: str, tmp_path: Path, words: list[str], rows: int) -> None:
    assert export(["--export", str(tmp_path / "part.csv"), *words]) == 0
    assert len(read_csv(tmp_path / "part.csv")) == rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_no_row_is_a_header_and_a_note(dsn: str, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"empty.{kind}"
    assert export(["--export", str(path)]) == 0
    assert "0 rows" in (said := capsys.readouterr().err)
    assert "holds the header only" in said
    found = (
        parquet.read_table(path).column_names if kind == "parquet" else next(csv.reader(io.StringIO(path.read_text())))
    )
    assert set(found) >= set(DAILY_STORED_COLUMNS)


def test_a_dash_is_csv_on_standard_output(stored: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(["--export", "-"]) == 0
    said = capsys.readouterr()
    assert len(list(csv.DictReader(io.StringIO(said.out, newline="")))) == 13
    assert said.err == "daily: 13 rows to standard output\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["--export", "{}/a.xlsx"], "ends with neither .csv nor .parquet", id="another ending"),
        pytest.param(
            ["--export", "{}/none/a.csv"], "none does not exist; create it first", id="a folder that is missing"
        ),
        pytest.param(["--export", "{}/there.csv"], "there.csv exists; add --overwrite", id="a file that is there"),
        pytest.param(["--export", "{}", "--format", "csv"], "is a folder; name a file in it", id="a folder"),
        pytest.param(
            ["--export", "-", "--format", "parquet"], "parquet cannot go to standard output", id="parquet on stdout"
        ),
        pytest.param(["--export", "{}/a.csv", "--from", "soon"], "--from: 'soon' is no date", id="no day"),
        pytest.param(["--export", "{}/a.csv", "--from", "20260302"], "'20260302' is no date", id="another form"),
        pytest.param(["--export", "{}/a.csv", "--to", "2026-W10-1"], "--to: '2026-W10-1' is no date", id="a week"),
        pytest.param(["--export", "{}/a.csv", "--from", "0001-01-01"], "lies before all history", id="the first day"),
        pytest.param(["--export", "{}/" + "n" * 300 + ".csv"], "cannot be written: File name too long", id="long"),
        pytest.param(["--export", "{}/there.csv/a.csv"], "cannot be written: Not a directory", id="in a file"),
        pytest.param(["--export", "/dev/null", "--format", "csv", "--overwrite"], "is a device or", id="a device"),
        pytest.param(
            ["--export", "{}/a.csv", "--from", "2026-03-02", "--to", "2026-03-01"],
            "is after --to",
            id="days that are swapped",
        ),
        pytest.param(
            ["--export", "{}/a.csv", "--data-type", "jobs"], "--data-type: 'jobs' is unknown", id="no data type"
        ),
        pytest.param(
            ["--export", "{}/a.csv", "--credential", "7,8"], "--credential: '7,8' is no credential id", id="two in one"
        ),
        pytest.param(
            ["--export", "{}/a.csv", "--credential", os.fsdecode(b"\xff")], "is no credential id", id="bytes, no text"
        ),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(stored: str, tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(RequestError, match=says) as error:
        export([word.format(tmp_path) for word in words])
    assert "\n" not in str(error.value)
    assert [each.name for each in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_overwriting_is_asked_for_and_a_failure_keeps_the_old_file(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "daily.csv"
    path.write_text("old")
    with connect(stored) as conn:
        conn.execute("ALTER VIEW monitoring.bi_quality_daily RENAME TO gone")
    with pytest.raises(MonitorError):
        export(["--export", str(path), "--overwrite"])
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("daily.csv", "old")]
    with connect(stored) as conn:
        conn.execute("ALTER VIEW monitoring.gone RENAME TO bi_quality_daily")
    export(["--export", str(path), "--overwrite"])
    assert len(read_csv(path)) == 13
    assert DAY + timedelta(days=5) == date.fromisoformat(read_csv(path)[-1]["day"])


def test_a_file_that_comes_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """An export of years takes minutes, and two may have the same name."""
    path = tmp_path / "daily.csv"

    def write(*, overwrite: bool) -> None:
        with new_file(str(path), option="--export", overwrite=overwrite) as written:
            written.write_text("ours")
            path.write_text("theirs")

    with pytest.raises(RequestError, match=r"daily\.csv is there by now; add --overwrite"):
        write(overwrite=False)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("daily.csv", "theirs")]
    write(overwrite=True)
    assert path.read_text() == "ours"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("n" * 251 + ".csv", [], id="as long as a file system allows"),
        pytest.param("n." + "x" * 253, ["--format", "csv"], id="with an ending as long as that"),
        pytest.param("日" * 83 + ".csv", [], id="in letters of three bytes each"),
    ],
)
def test_a_long_name_is_no_obstacle(stored: str, tmp_path: Path, name: str, words: list[str]) -> None:
    """What it is called until it is whole is no longer."""
    assert export(["--export", str(tmp_path / name), *words]) == 0
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert len(read_csv(tmp_path / name)) == 13


@pytest.mark.parametrize("locked", ["may not be entered", "may not be written to"])
def test_a_folder_that_is_closed_is_one_line(tmp_path: Path, locked: str) -> None:
    """To whoever is not the superuser, for whom no folder is closed."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    own = os.geteuid()
    if own == 0:
        for each in (tmp_path, *tmp_path.parents[:2]):
            each.chmod(0o711)
    folder.chmod(0o600 if locked == "may not be entered" else 0o555)
    try:
        if own == 0:
            os.seteuid(NOBODY)
        with (
            pytest.raises(RequestError, match=r"--export: .* cannot be written.*: Permission denied; choose another"),
            new_file(str(folder / "a.csv"), option="--export", overwrite=True),
        ):
            pytest.fail("it was opened")
    finally:
        os.seteuid(own)
        folder.chmod(0o700)
    assert list(folder.iterdir()) == []


def test_a_file_that_is_replaced_keeps_its_permissions_and_a_link_stays_one(stored: str, tmp_path: Path) -> None:
    """The file that the link leads to is written, in its own folder."""
    (tmp_path / "there").mkdir()
    path, link = tmp_path / "there" / "daily.csv", tmp_path / "link.csv"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(Path("there") / "daily.csv")

    with pytest.raises(RequestError, match=r"link\.csv exists; add --overwrite"):
        export(["--export", str(link)])
    assert export(["--export", str(link), "--overwrite"]) == 0
    assert link.is_symlink()
    assert len(read_csv(path)) == 13
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == ["daily.csv"]


@pytest.mark.parametrize("name", ["two\nlines", "by\udcfftes"])
def test_a_name_that_no_line_holds_is_told_with_escapes(
    stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The file has it as it is."""
    path = tmp_path / f"{name}.csv"
    assert export(["--export", str(path)]) == 0
    assert capsys.readouterr().err == f"daily: 13 rows to {str(path)!r}\n"
    with pytest.raises(RequestError) as refused:
        export(["--export", str(path)])
    assert "\n" not in str(refused.value)
    assert export(["--export", str(path), "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], {"view": "daily", "format": "csv", "rows": 13}, id="of the default"),
        pytest.param(
            ["--view", "weekly", "--format", "parquet"], {"view": "weekly", "format": "parquet", "rows": 3}, id="chosen"
        ),
        pytest.param(["--credential", "9"], {"view": "daily", "format": "csv", "rows": 0}, id="of no row"),
    ],
)
def test_json_says_what_was_written(
    stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: dict[str, Any]
) -> None:
    """On stdout, and nothing beside it."""
    path = tmp_path / "file.csv"
    assert main(["quality", "--export", str(path), "--json", *words]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"file": str(path)} | told
    assert said.err == ""


@pytest.mark.parametrize("words", [["--export", "-"], ["--json"], []], ids=["rows", "the summary in JSON", "lines"])
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at its end", "at once"])
def test_an_output_that_is_full_is_one_line(stored: str, words: list[str], unbuffered: str) -> None:
    """As a disk is: not a traceback, and no complaint of the interpreter's own."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "include.cli", "quality", *words],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        "error: standard output cannot be written: No space left on device",
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_the_views_that_can_be_named_are_those_that_there_are() -> None:
    assert tuple(VIEWS) == quality_export.VIEW_NAMES

"""``quality`` from the shell: what it computes, prints and refuses, over real databases."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine

from include.cli import main
from include.warehouse.quality_daily import days_between
from tests.orchestration.monitored_world import MonitoredWorld, monitored_world
from tests.orchestration.quality_history import FIRST, LAST, NOW, fill, is_silent, stored

RANGE = ["quality", "--from", FIRST.isoformat(), "--to", LAST.isoformat()]
DAYS = days_between(FIRST, LAST)


@pytest.fixture
def world(
    make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[MonitoredWorld]:
    """Weeks of messy syncs, nothing computed yet; it is noon."""
    with monitored_world(make_database, monkeypatch, tmp_path) as made, time_machine.travel(NOW, tick=False):
        fill(made)
        yield made


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the JSON on stdout."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_computes_the_days_and_says_what_became_of_them(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line per month on stderr, the result on stdout; again, nothing changes."""
    assert main(RANGE) == 0
    out, err = capsys.readouterr()
    assert out.startswith("12 days from 2026-02-26 to 2026-03-09 in ")
    lines = _told(err)
    assert lines[-1].startswith("2026-03: 12 of 12 days, ")
    assert [row["day"] for row in stored(world)["quality_day"]] == DAYS

    assert main([*RANGE, "--newest-first", "--json"]) == 0
    found = answer(capsys)
    assert (found["from"], found["to"], found["asked_for"], found["days"]) == ("2026-02-26", "2026-03-09", 12, 12)
    assert (found["rows"], found["vanished"], found["revised"], found["refused_days"]) == (0, 0, 0, [])
    assert found["unchanged"] > 0
    assert found["rows_read"] > 0
    assert is_silent(world)


def _told(err: str) -> list[str]:
    """Return the lines of progress: notes on how the source is read follow them."""
    lines = err.splitlines()
    assert all(line.startswith("note: servicetitan_sync_logs: ") for line in lines if line.startswith("note"))
    return [line for line in lines if not line.startswith("note: ")]


def test_the_newest_month_comes_first_when_asked_for(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RANGE, "--newest-first"]) == 0

    assert [line[:7] for line in _told(capsys.readouterr().err)] == ["2026-03", "2026-02"]


def test_only_missing_days_when_asked_for(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are final already are not read again."""
    main([*RANGE[:3], "--to", "2026-03-05"])
    capsys.readouterr()

    assert main([*RANGE, "--missing", "--json"]) == 0
    assert answer(capsys)["asked_for"] == 4
    assert main([*RANGE[:3], "--to", "2026-03-05", "--missing"]) == 0
    assert capsys.readouterr().out == "nothing is missing from 2026-02-26 to 2026-03-05\n"


def test_nothing_that_is_missing_has_the_same_keys_in_json(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them zero: a script need not ask which keys there are."""
    days = ["quality", "--from", FIRST.isoformat(), "--to", "2026-03-02", "--json"]
    assert main(days) == 0
    done = answer(capsys)

    assert main([*days, "--missing"]) == 0
    nothing = answer(capsys)
    assert list(nothing) == list(done)
    assert (nothing["from"], nothing["to"], nothing["notes"], nothing["refused_days"]) == (
        FIRST.isoformat(),
        "2026-03-02",
        [],
        [],
    )
    assert {value for name, value in nothing.items() if name not in ("from", "to", "notes", "refused_days")} == {0}


def test_days_older_than_the_source_are_told(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality", "--from", "2026-02-18", "--to", "2026-02-21"]) == 0

    told = capsys.readouterr().out
    assert "refused: 2 days from 2026-02-18 to 2026-02-19 lie before the log of the source, without a row" in told


def test_a_dry_run_tells_and_writes_nothing(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    """A table for people, the same in JSON."""
    assert main([*RANGE, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["month", "2026-02", "2026-03", "total", "dry"]

    assert main([*RANGE, "--dry-run", "--newest-first", "--json"]) == 0
    found = answer(capsys)
    assert [each["month"] for each in found["months"]] == ["2026-03", "2026-02"]
    assert found["total"]["days"] == 12
    assert found["total"]["rows_to_read"] >= 300
    assert found["total"]["rows_to_write"] > 12
    assert (found["total"]["rows_stored"], found["total"]["days_final"]) == (0, 0)
    assert stored(world)["quality_day"] == []


def test_without_a_range_it_says_what_is_stored(world: MonitoredWorld, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quality"]) == 0
    assert capsys.readouterr().out.startswith("no day is stored; compute some: quality --from ")

    main(RANGE)
    with psycopg.connect(world.monitoring_dsn) as conn:
        conn.execute("DELETE FROM monitoring.quality_day WHERE day = '2026-03-02'")
        conn.execute("UPDATE monitoring.quality_day SET calc_version = 1 WHERE day = '2026-03-03'")
    capsys.readouterr()
    assert main(["quality", "--json"]) == 0
    found = answer(capsys)
    assert (found["first"], found["last"], found["days"], found["final"]) == ("2026-02-26", "2026-03-09", 11, 8)
    assert (found["missing"], found["outdated"], found["revisions"]) == (1, 1, 0)
    assert main(["quality"]) == 0
    told = capsys.readouterr().out
    assert (
        "missing: 1 days between; quality --from 2026-02-26 --missing computes those that the source still has" in told
    )
    assert "outdated: 1 days" in told


class Interrupting(io.StringIO):
    """A stderr on which somebody presses Ctrl-C as soon as the first month is told."""

    def write(self, text: str) -> int:
        """Keep the text; interrupt once."""
        written = super().write(text)
        if "2026-03: " in text and "stopped" not in text:
            raise KeyboardInterrupt
        return written


def test_after_ctrl_c_whole_days_are_there_and_the_way_on_is_told(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that it names does the rest."""
    stderr = Interrupting()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stderr)
        assert main([*RANGE, "--newest-first"]) == 130

    told = stderr.getvalue().splitlines()[-1].split("stopped: ")[1]
    done = [row["day"] for row in stored(world)["quality_day"]]
    left = [day for day in DAYS if day not in done]
    assert 9 <= len(done) < 12
    assert told == (
        f"{len(done)} of 12 days are done, whole; to go on: quality --from {left[0]} --to {left[-1]} --newest-first"
    )
    assert main(told.split("to go on: ")[1].split()) == 0
    assert [row["day"] for row in stored(world)["quality_day"]] == DAYS


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


def test_a_terminal_gets_a_bar_and_stdout_stays_clean(
    world: MonitoredWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a script parses has no bar in it."""
    stderr = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stderr)
        assert main([*RANGE, "--json"]) == 0

    assert answer(capsys)["days"] == 12
    assert "days" in stderr.getvalue()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--from", "2026-3-1"], "--from: '2026-3-1' is no date", id="no date"),
        pytest.param(["--from", "2026-W09-1"], "--from: '2026-W09-1' is no date", id="a day of a week's number"),
        pytest.param(["--from", "2026-03-02", "--to", "2026-03-01"], "--to: 2026-03-01 lies before --from", id="order"),
        pytest.param(["--from", "2026-04-01"], "--from: 2026-04-01 lies in the future", id="the future"),
        pytest.param(["--from", "1999-12-31"], "--from: 1999-12-31 lies before all history", id="before all history"),
        pytest.param(["--dry-run"], "--dry-run needs --from", id="a dry run of nothing"),
        pytest.param(["--missing"], "--missing needs --from", id="missing from when"),
        pytest.param(["--to", "2026-03-01"], "--to needs --from", id="an end without a beginning"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["quality", *arguments]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}")


def test_a_source_that_goes_away_exits_2_with_the_way_on(
    world: MonitoredWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line of what happened, one of how to go on."""
    with psycopg.connect(world.source_dsn, autocommit=True) as conn:
        conn.execute("ALTER TABLE servicetitan_sync_logs DROP COLUMN records_failed")

    assert main(RANGE) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stopped: 0 of 12 days are done, whole; to go on: quality --from 2026-02-26 --to 2026-03-09"
    assert lines[1].startswith("error: ")
    assert "records_failed" in lines[1]


def test_help_loads_nothing_heavy() -> None:
    """Neither for a picture nor for a table."""
    heavy = "pandas numpy pyarrow matplotlib psycopg airflow"
    code = (
        "import sys; from include.cli import build_parser; build_parser('quality');"
        f" print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout == "[]\n"

"""The picture shows what is stored: gaps as gaps, and the same bytes for the same numbers."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from include.cli import main
from include.commands.quality_plot import read_sums
from include.commands.trend_picture import draw_trend, figure_of, title_of, trend_of
from include.sync_health.errors import RequestError
from include.warehouse.day_sums import read_credential_names
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.commands.quality_files import plot
from tests.sync_health.stored_quality_days import day_row, days_frame
from tests.warehouse.stored_history import store_days

DAY = date(2026, 3, 2)
NAME = "Cash $1 & $2 <Co>\n=x"


@pytest.fixture
def stored(make_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Forty days of two credentials, the last three not final."""
    dsn = make_database("plot")
    upgrade(dsn)
    monkeypatch.setenv("AIRFLOW_CONN_MONITORING_DB", dsn)
    monkeypatch.delenv("SERVICETITAN_MONITOR_CONFIG", raising=False)
    with connect(dsn) as conn:
        store_days(
            conn,
            days_frame(
                *(
                    day_row(
                        DAY,
                        n=n,
                        credential=c,
                        processed=200,
                        successful=190 + n % 7,
                        company_name=NAME,
                        is_final=n < 37,
                    )
                    for n in range(40)
                    for c in "78"
                    if n not in (10, 11)
                )
            ),
        )
    return dsn


def test_days_without_a_score_are_gaps_and_have_a_28_day_score_all_the_same() -> None:
    daily = days_frame(*(day_row(DAY, n=n, processed=100, successful=60 + n) for n in range(36) if n != 30))
    trend = trend_of(daily, first=DAY + timedelta(days=28), last=DAY + timedelta(days=36))
    assert trend["score"].isna().tolist() == [False, False, True, False, False, False, False, False, True]
    assert trend["low"].isna().equals(trend["score"].isna())
    assert trend["processed"].tolist() == [100, 100, 0, 100, 100, 100, 100, 100, 0]
    assert trend["score_28"].notna().all()
    # Of day 28: the median of days 0, 7, 14 and 21.
    assert trend["usual"].iloc[0] == np.median([60, 67, 74, 81])
    assert trend["is_final"].tolist() == [*[True] * 2, False, *[True] * 5, False]


def test_several_keys_are_summed_and_not_averaged() -> None:
    daily = days_frame(
        day_row(DAY, processed=10, successful=0), day_row(DAY, credential="8", processed=990, successful=990)
    )
    assert trend_of(daily, first=DAY, last=DAY)["score"].tolist() == [99.0]


def axes_of(*rows: dict[str, Any], days: int) -> tuple[Any, Any]:
    """Return both axes of a figure over so many days, drawn."""
    trend = trend_of(days_frame(*rows), first=DAY, last=DAY + timedelta(days=days - 1))
    figure = figure_of(trend, title="x")
    figure.canvas.draw()
    upper, lower = figure.axes
    return upper, lower


def test_a_day_between_two_gaps_shows_its_score_and_its_interval() -> None:
    upper, _ = axes_of(day_row(DAY, n=3, processed=200, successful=190), days=7)
    (bar,) = [patch for patch in upper.patches if patch.get_height() > 0]
    assert bar.get_x() + bar.get_width() / 2 == pytest.approx((DAY - date(1970, 1, 1)).days + 3)
    assert bar.get_y() < 95 < bar.get_y() + bar.get_height()
    assert upper.get_ylim()[0] < bar.get_y()


def test_one_wide_interval_does_not_squeeze_the_others() -> None:
    """A day of three records, whose interval reaches below 50 %, beside days of thousands."""
    few = day_row(DAY, n=20, processed=3, successful=3)
    upper, _ = axes_of(*(day_row(DAY, n=n, processed=5_000, successful=4_950) for n in range(20)), few, days=21)
    assert 97 < upper.get_ylim()[0] < 99


@pytest.mark.parametrize("days", [1, 2, 3, 8, 15, 40, 90, 141, 400, 900, 2_000])
def test_dates_are_written_once_each_and_do_not_run_into_each_other(days: int) -> None:
    _, lower = axes_of(day_row(DAY), days=days)
    low, high = lower.get_xlim()
    labels = [label for label in lower.get_xticklabels() if low <= label.get_position()[0] <= high]
    texts = [label.get_text() for label in labels]
    assert 1 <= len(texts) == len(set(texts))
    boxes = [label.get_window_extent() for label in labels]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


@pytest.mark.parametrize("processed", [0, 1, 3, 7, 250, 1_200_000])
def test_the_volume_has_whole_numbers_of_records(processed: int) -> None:
    _, lower = axes_of(day_row(DAY, processed=processed, successful=processed), days=3)
    assert all(float(tick).is_integer() for tick in lower.get_yticks())
    assert lower.get_ylim()[1] >= max(processed, 1)
    assert len({label.get_text() for label in lower.get_yticklabels()}) == len(lower.get_yticks())


def test_the_legend_names_each_thing_once_and_what_may_change_only_where_there_is_such_a_day() -> None:
    final = [text.get_text() for text in axes_of(day_row(DAY), days=1)[0].get_legend().get_texts()]
    open_too = axes_of(day_row(DAY, is_final=False), days=1)[0].get_legend().get_texts()
    assert final == ["day", "its 95 % interval", "the 28 days up to it", "usual for its weekday (of 4 weeks)"]
    assert "day that may still change" in [text.get_text() for text in open_too]


@pytest.mark.parametrize("words", [[], ["--credential", "7"], ["--data-type", "invoices", "--from", "2026-03-10"]])
def test_the_same_numbers_give_the_same_bytes(stored: str, tmp_path: Path, words: list[str]) -> None:
    for ending in ("svg", "png"):
        first, second = tmp_path / f"1.{ending}", tmp_path / f"2.{ending}"
        assert plot(["--plot", str(first), *words]) == plot(["--plot", str(second), *words]) == 0
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")
    assert b"<dc:date>" not in (tmp_path / "1.svg").read_bytes()


def test_what_is_asked_for_twice_is_drawn_once(stored: str, tmp_path: Path) -> None:
    """And two credentials are what they are without being named."""
    asked: dict[str, list[str]] = {
        "one": ["--credential", "7", "--data-type", "invoices"],
        "twice": ["--credential", "7", "--credential", "7", "--data-type", "invoices", "--data-type", "invoices"],
    }
    drawn = {}
    for name, words in asked.items():
        path = tmp_path / f"{name}.png"
        assert plot(["--plot", str(path), *words]) == 0
        drawn[name] = path.read_bytes()
    with connect(stored) as conn:
        apart = read_sums(conn, ["7", "8"], ["invoices", "customers"], first=DAY, last=DAY + timedelta(days=39))
        together = read_sums(conn, [], [], first=DAY, last=DAY + timedelta(days=39))

    last = DAY + timedelta(days=39)
    pd.testing.assert_frame_equal(trend_of(apart, first=DAY, last=last), trend_of(together, first=DAY, last=last))


def test_a_picture_of_everybody_costs_no_more_memory_than_one_of_few(stored: str, tmp_path: Path) -> None:
    """Their rows are summed where they are stored: 28 days of each of them would be gigabytes."""
    plot(["--plot", str(tmp_path / "before.png")])  # what drawing needs once
    with connect(stored) as conn:
        store_days(
            conn, days_frame(*(day_row(DAY, n=n, credential=str(100 + c)) for n in range(40) for c in range(200)))
        )
    tracemalloc.start()
    try:
        assert plot(["--plot", str(tmp_path / "after.png")]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 20_000_000


def test_a_title_has_the_name_that_was_last_recorded(stored: str) -> None:
    """Of the days and data types drawn; a day on which nobody knew it hides none."""
    more = [
        day_row(DAY, n=50, credential="8", company_name="Renamed"),
        day_row(DAY, n=51, credential="8", company_name=None),
        day_row(DAY, n=51, credential="9", company_name=None, data_type="both"),
        day_row(DAY, n=52, credential="8", company_name="Later"),
    ]
    last = DAY + timedelta(days=51)
    with connect(stored) as conn:
        store_days(conn, days_frame(*more))
        assert read_credential_names(conn, first=DAY, last=last) == {"7": NAME, "8": "Renamed", "9": None}
        assert read_credential_names(conn, first=last, last=last, data_types=["both"]) == {"9": None}
        assert read_credential_names(conn, first=DAY, last=last, credential_ids=["7"]) == {"7": NAME}


def test_a_title_is_one_clean_line(stored: str, tmp_path: Path) -> None:
    """Its dollars begin no formula, which would not even parse."""
    title = title_of({"7": NAME}, credentials=["7"], data_types=None)
    assert "$1 & $2 <Co>" in title
    assert "company unknown (credential 7)" in title_of({"7": None}, credentials=["7"], data_types=None)
    assert title_of({"7": NAME}, credentials=None, data_types=["both"]) == "Data quality of all 1 credentials, both"
    assert plot(["--plot", str(tmp_path / "x.svg"), "--credential", "7"]) == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["--plot", "{}/a.pdf"], "neither .png nor .svg", id="another ending"),
        pytest.param(["--plot", "{}/none/a.png"], "none does not exist", id="a folder that is missing"),
        pytest.param(["--plot", "{}/there.png"], "exists; add --overwrite", id="a file that is there"),
        pytest.param(["--plot", "{}/a.png", "--from", "0001-01-01"], "lies before all history", id="the first day"),
        pytest.param(["--plot", "{}/a.png", "--to", "20260401"], "'20260401' is no date", id="another form of a date"),
        pytest.param(
            ["--plot", "{}/a.png", "--to", "9999-12-31"], "9999-12-31 lies long after 2026-04-10", id="future"
        ),
        pytest.param(["--plot", "{}/" + "n" * 300 + ".png"], "cannot be written: File name too long", id="a long name"),
        pytest.param(["--plot", "{}/a.png", "--from", "2026-06-01"], "--from: 2026-06-01 lies after", id="too late"),
        pytest.param(["--plot", "{}/a.png", "--credential", "9"], "nothing is stored from", id="nobody"),
        pytest.param(["--plot", "{}/a.png", "--credential", "7,8"], "'7,8' is no credential id", id="no credential"),
        pytest.param(["--plot", "{}/a.png", "--to", "2025-01-01"], "no day was ever computed", id="before all days"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_file(stored: str, tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "there.png").write_text("mine")
    with pytest.raises(RequestError, match=says):
        plot([word.format(tmp_path) for word in words])
    assert [each.name for each in tmp_path.iterdir()] == ["there.png"]


def test_json_says_what_was_drawn(stored: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the days asked for, with or without a score; nothing beside it."""
    path = tmp_path / ("n" * 251 + ".SVG")
    assert main(["quality", "--plot", str(path), "--from", "2026-03-10", "--to", "2026-03-14", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "file": str(path),
        "format": "svg",
        "from": "2026-03-10",
        "to": "2026-03-14",
        "days": 5,
    }
    assert said.err == ""


@pytest.mark.parametrize("name", ["東京配管株式会社", "서울 배관", "شركة", "👷 Plumbing"])
def test_a_name_in_letters_that_the_font_lacks_is_no_warning(tmp_path: Path, name: str) -> None:
    """A warning fails a test here."""
    daily = days_frame(day_row(DAY, company_name=name))
    title = title_of({"7": name}, credentials=["7"], data_types=None)
    for ending in ("svg", "png"):
        draw_trend(daily, path=tmp_path / f"x.{ending}", title=title, first=DAY, last=DAY)
        assert (tmp_path / f"x.{ending}").stat().st_size > 0

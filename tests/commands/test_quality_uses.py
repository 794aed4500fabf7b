"""Which options belong to which use of ``quality``: the others are refused, and none is dropped silently."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.cli import Parser, main
from include.commands import quality
from include.commands.quality_uses import BELONGING, OPTIONS, Use, use_of
from include.sync_health.errors import RequestError

VALUES: dict[str, Any] = {
    "export": "x.csv",
    "plot": "x.png",
    "first": "2026-03-01",
    "last": "2026-03-02",
    "view": "weekly",
    "format": "csv",
    "credential": ["7"],
    "data_type": ["invoices"],
}
"""A value for each option that takes one."""


def words_of(names: set[str]) -> list[str]:
    """Return the options as they are typed."""
    words = []
    for name in sorted(names):
        value = VALUES.get(name)
        words += [OPTIONS[name]] if value is None else [OPTIONS[name], value[0] if isinstance(value, list) else value]
    return words


def parsed(*words: str) -> argparse.Namespace:
    """Return the arguments of the command, as its own parser takes them."""
    parser = Parser(prog="x")
    quality.add_parser(parser.add_subparsers())
    return parser.parse_args(["quality", *words])


@pytest.mark.parametrize(
    ("words", "use"),
    [
        pytest.param([], Use.SUMMARY, id="nothing"),
        pytest.param(["--json"], Use.SUMMARY, id="nothing, in JSON"),
        pytest.param(["--from", "2026-03-01"], Use.BACKFILL, id="a first day"),
        pytest.param(["--from", "2026-03-01", "--to", "2026-03-02", "--missing"], Use.BACKFILL, id="missing days"),
        pytest.param(["--from", "2026-03-01", "--dry-run", "--missing"], Use.DRY_RUN, id="how much it would be"),
        pytest.param(["--export", "x.csv", "--from", "2026-03-01"], Use.EXPORT, id="a file of some days"),
        pytest.param(["--export", "-", "--view", "weekly"], Use.STREAM, id="rows for a pipe"),
        pytest.param(["--plot", "x.png", "--credential", "7", "--json"], Use.PLOT, id="a picture"),
    ],
)
def test_what_a_call_is_for(words: list[str], use: Use) -> None:
    assert use_of(parsed(*words)) is use


@pytest.mark.parametrize(
    ("words", "says"),
    [
        pytest.param(["--export", ""], "--export: its value is empty", id="a file without a name starts no backfill"),
        pytest.param(["--export="], "--export: its value is empty", id="nor does one written with an equals sign"),
        pytest.param(["--plot", ""], "--plot: its value is empty", id="nor does a picture"),
        pytest.param(["--from", "2026-03-01", "--export", ""], "--export: its value is empty", id="whatever the days"),
        pytest.param(["--from", ""], "--from: its value is empty", id="a first day that a script lost"),
        pytest.param(["--from", "2026-03-01", "--to", ""], "--to: its value is empty", id="no end is not yesterday"),
        pytest.param(["--export", "x.csv", "--to", ""], "--to: its value is empty", id="nor the last day stored"),
        pytest.param(
            ["--export", "x.csv", "--credential", "7", "--credential", ""],
            "--credential: its value is empty",
            id="nobody",
        ),
        pytest.param(
            ["--credential", "7"],
            "--credential belongs to an export or a plot, not to the summary of what is stored; leave it out",
            id="the summary is of all credentials",
        ),
        pytest.param(["--format", "csv"], "--format belongs to an export, not to the summary", id="a form of nothing"),
        pytest.param(["--overwrite"], "--overwrite belongs to an export or a plot", id="nothing to overwrite"),
        pytest.param(
            ["--from", "2026-03-01", "--credential", "7"],
            "--credential belongs to an export or a plot, not to a backfill; leave it out",
            id="a backfill is of all credentials",
        ),
        pytest.param(
            ["--from", "2026-03-01", "--data-type", "jobs"], "--data-type belongs to", id="and of all data types"
        ),
        pytest.param(["--from", "2026-03-01", "--view", "daily"], "--view belongs to an export", id="and has no view"),
        pytest.param(
            ["--from", "2026-03-01", "--dry-run", "--overwrite"],
            "--overwrite belongs to an export or a plot, not to a dry run",
            id="a dry run overwrites nothing",
        ),
        pytest.param(
            ["--plot", "x.png", "--view", "daily"],
            "--view belongs to an export, not to a plot",
            id="a picture has one view, even if it is the default that is named",
        ),
        pytest.param(["--plot", "x.png", "--format", "csv"], "--format belongs to an export, not to a", id="and form"),
        pytest.param(
            ["--export", "x.csv", "--missing"],
            "--missing belongs to a backfill, not to an export; leave it out",
            id="an export has what is stored",
        ),
        pytest.param(
            ["--plot", "x.png", "--dry-run"], "--dry-run belongs to a backfill, not to a plot", id="a plot is drawn"
        ),
        pytest.param(
            ["--export", "-", "--json"],
            "--json does not belong to an export to standard output; name a file, or leave --json out",
            id="two answers on one output",
        ),
        pytest.param(["--export", "-", "--overwrite"], "--overwrite does not belong to an", id="a pipe is not there"),
        pytest.param(["--to", "2026-03-01"], "--to needs --from: the first day", id="an end without a beginning"),
        pytest.param(["--export", "a.csv", "--plot", "b.png"], "--export and --plot write a file each", id="two files"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    """Before anything else: no connection is there."""
    monkeypatch.delenv("AIRFLOW_CONN_MONITORING_DB", raising=False)
    assert main(["quality", *words]) == 2

    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: {says}")
    assert said.out == ("" if "--json" not in words else json.dumps({"error": line.removeprefix("error: ")}) + "\n")


@given(st.sets(st.sampled_from(sorted(OPTIONS))))
def test_every_option_has_a_place_or_is_named(names: set[str]) -> None:
    """Of whatever is typed: the use takes all of it, or the error names one that it does not take."""
    use, refusal = found(parsed(*words_of(names)))
    if use is None:
        assert any(refusal.startswith(OPTIONS[name]) for name in names)
        assert "\n" not in refusal
    else:
        assert names <= BELONGING[use]


def found(args: argparse.Namespace) -> tuple[Use | None, str]:
    """Return what a call is for, or why it is refused."""
    try:
        return use_of(args), ""
    except RequestError as error:
        return None, str(error)


def test_every_option_of_the_command_belongs_to_a_use() -> None:
    """One that is added must be given a place."""
    assert set(OPTIONS) == set(vars(parsed())) - {"run"} == set().union(*BELONGING.values())
    assert set(BELONGING) == set(Use)

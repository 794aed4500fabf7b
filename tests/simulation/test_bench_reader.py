"""The bench itself: that every way of asking gives the same rows, and that a missed target is a failure."""

from __future__ import annotations

import pytest

from include.simulation import bench_reader
from include.simulation.bench_reader import Measured, targets


def measured(rows: int, *, ours: float, floor: float = 1.0, scan: float = 1_000.0) -> Measured:
    """Return measurements of three rounds, one of them disturbed."""
    return Measured(rows, {kind: [ms, ms, ms * 50] for kind, ms in (("ours", ours), ("floor", floor), ("scan", scan))})


@pytest.mark.parametrize(
    ("small", "large", "missed"),
    [
        pytest.param(4.0, {"ours": 4.0}, [], id="all are met"),
        pytest.param(8.0, {"ours": 8.0, "scan": 400.0}, [], id="exactly at the limits is met"),
        pytest.param(8.1, {"ours": 8.1}, ["ours / floor"], id="more than eight floors"),
        pytest.param(4.0, {"ours": 4.0, "scan": 199.0}, ["scan / ours"], id="less than fifty times the scan"),
        pytest.param(3.0, {"ours": 4.0}, ["ours, largest / smallest"], id="grows with the table"),
    ],
)
def test_targets_are_judged_by_medians_at_the_largest_table(
    small: float, large: dict[str, float], missed: list[str]
) -> None:
    """The order of the tables does not matter."""
    found = targets([measured(10_000_000, **large), measured(1_000_000, ours=small)])
    assert [target.name for target in found if not target.is_met] == missed


def test_a_single_table_has_no_growth() -> None:
    """Nothing to compare with."""
    assert [target.name for target in targets([measured(1_000_000, ours=4.0)])] == ["ours / floor", "scan / ours"]


def test_the_bench_runs_and_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """A table too small for the scan to be slow misses that target, and the exit code says so."""
    assert bench_reader.main(["--rows", "20000", "--rounds", "2"]) == 1
    told = capsys.readouterr().out
    assert "MISS  scan / ours" in told
    assert "scan 20,000 rows" in told
    assert "the same in every way" in told

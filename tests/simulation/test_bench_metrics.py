"""The bench itself: that its ways agree, and that a missed target is a failure."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.dashboard.exposition import Buckets, Family, LabelSets, Samples
from include.simulation import bench_metrics
from include.simulation.bench_metrics import Measured, library_text, targets
from include.simulation.metrics_history import fill_history

LIMITS = {"bare": 1.0, "cold": 3.0, "uncapped": 3.0, "cached": 0.15, "plain": 9.0, "library": 9.0}
"""Seconds that are exactly at every limit."""


def measured(*, series: int = 250_000, **seconds: float) -> Measured:
    """Return measurements of three rounds, one of them disturbed, at the limits except where other ``seconds`` are given."""
    found = Measured(credentials=10, days=8, cap=250_000, series=series, all_series=300_000)
    found.seconds = {way: [each, each, each * 50] for way, each in {**LIMITS, **seconds}.items()}
    return found


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        pytest.param(measured(), [], id="exactly at the limits is met"),
        pytest.param(measured(cold=3.1), ["cold / bare"], id="more than three times the bare queries"),
        pytest.param(measured(uncapped=3.1), ["uncapped / bare"], id="the same with every series"),
        pytest.param(measured(cached=0.16), ["cold / cached"], id="less than twenty times less than a cold one"),
        pytest.param(measured(series=250_001), ["series / cap"], id="more series than the cap"),
    ],
)
def test_targets_are_judged_by_medians(given: Measured, missed: list[str]) -> None:
    """Each by itself."""
    assert [target.name for target in targets(given) if not target.is_met] == missed


def test_the_bench_runs_compares_and_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """With so few rows what is fixed weighs most, and some target is missed: the exit code says so."""
    code = bench_metrics.main(["--credentials", "100", "--days", "9", "--rounds", "1"])
    told = capsys.readouterr().out

    assert "100 credentials, 9 days: " in told
    assert code == (1 if "MISS" in told else 0)
    for way in ("bare", "cold", "cached", "plain", "uncapped", "library"):
        assert f" {way} " in told


def test_another_text_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison of ours with the library's can fail."""
    sets = LabelSets(("a",), [("1",)])
    families = [
        Family("runs_total", "counter", "R.", (Samples(sets, [3]),)),
        Family("wait", "histogram", "W.", (Buckets(sets, ("1", "+Inf"), [(1, 2)], [4.5]),)),
    ]
    bench_metrics._compare(families)

    wrong = [families[0], Family("wait", "histogram", "W.", (Buckets(sets, ("1", "+Inf"), [(2, 1)], [4.5]),))]
    monkeypatch.setattr(bench_metrics, "library_text", lambda _: library_text(wrong))
    with pytest.raises(AssertionError, match="other samples"):
        bench_metrics._compare(families)


def test_a_history_has_at_least_eight_days() -> None:
    """Less has no token of which one snapshot a day is kept."""
    with pytest.raises(ValueError, match="7 days"):
        fill_history("postgresql://nobody@127.0.0.1:1/none", credentials=1, days=7, now=datetime.now(UTC))

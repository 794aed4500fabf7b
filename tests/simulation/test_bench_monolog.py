"""The bench of the log itself: that it counts what was written, and that a missed target is a failure."""

from __future__ import annotations

import pytest

from include.simulation import bench_monolog
from include.simulation.bench_monolog import Measured, targets
from include.simulation.postgres import EmbeddedPostgres
from include.warehouse.migration import upgrade

SECONDS = {"ours": 2.0, "json": 5.0, "orjson": 2.0, "half": 1.0}
MEMORY = {"ours": 220.0, "half": 200.0, "json": 1.0, "orjson": 1.0}


def measured(*, ours: float = 2.0, memory: float = 220.0, half: float = 200.0) -> Measured:
    """Return measurements of three rounds, one of them disturbed, at the limits of time and growth unless others are given."""
    found = Measured(lines=1_000, size=1, requests=10)
    found.seconds = {way: [each, each, each * 50] for way, each in {**SECONDS, "ours": ours}.items()}
    found.memory_mib = {way: [each, each * 3, each] for way, each in {**MEMORY, "ours": memory, "half": half}.items()}
    return found


@pytest.mark.parametrize(
    ("given", "missed"),
    [
        pytest.param(measured(), [], id="exactly at the limits is met"),
        pytest.param(measured(ours=2.01), ["json.loads / ours"], id="less than two and a half times as fast"),
        pytest.param(measured(memory=257.0, half=250.0), ["memory of ours, MiB"], id="too much memory"),
        pytest.param(measured(half=199.0), ["memory, all lines / half of them"], id="memory that grows"),
    ],
)
def test_targets_are_judged_by_medians(given: Measured, missed: list[str]) -> None:
    assert [target.name for target in targets(given) if not target.is_met] == missed


def test_the_bench_runs_and_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """With so few lines what is fixed weighs most, and some target is missed: the exit code says so."""
    code = bench_monolog.main(["--lines", "4000", "--rounds", "1"])
    told = capsys.readouterr().out

    assert "4,000 lines, " in told
    assert ", counted as they were written" in told
    assert "MISS  json.loads / ours" in told
    assert code == 1
    for way in ("ours", "json", "orjson", "half"):
        assert f" {way} " in told


def test_another_count_is_noticed(postgres_server: EmbeddedPostgres) -> None:
    """The comparison with what was written can fail."""
    dsn = postgres_server.create_database("bench_monolog_other_count")
    upgrade(dsn)
    with pytest.raises(AssertionError, match="0 requests were counted, 10 were written"):
        bench_monolog._require_truth(dsn, 10)

"""The contract's metrics from rows: any rows at all, held against the oracle, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.dashboard.exposition import written
from include.dashboard.metric_families import BOUNDS, IMPORTANCE, metric_families
from include.dashboard.monitor_families import monitor_families
from include.sync_health import metric_contract
from include.sync_health.metric_contract import OWN, metrics_kept, prometheus_name
from include.sync_health.policy import MonitoringLevel
from include.sync_health.record_counts import RECORDS
from include.sync_health.response_times import HISTOGRAM_MS
from include.warehouse.metric_reader import MetricRows, told_sources
from tests.dashboard.planted_metrics import BUCKETS, Calls, Counter, Planted, Quality, expected, parsed

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

ENVIRONMENTS = st.sampled_from(["production", "integration"])
COMPANIES = st.sampled_from(["1", "2", "unknown"])
CREDENTIALS = st.sampled_from(["7", "8", "9"])
TYPES = st.sampled_from(["customers", "invoices"])
COUNTS = st.integers(0, 1000)

COUNTERS = st.builds(
    Counter,
    environment=ENVIRONMENTS,
    company_id=COMPANIES,
    credential_id=CREDENTIALS,
    data_type=TYPES,
    status=st.sampled_from(["started", "completed", "failed", "cancelled"]),
    syncs=COUNTS,
    duration=st.just((0, 0.0)) | st.tuples(st.integers(1, 1000), st.integers(0, 5000).map(float)),
    # No two of the same moment have the same id.
    last_at=st.integers(0, 3).map(lambda hours: NOW - timedelta(hours=hours)),
    records=st.tuples(*[st.none() | COUNTS] * 3),
)


def key_of(row: Counter | Quality | Calls) -> tuple[str, ...]:
    """Return the primary key of a row, in the order of its fields."""
    names = ("source", "credential_id", "environment", "company_id", "data_type", "status", "endpoint", "status_code")
    return tuple(str(getattr(row, name)) for name in names if hasattr(row, name))


@st.composite
def planted_rows(draw: st.DrawFn) -> Planted:
    """Rows as the tables may hold them."""
    drawn = draw(st.lists(COUNTERS, unique_by=key_of, max_size=12))
    ids = draw(st.permutations(range(len(drawn))))
    counters = [
        Counter(
            **{**each.__dict__, "last_sync_id": str(number), **({"last_at": None} if each.status == "started" else {})}
        )
        for each, number in zip(drawn, ids, strict=True)
    ]
    quality = st.builds(
        Quality,
        environment=ENVIRONMENTS,
        company_id=COMPANIES,
        credential_id=CREDENTIALS,
        data_type=TYPES,
        records=st.tuples(*[COUNTS | st.none()] * 3),
    )
    calls = st.builds(
        Calls,
        source=st.sampled_from(["table", "log", "probe"]),
        environment=ENVIRONMENTS,
        company_id=COMPANIES,
        credential_id=CREDENTIALS,
        endpoint=st.sampled_from(["/a/{id}", "/b"]),
        status_code=st.sampled_from([0, 200, 500]),
        requests=COUNTS,
        errors=COUNTS,
        milliseconds=st.integers(0, 10_000).map(float),
        histogram=st.just(()) | st.tuples(*[st.integers(0, 5)] * BUCKETS),
    )
    statuses = st.sampled_from(["available", "unavailable", "failing"])
    return Planted(
        counters=tuple(counters),
        quality=tuple(draw(st.lists(quality, unique_by=key_of, max_size=8))),
        calls=tuple(draw(st.lists(calls, unique_by=key_of, max_size=12))),
        sources=tuple((name, draw(statuses), draw(st.booleans())) for name in ("table", "log", "probe")),
    )


def rows_of(planted: Planted) -> MetricRows:
    """Return the rows as the reader gives them."""
    sources = [(*each, True) for each in planted.sources]  # each was read
    counted, timed = told_sources(sources)

    def calls(source: str | None) -> list[tuple[object, ...]] | None:
        return source and [  # type: ignore[return-value]
            (
                *(each.environment, each.endpoint, str(each.status_code), each.company_id, each.credential_id),
                *(each.requests, each.errors, sum(each.histogram), each.milliseconds, list(each.histogram)),
            )
            for each in planted.calls
            if each.source == source
        ]

    return MetricRows(
        syncs=[
            (
                *(each.environment, each.data_type, each.status, each.company_id, each.credential_id, each.syncs),
                *(*each.duration, *each.records, each.last_at, each.last_sync_id),
            )
            for each in planted.counters
        ],
        failures=(),
        credentials=(),
        quality=[
            (each.environment, each.data_type, each.company_id, each.credential_id, *each.records)
            for each in planted.quality
        ],
        api_sources=sources,
        api_calls=calls(counted),
        api_timings=calls(timed),
        checks=(),
        alerts=(),
        deliveries=(),
        health=None,
    )


@given(planted_rows(), st.sampled_from(list(MonitoringLevel)))
def test_any_rows_are_told_as_the_contract_says(planted: Planted, level: MonitoringLevel) -> None:
    """Summed where labels are dropped, the newest where nothing can be summed, and no series twice."""
    found = parsed(written(metric_families(rows_of(planted), level=level, now=NOW)).decode())

    wanted = expected(planted, level=level, now=NOW)
    assert {key: pytest.approx(number, rel=1e-9) for key, number in wanted.items()} == found


@given(planted_rows(), st.sampled_from(list(MonitoringLevel)))
def test_the_order_of_rows_does_not_matter(planted: Planted, level: MonitoringLevel) -> None:
    """A table has none."""
    rows = rows_of(planted)
    names = ("syncs", "quality", "api_calls", "api_timings")
    turned = replace(rows, **{name: (each := getattr(rows, name)) and each[::-1] for name in names})

    one, other = (parsed(written(metric_families(each, level=level, now=NOW)).decode()) for each in (rows, turned))

    assert {key: pytest.approx(number, rel=1e-9) for key, number in one.items()} == other


NO_ROWS = rows_of(Planted())


@pytest.mark.parametrize(
    ("known", "told"),
    [
        pytest.param(None, {}, id="nobody wrote it down: nothing is told"),
        pytest.param((), {"processed": 0, "successful": 0, "failed": 0}, id="none may be read"),
        pytest.param(
            ("records_processed",), {"processed": 1, "successful": 0, "failed": 0}, id="the log tells no outcomes"
        ),
        pytest.param(RECORDS, {"processed": 1, "successful": 1, "failed": 1}, id="all may"),
    ],
)
def test_it_is_told_which_record_counts_can_be_read(known: tuple[str, ...] | None, told: dict[str, int]) -> None:
    """Beside series that are absent; the help says how to switch them on."""
    families = monitor_families(replace(NO_ROWS, counts=known), intervals={}, policy_is_wrong=False, now=NOW)
    text = written([each for each in families if each.name == "servicetitan_monitor_record_count_available"]).decode()

    assert parsed(text) == {
        ("servicetitan_monitor_record_count_available", frozenset({("count", f"records_{name}")})): number
        for name, number in told.items()
    }
    assert ("GRANT SELECT" in text) is bool(told)


def test_each_metric_of_the_contract_has_its_place() -> None:
    """What is not in the order of importance would be lost."""
    assert sorted(map(prometheus_name, IMPORTANCE)) == sorted(
        prometheus_name(metric) for metric in metrics_kept(MonitoringLevel.DETAILED) if metric not in OWN
    )
    assert set(metric_contract.CONTRACT) <= set(IMPORTANCE)


def test_bounds_are_seconds() -> None:
    """As many as there are counts, and the last takes everything."""
    assert BOUNDS == ("0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "+Inf")
    assert len(BOUNDS) == len(HISTOGRAM_MS) + 1

"""
How the monitor itself does, as metrics: what it costs the source, what it last saw, and whether its messages get through.

Pure. Moments are told as Unix time, not as ages: an age stands still where nobody scrapes, and ``time() - x`` does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from include.dashboard.exposition import Family, LabelSets, Number, Samples
from include.sync_health import metric_contract as contract
from include.sync_health.health import OK, HealthStatus, health_answer
from include.sync_health.metric_contract import Metric, prometheus_name, prometheus_scale
from include.sync_health.record_counts import RECORDS
from include.warehouse.metric_reader import MetricRows

API_SOURCES = ("table", "log", "probe")
"""Where calls of the API may be known from, as ``monitoring.api_source`` has them."""

CHECK_LABELS, KIND_LABELS = ("check",), ("kind",)


def monitor_families(
    rows: MetricRows, *, intervals: Mapping[str, timedelta], policy_is_wrong: bool, now: datetime
) -> list[Family]:
    """
    Return the monitor's own families; they are few, and no cap leaves one out.

    Args:
        rows: what our schema has.
        intervals: how often each check is due.
        policy_is_wrong: the policy on disk is wrong, and an older one in force.
        now: the wall clock, aware.
    """
    return [
        *_checks(rows, intervals=intervals),
        *_messages(rows),
        *_health(rows, policy_is_wrong, now=now),
        *_record_counts(rows),
    ]


def computed_families(*, series: int, dropped: int, seconds: float) -> list[Family]:
    """
    Return what is known of a page only once it is computed.

    Args:
        series: of the contract's metrics that are told.
        dropped: of those that the cap leaves out.
        seconds: that it took, from the connection to the figures.
    """
    told: Sequence[tuple[str, str, Number]] = (
        ("series", "Series of the contract's metrics that are told here.", series),
        ("series_dropped", "Series that metrics.series_cap leaves out.", dropped),
        ("metrics_seconds", "How long it took to read and compute these figures.", seconds),
    )
    return [gauge(f"servicetitan_monitor_{name}", text, (), [((), number)]) for name, text, number in told]


def gauge(name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], Number]]) -> Family:
    """Return a gauge, of label values and a number each."""
    pairs = list(rows)
    sets = LabelSets(labels, [values for values, _ in pairs])
    return Family(name, "gauge", text, (Samples(sets, [number for _, number in pairs]),))


def _checks(rows: MetricRows, *, intervals: Mapping[str, timedelta]) -> list[Family]:
    checks = [((str(row[0]),), row) for row in rows.checks]

    def own(metric: Metric, place: int) -> Family:
        scale = prometheus_scale(metric)
        name = prometheus_name(metric)
        return gauge(name, metric.help, metric.labels, [(key, row[place] * scale) for key, row in checks])

    return [
        own(contract.CHECK_ROWS, 4),
        own(contract.CHECK_MILLISECONDS, 5),
        gauge(
            "servicetitan_monitor_check_duration_seconds",
            "How long the last run of a check took in all.",
            CHECK_LABELS,
            [(key, row[6] / 1000) for key, row in checks],
        ),
        gauge(
            "servicetitan_monitor_check_window_end_timestamp_seconds",
            "End of the window that a check judged last: what it knows is of that moment.",
            CHECK_LABELS,
            [(key, row[1].timestamp()) for key, row in checks],
        ),
        gauge(
            "servicetitan_monitor_check_blind",
            "1 when the last run of a check could not see the source, or not trust it.",
            CHECK_LABELS,
            [(key, int(row[3])) for key, row in checks],
        ),
        gauge(
            "servicetitan_monitor_check_interval_seconds",
            "How often a check is due.",
            CHECK_LABELS,
            [((name,), every.total_seconds()) for name, every in intervals.items()],
        ),
    ]


def _messages(rows: MetricRows) -> list[Family]:
    waiting = [((str(row[0]),), row) for row in rows.deliveries]
    return [
        gauge(
            "servicetitan_monitor_alerts_open",
            "Alerts that are open.",
            ("rule", "severity"),
            [((str(rule), str(severity)), number) for rule, severity, number in rows.alerts],
        ),
        gauge(
            "servicetitan_monitor_deliveries_waiting",
            "Messages that wait to be sent, by kind of channel.",
            KIND_LABELS,
            [(key, row[1]) for key, row in waiting],
        ),
        gauge(
            "servicetitan_monitor_deliveries_oldest_timestamp_seconds",
            "When the oldest message that waits was made; absent when none waits.",
            KIND_LABELS,
            [(key, row[2].timestamp()) for key, row in waiting if row[2] is not None],
        ),
        gauge(
            "servicetitan_monitor_deliveries_dead",
            "Messages of the last day that were given up.",
            KIND_LABELS,
            [(key, row[3]) for key, row in waiting],
        ),
    ]


def _health(rows: MetricRows, policy_is_wrong: bool, *, now: datetime) -> list[Family]:
    sources = {source: status for source, status, *_ in rows.api_sources}
    http_status, body = health_answer(rows.health, now=now)
    stored = [] if rows.health is None else [((), rows.health.as_of.timestamp())]
    return [
        gauge(
            "servicetitan_monitor_health_ok",
            "1 when /health answers 200: healthy or warning, and not out of date.",
            (),
            [((), int(http_status == OK))],
        ),
        gauge(
            "servicetitan_monitor_health_status",
            "1 for the status that /health tells.",
            ("status",),
            [((str(status),), int(status == body["status"])) for status in HealthStatus],
        ),
        gauge(
            "servicetitan_monitor_health_timestamp_seconds",
            "When the health was checked last; absent when it never was.",
            (),
            stored,
        ),
        gauge(
            "servicetitan_monitor_api_source_available",
            "1 for a source of API calls that is there; without any the API's metrics are absent, not 0.",
            ("source",),
            [((source,), int(sources.get(source) == "available")) for source in API_SOURCES],
        ),
        gauge(
            "servicetitan_monitor_api_source_failing",
            "1 for a source of API calls that is there, and could not be read.",
            ("source",),
            [((source,), int(sources.get(source) == "failing")) for source in API_SOURCES],
        ),
        gauge(
            "servicetitan_monitor_policy_wrong",
            "1 when the policy file is wrong, and the last good one in force.",
            (),
            [((), int(policy_is_wrong))],
        ),
    ]


def _record_counts(rows: MetricRows) -> list[Family]:
    if rows.counts is None:
        return []
    return [
        gauge(
            "servicetitan_monitor_record_count_available",
            "1 for a record count of syncs that the last run could read; at 0 what rests on it is absent, not 0: a right is "
            "missing (doctor tells the statement, GRANT SELECT on columns that are read together), or the log has no such column.",
            ("count",),
            [((name,), int(name in rows.counts)) for name in RECORDS],
        )
    ]

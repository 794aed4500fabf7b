"""
Samples to StatsD or OpenTelemetry, whichever the deployment has: through Airflow's own metrics.

Airflow decides where they go (``[metrics]`` of its configuration) and puts its prefix before the names. Without a backend
this does nothing. Labels are Airflow's tags: in StatsD they are kept with ``statsd_influxdb_enabled`` alone.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.sync_health.sync_metrics import Sample

LONGEST_NAME = 250
"""Characters of a name with its tags: https://github.com/apache/airflow, ``stat_name_default_handler``; a longer one is
dropped there."""

_ALLOWED = frozenset(string.ascii_letters + string.digits + "_.-/")
"""Of a tag's value: those of a name, without the two that separate tags."""

_MILLISECONDS = {"seconds": 1000.0, "milliseconds": 1.0}


def emit(samples: Iterable[Sample]) -> int:
    """
    Tell samples, and return how many.

    A counter's value is what it rises by. Timings go out in milliseconds, as the protocols of StatsD and of Airflow's
    OpenTelemetry say, whatever the metric's unit. Nothing is told twice by this, and nothing is waited for: StatsD's
    packets may get lost, and what OpenTelemetry holds back it sends when the task's process ends.

    Args:
        samples: of `include.sync_health.sync_metrics`, or any other by the metric contract.
    """
    from airflow.sdk.observability import stats

    number = 0
    for sample in samples:
        metric, tags = sample.metric, tags_of(sample.name, dict(sample.labels))
        if metric.kind == "counter":
            stats.incr(metric.name, int(sample.value), tags=tags)
        elif metric.kind == "gauge":
            is_whole = float(sample.value).is_integer()
            stats.gauge(metric.name, int(sample.value) if is_whole else sample.value, tags=tags)
        else:
            stats.timing(metric.name, sample.value * _MILLISECONDS[metric.unit], tags=tags)
        number += 1
    return number


def tags_of(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """
    Return labels as every backend takes them.

    Braces are left out (an endpoint's ``{id}`` is ``id``), any other character that StatsD cannot send is ``_``. The
    longest value is cut where name and tags together are longer than `LONGEST_NAME`.
    """
    tags = {label: _told(value) for label, value in labels.items()}
    excess = len(name) + sum(len(label) + len(value) + 2 for label, value in tags.items()) - LONGEST_NAME
    if excess > 0:
        longest = max(tags, key=lambda label: len(tags[label]))
        tags[longest] = tags[longest][: max(len(tags[longest]) - excess, 1)]
    return tags


def _told(value: str) -> str:
    kept = "".join(each if each in _ALLOWED else "_" for each in value if each not in "{}")
    return kept or "unknown"

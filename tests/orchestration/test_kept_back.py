"""What a run asks of the ledger before it decides: what was spent on the days that a digest is due for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from include.orchestration.kept_back import kept_back
from include.sync_health.alerts import SilentReason
from include.sync_health.policy import Policy
from include.sync_health.verdicts import Severity
from include.warehouse.alert_store import save_step
from include.warehouse.migration import upgrade
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import OPS, alert, delivery
from tests.warehouse.monitoring_records import kept_back as held

CHICAGO = replace(Policy(), reporting_timezone="America/Chicago")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("as_of", "spent"),
    [
        pytest.param(
            "2026-03-10T05:00+00:00",
            {"2026-03-07": {OPS: {"sync_failures": 1}}, "2026-03-09": {OPS: {"sync_failures": 2}}},
            id="the next day begins at midnight in the reporting time zone",
        ),
        pytest.param(
            "2026-03-10T04:59+00:00",
            {"2026-03-07": {OPS: {"sync_failures": 1}}},
            id="until then no digest is due for the day",
        ),
    ],
)
def test_what_was_spent_is_told_by_the_day_of_which_something_is_kept_back(
    make_database: Callable[..., str], as_of: str, spent: dict[str, object]
) -> None:
    """A day between them, of which nothing is, belongs to no digest; the clocks change on the 8th."""
    dsn, people = make_database("monitoring"), [alert(str(number)) for number in range(7)]
    upgrade(dsn)
    days = ("2026-03-07T20:00+00:00", "2026-03-08T20:00+00:00", "2026-03-09T20:00+00:00", "2026-03-10T04:30+00:00")
    messages = [
        delivery(f"sent-{number}", each, severity=Severity.MEDIUM, as_of=at(day))
        for number, (each, day) in enumerate(zip(people, days, strict=False))
    ]
    kept = [held(f"held-{day}", people[-1], SilentReason.BUDGET, by=None, as_of=at(day)) for day in (days[0], days[2])]
    with connect(dsn) as conn:
        save_step(conn, alerts=people, events=[], deliveries=[*messages, *kept], now=at(days[-1]))
        found = kept_back(conn, policy=CHICAGO, as_of=at(as_of), now=at(as_of) + timedelta(minutes=1))

    assert found.spent_before == spent

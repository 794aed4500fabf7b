"""When a burning error budget is told, and in which words."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.api_rule_policies import ErrorBudgetPolicy
from include.sync_health.error_budget import judge_error_budget
from include.sync_health.errors import FrameError
from include.sync_health.measuring_policies import ServiceLevelsPolicy
from include.sync_health.observations import OBSERVATION_COLUMNS, Observation
from include.sync_health.service_levels import OBJECTIVE_DAY_COLUMNS, Objective
from include.sync_health.verdicts import Severity, Verdict

TODAY = date(2026, 3, 30)
AS_OF = datetime(2026, 3, 30, 12, 0, tzinfo=UTC)
POLICY = ErrorBudgetPolicy()
LEVELS = ServiceLevelsPolicy()
DOCS = Path(__file__).resolve().parents[2] / "docs" / "service-levels.md"

Row = tuple[int, int, int]
"""How many days ago, bad, total."""


def days_of(*rows: Row, objective: str = "sync_completion", environment: str = "production") -> pd.DataFrame:
    made = [(TODAY - timedelta(days=ago), environment, objective, total - bad, total) for ago, bad, total in rows]
    return pd.DataFrame(made, columns=list(OBJECTIVE_DAY_COLUMNS))


def told(
    *rows: Row,
    objective: str = "sync_completion",
    policy: ErrorBudgetPolicy = POLICY,
    levels: ServiceLevelsPolicy = LEVELS,
) -> Observation:
    """Return what is said of production's objective."""
    frame = judge_error_budget(
        days_of(*rows, objective=objective), levels=levels, policy=policy, today=TODAY, as_of=AS_OF
    )
    return {each.identity["objective"]: each for each in Observation.from_frame(frame)}[objective]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(1, 11, 1_000), (3, 11, 1_000)], "breach", id="more than one in a hundred on both sides"),
        pytest.param([(1, 10, 1_000)], "band", id="exactly what the objective allows is no breach, and not clear"),
        pytest.param([(1, 9, 1_000), (2, 90, 1_000)], "clear", id="a good day after a bad one is clear"),
        pytest.param([(1, 10, 1_000), (2, 90, 1_000)], "band", id="a day at the limit after a bad one keeps it open"),
        pytest.param([(1, 11, 1_000), (2, 0, 1_000)], "band", id="one bad day does not make three of them bad"),
        pytest.param([(1, 50, 1_000), (2, 0, 1_000)], "breach", id="unless it is as bad as three"),
        pytest.param([(1, 6, 500)], "breach", id="five hundred events are enough"),
        pytest.param([(1, 499, 499)], "insufficient", id="one fewer is not, however bad"),
        pytest.param([(1, 0, 100), (3, 0, 399)], "insufficient", id="nor to be clear"),
        pytest.param([(1, 6, 10), (2, 6, 490)], "breach", id="the short window needs no number of its own"),
        pytest.param([(2, 90, 1_000)], "insufficient", id="a day without any event proves no recovery"),
        pytest.param([(4, 900, 1_000)], "no_data", id="nothing for three days says nothing of now"),
        pytest.param([(0, 900, 1_000), (1, 0, 1_000)], "clear", id="today is not over and does not count"),
        pytest.param([(1, 20, 1_000), (28, 0, 1_000_000)], "breach", id="burning with most of the budget left"),
        pytest.param([(1, 0, 1_000), (9, 900, 1_000)], "clear", id="overspent, but not burning any more"),
    ],
)
def test_both_windows_must_burn(rows: list[Row], expected: str) -> None:
    assert told(*rows).verdict == expected


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        pytest.param(1.9, "breach", id="twice as fast is more than 1.9"),
        pytest.param(2.0, "band", id="and exactly 2"),
        pytest.param(2.1, "clear", id="and less than 2.1"),
    ],
)
def test_the_factor_is_the_policys(factor: float, expected: str) -> None:
    assert told((1, 20, 1_000), policy=ErrorBudgetPolicy(burn_factor=factor)).verdict == expected


def test_the_windows_are_the_policys() -> None:
    """A bad week whose last two days were good."""
    rows = [(ago, 0 if ago <= 2 else 100, 1_000) for ago in range(1, 8)]
    assert told(*rows, policy=ErrorBudgetPolicy(long_days=7, short_days=3)).verdict == "breach"
    assert told(*rows, policy=ErrorBudgetPolicy(long_days=7, short_days=2)).verdict == "clear"


def test_a_breach_says_what_is_spent_and_how_fast() -> None:
    """28 days of 1000 syncs allow 280 failures; 102 old ones, and 24 a day for three days, are 174: 62 %."""
    old = [(ago, 0 if ago > 4 else 102, 1_000) for ago in range(4, 29)]
    found = told(*old, *((ago, 24, 1_000) for ago in (1, 2, 3)))

    assert found.verdict is Verdict.BREACH
    assert found.severity is Severity.MEDIUM
    assert found.type == "servicetitan_error_budget"
    assert found.title == "ServiceTitan Error Budget Burning"
    assert found.message == (
        "ServiceTitan production syncs used 62% of their 28-day error budget (99% objective) and burn it 2.4 times as fast "
        "as it lasts"
    )
    assert found.reason == (
        "72 of 3000 syncs failed in the last 3 days: they burn the budget 2.40 times as fast as it lasts, and 2.40 times in "
        "the last day; both are more than 1"
    )
    assert found.identity == {"objective": "sync_completion", "environment": "production"}
    assert (found.environment, found.credential_id, found.data_type) == ("production", None, None)
    assert found.metadata == {
        "objective": "sync_completion",
        "environment": "production",
        "target_percent": 99.0,
        "window_days": 28,
        "achieved_percent": 100 * (1 - 174 / 28_000),
        "budget_spent_percent": 17_400 / 280,
        "budget_left_percent": 10_600 / 280,
        "burn_factor": 2.4,
        "burn_factor_short": 2.4,
    }
    assert found.evidence == {
        "first_day": "2026-03-02",
        "last_day": "2026-03-29",
        "good": 27_826,
        "total": 28_000,
        "achieved_percent": 99.379,
        "target_percent": 99.0,
        "budget_left_percent": 37.9,
        "burn_factor": 2.4,
        "burn_factor_short": 2.4,
        "threshold_factor": 1.0,
        "long_days": 3,
        "short_days": 1,
    }


@pytest.mark.parametrize(
    ("objective", "rows", "message", "reason"),
    [
        pytest.param(
            "quality",
            [(1, 50, 1_000)],
            "ServiceTitan production records used 250% of their 28-day error budget (98% objective) and burn it 2.5 times "
            "as fast as it lasts",
            "50 of 1000 records did not succeed in the last 3 days: they burn the budget 2.50 times as fast as it lasts, "
            "and 2.50 times in the last day; both are more than 1",
            id="an overspent budget of records",
        ),
        pytest.param(
            "api_latency",
            [(1, 1, 1_000)],
            "ServiceTitan production API calls used 2% of their 28-day error budget (95% objective) and burn it 0.0 times "
            "as fast as it lasts",
            "1 of 1000 API calls were too slow in the last 3 days: they burn the budget 0.02 times as fast as it lasts, "
            "and 0.02 times in the last day; the latter is less than 1",
            id="fast calls",
        ),
        pytest.param(
            "api_latency",
            [(9, 1, 1_000)],
            "ServiceTitan production API calls used 2% of their 28-day error budget (95% objective), and there were none "
            "in the last days",
            "no API calls in the last 3 days",
            id="calls that stopped",
        ),
        pytest.param(
            "quality",
            [(1, 0, 10)],
            "ServiceTitan production records used 0% of their 28-day error budget (98% objective) and burn it 0.0 times as "
            "fast as it lasts",
            "0 of 10 records did not succeed in the last 3 days; fewer than 500 prove nothing",
            id="too few records",
        ),
    ],
)
def test_each_objective_has_its_words(objective: str, rows: list[Row], message: str, reason: str) -> None:
    found = told(*rows, objective=objective)
    assert (found.message, found.reason) == (message, reason)


def test_every_objective_is_told_of_each_environment_that_is_seen() -> None:
    """An objective without events is no data, not silence: its alert must not close, nor be forgotten."""
    days = pd.concat([days_of((1, 5, 500)), days_of((1, 5, 500), environment="integration")])
    frame = judge_error_budget(days, levels=LEVELS, policy=POLICY, today=TODAY, as_of=AS_OF)
    assert tuple(frame) == OBSERVATION_COLUMNS
    assert [(each.environment, each.identity["objective"], each.verdict) for each in Observation.from_frame(frame)] == [
        (environment, str(objective), Verdict.BAND if objective is Objective.SYNC_COMPLETION else Verdict.NO_DATA)
        for environment in ("integration", "production")
        for objective in Objective
    ]
    unknown = Observation.from_frame(frame)[-1]
    assert unknown.message == (
        "ServiceTitan production API calls have no 28-day error budget (95% objective): there were none"
    )
    assert unknown.metadata["budget_left_percent"] is None


def test_without_a_day_nothing_is_said() -> None:
    frame = judge_error_budget(days_of(), levels=LEVELS, policy=POLICY, today=TODAY, as_of=AS_OF)
    assert frame.empty
    assert tuple(frame) == OBSERVATION_COLUMNS


def test_mistakes_of_the_caller_are_said() -> None:
    with pytest.raises(ValueError, match="as_of must be timezone-aware"):
        judge_error_budget(days_of(), levels=LEVELS, policy=POLICY, today=TODAY, as_of=AS_OF.replace(tzinfo=None))
    with pytest.raises(FrameError, match="objective"):
        judge_error_budget(days_of().drop(columns="objective"), levels=LEVELS, policy=POLICY, today=TODAY, as_of=AS_OF)


rows_of_days = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 40), st.integers(40, 2_000)), min_size=1, max_size=8
)


@given(rows=rows_of_days, factor=st.sampled_from([0.5, 1.0, 2.0]))
def test_the_verdict_is_what_whole_numbers_say(rows: list[Row], factor: float) -> None:
    """Against the definition, multiplied out: 100 * bad against factor * total, of 99 %."""
    long, short = ([(bad, total) for ago, bad, total in rows if 1 <= ago <= days] for days in (3, 1))

    def compared(part: list[tuple[int, int]]) -> float:
        return 100 * sum(bad for bad, _ in part) - factor * sum(total for _, total in part)

    if not long:
        expected = "no_data"
    elif sum(total for _, total in long) < 500 or not short:
        expected = "insufficient"
    elif compared(long) > 0 and compared(short) > 0:
        expected = "breach"
    else:
        expected = "clear" if compared(short) < 0 else "band"
    seen = [each for each in rows if each[0] > 0]
    if seen:
        assert told(*rows, policy=ErrorBudgetPolicy(burn_factor=factor)).verdict == expected


@pytest.mark.parametrize(
    ("what", "bad", "verdict"),
    [
        ("5 failures a day, all the time", [5] * 28, "clear"),
        ("10 a day, all the time", [10] * 28, "band"),
        ("24 a day for three days, 102 before", [0] * 24 + [102] + [24] * 3, "breach"),
        ("24 yesterday, none on the two days before", [0] * 27 + [24], "band"),
        ("90 yesterday, none before", [0] * 27 + [90], "breach"),
        ("90 on each of two days, then 5", [0] * 25 + [90, 90, 5], "clear"),
    ],
)
def test_the_examples_of_the_docs_are_true(what: str, bad: list[int], verdict: str) -> None:
    """28 days of 1000 syncs, the oldest first."""
    found = told(*((28 - place, number, 1_000) for place, number in enumerate(bad)))
    numbers = found.metadata
    row = (
        f"| {what} | {numbers['achieved_percent']:.1f} % | {numbers['budget_left_percent']:.0f} % "
        f"| {numbers['burn_factor']:.1f} | {numbers['burn_factor_short']:.1f} | {verdict}"
    )
    assert found.verdict == verdict
    assert row in DOCS.read_text(encoding="utf-8")

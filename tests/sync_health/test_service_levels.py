"""Error budgets against examples computed by hand, and what must always hold of them."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.measuring_policies import ServiceLevel, ServiceLevelsPolicy
from include.sync_health.service_levels import (
    OBJECTIVE_DAY_COLUMNS,
    Budget,
    Events,
    Objective,
    allowed_percent,
    budgets,
    targets,
    window_of,
)

TODAY = date(2026, 3, 30)
LEVELS = ServiceLevelsPolicy()  # 99, 98 and 95 % over 28 days
SYNCS = Objective.SYNC_COMPLETION

Row = tuple[int, int, int]
"""How many days ago, good, total."""


def objective_days(*rows: Row, objective: Objective = SYNCS, environment: str = "production") -> pd.DataFrame:
    made = [(TODAY - timedelta(days=ago), environment, str(objective), good, total) for ago, good, total in rows]
    return pd.DataFrame(made, columns=list(OBJECTIVE_DAY_COLUMNS))


def budget_of(*rows: Row, objective: Objective = SYNCS, levels: ServiceLevelsPolicy = LEVELS, **options: int) -> Budget:
    """Return production's budget of one objective."""
    days = objective_days(*rows, objective=objective)
    found = budgets(days, levels=levels, today=TODAY, environments=["production"], **options)
    return {each.objective: each for each in found}[objective]


@pytest.mark.parametrize(
    ("rows", "achieved", "allowed", "left"),
    [
        pytest.param([(1, 1_000, 1_000)], 100.0, 10.0, 100.0, id="nothing bad leaves all of the budget"),
        pytest.param([(1, 999, 1_000)], 99.9, 10.0, 90.0, id="one bad sync of a budget of ten leaves nine tenths"),
        pytest.param([(1, 990, 1_000)], 99.0, 10.0, 0.0, id="at exactly the objective nothing is left"),
        pytest.param([(1, 975, 1_000)], 97.5, 10.0, -150.0, id="two and a half budgets spent are 150 % too many"),
        pytest.param([(1, 0, 1_000)], 0.0, 10.0, -9_900.0, id="nothing good at all is a hundred budgets"),
        pytest.param([(9, 499, 500), (1, 496, 500)], 99.5, 10.0, 50.0, id="days add up, their shares do not"),
        pytest.param([(1, 49, 50)], 98.0, 0.5, -100.0, id="half an event is allowed, and one is twice too many"),
        pytest.param([(28, 99, 100)], 99.0, 1.0, 0.0, id="the day 28 days ago is in the window"),
        pytest.param([(29, 0, 100), (1, 100, 100)], 100.0, 1.0, 100.0, id="the day before it is not"),
        pytest.param([(0, 0, 100), (1, 100, 100)], 100.0, 1.0, 100.0, id="nor is today, which is not over"),
        pytest.param([(-1, 0, 100), (1, 100, 100)], 100.0, 1.0, 100.0, id="nor a day to come"),
    ],
)
def test_a_budget_is_what_the_objective_allows(rows: list[Row], achieved: float, allowed: float, left: float) -> None:
    found = budget_of(*rows)
    assert (found.events.achieved, found.allowed, found.left) == (achieved, allowed, left)
    assert found.spent == 100 - left


@pytest.mark.parametrize(
    ("rows", "long", "short"),
    [
        pytest.param([(1, 99, 100)], 1.0, 1.0, id="one in a hundred is exactly what 99 % allow"),
        pytest.param([(1, 98, 100), (2, 100, 100), (3, 100, 100)], 2 / 3, 2.0, id="a bad day among three"),
        pytest.param([(1, 100, 100), (2, 98, 100), (3, 96, 100)], 2.0, 0.0, id="three days of which the last is good"),
        pytest.param([(4, 0, 100), (3, 100, 100)], 0.0, None, id="the fourth day is out of it, and yesterday had none"),
        pytest.param([(4, 0, 100)], None, None, id="nothing in either window"),
        pytest.param([(1, 50, 100), (2, 900, 900)], 5.0, 50.0, id="a busy day outweighs a bad one"),
    ],
)
def test_a_burn_is_the_bad_share_in_allowed_shares(rows: list[Row], long: float | None, short: float | None) -> None:
    found = budget_of(*rows)
    assert (found.burn_long, found.burn_short) == (long, short)


def test_a_burn_of_one_spends_the_whole_budget_in_the_whole_window() -> None:
    """And of 2 in half of it: the factor times the share of the window is what is spent."""
    steady = budget_of(*((ago, 99, 100) for ago in range(1, 29)))
    assert (steady.left, steady.burn_long) == (0.0, 1.0)
    half = budget_of(*((ago, 98 if ago <= 14 else 100, 100) for ago in range(1, 29)))
    assert (half.left, half.burn_long) == (0.0, 2.0)


def test_each_objective_has_its_own_share() -> None:
    """A twentieth bad is five, two and a half, and one times what 99, 98 and 95 percent allow."""
    burns = [budget_of((1, 95, 100), objective=each).burn_long for each in Objective]
    assert burns == [5.0, 2.5, 1.0]
    assert list(targets(LEVELS).values()) == [99.0, 98.0, 95.0]


def test_an_objective_is_taken_as_it_is_written() -> None:
    """One of a thousand is exactly what 99.9 % allow, though no float is exactly 99.9."""
    levels = ServiceLevelsPolicy(sync_completion=ServiceLevel(objective=99.9))
    found = budget_of((1, 999, 1_000), levels=levels)
    assert allowed_percent(99.9) == Fraction(1, 10)
    assert (found.left, found.burn_long, found.allowed) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize("target", [0.0, -1.0, 100.0, 100.5, float("nan")])
def test_an_objective_of_nothing_or_all_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="an objective is more than 0 and less than 100"):
        allowed_percent(target)


def test_without_events_nothing_is_known_and_nothing_is_divided_by() -> None:
    found = budget_of()
    assert (found.events, found.events.achieved, found.allowed, found.left, found.spent) == (
        Events(),
        None,
        None,
        None,
        None,
    )
    assert (found.burn_long, found.burn_short) == (None, None)
    assert budgets(objective_days(), levels=LEVELS, today=TODAY) == ()


def test_environments_have_budgets_of_their_own() -> None:
    days = pd.concat(
        [objective_days((1, 9, 10)), objective_days((1, 1, 2), objective=Objective.QUALITY, environment="integration")]
    )
    found = budgets(days, levels=LEVELS, today=TODAY)
    assert [(each.environment, str(each.objective), each.events.bad) for each in found] == [
        ("integration", "sync_completion", 0),
        ("integration", "quality", 1),
        ("integration", "api_latency", 0),
        ("production", "sync_completion", 1),
        ("production", "quality", 0),
        ("production", "api_latency", 0),
    ]


def test_the_window_is_of_whole_days_up_to_yesterday() -> None:
    assert window_of(LEVELS, today=TODAY) == (date(2026, 3, 2), date(2026, 3, 29))
    short = budget_of((1, 9, 10), levels=ServiceLevelsPolicy(days=7))
    assert (short.first, short.last) == (date(2026, 3, 23), date(2026, 3, 29))


def test_a_burn_longer_than_the_window_sees_the_window() -> None:
    found = budget_of((8, 0, 10), (1, 9, 10), levels=ServiceLevelsPolicy(days=7), long_days=30)
    assert found.long == found.events == Events(good=9, total=10)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="11 good of 10"):
        budget_of((1, 11, 10))
    with pytest.raises(ValueError, match="-1 good of 10"):
        Events(good=-1, total=10)
    with pytest.raises(FrameError, match="total"):
        budgets(objective_days().drop(columns="total"), levels=LEVELS, today=TODAY)


counts = st.integers(0, 10**9).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))
rows_of_days = st.lists(st.tuples(st.integers(1, 28), counts).map(lambda each: (each[0], *each[1])), max_size=12)


@given(rows=rows_of_days)
def test_all_of_it_is_left_exactly_when_nothing_was_bad(rows: list[Row]) -> None:
    found = budget_of(*rows)
    bad = sum(total - good for _, good, total in rows)
    assert (found.left == 100.0) == (found.events.total > 0 and bad == 0)
    assert (found.left is None) == (found.events.total == 0)


@given(rows=rows_of_days.filter(lambda rows: sum(good for _, good, _ in rows) > 0), data=st.data())
def test_one_more_bad_event_never_leaves_more(rows: list[Row], data: st.DataObject) -> None:
    """Of the budget, that is less; and no burn gets slower."""
    place = data.draw(st.sampled_from([at for at, (_, good, _) in enumerate(rows) if good]))
    ago, good, total = rows[place]
    before, after = budget_of(*rows), budget_of(*rows[:place], (ago, good - 1, total), *rows[place + 1 :])
    assert before.left is not None
    assert after.left is not None
    assert after.left < before.left
    for one, other in ((before.burn_long, after.burn_long), (before.burn_short, after.burn_short)):
        assert (one is None) == (other is None)
        assert one is None or other is None or one <= other


@given(rows=rows_of_days, data=st.data())
def test_parts_of_a_day_are_the_day(rows: list[Row], data: st.DataObject) -> None:
    """However the events of a day are split into rows, and in whatever order."""
    parts: list[Row] = []
    for ago, good, total in rows:
        first_good, first_bad = data.draw(st.integers(0, good)), data.draw(st.integers(0, total - good))
        first = first_good + first_bad
        parts += [(ago, first_good, first), (ago, good - first_good, total - first)]
    assert budget_of(*data.draw(st.permutations(parts))) == budget_of(*rows)


@given(rows=rows_of_days)
def test_what_is_left_is_what_a_fraction_says(rows: list[Row]) -> None:
    """Against one exact division."""
    found = budget_of(*rows)
    total, bad = sum(each for _, _, each in rows), sum(each - good for _, good, each in rows)
    if total:
        assert found.left == float(100 - Fraction(10_000 * bad, total))

"""
Service levels: how much of what counts was good, and what is left of the error budget.

An objective of 99 % allows one event in a hundred to be bad: that is its budget, over a window of whole days of the reporting
time zone that ends with yesterday. A burn factor of 1 spends exactly the whole budget in a whole window; of 2, in half of
one (B. Beyer et al., "The Site Reliability Workbook", 2018, chapter 5). Counted are events, not minutes: an hour without
a sync is neither good nor bad. See docs/service-levels.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from fractions import Fraction

import numpy as np
import pandas as pd

from include.sync_health.frames import require_columns
from include.sync_health.measuring_policies import ServiceLevelsPolicy

DAY = timedelta(days=1)

LONG_DAYS, SHORT_DAYS = 3, 1
"""Whole days over which a burn is told, where no policy says otherwise: those of the rule ``error_budget``."""


class Objective(StrEnum):
    """What is promised; the values are the names that metrics, alerts and the policy use."""

    SYNC_COMPLETION = "sync_completion"
    """Of the syncs that completed or failed, those that completed; cancelled ones are none."""
    QUALITY = "quality"
    """Of the records processed, those that succeeded; of syncs whose counts contradict themselves, none."""
    API_LATENCY = "api_latency"
    """Of the API calls whose time is known, those answered within ``api_latency_within``."""


OBJECTIVE_DAY_COLUMNS = (
    "day",  # datetime.date: of the reporting time zone
    "environment",  # str
    "objective",  # str: an Objective
    "good",  # int64: events that were as promised
    "total",  # int64: events that count
)
"""One row per day, environment and objective that had an event; several of the same add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """
    Events of some days.

    Args:
        good, total: 0 <= good <= total.

    Raises:
        ValueError: they are not.
    """

    good: int = 0
    total: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot have happened."""
        if not 0 <= self.good <= self.total:
            raise ValueError(f"need 0 <= good <= total, got {self.good} good of {self.total}")

    @property
    def bad(self) -> int:
        """How many were not as promised."""
        return self.total - self.good

    @property
    def achieved(self) -> float | None:
        """Percent that were good; None without any."""
        return float(Fraction(100 * self.good, self.total)) if self.total else None

    def burn(self, target: float) -> Fraction | None:
        """
        Return how fast these days burn the budget of an objective: their bad share in times the share it allows.

        Exact, so that a factor at the threshold is at the threshold. None without any event.

        Args:
            target: the objective in percent, less than 100.
        """
        return Fraction(100 * self.bad, self.total) / allowed_percent(target) if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """
    One objective in one environment, and what is left of its budget.

    Args:
        objective: which.
        environment: where.
        target: percent.
        first, last: the days of the window, both included.
        events: of the window.
        long, short: of its last days, as many as were asked for.
    """

    objective: Objective
    environment: str
    target: float
    first: date
    last: date
    events: Events
    long: Events
    short: Events

    @property
    def allowed(self) -> float | None:
        """How many bad events the budget has, a fraction perhaps; None without any event."""
        return float(self.events.total * allowed_percent(self.target) / 100) if self.events.total else None

    @property
    def spent(self) -> float | None:
        """Percent of the budget that is spent, more than 100 once it is overspent; None without any event."""
        burnt = self.events.burn(self.target)
        return None if burnt is None else float(100 * burnt)

    @property
    def left(self) -> float | None:
        """Percent of the budget that is left: 100 without a bad event, negative once it is overspent; None as above."""
        burnt = self.events.burn(self.target)
        return None if burnt is None else float(100 - 100 * burnt)

    @property
    def burn_long(self) -> float | None:
        """The burn factor of the long window; None where it has no event."""
        return _float(self.long.burn(self.target))

    @property
    def burn_short(self) -> float | None:
        """The burn factor of the short window; None where it has no event."""
        return _float(self.short.burn(self.target))


def allowed_percent(target: float) -> Fraction:
    """
    Return the percent of events that an objective allows to be bad: exactly 0.1 for 99.9, as it is written.

    Raises:
        ValueError: the objective is not more than 0 and less than 100: nothing, or all, would be a budget.
    """
    if not 0 < target < 100:
        raise ValueError(f"an objective is more than 0 and less than 100 percent, not {target}")
    return 100 - Fraction(repr(float(target)))


def targets(levels: ServiceLevelsPolicy) -> Mapping[Objective, float]:
    """Return each objective's percent."""
    return {
        Objective.SYNC_COMPLETION: levels.sync_completion.objective,
        Objective.QUALITY: levels.quality.objective,
        Objective.API_LATENCY: levels.api_latency.objective,
    }


def window_of(levels: ServiceLevelsPolicy, *, today: date) -> tuple[date, date]:
    """Return the first and the last day of the window, both included: whole days, the last of them yesterday."""
    return today - levels.days * DAY, today - DAY


def budgets(
    days: pd.DataFrame,
    *,
    levels: ServiceLevelsPolicy,
    today: date,
    long_days: int = LONG_DAYS,
    short_days: int = SHORT_DAYS,
    environments: Collection[str] = (),
) -> tuple[Budget, ...]:
    """
    Return the budget of each objective in each environment.

    Days before the window, and today and later, are ignored. A burn looks at the last whole days of the window alone; one
    that is longer than the window sees the window.

    Args:
        days: `OBJECTIVE_DAY_COLUMNS`, in any order.
        levels: the objectives and the window.
        today: of the reporting time zone.
        long_days, short_days: whole days up to yesterday.
        environments: told of in any case; the others are those of ``days`` within the window.

    Returns:
        Every objective for every environment, by environment and in the order of `Objective`; without events its numbers
        are None.

    Raises:
        FrameError: a column is missing.
        ValueError: an objective, or a number of events, that cannot be.
    """
    require_columns(days, OBJECTIVE_DAY_COLUMNS, name="objective days")
    first, last = window_of(levels, today=today)
    number = np.array([each.toordinal() for each in days["day"]], dtype=np.int64)
    inside = (number >= first.toordinal()) & (number <= last.toordinal())
    rows, age = days[inside], last.toordinal() - number[inside]
    seen = sorted({*environments, *rows["environment"]})

    def events(within: int) -> Mapping[tuple[str, str], Events]:
        summed = rows[age < within].groupby(["environment", "objective"])[["good", "total"]].sum()
        return {
            (str(environment), str(objective)): Events(good=int(good), total=int(total))
            for (environment, objective), good, total in zip(summed.index, summed["good"], summed["total"], strict=True)
        }

    whole, long, short = (events(each) for each in (levels.days, long_days, short_days))
    nothing = Events()
    return tuple(
        Budget(
            objective=objective,
            environment=environment,
            target=target,
            first=first,
            last=last,
            events=whole.get((environment, objective), nothing),
            long=long.get((environment, objective), nothing),
            short=short.get((environment, objective), nothing),
        )
        for environment in seen
        for objective, target in targets(levels).items()
    )


def _float(number: Fraction | None) -> float | None:
    return None if number is None else float(number)

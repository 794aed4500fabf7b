"""
An error budget that burns faster than it lasts, for days: slow burn alone.

Syncs come by the hour and quality by the day: within an hour there are too few events for a fast burn to mean anything,
and what fails at once is told by the rules that count failures. See docs/service-levels.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pandas as pd

from include.sync_health.api_rule_policies import ErrorBudgetPolicy
from include.sync_health.failures import observation_frame
from include.sync_health.measuring_policies import ServiceLevelsPolicy
from include.sync_health.service_levels import Budget, Objective, budgets
from include.sync_health.verdicts import Verdict

NOUNS: Mapping[Objective, str] = MappingProxyType(
    {
        Objective.SYNC_COMPLETION: "syncs",
        Objective.QUALITY: "records",
        Objective.API_LATENCY: "API calls",
    }
)
"""What is counted, as messages say it."""

BAD_WORDS: Mapping[Objective, str] = MappingProxyType(
    {
        Objective.SYNC_COMPLETION: "failed",
        Objective.QUALITY: "did not succeed",
        Objective.API_LATENCY: "were too slow",
    }
)


def judge_error_budget(
    days: pd.DataFrame, *, levels: ServiceLevelsPolicy, policy: ErrorBudgetPolicy, today: date, as_of: datetime
) -> pd.DataFrame:
    """
    Judge how fast each objective burns its budget, environment by environment.

    The burn factor of some days is their bad share divided by the share that the objective allows. Over the last
    ``long_days`` and the last ``short_days`` whole days up to yesterday: BREACH when both are more than ``burn_factor``;
    CLEAR when the short one is less; BAND between (exactly the factor is neither). INSUFFICIENT with fewer than
    ``min_events`` events in the long window, or none in the short one. NO_DATA without any in the long window.

    Args:
        days: `include.sync_health.service_levels.OBJECTIVE_DAY_COLUMNS`, in any order; those outside the window of
            ``levels`` are ignored.
        levels: the objectives and their window.
        policy: the thresholds.
        today: of the reporting time zone.
        as_of: the instant to judge by; aware.

    Returns:
        `OBSERVATION_COLUMNS`: one row per environment that has an event within the window, and objective; ordered by
        them. Identity: objective, environment. Percents and factors in ``metadata`` are not rounded; None without events.

    Raises:
        FrameError: ``days`` lacks a column.
        ValueError: ``as_of`` is naive; more good events than events.
    """
    if as_of.tzinfo is None:
        raise ValueError("as_of must be timezone-aware")
    found = budgets(days, levels=levels, today=today, long_days=policy.long_days, short_days=policy.short_days)
    return observation_frame(_row(each, levels=levels, policy=policy) for each in found)


def _row(budget: Budget, *, levels: ServiceLevelsPolicy, policy: ErrorBudgetPolicy) -> dict[str, Any]:
    verdict, reason = _verdict(budget, policy=policy)
    noun = NOUNS[budget.objective]
    return {
        "rule": "error_budget",
        "identity": {"objective": str(budget.objective), "environment": budget.environment},
        "verdict": verdict,
        "severity": policy.severity,
        "credential_id": None,
        "company_id": None,
        "company_name": None,
        "environment": budget.environment,
        "data_type": None,
        "title": "ServiceTitan Error Budget Burning",
        "message": f"ServiceTitan {budget.environment} {noun} " + _budget_words(budget, days=levels.days),
        "metadata": {
            "objective": str(budget.objective),
            "environment": budget.environment,
            "target_percent": budget.target,
            "window_days": levels.days,
            "achieved_percent": budget.events.achieved,
            "budget_spent_percent": budget.spent,
            "budget_left_percent": budget.left,
            "burn_factor": budget.burn_long,
            "burn_factor_short": budget.burn_short,
        },
        "error_class": None,
        "cause": None,
        "evidence": {
            "first_day": budget.first.isoformat(),
            "last_day": budget.last.isoformat(),
            "good": budget.events.good,
            "total": budget.events.total,
            "achieved_percent": _rounded(budget.events.achieved, 3),
            "target_percent": budget.target,
            "budget_left_percent": _rounded(budget.left, 1),
            "burn_factor": _rounded(budget.burn_long, 2),
            "burn_factor_short": _rounded(budget.burn_short, 2),
            "threshold_factor": policy.burn_factor,
            "long_days": policy.long_days,
            "short_days": policy.short_days,
        },
        "reason": reason,
    }


def _verdict(budget: Budget, *, policy: ErrorBudgetPolicy) -> tuple[Verdict, str]:
    noun, long_words = NOUNS[budget.objective], _days_words(policy.long_days)
    long, short = budget.long.burn(budget.target), budget.short.burn(budget.target)
    if long is None:
        return Verdict.NO_DATA, f"no {noun} in {long_words}"
    told = f"{budget.long.bad} of {budget.long.total} {noun} {BAD_WORDS[budget.objective]} in {long_words}"
    if budget.long.total < policy.min_events:
        return Verdict.INSUFFICIENT, f"{told}; fewer than {policy.min_events} prove nothing"
    if short is None:
        return Verdict.INSUFFICIENT, f"{told}, and there were none in {_days_words(policy.short_days)}"
    limit = Fraction(repr(float(policy.burn_factor)))
    burns = (
        f"{told}: they burn the budget {float(long):.2f} times as fast as it lasts, "
        f"and {float(short):.2f} times in {_days_words(policy.short_days)}"
    )
    if long > limit and short > limit:
        return Verdict.BREACH, f"{burns}; both are more than {policy.burn_factor:g}"
    if short < limit:
        return Verdict.CLEAR, f"{burns}; the latter is less than {policy.burn_factor:g}"
    return Verdict.BAND, f"{burns}; not both are more than {policy.burn_factor:g}"


def _budget_words(budget: Budget, *, days: int) -> str:
    which = f"{days}-day error budget ({budget.target:g}% objective)"
    if budget.spent is None:
        return f"have no {which}: there were none"
    used = f"used {budget.spent:.0f}% of their {which}"
    if budget.burn_long is None:
        return f"{used}, and there were none in the last days"
    return f"{used} and burn it {budget.burn_long:.1f} times as fast as it lasts"


def _days_words(days: int) -> str:
    return "the last day" if days == 1 else f"the last {days} days"


def _rounded(number: float | None, digits: int) -> float | None:
    return None if number is None else round(number, digits)

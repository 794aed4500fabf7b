"""The planted faults: each occurs, breaches exactly when the truth says, and nothing else ever breaches."""

from __future__ import annotations

import functools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from include.simulation.generated_timeline import Generated, WorldPlan, generate
from include.simulation.planted_faults import ALL_FAULTS, Fault, PlantedFault, clock_changes
from include.simulation.planted_truth import Truth
from include.simulation.timeline import Fold
from include.sync_health.verdicts import Severity
from tests.simulation.naive_scan import breaches

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RAISES_NOTHING = {Fault.NOISE, Fault.EMPTY_SYNCS}

AUTUMN = WorldPlan(begin=datetime(2026, 10, 29, tzinfo=UTC), shape="entities", timezone="America/New_York")
"""Over the change of New York's clocks on 1 November."""

PLAIN = WorldPlan(begin=datetime(2026, 11, 18, 7, 30, tzinfo=UTC), shape="migrations", timezone="UTC")

SEEDED = [
    pytest.param(replace(plan, seed=seed), id=f"{plan.shape} in {plan.timezone}, seed {seed}")
    for plan in (AUTUMN, PLAIN)
    for seed in (1, 7, 19)
]


@functools.cache
def world(plan: WorldPlan) -> Generated:
    return generate(plan)


def identity(truth: Truth) -> tuple[str, tuple[tuple[str, str], ...]]:
    return truth.rule, tuple(sorted(truth.identity.items()))


@pytest.mark.parametrize("plan", SEEDED)
def test_a_naive_scan_finds_the_truth_at_its_seconds_and_nothing_else_at_any_time(plan: WorldPlan) -> None:
    generated = world(plan)
    instants = {plan.begin + step * 75 * MINUTE for step in range(96)}
    for truth in generated.truths:
        instants |= {truth.due_at - SECOND, truth.due_at}
        instants |= set() if truth.over_at is None else {truth.over_at - SECOND, truth.over_at}
    fold = Fold(generated.writes)
    for now in sorted(at for at in instants if plan.begin <= at <= plan.end):
        fold.play(now)
        expected = {
            identity(truth)
            for truth in generated.truths
            if truth.due_at <= now and (truth.over_at is None or now < truth.over_at)
        }
        assert breaches(fold.rows, now=now) == expected, now


@pytest.mark.parametrize("plan", SEEDED)
def test_every_fault_is_planted_and_all_but_two_must_be_told(plan: WorldPlan) -> None:
    generated = world(plan)
    assert {fault.fault for fault in generated.faults} == set(ALL_FAULTS)
    assert {truth.fault for truth in generated.truths} == set(ALL_FAULTS) - RAISES_NOTHING
    assert {truth.rule for truth in generated.truths} == {
        "sync_failures",
        "consecutive_failures",
        "stuck_sync",
        "platform_outage",
        "no_syncs",
        "token_expiry",
        "connection_error",
        "stale_sync",
        "data_quality",
    }


@pytest.mark.parametrize("plan", SEEDED)
def test_faults_keep_away_from_each_other_and_from_changes_of_the_clock(plan: WorldPlan) -> None:
    generated = world(plan)
    owners = [fault.account for fault in generated.faults if fault.account is not None]
    assert len(owners) == len(set(owners))
    platform = sorted((fault.at, fault.over) for fault in generated.faults if fault.account is None and fault.over)
    assert all(end + 4 * HOUR <= start for (_, end), (start, _) in pairwise(platform))
    for change in clock_changes(ZoneInfo(plan.timezone), plan.begin, plan.end):
        assert all(abs(start - change) > 4 * HOUR for start, _ in platform)


@pytest.mark.parametrize("plan", SEEDED)
def test_severities_are_those_of_the_moment_it_is_due(plan: WorldPlan) -> None:
    generated = world(plan)
    bad_share = next(fault.bad_share for fault in generated.faults if fault.fault is Fault.QUALITY_REGRESSION)
    high = {"sync_failures", "no_syncs", "connection_error"} | ({"data_quality"} if bad_share > 50 else set())
    for truth in generated.truths:
        is_short_token = truth.rule == "token_expiry" and truth.fault is not Fault.TOKEN_ABOUT_TO_LAPSE
        expected = Severity.HIGH if truth.rule in high or is_short_token else Severity.MEDIUM
        assert truth.severity is (Severity.CRITICAL if truth.rule == "platform_outage" else expected), truth
        assert truth.began_at <= truth.due_at
        assert truth.over_at is None or truth.over_at > truth.due_at


def test_where_failed_records_are_not_counted_quality_must_not_be_told() -> None:
    generated = world(replace(PLAIN, shape="architecture"))
    assert "data_quality" not in {truth.rule for truth in generated.truths}
    fold = Fold(generated.writes)
    fold.play(PLAIN.end)
    assert breaches(fold.rows, now=PLAIN.end, counts_records=False) == {
        identity(truth) for truth in generated.truths if truth.over_at is None or truth.over_at > PLAIN.end
    }


def test_uuids_are_the_identities_where_keys_are_uuids() -> None:
    generated = world(replace(PLAIN, shape="uuid"))
    ids = {truth.identity["credential"] for truth in generated.truths if "credential" in truth.identity}
    assert ids
    assert all(len(text) == 36 for text in ids)


@pytest.mark.parametrize("fault", [fault for fault in ALL_FAULTS if fault not in RAISES_NOTHING])
def test_each_fault_can_be_had_alone(fault: Fault) -> None:
    generated = generate(replace(PLAIN, faults=(fault,), credentials=40))
    assert {truth.fault for truth in generated.truths} == {fault}


def test_a_fault_can_be_planted_at_a_given_second() -> None:
    at = PLAIN.begin + 6 * HOUR
    marks = tuple(at + minute * MINUTE for minute in (1, 2, 3))
    fault = PlantedFault(fault=Fault.AUTH_BREAK, account=9, at=at, over=at + 8 * MINUTE, marks=marks)
    failures, in_a_row = sorted(generate(replace(PLAIN, planted=(fault,))).truths, key=lambda truth: truth.rule)[::-1]
    assert (failures.rule, failures.due_at, failures.over_at) == ("sync_failures", marks[2], marks[0] + HOUR)
    assert (in_a_row.rule, in_a_row.due_at) == ("consecutive_failures", marks[2])
    assert in_a_row.over_at == at + 9 * MINUTE


@pytest.mark.parametrize(
    ("options", "told"),
    [
        pytest.param({"credentials": 11}, "at least 12 credentials", id="too few credentials for any world"),
        pytest.param({"credentials": 15}, "need as many credentials", id="too few credentials for the faults"),
        pytest.param({"days": 2}, "3 days", id="too few days for any world"),
        pytest.param({"faults": (Fault.OUTAGE_FULL,) * 12}, "too few for these faults", id="too few days for outages"),
        pytest.param({"begin": datetime(2026, 11, 18)}, "timezone-aware", id="a naive beginning"),  # noqa: DTZ001
    ],
)
def test_a_world_too_small_for_its_faults_is_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        generate(replace(PLAIN, **options))  # type: ignore[arg-type]

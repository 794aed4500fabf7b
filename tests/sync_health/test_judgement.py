"""One tick over all rules: caps, modes, scope, and what blindness does to the rest."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from include.sync_health.checks import DATA_QUALITY, EVERYTHING, SYNC_FAILURES
from include.sync_health.credential_facts import credential_facts
from include.sync_health.judgement import TickInput, judge_nothing, judge_tick
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.rule_policies import ConsecutiveFailuresPolicy, RuleMode, RulePolicies, SyncFailuresPolicy
from include.sync_health.verdicts import Severity, Verdict
from include.sync_health.visibility import Blindness, EarlierSight, clock_blindness
from tests.sync_health.alert_histories import World, saw, with_timers
from tests.sync_health.frames_of import AS_OF, SECOND, credentials_frame, runs_frame, runs_with_counts
from tests.sync_health.oracle import Row

HOUR = timedelta(hours=1)
RUN_RULES = ("sync_failures", "consecutive_failures", "stuck_sync")


def failing(credential: int, *, number: int = 3) -> list[Row]:
    """So many failures of a credential, seconds apart."""
    return [
        Row(
            id=credential * 100 + each,
            credential=credential,
            data_type="both",
            status="failed",
            started_at=AS_OF - each * SECOND - HOUR / 4,
            completed_at=AS_OF - each * SECOND,
            updated_at=AS_OF - each * SECOND,
            error_message="HTTP 401 invalid_client",
        )
        for each in range(number)
    ]


def tick(rows: list[Row], *, environment: str = "production", **known: object) -> TickInput:
    ids = sorted({row.credential for row in rows}) or [1]
    runs = runs_frame(rows)
    credentials = credentials_frame(ids, environment=environment)
    return TickInput(
        runs=runs,
        credentials=credential_facts(credentials, runs=runs, as_of=AS_OF, is_present=True),
        as_of=AS_OF,
        **known,  # type: ignore[arg-type]
    )


def judged(given: TickInput, **options: object) -> list[Observation]:
    """What the rules and the monitor's health say."""
    return list(judge_tick(given, **options).observations)  # type: ignore[arg-type]


def test_the_sandbox_is_capped_at_low() -> None:
    """Integration does not page."""
    severities = {
        each.severity for each in judged(tick(failing(1), environment="integration"), policy=Policy(), rules=RUN_RULES)
    }

    assert severities == {Severity.LOW}


def test_a_rule_that_is_off_says_nothing() -> None:
    """But that it is off, of its open alerts; and the others go on."""
    policy = Policy(rules=RulePolicies(consecutive_failures=ConsecutiveFailuresPolicy(mode=RuleMode.OFF)))

    assert {each.rule for each in judged(tick(failing(1)), policy=policy, rules=RUN_RULES)} == {"sync_failures"}

    world = World(policy=with_timers())
    world.tick(AS_OF - HOUR, *judged(tick(failing(1)), policy=Policy(), rules=["consecutive_failures"]))
    observations = judged(tick(failing(1), open_alerts=world.alerts), policy=policy, rules=RUN_RULES)
    verdicts = {each.rule: each.verdict for each in observations}
    assert verdicts == {"sync_failures": Verdict.BREACH, "consecutive_failures": Verdict.RETIRED}


def regular(*, quiet: timedelta, gap: timedelta, number: int = 90) -> list[Row]:
    """Completed runs of one credential, so far apart, the newest started so long ago."""
    starts = [AS_OF - quiet - each * gap for each in range(number)]
    return [
        Row(
            id=each,
            credential=1,
            data_type="both",
            status="completed",
            started_at=start,
            completed_at=start + timedelta(minutes=1),
            updated_at=start,
        )
        for each, start in enumerate(reversed(starts), start=1)
    ]


@pytest.mark.parametrize(
    ("quiet", "gap", "moved", "blind", "silent"),
    [
        pytest.param(
            timedelta(minutes=135), HOUR / 2, False, [], ["breach"], id="a busy platform silent for over two hours"
        ),
        pytest.param(
            timedelta(minutes=90), HOUR / 2, False, [], ["clear"], id="three times its longest gap is not more"
        ),
        pytest.param(
            5 * HOUR, 2 * HOUR, False, [], ["insufficient"], id="one with gaps of two hours may be silent for five"
        ),
        pytest.param(
            8 * HOUR, 2 * HOUR, False, ["stale_source"], ["insufficient"], id="but not for eight, which no rule tells"
        ),
        pytest.param(
            3 * HOUR, HOUR / 2, True, ["wrong_time_zone"], ["no_data"], id="stamps that move and stay three hours late"
        ),
    ],
)
def test_rows_that_stop_coming_are_not_all_clear_and_are_told_once(
    quiet: timedelta, gap: timedelta, moved: bool, blind: list[str], silent: list[str]
) -> None:
    """By the rule where it can judge, else by the monitor's health; and nothing is cleared meanwhile."""
    newest = AS_OF - quiet
    given = tick(
        regular(quiet=quiet, gap=gap),
        before=EarlierSight(as_of=AS_OF - HOUR / 4, newest_started_at=newest - HOUR / 4 if moved else newest),
    )
    judgement = judge_tick(given, policy=Policy())

    assert [each.cause for each in judgement.blindness] == blind
    verdicts = [str(each.verdict) for each in judgement.observations if each.rule == "no_syncs"]
    assert verdicts == silent
    is_doubted = bool(blind) or silent == ["breach"]
    cleared = [each for each in judgement.observations if each.verdict is Verdict.CLEAR]
    assert not (is_doubted and cleared)


def test_a_first_look_doubts_the_time_zone_before_it_accuses_the_platform() -> None:
    """Nobody remembers whether the stamps move."""
    judgement = judge_tick(tick(regular(quiet=3 * HOUR, gap=HOUR / 2)), policy=Policy())

    assert [each.cause for each in judgement.blindness] == ["wrong_time_zone"]


def credential_row(**known: object) -> pd.DataFrame:
    """One credential in use, with these columns changed."""
    frame = credentials_frame([1])
    return frame.assign(**{key: [value] * len(frame) for key, value in known.items()})


def test_the_cause_of_a_failing_credential_is_known_no_later_than_its_symptom() -> None:
    """The 15-minute check asks for the connection of those that fail, and of no other."""
    credentials = pd.concat([credential_row(connection_status="error"), credentials_frame([2])], ignore_index=True)
    credentials["connection_status"] = "error"
    runs = runs_frame(failing(1))
    facts = credential_facts(credentials, runs=runs, as_of=AS_OF, is_present=True)
    given = TickInput(runs=runs, credentials=facts, as_of=AS_OF)

    observations = judged(given, policy=Policy())
    errors = [each.credential_id for each in observations if each.rule == "connection_error"]
    assert errors == ["1"]
    assert not [each for each in observations if each.rule in ("stale_sync", "data_quality")]
    assert judged(given, policy=Policy(recheck_open=False), rules=["connection_error"]) == []


def test_an_open_alert_of_a_6_hour_rule_is_judged_again_every_15_minutes() -> None:
    """So that its recovery is told within a tick."""
    world = World(policy=with_timers())
    stale = replace(saw(Verdict.BREACH), rule="stale_sync")
    world.tick(AS_OF - HOUR, stale)
    given = tick(regular(quiet=timedelta(minutes=10), gap=HOUR / 2), open_alerts=world.alerts)

    verdicts = {each.rule: each.verdict for each in judged(given, policy=Policy()) if each.rule == "stale_sync"}
    assert verdicts == {"stale_sync": Verdict.CLEAR}
    assert not [each for each in judged(given, policy=Policy(recheck_open=False)) if each.rule == "stale_sync"]


def test_a_source_without_credentials_removes_nothing() -> None:
    """An empty table is a source we cannot see, not a platform whose customers all left."""
    world = World(policy=with_timers())
    world.tick(AS_OF - HOUR, saw(Verdict.BREACH))
    given = tick(failing(1), open_alerts=world.alerts)
    observations = judged(replace(given, credentials=given.credentials.iloc[:0]), policy=Policy())

    verdicts = {each.rule: each.verdict for each in observations if each.rule in ("sync_failures", "monitor_health")}
    assert verdicts == {"sync_failures": Verdict.NO_DATA, "monitor_health": Verdict.BREACH}


def test_an_alert_of_a_credential_that_was_taken_out_of_use_does_not_stay_open_for_ever() -> None:
    """Nothing will run for it again: the target is removed, which is no recovery."""
    world = World(policy=with_timers())
    world.tick(AS_OF - 48 * HOUR, saw(Verdict.BREACH))
    given = tick([], open_alerts=world.alerts)

    for status, verdict in {
        "inactive": Verdict.REMOVED,
        "active": Verdict.NO_DATA,
        "error": Verdict.NO_DATA,
        "a word that upstream made up since": Verdict.NO_DATA,
    }.items():
        facts = given.credentials.assign(connection_status=[status])
        observations = judged(replace(given, credentials=facts), policy=Policy())
        assert [each.verdict for each in observations if each.rule == "sync_failures"] == [verdict]


def test_a_run_that_leaves_credentials_out_cannot_judge_the_platform() -> None:
    """Two of two that were asked for are not half of the platform; a whole environment is."""
    given = tick(failing(1) + failing(2), check=EVERYTHING, scope=lambda subject: True)
    of_some = judged(given, policy=Policy())
    of_production = judged(replace(given, whole_environments=["production"]), policy=Policy())

    assert not [each for each in of_some if each.rule in ("platform_outage", "no_syncs")]
    assert [each for each in of_production if each.rule == "platform_outage"]


def test_scope_leaves_the_rest_alone() -> None:
    """A filtered run speaks of what it was asked for, and not of the monitor's health."""
    observations = judged(
        tick(failing(1) + failing(2), scope=lambda subject: subject.credential_id == "2"), policy=Policy()
    )
    assert "monitor_health" not in {each.rule for each in observations}

    assert {each.credential_id for each in observations} == {"2"}


def test_a_rule_that_raises_becomes_an_alert_and_silences_no_other() -> None:
    """An evaluation error is not all clear."""
    broken = tick(failing(1))
    runs = broken.runs.assign(started_at=pd.Series(["not a time"] * len(broken.runs), dtype=object))
    observations = judged(replace(broken, runs=runs), policy=Policy())

    assert {(each.rule, each.verdict) for each in observations if each.verdict is Verdict.BREACH} == {
        ("sync_failures", Verdict.BREACH),
        ("consecutive_failures", Verdict.BREACH),
        ("monitor_health", Verdict.BREACH),
    }
    causes = {each.identity["cause"] for each in observations if each.rule == "monitor_health"}
    assert causes == {"evaluation_stuck_sync", "evaluation_silence", "evaluation_no_syncs"}


def test_what_a_rule_stumbled_over_is_told_without_its_secrets() -> None:
    """Exceptions quote what they could not read, and the record of the run keeps the detail as it is."""
    world = World(policy=Policy())
    world.tick(AS_OF - HOUR, *judged(tick(failing(1)), policy=Policy(), rules=["sync_failures"]))
    (alert,) = world.alerts.values()
    spoilt = replace(alert, evidence={"last_failed_at": "client_secret=cs1.0123456789abcdef0123"})
    given = tick(failing(1), open_alerts={alert.fingerprint: spoilt})

    (found,) = judge_tick(given, policy=Policy(), rules=["sync_failures"]).blindness
    assert found.cause == "evaluation_sync_failures"
    assert "cs1.0123456789abcdef0123" not in found.detail
    assert "client_secret" in found.detail


def test_a_doubtful_source_proves_no_recovery() -> None:
    """What breaches stands; what is clear is not believed."""
    doubt = Blindness(check=SYNC_FAILURES.name, cause="wrong_time_zone", detail="stamps lie in the future")
    success = replace(failing(2)[0], status="completed", error_message=None)
    observations = judged(tick([*failing(1), success], blindness=[doubt]), policy=Policy())

    verdicts = {(each.rule, each.credential_id): each.verdict for each in observations}
    assert verdicts[("sync_failures", "1")] is Verdict.BREACH
    assert verdicts[("sync_failures", "2")] is Verdict.NO_DATA
    assert verdicts[("monitor_health", None)] is Verdict.BREACH


def test_health_is_clear_when_it_is_seen_again_and_not_before() -> None:
    """The open alert of the check's blindness closes by a run that could see."""
    world = World(policy=with_timers())
    found = Blindness(check=SYNC_FAILURES.name, cause="unreachable", detail="connection refused")
    world.tick(
        AS_OF, *judge_nothing(found, check=SYNC_FAILURES, open_alerts={}, policy=world.policy, as_of=AS_OF).observations
    )
    assert [alert.rule for alert in world.alerts.values()] == ["monitor_health"]

    observations = judged(tick(failing(1, number=0), open_alerts=world.alerts), policy=world.policy)
    verdicts = [each.verdict for each in observations if each.rule == "monitor_health"]
    assert verdicts == [Verdict.CLEAR]


def test_blindness_freezes_what_is_open() -> None:
    """NO_DATA for each open alert of the check, and nothing clear."""
    world = World(policy=with_timers())
    world.tick(AS_OF, saw(Verdict.BREACH))
    found = Blindness(check=SYNC_FAILURES.name, cause="timeout", detail="the statement took too long")
    observations = judge_nothing(
        found, check=SYNC_FAILURES, open_alerts=world.alerts, policy=world.policy, as_of=AS_OF
    ).observations

    assert {(each.rule, each.verdict) for each in observations} == {
        ("monitor_health", Verdict.BREACH),
        ("sync_failures", Verdict.NO_DATA),
    }


@pytest.mark.parametrize(
    ("newest", "cause"),
    [
        pytest.param(None, "no_rows", id="an empty table"),
        pytest.param(AS_OF, None, id="a row of just now"),
        pytest.param(AS_OF + timedelta(minutes=24), None, id="a clock that runs a little ahead"),
        pytest.param(AS_OF + timedelta(minutes=25), "wrong_time_zone", id="a lead like a zone's"),
        pytest.param(AS_OF + 5 * HOUR, "wrong_time_zone", id="five hours ahead"),
        pytest.param(AS_OF - HOUR, None, id="an hour old proves nothing: syncs may run on the hour"),
    ],
)
def test_what_the_newest_stamp_tells(newest: object, cause: str | None) -> None:
    """A lead is a wrong zone; silence is left to the rules."""
    found = clock_blindness(
        check=SYNC_FAILURES.name,
        newest_started_at=newest,  # type: ignore[arg-type]
        timezone="UTC",
        now=AS_OF,
    )

    assert (found.cause if found else None) == cause


def test_the_policy_of_a_failure_threshold_is_the_policys() -> None:
    """Numbers are policy."""
    policy = Policy(rules=RulePolicies(sync_failures=SyncFailuresPolicy(threshold=4)))
    observations = judged(tick(failing(1)), policy=policy, rules=["sync_failures"])

    assert [each.verdict for each in observations] == [Verdict.BAND]


@pytest.mark.parametrize(
    ("known", "untold"),
    [
        pytest.param({}, {"data_quality.clear": 2}, id="what changes nothing is counted"),
        pytest.param({"tells_all": True}, {}, id="or told, where all is wanted"),
        pytest.param(
            {"scope": lambda subject: subject.credential_id == "1"}, {}, id="a narrow run tells all it judges"
        ),
        pytest.param(
            {"blindness": [Blindness(check="data_quality", cause="future_stamps", detail="odd")]},
            {},
            id="in doubt nothing counts as clear",
        ),
    ],
)
def test_what_is_untold_is_counted(known: dict[str, object], untold: dict[str, int]) -> None:
    """The breach is told either way."""
    lost = {1: 60, 2: 0, 3: 0}
    rows = [
        replace(row, id=row.credential, status="completed", records_processed=100, records_failed=lost[row.credential])
        for credential in lost
        for row in failing(credential, number=1)
    ]
    options = {"tells_all": False, **known}
    given = replace(tick(rows, check=DATA_QUALITY), runs=runs_with_counts(rows), **options)  # type: ignore[arg-type]
    judgement = judge_tick(given, policy=Policy(), rules=["data_quality"])
    ours = [each for each in judgement.observations if each.rule == "data_quality"]

    assert judgement.untold == untold
    assert [each.credential_id for each in ours if each.verdict is Verdict.BREACH] == ["1"]
    assert len(ours) == (1 if untold or "scope" in known else 3)

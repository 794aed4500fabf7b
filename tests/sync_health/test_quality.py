"""Syncs that lose their records: at the boundaries, against the oracle, and what must always hold."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.observations import Observation
from include.sync_health.quality import judge_data_quality
from include.sync_health.rule_policies import DataQualityPolicy, QualityIdentity
from include.sync_health.verdicts import Verdict
from tests.sync_health import oracle_quality
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, runs_with_counts, subject
from tests.sync_health.oracle import Row

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SUBJECTS = {str(number): subject(number) for number in range(1, 4)}
BY_SYNC = DataQualityPolicy(identity=QualityIdentity.SYNC)


def run(failed: int | None, processed: int | None, *, number: int = 1, ago: timedelta = HOUR, **known: object) -> Row:
    """A completed run of credential 1 that ended so long before AS_OF and lost so many of its records."""
    end = AS_OF - ago
    values: dict[str, object] = {
        "id": number,
        "credential": 1,
        "data_type": "invoices",
        "status": "completed",
        "started_at": end - HOUR / 4,
        "completed_at": end,
        "updated_at": end,
        "records_processed": processed,
        "records_failed": failed,
    }
    return Row(**{**values, **known})  # type: ignore[arg-type]


def judged(*rows: Row, **options: object) -> pd.DataFrame:
    known: dict[str, object] = {"subjects": SUBJECTS, "policy": DataQualityPolicy(), "as_of": AS_OF, **options}
    return judge_data_quality(runs_with_counts(rows), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([run(20, 100)], ("band", "medium"), id="exactly twenty percent is no breach, nor clear"),
        pytest.param([run(21, 100)], ("breach", "medium"), id="past twenty percent"),
        pytest.param([run(7, 35)], ("band", "medium"), id="exactly twenty percent of an odd number"),
        pytest.param([run(50, 100)], ("breach", "medium"), id="exactly fifty percent is medium"),
        pytest.param([run(51, 100)], ("breach", "high"), id="past fifty percent is high"),
        pytest.param([run(100, 100)], ("breach", "high"), id="all of them"),
        pytest.param([run(10, 100)], ("band", "medium"), id="exactly ten percent is not clear"),
        pytest.param([run(9, 100)], ("clear", "medium"), id="below ten percent is"),
        pytest.param([run(0, 100)], ("clear", "medium"), id="none lost"),
        pytest.param([run(10, 10)], ("no_data", "medium"), id="ten records are too few to judge"),
        pytest.param([run(11, 11)], ("breach", "high"), id="eleven are not"),
        pytest.param([run(50, 100, ago=DAY)], None, id="a run exactly a day old is outside"),
        pytest.param([run(50, 100, ago=DAY - SECOND)], ("breach", "medium"), id="one just under a day old is inside"),
        pytest.param([run(50, 100, ago=timedelta(0))], ("breach", "medium"), id="so is one that ends at as_of"),
        pytest.param([run(50, 100, ago=-SECOND)], None, id="what ends after as_of is not known yet"),
        pytest.param([run(30, 100, ago=2 * HOUR), run(0, 100, number=2)], ("breach", "medium"), id="one bad run in the day breaches, whatever came after"),
        pytest.param([run(15, 100, ago=2 * HOUR), run(0, 100, number=2)], ("clear", "medium"), id="else the newest decides: clear"),
        pytest.param([run(0, 100, ago=2 * HOUR), run(15, 100, number=2)], ("band", "medium"), id="else the newest decides: band"),
        pytest.param([run(15, 100), run(0, 100, number=2)], ("clear", "medium"), id="at equal times the higher id is the newest"),
        pytest.param([run(15, 100, ago=2 * HOUR), run(5, 10, number=2)], ("band", "medium"), id="the newest is the newest of those judged"),
        pytest.param([run(None, 100)], ("no_data", "medium"), id="no count of what failed"),
        pytest.param([run(5, None)], ("no_data", "medium"), id="no count of what was processed"),
        pytest.param([run(0, 0)], ("no_data", "medium"), id="an empty sync is no failure"),
        pytest.param([run(5, 0)], ("no_data", "medium"), id="failures of nothing cannot be told"),
        pytest.param([run(-1, 100)], ("no_data", "medium"), id="a negative count cannot be told"),
        pytest.param([run(-90, -100)], ("no_data", "medium"), id="nor can two"),
        pytest.param([run(101, 100)], ("no_data", "medium"), id="more failed than there were cannot be told"),
        pytest.param([run(2**31 - 1, 2**31 - 1)], ("breach", "high"), id="as many as an integer holds can be"),
        pytest.param([run(2**31, 2**31)], ("no_data", "medium"), id="one more cannot be told"),
        pytest.param([run(2**62, 2**63 - 1)], ("no_data", "medium"), id="nor what eight bytes hold"),
        pytest.param([run(2**62, 2**62, ago=2 * HOUR), run(0, 100, number=2)], ("clear", "medium"), id="and hides no other run"),
        pytest.param([run(90, 100, status="failed", error_message="odd")], None, id="a failed run is the other rules'"),
        pytest.param([run(90, 100, status="running", completed_at=None)], None, id="a running one is not done"),
        pytest.param([run(90, 100, status="cancelled")], None, id="a cancelled one was stopped"),
        pytest.param([run(90, 100, completed_at=None)], None, id="without an end it belongs to no window"),
        pytest.param([run(90, 100, credential=99)], None, id="a credential that was deleted has nobody to tell"),
    ],
)  # fmt: skip
def test_which_losses_are_told(rows: list[Row], expected: tuple[str, str] | None) -> None:
    """Of more than 10 records more than 20 percent, within (as_of - 24 h, as_of]."""
    found = judged(*rows)

    assert list(zip(found["verdict"], found["severity"], strict=True)) == ([expected] if expected else [])


def test_nothing_is_high_where_the_policy_says_never() -> None:
    """The story's fixed severity."""
    assert list(judged(run(99, 100), policy=DataQualityPolicy(high_share=None))["severity"]) == ["medium"]


@pytest.mark.parametrize(
    ("rows", "worst"),
    [
        pytest.param([run(60, 100, ago=3 * HOUR), run(30, 100, number=2)], "1", id="the highest share, though older"),
        pytest.param([run(30, 100, ago=3 * HOUR), run(300, 1000, number=2)], "2", id="of equal shares the newest"),
        pytest.param([run(33, 99), run(11, 33, number=2)], "2", id="of equal shares and times the higher id"),
        pytest.param(
            [run(21, 100, number=5, ago=3 * HOUR), run(9, 100, number=6)], "5", id="never one that is not bad"
        ),
    ],
)
def test_the_worst_is_named(rows: list[Row], worst: str) -> None:
    """One alert for a data type speaks of one sync."""
    assert [metadata["sync_id"] for metadata in judged(*rows)["metadata"]] == [worst]


def test_the_storys_words_and_metadata() -> None:
    """Title, message and keys are the story's; the rate is rounded for people only."""
    found = judged(run(25, 96, number=7), run(101, 100, number=8), run(0, 50, number=9, ago=HOUR / 2)).iloc[0]

    assert found["title"] == "ServiceTitan Data Quality Issues"
    assert found["message"] == "ServiceTitan sync for Acme has high failure rate: 26.0% (25 of 96 records failed)"
    assert found["metadata"] == {
        "credential_id": "1",
        "sync_id": "7",
        "company_name": "Acme",
        "environment": "production",
        "data_type": "invoices",
        "failure_rate": 100 * 25 / 96,
        "failed_records": 25,
        "total_records": 96,
    }
    assert found["identity"] == {"credential": "1", "data_type": "invoices"}
    assert found["evidence"] == {
        "failed_percent": 26.0,
        "completed_at": "2026-03-10T11:00:00+00:00",
        "newest_percent": 0.0,
        "judged": 2,
        "breaching": 1,
        "contradicting": 1,
        "threshold_percent": 20.0,
        "window_seconds": 86400,
    }


@pytest.mark.parametrize(
    ("rows", "options", "verdict"),
    [
        pytest.param([], {}, "no_data", id="no run proves nothing"),
        pytest.param([run(0, 10)], {}, "no_data", id="nor does one too small to judge"),
        pytest.param([run(0, 100, data_type="customers")], {}, "no_data", id="nor one of another data type"),
        pytest.param([run(0, 100)], {}, "clear", id="a good run does"),
        pytest.param([run(0, 100)], {"subjects": {}}, "removed", id="the credential was deleted"),
        pytest.param([run(30, 100)], {"active": {"2"}}, "removed", id="the credential is no longer active"),
    ],
)
def test_how_an_open_alert_ends(rows: list[Row], options: dict[str, object], verdict: str) -> None:
    """Only by a newest run below ten percent, or with its credential."""
    found = judged(*rows, open_keys={("1", "invoices")}, **options)
    ours = [
        str(verdict) for kind, verdict in zip(found["data_type"], found["verdict"], strict=True) if kind == "invoices"
    ]

    assert ours == [verdict]


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        pytest.param([run(21, 100)], "breach", id="past twenty percent"),
        pytest.param([run(20, 100)], "clear", id="exactly twenty percent is clear: there is no band"),
        pytest.param([run(15, 100)], "clear", id="fifteen percent as well"),
        pytest.param([run(101, 100)], "no_data", id="its counts were changed to what cannot be true"),
        pytest.param([run(21, 100, ago=DAY)], "expired", id="it left the window"),
        pytest.param([], "expired", id="its row is gone"),
    ],
)
def test_each_sync_alone(rows: list[Row], verdict: str) -> None:
    """The story's identity: one alert for each sync, closed by its own counts or by time."""
    found = judged(*rows, policy=BY_SYNC, open_keys={("1", "invoices", "1")})

    assert list(found["verdict"]) == [verdict]
    assert list(found["identity"]) == [{"credential": "1", "data_type": "invoices", "sync": "1"}]


def test_each_sync_has_its_own_row() -> None:
    """A good one beside a bad one does not end it."""
    found = judged(run(30, 100, ago=2 * HOUR), run(0, 100, number=2), run(5, 10, number=3), policy=BY_SYNC)

    assert [(identity["sync"], str(verdict)) for identity, verdict in zip(found["identity"], found["verdict"], strict=True)] == [
        ("1", "breach"),
        ("2", "clear"),
    ]  # fmt: skip


def test_only_active_credentials_where_the_policy_says_so() -> None:
    """The others are left out without a word."""
    found = judged(run(30, 100), run(30, 100, number=2, credential=2), active={"2"})

    assert list(found["credential_id"]) == ["2"]


def test_every_row_is_an_observation() -> None:
    """Also those without a run to speak of."""
    found = judged(run(5, 5), run(30, 100, number=2, credential=2), open_keys={("3", "both")})

    assert [each.verdict.value for each in Observation.from_frame(found)] == ["no_data", "breach", "no_data"]


HUGE = st.sampled_from([2**31 - 1, 2**31, 2**53, 2**63 - 1, -(2**63)])
COUNTS = st.one_of(
    st.none(), st.sampled_from([-1, 0, 1, 2, 3, 5, 9, 10, 11, 20, 21, 50, 51, 100]), st.integers(0, 300), HUGE
)


@st.composite
def counted_rows(draw: st.DrawFn) -> list[Row]:
    """Runs of three credentials around every boundary of the rule."""
    ends = st.sampled_from([timedelta(0), -SECOND, SECOND, HOUR, 2 * HOUR, DAY - SECOND, DAY, DAY + SECOND])
    return [
        run(
            draw(COUNTS),
            draw(COUNTS),
            number=number,
            ago=draw(ends),
            credential=draw(st.integers(1, 3)),
            data_type=draw(st.sampled_from(("invoices", "customers"))),
            status=draw(st.sampled_from(("completed", "completed", "completed", "failed", "cancelled"))),
        )
        for number in range(1, draw(st.integers(0, 20)) + 1)
    ]


@given(rows=counted_rows())
def test_agrees_with_the_oracle(rows: list[Row]) -> None:
    """Plain Python over the same rows says the same, and names the same sync."""
    found = judged(*rows)
    told = {
        (identity["credential"], identity["data_type"]): (str(verdict), str(severity), metadata["sync_id"])
        for identity, verdict, severity, metadata in zip(
            found["identity"], found["verdict"], found["severity"], found["metadata"], strict=True
        )
    }
    assert {key: each[:2] for key, each in told.items() if each[0] != "no_data"} == oracle_quality.data_quality(
        rows, as_of=AS_OF
    )
    for key, (verdict, _, sync) in told.items():
        if verdict == "breach":
            worst = oracle_quality.worst_sync(rows, as_of=AS_OF, key=key)
            assert worst is not None
            assert sync == str(worst.id)


@given(rows=counted_rows(), by_sync=st.booleans())
def test_the_order_of_rows_does_not_matter(rows: list[Row], by_sync: bool) -> None:
    """A frame is a set."""
    policy = BY_SYNC if by_sync else DataQualityPolicy()
    pd.testing.assert_frame_equal(judged(*rows, policy=policy), judged(*reversed(rows), policy=policy))


@given(rows=counted_rows(), processed=st.integers(11, 1000))
def test_a_good_run_more_makes_nothing_worse(rows: list[Row], processed: int) -> None:
    """It opens no alert, and hides none."""
    before = judged(*rows)
    good = run(0, processed, number=999, ago=timedelta(0))
    after = judged(*rows, good)

    assert set(_breaching(before)) == set(_breaching(after))
    mine = after[[identity == {"credential": "1", "data_type": "invoices"} for identity in after["identity"]]]
    assert set(mine["verdict"]) <= {"breach", "clear"}


@given(
    rows=counted_rows(),
    by_sync=st.booleans(),
    opened=st.sets(st.tuples(st.sampled_from("1234"), st.just("invoices"), st.integers(1, 9).map(str)), max_size=3),
)
def test_what_is_untold_is_counted(rows: list[Row], by_sync: bool, opened: set[tuple[str, ...]]) -> None:
    """Only keys that change nothing lose their rows, and the counts are the same."""
    known = {
        "policy": BY_SYNC if by_sync else DataQualityPolicy(),
        "open_keys": opened if by_sync else {key[:2] for key in opened},
    }
    untold: Counter[Verdict] = Counter()
    every, told = judged(*rows, **known), judged(*rows, untold=untold, **known)
    is_silent = every["verdict"].isin([Verdict.CLEAR, Verdict.NO_DATA])
    is_silent &= ~every["credential_id"].isin([key[0] for key in opened])

    pd.testing.assert_frame_equal(told, every[~is_silent].reset_index(drop=True))
    assert untold == Counter(every.loc[is_silent, "verdict"])


def test_what_is_refused() -> None:
    """Runs without counts are named; a naive instant is not guessed at."""
    with pytest.raises(FrameError, match="records_failed"):
        judge_data_quality(runs_frame([]), subjects={}, policy=DataQualityPolicy(), as_of=AS_OF)
    with pytest.raises(ValueError, match="timezone-aware"):
        judged(as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def _breaching(found: pd.DataFrame) -> list[tuple[str, ...]]:
    return [
        tuple(identity.values())
        for identity, verdict in zip(found["identity"], found["verdict"], strict=True)
        if verdict == "breach"
    ]

"""Many credentials that fail with one cause: at the boundaries, and what must always hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.platform_outage import SHARED_CLASSES, judge_platform_outage
from include.sync_health.rule_policies import PlatformOutagePolicy
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame, subject, sync_rows
from tests.sync_health.oracle import Row

HOUR = timedelta(hours=1)
SUBJECTS = {str(number): subject(number, name=f"Company {number}") for number in range(1, 41)}
SERVER, AUTH = "ServiceTitan API server error: 503", "HTTP 401 invalid_client"


def run(credential: int, error: str | None = None, *, ago: timedelta = SECOND, **known: object) -> Row:
    """A run of a credential that ended so long before AS_OF: failed with an error, or completed."""
    values: dict[str, object] = {
        "id": credential,
        "credential": credential,
        "data_type": "both",
        "status": "failed" if error else "completed",
        "started_at": AS_OF - ago - HOUR / 4,
        "completed_at": AS_OF - ago,
        "updated_at": AS_OF - ago,
        "error_message": error,
    }
    return Row(**{**values, **known})  # type: ignore[arg-type]


def ran(failing: int, *, of: int, error: str = SERVER) -> list[Row]:
    """So many credentials that ran, of which so many failed."""
    return [run(number, error if number <= failing else None) for number in range(1, of + 1)]


def judged(rows: list[Row], **options: object) -> pd.DataFrame:
    known: dict[str, object] = {"subjects": SUBJECTS, "policy": PlatformOutagePolicy(), "as_of": AS_OF, **options}
    return judge_platform_outage(runs_frame(rows), **known)  # type: ignore[arg-type]


def verdicts(rows: list[Row], **options: object) -> dict[str, str]:
    """By class of error."""
    found = judged(rows, **options)
    return {
        identity["error_class"]: str(verdict)
        for identity, verdict in zip(found["identity"], found["verdict"], strict=True)
    }


@pytest.mark.parametrize(
    ("rows", "verdict"),
    [
        pytest.param([], "no_data", id="nobody ran"),
        pytest.param(ran(0, of=2), "insufficient", id="two healthy credentials are too few to judge"),
        pytest.param(ran(2, of=2), "insufficient", id="and so are two that fail"),
        pytest.param(ran(0, of=3), "clear", id="three that ran can be judged"),
        pytest.param(ran(3, of=3), "breach", id="exactly three that fail are an outage"),
        pytest.param(ran(2, of=3), "band", id="two of three are two thirds, but not three"),
        pytest.param(ran(3, of=6), "breach", id="exactly fifty percent"),
        pytest.param(ran(3, of=7), "band", id="less than fifty percent"),
        pytest.param(ran(10, of=40), "band", id="exactly twenty-five percent is not clear"),
        pytest.param(ran(9, of=40), "clear", id="less than twenty-five percent is"),
        pytest.param([*ran(0, of=6), *(run(n, SERVER, id=10 + n) for n in (1, 2, 3))], "breach", id="a success beside the failure does not save it"),
        pytest.param([*ran(2, of=4), run(1, SERVER, id=9), run(1, SERVER, id=10)], "band", id="one credential counts once"),
        pytest.param([run(1, SERVER), run(2, SERVER), run(3, SERVER, ago=HOUR)], "insufficient", id="a failure exactly an hour old is outside"),
        pytest.param([run(1, SERVER), run(2, SERVER), run(3, SERVER, ago=HOUR - SECOND)], "breach", id="just under an hour is inside"),
        pytest.param([run(n, SERVER, ago=timedelta(0)) for n in (1, 2, 3)], "breach", id="exactly at as_of is inside"),
        pytest.param([run(n, SERVER, ago=-SECOND) for n in (1, 2, 3)], "no_data", id="what ends after as_of is not known yet"),
        pytest.param([run(n, SERVER, completed_at=None) for n in (1, 2, 3)], "breach", id="without completed_at a failure counts by updated_at"),
        pytest.param([run(n, "Sync cancelled by user") for n in (1, 2, 3)], "no_data", id="a cancelled run is no run"),
        pytest.param([*ran(2, of=2), run(99, SERVER)], "insufficient", id="a credential that was deleted does not count"),
    ],
)  # fmt: skip
def test_how_many_are_an_outage(rows: list[Row], verdict: str) -> None:
    """Of those that ran within the hour, half and three."""
    assert verdicts(rows)["server"] == verdict


def test_every_class_is_judged_each_time() -> None:
    """So that each open alert is; and each by its own failures."""
    found = verdicts([*ran(3, of=12), *(run(n, AUTH) for n in range(4, 10))])

    assert set(found) == {each.value for each in SHARED_CLASSES}
    assert {name for name, verdict in found.items() if verdict != "clear"} == {"server", "auth"}
    assert (found["server"], found["auth"]) == ("band", "breach")


def test_an_unknown_cause_is_no_shared_one() -> None:
    """Texts that tell nothing may be as many causes as there are texts."""
    assert set(verdicts([run(n, "Unknown API error") for n in range(1, 7)]).values()) == {"clear"}


def test_the_sandbox_is_not_production() -> None:
    """Its failures do not count, unless the policy watches it; then apart."""
    mixed = {**SUBJECTS, **{str(n): replace(SUBJECTS[str(n)], environment="integration") for n in (1, 2, 3)}}
    rows = ran(3, of=6)
    assert verdicts(rows, subjects=mixed)["server"] == "clear"

    both = judged(rows, subjects=mixed, policy=PlatformOutagePolicy(environments=("production", "integration")))
    breaching = both[both["verdict"] == "breach"]
    assert list(breaching["identity"]) == [{"environment": "integration", "error_class": "server"}]


def test_words() -> None:
    """The message counts credentials; the sample is the newest text, without secrets."""
    rows = [
        run(1, SERVER, ago=5 * SECOND),
        run(2, SERVER, ago=4 * SECOND),
        run(3, "HTTP 502 Bad Gateway password=hunter22", ago=3 * SECOND),
        run(4),
    ]
    found = judged(rows)
    outage = found[found["verdict"] == "breach"].iloc[0]

    assert outage["title"] == "ServiceTitan Platform Outage"
    assert outage["message"] == (
        "3 of 4 ServiceTitan credentials (production) failed in the last hour with the same cause: server errors"
    )
    assert outage["metadata"] == {
        "environment": "production",
        "error_class": "server",
        "failed_credentials": 3,
        "ran_credentials": 4,
        "sample": "HTTP 502 Bad Gateway password=‹redacted›",
    }
    assert (outage["severity"], outage["error_class"], outage["credential_id"]) == ("critical", "server", None)
    assert (
        outage["cause"] == judged([run(n, SERVER) for n in (1, 2, 3)]).query("error_class == 'server'").iloc[0]["cause"]
    )
    assert outage["evidence"]["share_percent"] == 75.0
    assert outage["evidence"]["last_failed_at"] == "2026-03-10T11:59:57+00:00"


@given(rows=sync_rows())
def test_the_order_of_rows_does_not_matter(rows: list[Row]) -> None:
    """A frame is a set."""
    pd.testing.assert_frame_equal(judged(rows), judged(list(reversed(rows))))


@given(failing=st.integers(0, 12), healthy=st.integers(0, 12), more=st.integers(1, 12))
def test_a_healthy_credential_more_makes_nothing_worse(failing: int, healthy: int, more: int) -> None:
    """What was no outage is none beside more that succeed; and what was clear stays clear."""
    before = verdicts(ran(failing, of=failing + healthy))["server"]
    after = verdicts(ran(failing, of=failing + healthy + more))["server"]

    assert before == "breach" or after != "breach"
    assert before != "clear" or after == "clear"


@given(failing=st.integers(0, 12), healthy=st.integers(0, 12))
def test_a_failing_credential_more_makes_nothing_better(failing: int, healthy: int) -> None:
    """An outage does not end by one more that fails."""
    before = verdicts(ran(failing, of=failing + healthy))["server"]
    after = verdicts(ran(failing + 1, of=failing + healthy + 1))["server"]

    assert before != "breach" or after == "breach"


def test_what_is_refused() -> None:
    """A missing column is named; a naive instant is not guessed at."""
    with pytest.raises(FrameError, match="finished_at"):
        judge_platform_outage(
            runs_frame([]).drop(columns="finished_at"), subjects={}, policy=PlatformOutagePolicy(), as_of=AS_OF
        )
    with pytest.raises(ValueError, match="timezone-aware"):
        judged([], as_of=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test

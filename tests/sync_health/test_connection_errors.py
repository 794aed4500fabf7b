"""Connections in error: since when, and whether anything has worked since."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.connection_errors import judge_connection_errors
from include.sync_health.errors import FrameError
from include.sync_health.failures import CREDENTIAL_REMOVED
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import ConnectionErrorPolicy
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF, SECOND

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONITORED = ("active", "connected", "error")
SINCE = AS_OF - 3 * HOUR
STATUS_ALONE = ConnectionErrorPolicy(status_alone=True)


def in_error(**known: Any) -> dict[str, Any]:
    """A credential in error for three hours."""
    return {"connection_status": "error", "error_since": SINCE, **known}


def judged(*rows: dict[str, Any], policy: ConnectionErrorPolicy | None = None, **options: Any) -> pd.DataFrame:
    return judge_connection_errors(
        facts_frame(rows),
        policy=policy or ConnectionErrorPolicy(),
        monitored=options.pop("monitored", MONITORED),
        as_of=options.pop("as_of", AS_OF),
        **options,
    )


@pytest.mark.parametrize(
    ("row", "policy", "verdicts"),
    [
        pytest.param(in_error(), None, ["breach"], id="in error, and never a run"),
        pytest.param(in_error(last_success_at=SINCE - SECOND), None, ["breach"], id="the last run before it began"),
        pytest.param(in_error(last_success_at=SINCE), None, ["breach"], id="a run exactly when it began is none since"),
        pytest.param(in_error(last_success_at=SINCE + SECOND), None, ["clear"], id="a run a second later is"),
        pytest.param(
            in_error(error_since=None, last_success_at=AS_OF), None, ["breach"], id="nothing says when it began"
        ),
        pytest.param(in_error(error_since=AS_OF), None, ["breach"], id="in error since this very instant"),
        pytest.param(in_error(last_success_at=AS_OF), STATUS_ALONE, ["breach"], id="the status alone decides"),
        pytest.param(in_error(is_recorded=False), None, ["no_data"], id="nobody recorded it then"),
        pytest.param({"connection_status": "active"}, None, [], id="active is not spoken of"),
        pytest.param({"connection_status": "inactive"}, None, [], id="nor is a credential that is not in use"),
    ],
)
def test_who_is_in_error(row: dict[str, Any], policy: ConnectionErrorPolicy | None, verdicts: list[str]) -> None:
    """In error, and no run completed since."""
    found = judged(row, policy=policy)

    assert list(found["verdict"]) == verdicts
    assert set(found["severity"]) <= {"high"}


@pytest.mark.parametrize(
    ("rows", "verdict", "reason"),
    [
        pytest.param([{"connection_status": "active"}], "clear", "the connection status is active", id="it left error"),
        pytest.param(
            [in_error(last_success_at=AS_OF - HOUR)],
            "clear",
            "a run completed at 2026-03-10 11:00 UTC, after the error began at 2026-03-10 09:00 UTC",
            id="a run completed since",
        ),
        pytest.param(
            [in_error()],
            "breach",
            "the connection status is error since 2026-03-10 09:00 UTC, and no run has completed since",
            id="nothing has changed",
        ),
        pytest.param([], "removed", CREDENTIAL_REMOVED, id="its credential has no row"),
        pytest.param(
            [{"connection_status": "inactive"}],
            "removed",
            "the credential is no longer in use: its status is inactive",
            id="its credential is no longer monitored",
        ),
        pytest.param(
            [{"connection_status": "", "is_recorded": False}],
            "no_data",
            "connection status and token were not recorded at that time",
            id="nobody recorded it then",
        ),
    ],
)
def test_how_an_open_alert_goes_on(rows: list[dict[str, Any]], verdict: str, reason: str) -> None:
    """A status that left error, or a run since, is evidence; a credential out of use is none."""
    found = judged(*rows, open_alerts={"1"})

    assert list(zip(found["verdict"], found["reason"], strict=True)) == [(verdict, reason)]


def test_error_is_judged_whatever_is_monitored() -> None:
    """A policy that watches active credentials only has not switched this rule off."""
    assert list(judged(in_error(), monitored=("active",))["verdict"]) == ["breach"]


@pytest.mark.parametrize(
    ("since", "duration"),
    [(AS_OF - timedelta(days=2, hours=5), "2 days 5 hours"), (None, "an unknown time")],
    ids=["known", "unknown"],
)
def test_words(since: datetime | None, duration: str) -> None:
    """Title and message are the design's."""
    found = judged(in_error(error_since=since)).iloc[0]

    assert found["title"] == "ServiceTitan Connection Error"
    assert found["message"] == f"ServiceTitan connection for Acme (production) has been in error for {duration}"


def test_an_error_seen_for_the_first_time_has_lasted_for_no_telling_how_long() -> None:
    """Not "for 0 seconds": it began at some time since the run before."""
    found = judged(in_error(error_since=AS_OF)).iloc[0]

    assert found["message"] == "ServiceTitan connection for Acme (production) is in error"


def test_metadata_and_evidence() -> None:
    """The keys are the design's; evidence holds the numbers."""
    [found] = Observation.from_frame(judged(in_error(last_success_at=AS_OF - DAY)))

    assert found.rule == "connection_error"
    assert found.identity == {"credential": "1"}
    assert found.metadata == {
        "credential_id": "1",
        "company_name": "Acme",
        "environment": "production",
        "since": "2026-03-10T09:00:00+00:00",
    }
    assert found.evidence == {
        "error_began_at": "2026-03-10T09:00:00+00:00",
        "in_error_seconds": 10_800,
        "last_success_at": "2026-03-09T12:00:00+00:00",
    }


def test_nothing_to_judge() -> None:
    """No credentials, no rows; a column that is missing, or a naive time, is refused."""
    assert judged().empty
    with pytest.raises(FrameError):
        judge_connection_errors(
            facts_frame([]).drop(columns="error_since"), policy=STATUS_ALONE, monitored=MONITORED, as_of=AS_OF
        )
    with pytest.raises(ValueError, match="timezone"):
        judged(as_of=AS_OF.replace(tzinfo=None))


@st.composite
def credentials(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Credentials in and out of error, with integer or text ids."""
    ids: list[Any] = draw(
        st.one_of(
            st.lists(st.integers(1, 99), unique=True, max_size=6),
            st.lists(st.uuids().map(str), unique=True, max_size=6),
        )
    )
    instants = st.none() | st.integers(0, 4).map(lambda hours: AS_OF - hours * HOUR)
    return [
        {
            "credential_id": each,
            "connection_status": draw(st.sampled_from([*MONITORED, "inactive"])),
            "error_since": draw(instants),
            "last_success_at": draw(instants),
            "is_recorded": draw(st.booleans()),
        }
        for each in ids
    ]


@settings(deadline=None)
@given(rows=credentials(), data=st.data())
def test_every_candidate_gets_exactly_one_verdict(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """In error, unrecorded or open: one row, in the order of ids; the order of rows and the date change nothing."""
    open_alerts = set(data.draw(st.lists(st.sampled_from([*(str(row["credential_id"]) for row in rows), "gone"]))))
    expected = sorted(
        {str(row["credential_id"]) for row in rows if not row["is_recorded"] or row["connection_status"] == "error"}
        | open_alerts
    )

    found = judged(*rows, open_alerts=open_alerts)
    shuffled = judged(*data.draw(st.permutations(rows)), open_alerts=open_alerts)
    shift = timedelta(seconds=data.draw(st.integers(-10_000_000, 10_000_000)))
    later = judged(
        *[
            {name: value + shift if isinstance(value, datetime) else value for name, value in row.items()}
            for row in rows
        ],
        open_alerts=open_alerts,
        as_of=AS_OF + shift,
    )

    assert [identity["credential"] for identity in found["identity"]] == expected
    pd.testing.assert_frame_equal(found, shuffled)
    assert list(later["verdict"]) == list(found["verdict"])
    assert list(later["message"]) == list(found["message"])

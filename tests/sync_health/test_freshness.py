"""Syncs that no longer complete: how old the last one may be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.errors import FrameError
from include.sync_health.failures import CREDENTIAL_REMOVED
from include.sync_health.freshness import judge_stale_syncs
from include.sync_health.observations import Observation
from include.sync_health.rule_policies import StaleSyncPolicy
from include.sync_health.verdicts import Severity
from tests.sync_health.credential_frames import facts_frame
from tests.sync_health.frames_of import AS_OF, SECOND

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONITORED = ("active", "connected", "error")


def synced(ago: timedelta, **known: Any) -> dict[str, Any]:
    """A credential a year old whose last run completed so long before AS_OF."""
    return {"last_success_at": AS_OF - ago, "created_at": AS_OF - 365 * DAY, **known}


def new(age: timedelta, **known: Any) -> dict[str, Any]:
    """A credential of that age that never completed a run."""
    return {"created_at": AS_OF - age, **known}


def judged(*rows: dict[str, Any], policy: StaleSyncPolicy | None = None, **options: Any) -> pd.DataFrame:
    return judge_stale_syncs(
        facts_frame(rows),
        policy=policy or StaleSyncPolicy(),
        monitored=MONITORED,
        as_of=options.pop("as_of", AS_OF),
        **options,
    )


def said(found: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(found["verdict"], found["severity"], strict=True))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        pytest.param(synced(timedelta(0)), [("clear", "medium")], id="completed just now"),
        pytest.param(synced(48 * HOUR), [("clear", "medium")], id="exactly 48 hours is fresh"),
        pytest.param(synced(48 * HOUR + SECOND), [("breach", "medium")], id="a second more is stale"),
        pytest.param(synced(96 * HOUR), [("breach", "medium")], id="exactly 96 hours is medium"),
        pytest.param(synced(96 * HOUR + SECOND), [("breach", "high")], id="a second more is high"),
        pytest.param(new(48 * HOUR), [("band", "medium")], id="never, and created exactly 48 hours ago: band"),
        pytest.param(new(48 * HOUR + SECOND), [("breach", "medium")], id="never, and created a second earlier"),
        pytest.param(new(96 * HOUR + SECOND), [("breach", "high")], id="never, and created more than 96 hours ago"),
        pytest.param(new(timedelta(0)), [("band", "medium")], id="created at as_of"),
        pytest.param(new(-SECOND), [], id="created after as_of: it did not exist"),
        pytest.param(
            synced(HOUR, created_at=AS_OF + DAY), [("clear", "medium")], id="a run proves that it existed all the same"
        ),
        pytest.param({}, [("no_data", "medium")], id="never, and nothing says when it was created"),
        pytest.param(synced(9 * DAY, is_recorded=False), [("no_data", "medium")], id="nobody recorded its status then"),
        pytest.param(synced(9 * DAY, connection_status="error"), [("breach", "high")], id="in error it is monitored"),
        pytest.param(synced(9 * DAY, connection_status="inactive"), [], id="not in use"),
    ],
)
def test_how_old_is_stale(row: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    """More than 48 hours, high past 96."""
    assert said(judged(row)) == expected


@pytest.mark.parametrize(
    ("policy", "severity"),
    [
        pytest.param(StaleSyncPolicy(high_after=None), "medium", id="never high"),
        pytest.param(StaleSyncPolicy(severity=Severity.CRITICAL), "critical", id="high softens nothing"),
    ],
)
def test_severity_is_policy(policy: StaleSyncPolicy, severity: str) -> None:
    """The fixed severity, and a worse one."""
    assert said(judged(synced(30 * DAY), policy=policy)) == [("breach", severity)]


@pytest.mark.parametrize(
    ("rows", "verdict", "reason"),
    [
        pytest.param(
            [synced(HOUR)], "clear", "the last run completed 1 hour ago, not more than 2 days", id="it synced"
        ),
        pytest.param(
            [new(HOUR)],
            "band",
            "it never completed a run and was created 1 hour ago, not more than 2 days",
            id="its rows are gone, and it is young",
        ),
        pytest.param(
            [new(-HOUR)], "no_data", "it was created only at 2026-03-10 13:00 UTC", id="its creation moved on"
        ),
        pytest.param([], "removed", CREDENTIAL_REMOVED, id="its credential has no row"),
        pytest.param(
            [synced(HOUR, connection_status="inactive")],
            "removed",
            "the credential is no longer in use: its status is inactive",
            id="its credential is no longer monitored",
        ),
        pytest.param(
            [synced(HOUR, connection_status="degraded")],
            "no_data",
            "its status is 'degraded', which nobody knows",
            id="a new word for its status says nothing of whether it is in use",
        ),
        pytest.param(
            [synced(HOUR, connection_status="", is_recorded=False)],
            "no_data",
            "connection status and token were not recorded at that time",
            id="nobody recorded it then",
        ),
    ],
)
def test_how_an_open_alert_goes_on(rows: list[dict[str, Any]], verdict: str, reason: str) -> None:
    """Only a completed run is evidence."""
    found = judged(*rows, open_alerts={"1"})

    assert list(zip(found["verdict"], found["reason"], strict=True)) == [(verdict, reason)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            synced(3 * DAY + 2 * HOUR),
            "ServiceTitan integration for Acme (production) has not completed a sync for 3 days 2 hours",
            id="a while ago",
        ),
        pytest.param(
            new(3 * DAY), "ServiceTitan integration for Acme (production) has never completed a sync", id="never"
        ),
    ],
)
def test_words(row: dict[str, Any], message: str) -> None:
    """Title and message are the design's."""
    found = judged(row).iloc[0]

    assert (found["title"], found["message"]) == ("ServiceTitan Sync Stale", message)


def test_metadata_and_evidence() -> None:
    """The keys are the design's; evidence holds the numbers."""
    [found] = Observation.from_frame(judged(synced(3 * DAY)))

    assert found.rule == "stale_sync"
    assert found.identity == {"credential": "1"}
    assert found.metadata == {
        "credential_id": "1",
        "company_name": "Acme",
        "environment": "production",
        "last_success_at": "2026-03-07T12:00:00+00:00",
    }
    assert found.evidence == {
        "last_success_at": "2026-03-07T12:00:00+00:00",
        "stale_seconds": 3 * 86_400,
        "stale_after_seconds": 2 * 86_400,
    }


def test_evidence_of_one_that_never_synced() -> None:
    """Its age counts from its creation."""
    found = judged(new(3 * DAY)).iloc[0]

    assert found["metadata"]["last_success_at"] is None
    assert found["evidence"] == {
        "last_success_at": None,
        "created_at": "2026-03-07T12:00:00+00:00",
        "stale_seconds": 3 * 86_400,
        "stale_after_seconds": 2 * 86_400,
    }


def test_nothing_to_judge() -> None:
    """No credentials, no rows; a column that is missing, or a naive time, is refused."""
    assert judged().empty
    with pytest.raises(FrameError):
        judge_stale_syncs(
            facts_frame([]).drop(columns="last_success_at"),
            policy=StaleSyncPolicy(),
            monitored=MONITORED,
            as_of=AS_OF,
        )
    with pytest.raises(ValueError, match="timezone"):
        judged(as_of=AS_OF.replace(tzinfo=None))


@st.composite
def credentials(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Credentials around every boundary, with integer or text ids."""
    ids: list[Any] = draw(
        st.one_of(
            st.lists(st.integers(1, 99), unique=True, max_size=6),
            st.lists(st.uuids().map(str), unique=True, max_size=6),
        )
    )
    ages = st.sampled_from([edge * HOUR + nudge for edge in (0, 48, 96) for nudge in (-SECOND, 0 * SECOND, SECOND)])
    return [
        {
            "credential_id": each,
            "connection_status": draw(st.sampled_from([*MONITORED, "inactive"])),
            "last_success_at": draw(st.none() | ages.map(lambda age: AS_OF - abs(age))),
            "created_at": draw(st.none() | ages.map(lambda age: AS_OF - age)),
            "is_recorded": draw(st.booleans()),
        }
        for each in ids
    ]


@settings(deadline=None)
@given(rows=credentials(), data=st.data())
def test_every_candidate_gets_exactly_one_verdict(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """Monitored, unrecorded or open: one row, in the order of ids; the order of rows and the date change nothing."""
    open_alerts = set(data.draw(st.lists(st.sampled_from([*(str(row["credential_id"]) for row in rows), "gone"]))))
    existed = [row for row in rows if row["last_success_at"] or row["created_at"] is None or row["created_at"] <= AS_OF]
    expected = sorted(
        {
            str(row["credential_id"])
            for row in existed
            if not row["is_recorded"] or row["connection_status"] in MONITORED
        }
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
    assert said(later) == said(found)
    assert list(later["message"]) == list(found["message"])

"""What is known of a credential: now, in the past, and of what was never recorded."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.sync_health.credential_facts import credential_facts, last_successes
from include.sync_health.errors import FrameError
from include.sync_health.frames import CREDENTIAL_FACT_COLUMNS
from tests.sync_health.credential_frames import facts, memory_frame, only, source_frame
from tests.sync_health.frames_of import AS_OF, SECOND, runs_frame
from tests.sync_health.oracle import Row

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def run(number: int, end: datetime | None, *, credential: int = 1, status: str = "completed", **known: Any) -> Row:
    """A run of a credential that ended then."""
    return Row(
        id=number,
        credential=credential,
        data_type="both",
        status=status,
        started_at=AS_OF - 30 * DAY,
        completed_at=end,
        updated_at=end or AS_OF,
        **known,
    )


ERROR = {"connection_status": "error"}


@pytest.mark.parametrize(
    ("row", "memory", "since"),
    [
        pytest.param({"updated_at": AS_OF - HOUR}, [], None, id="not in error: no since"),
        pytest.param(ERROR, [], None, id="in error, and nothing says since when"),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - 2 * HOUR, "last_connection_attempt": AS_OF - HOUR},
            [],
            AS_OF - HOUR,
            id="without snapshots: the later of both stamps",
        ),
        pytest.param(
            {**ERROR, "updated_at": AS_OF + SECOND, "last_connection_attempt": AS_OF - HOUR},
            [],
            AS_OF - HOUR,
            id="a stamp after as_of says nothing",
        ),
        pytest.param({**ERROR, "updated_at": AS_OF}, [], AS_OF, id="one exactly at as_of does"),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - HOUR},
            [{**ERROR, "error_since": AS_OF - 3 * HOUR}],
            AS_OF - 3 * HOUR,
            id="the snapshots saw it begin",
        ),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - 5 * HOUR},
            [{**ERROR, "error_since": AS_OF - 3 * HOUR}],
            AS_OF - 3 * HOUR,
            id="the snapshots saw it begin, whatever the stamps say",
        ),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - 5 * HOUR},
            [{**ERROR, "error_since": AS_OF - 3 * HOUR, "is_error_from_start": True}],
            AS_OF - 5 * HOUR,
            id="in error since the first snapshot: earlier, as the stamps say",
        ),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - HOUR},
            [{**ERROR, "error_since": AS_OF - 3 * HOUR, "is_error_from_start": True}],
            AS_OF - 3 * HOUR,
            id="but never later than it was seen",
        ),
        pytest.param(
            {**ERROR, "updated_at": AS_OF - MINUTE},
            [{"connection_status": "active"}],
            AS_OF,
            id="in error since the last snapshot: first seen now, as every later run will say",
        ),
        pytest.param(
            {**ERROR, "last_connection_attempt": AS_OF - 20 * DAY},
            [{"connection_status": "active"}],
            AS_OF,
            id="nor do stamps that nobody moved take the beginning back behind older successes",
        ),
        pytest.param(
            {"updated_at": AS_OF - MINUTE},
            [{**ERROR, "error_since": AS_OF - HOUR}],
            None,
            id="it left error since the last snapshot",
        ),
    ],
)
def test_since_when_in_error(row: dict[str, Any], memory: list[dict[str, Any]], since: datetime | None) -> None:
    """Snapshots first; the source's own stamps where they saw no beginning."""
    assert only(facts(row, memory=memory)["error_since"]) == since


PAST = {
    "connection_status": "error",
    "token_expires_at": AS_OF - HOUR,
    "has_client_secret": False,
    "error_since": AS_OF - DAY,
    "token_lifetime": 2 * HOUR,
}


def test_the_past_is_what_was_recorded() -> None:
    """Not what the source shows now; its stamps after as_of are those of later writes."""
    now = {
        "token_expires_at": AS_OF + 90 * DAY,
        "updated_at": AS_OF + DAY,
        "last_connection_attempt": AS_OF + DAY,
        "created_at": AS_OF - 9 * DAY,
    }

    found = facts(now, memory=[PAST], is_present=False).iloc[0]

    assert bool(found["is_recorded"]) is True
    assert found["connection_status"] == "error"
    assert found["token_expires_at"] == AS_OF - HOUR
    assert bool(found["has_client_id"]) is True
    assert bool(found["has_client_secret"]) is False
    assert found["error_since"] == AS_OF - DAY
    assert found["token_lifetime"] == 2 * HOUR
    assert found["created_at"] == AS_OF - 9 * DAY
    assert pd.isna(found["updated_at"])
    assert pd.isna(found["last_connection_attempt"])


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(None, id="no memory at all"),
        pytest.param([], id="an empty memory"),
        pytest.param([{"credential_id": 2}], id="a memory of another"),
        pytest.param([{**PAST, "is_deleted": True}], id="a memory of its deletion"),
    ],
)
def test_what_nobody_recorded_is_not_known(memory: list[dict[str, Any]] | None) -> None:
    """Now it is what the source shows; at an older instant it is unknown."""
    row = {"token_expires_at": AS_OF + DAY}

    assert list(facts(row, memory=memory)["is_recorded"]) == [True]
    assert list(facts(row, memory=memory, is_present=False)["is_recorded"]) == [False]


def test_the_present_is_what_the_source_shows() -> None:
    """Memory overrules neither status nor token nor secrets."""
    found = facts({"token_expires_at": AS_OF + DAY}, memory=[PAST]).iloc[0]

    assert found["connection_status"] == "active"
    assert found["token_expires_at"] == AS_OF + DAY
    assert bool(found["has_client_secret"]) is True


@pytest.mark.parametrize(
    ("runs", "older", "success"),
    [
        pytest.param([], None, None, id="never"),
        pytest.param([run(1, AS_OF - HOUR), run(2, AS_OF - DAY)], None, AS_OF - HOUR, id="the newest"),
        pytest.param([run(1, AS_OF)], None, AS_OF, id="exactly at as_of counts"),
        pytest.param(
            [run(1, AS_OF + SECOND), run(2, AS_OF - DAY)], None, AS_OF - DAY, id="a later one is not known yet"
        ),
        pytest.param([run(1, AS_OF - HOUR, status="failed")], None, None, id="a failed run is none"),
        pytest.param([run(1, AS_OF - HOUR, status="cancelled")], None, None, id="nor is a cancelled one"),
        pytest.param([run(1, None)], None, None, id="nor one without an end"),
        pytest.param([run(1, AS_OF - HOUR, credential=2)], None, None, id="nor another's"),
        pytest.param([], {"1": AS_OF - 9 * DAY}, AS_OF - 9 * DAY, id="an older one, sought by credential"),
        pytest.param([run(1, AS_OF - HOUR)], {"1": AS_OF - 9 * DAY}, AS_OF - HOUR, id="the newer of both"),
        pytest.param([], {"2": AS_OF - 9 * DAY}, None, id="not another's older one"),
    ],
)
def test_the_last_success(runs: list[Row], older: dict[str, datetime] | None, success: datetime | None) -> None:
    """Completed, not cancelled, by completed_at up to as_of."""
    assert only(facts({}, runs=runs, older=older)["last_success_at"]) == success


def test_last_successes_are_keyed_by_text() -> None:
    """As identities are."""
    frame = runs_frame([run(1, AS_OF, credential=7)])

    assert last_successes(frame, as_of=AS_OF).to_dict() == {"7": pd.Timestamp(AS_OF)}


def test_a_uuid_is_a_key_like_any_other() -> None:
    """Of runs, memory and older successes alike."""
    one, two, three = (f"0000000{n}-5a0e-4c1b-9d51-0b6a4d3f7c21" for n in range(3))
    runs = runs_frame([run(1, AS_OF - HOUR)]).assign(credential_id=pd.Series([one], dtype=object))

    found = credential_facts(
        source_frame([{"credential_id": each} for each in (one, two, three)]),
        runs=runs,
        as_of=AS_OF,
        is_present=True,
        memory=memory_frame([{"credential_id": three, "token_lifetime": DAY}]),
        older_success={two: AS_OF - DAY},
    )

    assert list(found["credential_id"]) == [one, two, three]
    assert [None if pd.isna(each) else AS_OF - each for each in found["last_success_at"]] == [HOUR, DAY, None]
    assert [None if pd.isna(each) else each for each in found["token_lifetime"]] == [None, None, DAY]


@pytest.mark.parametrize("is_present", [True, False], ids=["now", "in the past"])
@pytest.mark.parametrize("memory", [None, [], [{"credential_id": 9}]], ids=["no memory", "empty", "of another"])
@pytest.mark.parametrize("rows", [[], [{}]], ids=["no credential", "one"])
def test_columns_and_types_never_vary(
    rows: list[dict[str, Any]], memory: list[dict[str, Any]] | None, is_present: bool
) -> None:
    """Empty frames have the same types as full ones."""
    found = facts(*rows, memory=memory, is_present=is_present)

    assert tuple(found.columns) == CREDENTIAL_FACT_COLUMNS
    assert len(found) == len(rows)
    types = found.dtypes.astype(str)
    assert set(types[["token_expires_at", "created_at", "error_since", "last_success_at"]]) == {"datetime64[us, UTC]"}
    assert set(types[["is_recorded", "has_client_id", "has_client_secret"]]) == {"bool"}
    assert types["token_lifetime"] == "timedelta64[us]"


def test_the_credentials_given_stay_as_they_are() -> None:
    """A frame is read by several rules."""
    given_frame = source_frame([{"updated_at": AS_OF + DAY}])
    before = given_frame.copy(deep=True)

    credential_facts(given_frame, runs=runs_frame([]), as_of=AS_OF, is_present=False, memory=memory_frame([PAST]))

    pd.testing.assert_frame_equal(given_frame, before)


def test_what_is_refused() -> None:
    """A missing column, and a naive time."""
    good = {"runs": runs_frame([]), "as_of": AS_OF, "is_present": True}
    for bad, options in (
        (source_frame([]).drop(columns="updated_at"), good),
        (source_frame([]), good | {"runs": runs_frame([]).drop(columns="completed_at")}),
        (source_frame([]), good | {"memory": memory_frame([]).drop(columns="error_since")}),
    ):
        with pytest.raises(FrameError):
            credential_facts(bad, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timezone"):
        credential_facts(source_frame([]), **(good | {"as_of": AS_OF.replace(tzinfo=None)}))  # type: ignore[arg-type]


INSTANTS = st.none() | st.integers(-60, 60).map(lambda hours: AS_OF + hours * HOUR)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), is_present=st.booleans())
def test_each_credential_by_itself_and_whatever_the_date(data: st.DataObject, is_present: bool) -> None:
    """What is known of one depends on no other, nor on the order, nor on the calendar."""
    rows = [
        {
            "credential_id": number,
            "connection_status": data.draw(st.sampled_from(["active", "error"])),
            **{
                name: data.draw(INSTANTS)
                for name in ("token_expires_at", "last_connection_attempt", "created_at", "updated_at")
            },
        }
        for number in data.draw(st.lists(st.integers(1, 9), unique=True, max_size=4))
    ]
    memory = [
        {
            "credential_id": row["credential_id"],
            "connection_status": data.draw(st.sampled_from(["active", "error"])),
            "token_expires_at": data.draw(INSTANTS),
            "error_since": data.draw(INSTANTS),
            "is_error_from_start": data.draw(st.booleans()),
            "token_lifetime": data.draw(st.none() | st.sampled_from([HOUR, DAY])),
        }
        for row in rows
        if data.draw(st.booleans())
    ]
    shift = data.draw(st.integers(-10_000, 10_000)) * HOUR

    def moved(each: dict[str, Any]) -> dict[str, Any]:
        return {name: value + shift if isinstance(value, datetime) else value for name, value in each.items()}

    together = facts(*rows, memory=memory, is_present=is_present)
    apart = [facts(row, memory=memory, is_present=is_present) for row in rows]
    later = credential_facts(
        source_frame(map(moved, rows)),
        runs=runs_frame([]),
        as_of=AS_OF + shift,
        is_present=is_present,
        memory=memory_frame(map(moved, memory)),
    )

    for place, alone in enumerate(apart):
        pd.testing.assert_frame_equal(alone, together.iloc[[place]].reset_index(drop=True))
    for name in ("token_expires_at", "created_at", "updated_at", "error_since"):
        pd.testing.assert_series_equal(later[name], together[name] + shift, check_names=False)
    pd.testing.assert_series_equal(later["token_lifetime"], together["token_lifetime"])
    assert list(later["is_recorded"]) == list(together["is_recorded"])
    assert list(later["connection_status"]) == list(together["connection_status"])

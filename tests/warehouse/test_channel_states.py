"""Since when a channel refuses us, what it said, and when it last took a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from include.sync_health.errors import StorageError
from include.warehouse.channel_states import ChannelState, channel_states, note_refusal, note_sent
from include.warehouse.kept_errors import ERROR_LIMIT
from include.warehouse.monitoring_session import connect
from tests.warehouse.monitoring_records import HOSTILE, MINUTE, NOW, OPS, STORED_HOSTILE

REVOKED, LOST = "token_revoked", "channel_not_found"


@pytest.mark.parametrize(
    ("notes", "since", "refusal", "last_sent"),
    [
        pytest.param([REVOKED], 0, REVOKED, None, id="a channel that never took one refuses us"),
        pytest.param([REVOKED, LOST], 0, LOST, None, id="since the first refusal, for the last reason"),
        pytest.param([None], None, None, 0, id="a channel that takes them refuses nothing"),
        pytest.param([None, REVOKED], 1, REVOKED, 0, id="when it last took one is remembered"),
        pytest.param([REVOKED, None], None, None, 1, id="one that it takes ends the refusal"),
        pytest.param([REVOKED, None, LOST], 2, LOST, 1, id="another refusal begins anew"),
    ],
)
def test_a_channel_is_known_by_what_it_did_last(
    emptied: psycopg.Connection[Any],
    notes: list[str | None],
    since: int | None,
    refusal: str | None,
    last_sent: int | None,
) -> None:
    for minute, error in enumerate(notes):
        at = NOW + minute * MINUTE
        if error is None:
            note_sent(emptied, OPS, now=at)
        else:
            note_refusal(emptied, OPS, now=at, error=error)

    state = channel_states(emptied)[OPS]
    assert state == ChannelState(
        channel=OPS,
        refused_since=None if since is None else NOW + since * MINUTE,
        refusal=refusal,
        last_sent_at=None if last_sent is None else NOW + last_sent * MINUTE,
        updated_at=NOW + (len(notes) - 1) * MINUTE,
    )
    assert state.refuses is (since is not None)


def test_a_late_note_does_not_turn_back_when_it_last_took_one(emptied: psycopg.Connection[Any]) -> None:
    note_sent(emptied, OPS, now=NOW + MINUTE)
    note_sent(emptied, OPS, now=NOW)

    assert channel_states(emptied)[OPS].last_sent_at == NOW + MINUTE


def test_channels_are_told_apart_and_every_note_is_committed(
    emptied_dsn: str, emptied: psycopg.Connection[Any]
) -> None:
    note_sent(emptied, OPS, now=NOW)
    note_refusal(emptied, "email:a@example.com", now=NOW, error=LOST)

    with connect(emptied_dsn) as outside:
        assert {key: state.refuses for key, state in channel_states(outside).items()} == {
            "email:a@example.com": True,
            OPS: False,
        }


def test_what_it_said_is_kept_as_far_as_it_can_be(emptied: psycopg.Connection[Any]) -> None:
    note_refusal(emptied, HOSTILE, now=NOW, error=HOSTILE)
    note_refusal(emptied, OPS, now=NOW, error="x" * 2 * ERROR_LIMIT)

    found = channel_states(emptied)
    assert found[STORED_HOSTILE].refusal == STORED_HOSTILE
    assert len(found[OPS].refusal or "") == ERROR_LIMIT


@pytest.mark.parametrize(
    "note",
    [
        pytest.param(lambda conn, now: note_sent(conn, OPS, now=now), id="a message taken"),
        pytest.param(lambda conn, now: note_refusal(conn, OPS, now=now, error="x"), id="a refusal"),
    ],
)
def test_a_naive_time_is_refused_and_a_missing_schema_is_one_line(
    emptied: psycopg.Connection[Any], make_database: Callable[..., str], note: Callable[..., None]
) -> None:
    with pytest.raises(ValueError, match="naive"):
        note(emptied, NOW.replace(tzinfo=None))
    assert channel_states(emptied) == {}
    with connect(make_database("empty")) as conn:
        with pytest.raises(StorageError, match=r"include\.cli migrate"):
            note(conn, NOW)
        with pytest.raises(StorageError, match=r"include\.cli migrate"):
            channel_states(conn)

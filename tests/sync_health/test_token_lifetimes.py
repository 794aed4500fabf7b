"""How long a credential's tokens are known to last."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.sync_health.credential_frames import facts, only
from tests.sync_health.frames_of import AS_OF, SECOND

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize(
    ("row", "memory", "lifetime"),
    [
        pytest.param({}, [], None, id="no token, no lifetime"),
        pytest.param({"token_expires_at": AS_OF + HOUR}, [], HOUR, id="what remains"),
        pytest.param({"token_expires_at": AS_OF - HOUR}, [], None, id="first seen expired: nothing says"),
        pytest.param({"token_expires_at": AS_OF}, [], None, id="expiring at as_of: nothing says"),
        pytest.param(
            {"token_expires_at": AS_OF + HOUR, "updated_at": AS_OF - 29 * DAY},
            [],
            29 * DAY + HOUR,
            id="since the update",
        ),
        pytest.param(
            {"token_expires_at": AS_OF - HOUR, "updated_at": AS_OF - 2 * HOUR}, [], HOUR, id="expired, since the update"
        ),
        pytest.param(
            {"token_expires_at": AS_OF + HOUR, "updated_at": AS_OF - 29 * DAY, "created_at": AS_OF - 29 * DAY},
            [],
            HOUR,
            id="a row whose updated_at nobody moves says nothing of its token",
        ),
        pytest.param(
            {
                "token_expires_at": AS_OF + HOUR,
                "updated_at": AS_OF - 90 * DAY,
                "created_at": AS_OF - 90 * DAY,
                "last_connection_attempt": AS_OF - 29 * DAY,
            },
            [],
            HOUR,
            id="nor does its last handshake: tokens are refreshed without one",
        ),
        pytest.param(
            {"token_expires_at": AS_OF + HOUR, "last_connection_attempt": AS_OF - 29 * DAY},
            [],
            HOUR,
            id="a handshake alone says nothing",
        ),
        pytest.param(
            {
                "token_expires_at": AS_OF + HOUR,
                "updated_at": AS_OF - 29 * DAY,
                "last_connection_attempt": AS_OF - HOUR,
            },
            [],
            2 * HOUR,
            id="an attempt after the update may have brought the token",
        ),
        pytest.param(
            {"token_expires_at": AS_OF + HOUR, "updated_at": AS_OF + SECOND},
            [],
            HOUR,
            id="an update after as_of lasts no longer than what remains",
        ),
        pytest.param(
            {
                "token_expires_at": AS_OF + 20 * SECOND + 15 * MINUTE,
                "updated_at": AS_OF + 20 * SECOND,
                "last_connection_attempt": AS_OF - 400 * DAY,
            },
            [],
            20 * SECOND + 15 * MINUTE,
            id="one refreshed between as_of and the read is not as old as the last handshake",
        ),
        pytest.param(
            {"token_expires_at": AS_OF + HOUR},
            [{"token_lifetime": 30 * DAY}],
            30 * DAY,
            id="the longest ever snapshotted",
        ),
        pytest.param({}, [{"token_lifetime": 15 * MINUTE}], 15 * MINUTE, id="remembered although the token is gone"),
        pytest.param(
            {"token_expires_at": AS_OF + DAY}, [{"token_lifetime": 15 * MINUTE}], DAY, id="a longer one than remembered"
        ),
        pytest.param(
            {"token_expires_at": AS_OF.replace(year=9999)},
            [{"token_lifetime": 15 * MINUTE}],
            AS_OF.replace(year=9999) - AS_OF,
            id="one that never expires, beyond what nanoseconds can count",
        ),
        pytest.param(
            {}, [{"token_lifetime": timedelta(days=2_900_000)}], timedelta(days=2_900_000), id="one that never expired"
        ),
    ],
)
def test_how_long_its_tokens_last(
    row: dict[str, Any], memory: list[dict[str, Any]], lifetime: timedelta | None
) -> None:
    """The longest of what is known; never 0 or less."""
    assert only(facts(row, memory=memory)["token_lifetime"]) == lifetime


def test_a_token_that_never_expires_needs_no_memory() -> None:
    """Also before the first snapshot."""
    found = facts({"token_expires_at": AS_OF.replace(year=9999)})

    assert only(found["token_lifetime"]) == AS_OF.replace(year=9999) - AS_OF

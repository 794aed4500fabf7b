"""The source's zone is one that PostgreSQL reads as Python does, or it is refused."""

from __future__ import annotations

import pytest

from include.sync_health.errors import SourceError
from include.sync_health.zones import known_zones
from include.warehouse.source_time import checked_zone


@pytest.mark.parametrize(
    "name", ["posixrules", "localtime", "Factory", "right/UTC", "posix/UTC", "America", "UTC+2", ""]
)
def test_a_file_that_is_no_zone_everywhere_is_refused(name: str) -> None:
    with pytest.raises(SourceError, match="is no IANA time zone; write PHP's date") as caught:
        checked_zone(name)

    assert caught.value.cause == "wrong_time_zone"


@pytest.mark.parametrize("name", ["UTC", "America/New_York", "Asia/Kolkata", "Etc/GMT+5"])
def test_a_zone_is_taken_as_it_is(name: str) -> None:
    assert checked_zone(name) == name
    assert name in known_zones()

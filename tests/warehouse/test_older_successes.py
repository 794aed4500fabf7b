"""The last success of a credential, from its whole past, at the price of that past and not of the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.simulation.bulk_history import bulk_history
from include.simulation.hub_plus import SHAPES, create_source
from include.sync_health.errors import RequestError
from include.sync_health.policy import SourcePolicy
from include.warehouse import credential_reader
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_statements import SourceStatements
from tests.warehouse.read_world import AS_OF, DAY, HOUR, MINUTE, SECOND, ZONES, MakeWorld, World


def successes(world: World, *credentials: object, as_of: datetime = AS_OF) -> dict[str, datetime]:
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        return reader.read_older_successes([str(credential) for credential in credentials], as_of=as_of)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_and_zone_tells_the_newest_completed_run(make_world: MakeWorld, shape: str, zone: str) -> None:
    """Of the credentials asked for; those without any are left out."""
    world = make_world(shape, zone)
    never = world.hub.add_credential(world.hub.add_company("Summit Plumbing"))
    asked = (world.production, world.sandbox, never)
    world.add(started=20 * DAY, ended=10 * DAY)
    world.add(started=21 * DAY, ended=9 * DAY, credential=world.sandbox)
    world.add(started=9 * DAY, ended=9 * DAY - HOUR)
    world.add(started=8 * DAY, ended=8 * DAY - HOUR, status="failed")
    world.add(started=7 * DAY)
    world.add(started=6 * DAY, status="completed")  # and yet without an end
    world.add(started=5 * DAY, credential=never)

    assert successes(world, *asked) == {
        str(world.production): AS_OF - 9 * DAY + HOUR,
        str(world.sandbox): AS_OF - 9 * DAY,
    }
    assert successes(world, world.sandbox) == {str(world.sandbox): AS_OF - 9 * DAY}
    assert all(at.tzinfo is UTC for at in successes(world, *asked).values())


@pytest.mark.parametrize(
    ("ended", "is_told"),
    [
        pytest.param(timedelta(0), True, id="at the very instant"),
        pytest.param(-SECOND, False, id="a second later"),
    ],
)
@pytest.mark.parametrize("zone", ZONES)
def test_what_completes_later_is_not_known_yet(
    make_world: MakeWorld, zone: str, ended: timedelta, is_told: bool
) -> None:
    world = make_world("migrations", zone)
    world.add(started=DAY, ended=ended)
    assert successes(world, world.production) == ({str(world.production): AS_OF} if is_told else {})


def test_an_end_that_no_calendar_has_is_no_success(world: World) -> None:
    world.add(started=DAY, ended=HOUR)
    world.sql("UPDATE servicetitan_sync_logs SET completed_at = '-infinity'")
    assert successes(world, world.production) == {}


@pytest.mark.parametrize("shape", ["migrations", "uuid"])
def test_an_id_of_the_wrong_kind_has_no_runs(make_world: MakeWorld, shape: str) -> None:
    world = make_world(shape)
    world.add(started=DAY, ended=HOUR)
    foreign = "12" if shape == "uuid" else "3922f9f2-79a0-8a67-085f-4fc4335ba27d"
    assert successes(world, world.production, foreign, "9" * 30, "") == {str(world.production): AS_OF - HOUR}
    assert successes(world) == {}


def test_a_naive_time_is_refused(world: World) -> None:
    with pytest.raises(RequestError, match="no time zone"):
        successes(world, world.production, as_of=AS_OF.replace(tzinfo=None))


def test_many_credentials_are_asked_for_in_several_statements(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all of them are answered."""
    monkeypatch.setattr(credential_reader, "CREDENTIALS_AT_ONCE", 2)
    many = [world.hub.add_credential(world.hub.add_company(f"Company {n}")) for n in range(5)]
    for n, credential in enumerate(many):
        world.add(started=40 * DAY, ended=n * DAY, credential=credential)
    assert successes(world, *many) == {str(credential): AS_OF - n * DAY for n, credential in enumerate(many)}


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes_of(child))]


@pytest.mark.parametrize(
    "index",
    [
        pytest.param("", id="with upstream's indexes"),
        pytest.param("CREATE INDEX ON servicetitan_sync_logs (completed_at)", id="with one on completed_at as well"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_the_log_is_read_by_the_foreign_key_alone(make_database: Callable[..., str], zone: str, index: str) -> None:
    """Neither sequentially, nor by its primary key, nor by time: of a log with many rows, for few and many asked."""
    dsn = make_database("plans")
    create_source(dsn)
    bulk_history(dsn, rows=40_000, rows_per_day=1_000, until=AS_OF, credentials=400, timezone=zone)
    policy = SourcePolicy(timezone=zone)
    with psycopg.connect(dsn, autocommit=True) as owner:
        if index:
            owner.execute(index.encode())
        owner.execute("ANALYZE")
        ids = [row[0] for row in owner.execute("SELECT id FROM servicetitan_credentials ORDER BY id")]
        foreign_key_indexes = {
            row[0]
            for row in owner.execute(
                "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%(service_titan_credential_id)'"
            )
        }
        with SourceReader.connect(dsn, policy) as reader:
            statement = SourceStatements(reader.shape, zone=zone).older_successes
            assert reader.shape.is_credential_indexed
            found = reader.read_older_successes([str(key) for key in ids], as_of=AS_OF)
        for asked in (ids[:3], ids):
            row = owner.execute(
                b"EXPLAIN (ANALYZE, FORMAT JSON) " + statement, {"credentials": asked, "zone": zone, "as_of": AS_OF}
            ).fetchone()
            assert row is not None
            plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
            nodes = nodes_of(plan[0]["Plan"])
            of_log = [node for node in nodes if node.get("Relation Name") == "servicetitan_sync_logs"]
            assert of_log
            assert {node["Node Type"] for node in of_log} <= {"Bitmap Heap Scan", "Index Scan"}
            assert {node["Index Name"] for node in nodes if "Index Name" in node} <= foreign_key_indexes
        expected = owner.execute(
            "SELECT service_titan_credential_id::text, max(completed_at) AT TIME ZONE %(zone)s"
            " FROM servicetitan_sync_logs WHERE status = 'completed' AND completed_at AT TIME ZONE %(zone)s <= %(as_of)s"
            " GROUP BY 1",
            {"zone": zone, "as_of": AS_OF},
        ).fetchall()
    assert found == dict(expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_an_index_the_last_30_days_are_looked_at_and_that_is_said(make_world: MakeWorld, shape: str) -> None:
    world = make_world(shape)
    table = world.hub.shape.log_table
    world.add(started=31 * DAY + 2 * HOUR, ended=31 * DAY + HOUR, credential=world.sandbox)
    world.add(started=29 * DAY, ended=29 * DAY - HOUR)
    for n in range(300):
        world.add(started=HOUR + n * MINUTE, ended=n * MINUTE, status="failed")
    key = world.hub.shape.credential_key
    if shape == "migrations":
        world.sql("DROP INDEX idx_6130e44be19a4dec")
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        is_indexed, notes = reader.shape.is_credential_indexed, reader.shape.notes
    told = [note for note in notes if f"{table}: no index leads with {key}" in note and "30 days" in note]
    assert (is_indexed, len(told)) == ((False, 1) if not is_indexed else (True, 0))
    assert successes(world, world.production)[str(world.production)] == AS_OF - 29 * DAY + HOUR
    if not is_indexed and reader.shape.search != "id":
        assert successes(world, world.sandbox) == {}

"""Open runs, with and without memory; filters; and requests that make no sense."""

from __future__ import annotations

import pytest

from include.simulation.hub_plus import Run
from include.sync_health.errors import RequestError
from include.warehouse.source_reader import SourceReader
from tests.warehouse.read_world import (
    AS_OF,
    DAY,
    MINUTE,
    SECOND,
    WINDOW_START,
    MakeWorld,
    World,
)


def test_remembered_runs_are_read_again_by_key(world: World) -> None:
    """Open still, finished since, finished long ago: all are returned; gone and foreign ids are told."""
    still, since, before, gone = (
        world.add(started=10 * DAY),
        world.add(started=10 * DAY, ended=30 * MINUTE),
        world.add(started=10 * DAY, ended=9 * DAY),
        world.add(started=10 * DAY),
    )
    world.add(started=9 * DAY)  # open as well, but not remembered
    # Newer rows, so that the old ones lie outside the range that is read.
    world.hub.copy_runs(
        Run(credential=world.production, started_at=AS_OF - 8 * DAY + n * 3 * MINUTE, completed_at=AS_OF - 7 * DAY)
        for n in range(3_000)
    )
    world.hub.delete_run(int(gone))
    foreign = "3922f9f2-79a0-8a67-085f-4fc4335ba27d"

    read = world.read(remembered=[before, gone, since, still, still, foreign, "9" * 30])
    assert sorted(read.runs["sync_id"].astype(str)) == sorted([still, since, before])
    assert read.missing_remembered == (gone, foreign, "9" * 30)
    assert world.read(remembered=[]).runs.empty


@pytest.mark.parametrize("shape", ["migrations", "uuid"])
def test_without_memory_open_runs_are_sought_in_the_last_30_days(make_world: MakeWorld, shape: str) -> None:
    """An older one is counted as abandoned, and returned only if remembered."""
    world = make_world(shape)
    abandoned = world.add(started=30 * DAY + SECOND)
    followed = world.add(started=30 * DAY)
    fresh = world.add(started=MINUTE)
    read = world.read()
    assert set(read.runs["sync_id"].astype(str)) == {followed, fresh}
    assert read.anomalies == {"abandoned_open": 1}
    remembered = world.read(remembered=[abandoned, followed])
    assert set(remembered.runs["sync_id"].astype(str)) == {abandoned, followed, fresh}
    assert remembered.anomalies == {"abandoned_open": 1}


@pytest.mark.parametrize("shape", ["migrations", "uuid"])
def test_filters_narrow_the_read(make_world: MakeWorld, shape: str) -> None:
    """By credential and by environment; a remembered run that is filtered out is not gone."""
    world = make_world(shape)
    ours = world.add(started=30 * MINUTE, ended=20 * MINUTE, status="failed")
    theirs = world.add(started=30 * MINUTE, ended=20 * MINUTE, status="failed", credential=world.sandbox)
    assert world.ids(credential_ids=[str(world.production)]) == [ours]
    assert world.ids(environment="integration") == [theirs]
    assert world.ids(credential_ids=[str(world.production)], environment="integration") == []
    assert world.ids(credential_ids=[]) == []
    read = world.read(remembered=[theirs], environment="production")
    assert read.runs["sync_id"].astype(str).tolist() == [ours]
    assert read.missing_remembered == ()
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        failed = reader.read_failed_runs(finished_from=WINDOW_START, as_of=AS_OF, environment="integration")
    assert failed.runs["sync_id"].astype(str).tolist() == [theirs]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"finished_from": WINDOW_START.replace(tzinfo=None)}, "no time zone", id="a naive time"),
        pytest.param({"finished_from": AS_OF}, "is empty", id="an empty window"),
        pytest.param({"credential_ids": ["1", "x"]}, "credential ids 1, x", id="an id that is none"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(world: World, arguments: dict[str, object], words: str) -> None:
    """Before anything is read."""
    given: dict[str, object] = {"finished_from": WINDOW_START, "as_of": AS_OF, "remembered_open": [], **arguments}
    with SourceReader.connect(world.hub.dsn, world.policy) as reader, pytest.raises(RequestError, match=words):
        reader.read_runs(**given)  # type: ignore[arg-type]

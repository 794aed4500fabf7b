"""Record counts: read with the rows where they are asked for, and not a byte more where they are not."""

from __future__ import annotations

import math
import re
from datetime import timedelta

import pytest

from include.simulation.hub_plus import SHAPES, Run
from include.sync_health.errors import SourceError
from include.sync_health.frames import COUNT_COLUMNS, RUN_COLUMNS
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_schema import COUNTS
from include.warehouse.source_statements import SourceStatements
from tests.warehouse.read_world import AS_OF, DAY, MINUTE, MakeWorld, World

NAN = math.nan


def counts_of(world: World, **arguments: object) -> dict[str, list[float]]:
    """Return the counts of each run that is read, by its id."""
    frame = world.read(with_counts=True, **arguments).runs
    return {str(row["sync_id"]): [row[column] for column in COUNT_COLUMNS] for row in frame.to_dict("records")}


def same(found: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    assert found.keys() == expected.keys()
    for run, counts in expected.items():
        assert found[run] == pytest.approx(counts, nan_ok=True)


def test_the_names_of_the_counts_are_those_of_the_frame() -> None:
    assert tuple(COUNTS.values()) == COUNT_COLUMNS


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_counts_that_it_has(make_world: MakeWorld, shape: str) -> None:
    """Finished, open and remembered rows alike; what the shape or the row lacks is not a number."""
    world = make_world(shape)
    done = world.add(started=50 * MINUTE, ended=40 * MINUTE, records=(100, 90, 10), processing_time_seconds=600)
    still = world.add(started=30 * MINUTE, records=(7, 7, 0))
    remembered = world.add(started=40 * DAY, records=(2_000_000_000, 5, -1))
    has_all = shape != "architecture"
    same(
        counts_of(world, remembered=[remembered]),
        {
            done: [100, 90, 10, 600] if has_all else [100, NAN, NAN, NAN],
            still: [7, 7, 0, NAN] if has_all else [7, NAN, NAN, NAN],
            remembered: [2_000_000_000, 5, -1, NAN] if has_all else [2_000_000_000, NAN, NAN, NAN],
        },
    )


@pytest.mark.parametrize("has_rows", [True, False], ids=["with rows", "without rows"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_frame_keeps_its_contract(make_world: MakeWorld, shape: str, has_rows: bool) -> None:
    world = make_world(shape)
    if has_rows:
        world.add(started=50 * MINUTE, ended=40 * MINUTE)
    frame = world.read(with_counts=True).runs
    assert tuple(frame.columns) == (*RUN_COLUMNS, *COUNT_COLUMNS)
    assert len(frame) == has_rows
    assert {str(frame[column].dtype) for column in COUNT_COLUMNS} == {"float64"}
    assert tuple(world.read().runs.columns) == RUN_COLUMNS


@pytest.mark.parametrize(
    "kind", [pytest.param("smallint", id="of two bytes"), pytest.param("bigint", id="of eight bytes")]
)
def test_counts_of_another_width_are_read(make_world: MakeWorld, kind: str) -> None:
    """The smallest number of the type stands for NULL in the statement; zero and the others stay what they are."""
    world = make_world("uuid")
    world.sql(f"ALTER TABLE servicetitan_sync_logs ALTER records_processed TYPE {kind}")
    done = world.add(started=50 * MINUTE, ended=40 * MINUTE, records=(0, -32_768, 3))
    world.sql("UPDATE servicetitan_sync_logs SET records_failed = NULL")
    same(counts_of(world), {done: [0, -32_768, NAN, NAN]})


def test_counts_stay_with_their_rows(world: World) -> None:
    """By the frame's order, which is not that of the table."""
    expected = {}
    for n in range(200):
        run = world.add(
            started=59 * MINUTE,
            ended=timedelta(minutes=(n * 37) % 59),
            status=("completed", "failed")[n % 2],
            records=(n, n // 2, n - n // 2),
        )
        expected[run] = [n, n // 2, n - n // 2, NAN]
    same(counts_of(world), expected)


def test_without_counts_no_statement_names_them(world: World) -> None:
    """What the 15-minute check reads costs what it did."""
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        statements = SourceStatements(reader.shape, zone="UTC")
    for rows in ("window", "keys", "days"):
        chosen = {"only_failed": False, "by_credential": True, "by_environment": True}
        plain, with_counts = statements.runs(rows, **chosen), statements.runs(rows, counts=tuple(COUNTS), **chosen)
        assert not re.search(b"records_|processing", plain)
        assert with_counts.count(b"send(") == plain.count(b"send(") + len(COUNTS) / 2  # two share a buffer
        # All of the difference is in what is selected.
        assert with_counts.split(b" FROM ", 1)[1] == plain.split(b" FROM ", 1)[1]


@pytest.mark.parametrize(
    ("statement", "cause", "words"),
    [
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs DROP records_processed",
            "missing_column",
            "has no column records_processed",
            id="the count that every shape has",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs DROP records_failed",
            "missing_column",
            "has no column records_failed",
            id="one of a pair of which the other is there",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs ALTER records_failed TYPE text",
            "invalid",
            "records_failed is of type text",
            id="a count that is no number",
        ),
    ],
)
def test_a_source_without_usable_counts_is_told_to_who_asks_for_them(
    world: World, statement: str, cause: str, words: str
) -> None:
    """Nobody else is blinded by it."""
    world.sql(statement)
    assert world.read().runs.empty
    with pytest.raises(SourceError, match=words) as caught:
        world.read(with_counts=True)
    assert caught.value.cause == cause


def test_counts_that_a_source_never_had_are_not_a_number(world: World) -> None:
    world.sql("ALTER TABLE servicetitan_sync_logs DROP records_failed, DROP records_successful")
    world.sql(
        "INSERT INTO servicetitan_sync_logs (uuid, service_titan_credential_id, sync_type, data_type, status, started_at,"
        " completed_at, records_processed, created_at, updated_at)"
        f" SELECT gen_random_uuid(), {world.production}, 'manual', 'both', 'completed', at, at, 5, at, at"
        f" FROM (SELECT '{AS_OF - MINUTE:%Y-%m-%d %H:%M:%S}'::timestamp AS at) AS x"
    )
    (found,) = counts_of(world).values()
    assert found == pytest.approx([5, NAN, NAN, NAN], nan_ok=True)


def test_a_missing_grant_names_what_to_grant(world: World) -> None:
    """An older grant than docs/deployment.md gives now: runs are read, counts are refused with the statement to run."""
    database = world.hub.dsn.rsplit("@", 1)[1]
    columns = "id, service_titan_credential_id, data_type, status, started_at, completed_at, updated_at, error_message"
    try:
        world.sql("CREATE ROLE reader_without_counts LOGIN PASSWORD 'pw'")
        world.sql(f"GRANT SELECT ({columns}) ON servicetitan_sync_logs TO reader_without_counts")
        world.sql(
            "GRANT SELECT (id, company_id, environment, connection_status, token_expires_at)"
            " ON servicetitan_credentials TO reader_without_counts"
        )
        world.sql("GRANT SELECT (id, company_name) ON company TO reader_without_counts")
        dsn = f"postgresql://reader_without_counts:pw@{database}"
        with SourceReader.connect(dsn, world.policy) as reader:
            window = {"finished_from": AS_OF - DAY, "as_of": AS_OF, "remembered_open": None}
            assert reader.read_runs(**window).runs.empty
            with pytest.raises(
                SourceError,
                match=r"GRANT SELECT \(records_processed, records_successful, records_failed, processing_time_seconds\)",
            ) as caught:
                reader.read_runs(**window, with_counts=True)
        assert caught.value.cause == "permission"
    finally:
        world.sql("DROP OWNED BY reader_without_counts")
        world.sql("DROP ROLE reader_without_counts")


def test_copied_rows_of_a_bulk_are_counted(world: World) -> None:
    """Thousands at once: sums agree with those of the database's own."""
    world.hub.copy_runs(
        Run(credential=world.production, started_at=AS_OF - MINUTE, completed_at=AS_OF, records=(n, n, 0))
        for n in range(5_000)
    )
    assert world.read(with_counts=True).runs["records_processed"].sum() == 5_000 * 4_999 / 2

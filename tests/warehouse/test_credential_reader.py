"""Credentials of every shape, and that no secret leaves the database."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest

from include.simulation.hub_plus import SHAPES
from include.sync_health.frames import (
    CREDENTIAL_COLUMNS,
)
from include.warehouse.source_reader import SourceReader
from include.warehouse.source_schema import PRESENCE_VIEW, SECRETS
from include.warehouse.source_statements import SourceStatements
from tests.warehouse.read_world import (
    AS_OF,
    MINUTE,
    WINDOW_START,
    ZONES,
    MakeWorld,
    World,
)

DEPLOYMENT = Path(__file__).parents[2] / "docs" / "deployment.md"


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("shape", SHAPES)
def test_credentials_of_every_shape(make_world: MakeWorld, shape: str, zone: str) -> None:
    """Names, environments and times are the same; a blank secret is an absent one."""
    world = make_world(shape, zone)
    expires = AS_OF + 7 * MINUTE
    blank = world.hub.add_credential(
        world.hub.add_company("Summit Plumbing"), client_secret=" \n", token_expires_at=expires, created_at=AS_OF
    )
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        frame = reader.read_credentials()
    assert tuple(frame.columns) == CREDENTIAL_COLUMNS
    by_id = frame.set_index(frame["credential_id"].astype(str))
    row = by_id.loc[str(blank)]
    assert (row["company_name"], row["environment"]) == ("Summit Plumbing", "production")
    assert (row["has_client_id"], row["has_client_secret"]) == (True, False)
    assert (row["token_expires_at"], row["created_at"]) == (expires, AS_OF)
    assert by_id.loc[str(world.sandbox), "environment"] == "integration"
    assert by_id.loc[str(world.production), "has_client_secret"]


def test_a_time_that_no_calendar_has_is_no_time(world: World) -> None:
    """PostgreSQL can store what neither Python nor pandas can hold; one such row must not blind the monitor."""
    world.sql(
        "UPDATE servicetitan_credentials SET token_expires_at = 'infinity', last_connection_attempt = '9000-01-01'"
    )
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        frame = reader.read_credentials()
    assert frame["token_expires_at"].isna().all()
    assert frame["last_connection_attempt"].isna().all()
    assert str(frame["token_expires_at"].dtype) == "datetime64[us, UTC]"


def test_a_source_without_credentials_is_an_empty_frame(world: World) -> None:
    """Types stay."""
    world.sql("TRUNCATE servicetitan_credentials CASCADE")
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        frame = reader.read_credentials()
    assert frame.empty
    assert tuple(frame.columns) == CREDENTIAL_COLUMNS
    assert str(frame["credential_id"].dtype) == "int64"
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_secret_leaves_the_database(make_world: MakeWorld, shape: str) -> None:
    """Neither in a frame, nor in any statement: tokens are never named, the others only asked for a character."""
    world = make_world(shape)
    with SourceReader.connect(world.hub.dsn, world.policy) as reader:
        told = reader.read_credentials().to_csv()
        statements = SourceStatements(reader.shape, zone="UTC")
    assert world.hub.secrets
    assert [secret for secret in world.hub.secrets if secret and secret in told] == []
    texts = [statements.survey, statements.blocks, statements.clock, statements.existing, statements.credentials]
    texts += [statements.oldest, statements.older_successes]
    texts += [
        statements.runs(rows, only_failed=False, by_credential=True, by_environment=True, counts=["records_processed"])
        for rows in ("window", "days", "keys")
    ]
    joined = b"\n".join(texts).decode()
    assert not re.search("access_token|refresh_token", joined)
    for secret in SECRETS:
        assert re.findall(f'"{secret}".*?,', joined) == [f"\"{secret}\" ~ '[^[:space:]]',"]


def _documented_sql() -> list[str]:
    return re.findall(r"```sql\n(.*?)```", DEPLOYMENT.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_documented_role_reads_everything_but_secrets(world: World) -> None:
    """docs/deployment.md, executed: without its view presence is unknown and said so, with it known."""
    blank = world.hub.add_credential(world.hub.add_company("Summit Plumbing"), client_id="  ")
    world.add(started=30 * MINUTE, ended=20 * MINUTE, status="failed", error_message="boom")
    role, view = _documented_sql()
    database = world.hub.dsn.rsplit("@", 1)[1]
    dsn = f"postgresql://servicetitan_monitor:change-me@{database}"
    try:
        world.sql(role)
        with SourceReader.connect(dsn, world.policy) as reader:
            runs = reader.read_runs(finished_from=WINDOW_START, as_of=AS_OF, remembered_open=None, with_counts=True)
            unknown = reader.read_credentials().set_index("credential_id")
        assert runs.runs["error_message"].tolist() == ["boom"]
        assert any(PRESENCE_VIEW in note and "count as complete" in note for note in runs.notes)
        assert bool(unknown.loc[int(blank), "has_client_id"])

        world.sql(view)
        with SourceReader.connect(dsn, world.policy) as reader:
            known = reader.read_credentials().set_index("credential_id")
            assert not any(PRESENCE_VIEW in note for note in reader.shape.notes)
        assert not known.loc[int(blank), "has_client_id"]
        assert known.loc[int(blank), "has_client_secret"]

        with psycopg.connect(dsn) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SELECT client_id FROM servicetitan_credentials")
    finally:
        world.sql("DROP OWNED BY servicetitan_monitor")
        world.sql("DROP ROLE servicetitan_monitor")

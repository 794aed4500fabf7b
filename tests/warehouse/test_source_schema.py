"""What the reader finds in each shape of the source, and how it says that it cannot go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from include.simulation.hub_plus import SHAPES, create_source
from include.sync_health.errors import SourceError
from include.sync_health.policy import SourcePolicy
from include.warehouse.source_schema import SourceShape, describe_source
from include.warehouse.source_session import open_session

POLICY = SourcePolicy()


@pytest.fixture
def described(make_database: Callable[..., str]) -> Callable[..., SourceShape]:
    """Return a function that creates a shape, runs statements on it and describes it."""

    def describe(shape: str, *statements: str, policy: SourcePolicy = POLICY) -> SourceShape:
        dsn = make_database("schema")
        create_source(dsn, shape=shape)
        with psycopg.connect(dsn, autocommit=True) as owner:
            for statement in statements:
                owner.execute(statement.encode())
        with open_session(dsn, policy) as session:
            return describe_source(session, policy)

    return describe


@contextmanager
def refused(cause: str, *words: str) -> Iterator[None]:
    """Expect a `SourceError` of this cause, on one line, that holds all these words."""
    with pytest.raises(SourceError) as caught:
        yield
    assert caught.value.cause == cause
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("shape", "table", "key", "company", "search"),
    [
        ("migrations", "servicetitan_sync_logs", "service_titan_credential_id", "company.company_name", "id"),
        ("entities", "servicetitan_sync_log", "service_titan_credential_id", "company.company_name", "id"),
        ("architecture", "servicetitan_sync_logs", "credential_id", "companies.name", "id"),
        ("uuid", "servicetitan_sync_logs", "servicetitan_credential_id", "companies.name", "scan"),
    ],
)
def test_every_shape_is_recognised(
    described: Callable[..., SourceShape], shape: str, table: str, key: str, company: str, search: str
) -> None:
    """Names, kinds of keys and the way to search follow from what is there."""
    found = described(shape)
    assert (found.runs.name, found.credential_key) == (table, key)
    assert f"{found.companies.name}.{found.company_name}" == company
    assert found.search == search
    assert found.run_key == found.credential_id_key == ("uuid" if shape == "uuid" else "integer")


@pytest.mark.parametrize("shape", SHAPES)
def test_time_zones_are_known_column_by_column(described: Callable[..., SourceShape], shape: str) -> None:
    """Only the architecture's times know their zone; the entities' updated_at does, their started_at does not."""
    runs = described(shape).runs
    assert runs.is_aware("started_at") == runs.is_aware("completed_at") == (shape == "architecture")
    if shape in ("migrations", "entities"):
        assert runs.is_aware("updated_at") == (shape == "entities")
    else:
        assert not runs.has("updated_at")


def test_naive_times_are_told_with_the_zone_they_are_read_in(described: Callable[..., SourceShape]) -> None:
    """Whoever reads the notes sees a forgotten source.timezone."""
    policy = replace(POLICY, timezone="America/New_York")
    notes = described("migrations", policy=policy).notes
    assert any("read as America/New_York (source.timezone)" in note for note in notes)


@pytest.mark.parametrize(
    ("index", "search"),
    [
        pytest.param("(started_at)", "started_at", id="on started_at"),
        pytest.param("(completed_at DESC, id)", "completed_at", id="led by completed_at"),
        pytest.param("(status, completed_at)", "id", id="not led by a time is of no use"),
        pytest.param("(completed_at) WHERE status = 'failed'", "id", id="a partial one is of no use"),
        pytest.param("((started_at + interval '1 h'))", "id", id="an expression is of no use"),
        pytest.param("USING brin (started_at)", "id", id="a brin one is of no use"),
    ],
)
def test_an_index_is_used_where_one_serves(described: Callable[..., SourceShape], index: str, search: str) -> None:
    """An index that is used is told in the notes."""
    on = index if index.startswith("USING") else f"USING btree {index}"
    found = described("migrations", f"CREATE INDEX ON servicetitan_sync_logs {on}")
    assert found.search == search
    assert any(f"the index on {search} is used" in note for note in found.notes) == (search != "id")


def test_no_table_is_told_with_what_is_there(described: Callable[..., SourceShape]) -> None:
    """The error names both candidates, what was found, and where to look."""
    with refused("missing_table", "servicetitan_sync_logs or servicetitan_sync_log", "found: company", "hub_plus_db"):
        described("migrations", "DROP TABLE servicetitan_sync_logs")


def test_two_tables_are_told_with_the_key_that_chooses(described: Callable[..., SourceShape]) -> None:
    """Guessing which one Hub Plus writes would be a silent error."""
    with refused("ambiguous_table", "servicetitan_sync_logs and servicetitan_sync_log", "source.sync_log_table"):
        described("migrations", "CREATE TABLE servicetitan_sync_log (LIKE servicetitan_sync_logs INCLUDING ALL)")


@pytest.mark.parametrize("chosen", ["servicetitan_sync_log", "servicetitan_sync_logs"])
def test_the_policy_chooses_among_two_tables(described: Callable[..., SourceShape], chosen: str) -> None:
    """source.sync_log_table settles it."""
    found = described(
        "migrations",
        "CREATE TABLE servicetitan_sync_log (LIKE servicetitan_sync_logs INCLUDING ALL)",
        policy=replace(POLICY, sync_log_table=chosen),
    )
    assert found.runs.name == chosen


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        pytest.param("servicetitan_sync_log", ("no table servicetitan_sync_log",), id="a table that is absent"),
        pytest.param("pg_authid", ("it may be servicetitan_sync_logs or",), id="a name that is no candidate"),
    ],
)
def test_a_wrong_choice_is_told(described: Callable[..., SourceShape], chosen: str, words: tuple[str, ...]) -> None:
    """Only the two names are ever read."""
    with refused("missing_table", *words):
        described("migrations", policy=replace(POLICY, sync_log_table=chosen))


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs RENAME COLUMN completed_at TO ended_at",
            ("servicetitan_sync_logs has no column completed_at", "ended_at"),
            id="a renamed column is told with those that are there",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs RENAME COLUMN service_titan_credential_id TO account_id",
            ("no column service_titan_credential_id or servicetitan_credential_id or credential_id", "account_id"),
            id="another application's table has another key",
        ),
        pytest.param(
            "ALTER TABLE servicetitan_credentials DROP COLUMN token_expires_at",
            ("servicetitan_credentials has no column token_expires_at",),
            id="a credentials column is missing",
        ),
    ],
)
def test_a_missing_column_is_told(
    described: Callable[..., SourceShape], statement: str, words: tuple[str, ...]
) -> None:
    """Table, column, and what was found instead."""
    with refused("missing_column", *words):
        described("migrations", statement)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("ALTER TABLE servicetitan_sync_logs ALTER started_at TYPE date", id="a date is no time"),
        pytest.param(
            "ALTER TABLE servicetitan_sync_logs ALTER id DROP DEFAULT, ALTER id TYPE text", id="a text is no key"
        ),
    ],
)
def test_a_column_of_another_type_is_told(described: Callable[..., SourceShape], statement: str) -> None:
    """Better an error than a comparison that means something else."""
    with refused("invalid", "servicetitan_sync_logs."):
        described("migrations", statement)


@pytest.mark.parametrize(
    ("policy", "cause", "words"),
    [
        pytest.param(
            replace(POLICY, timezone="EST5EDT4"), "wrong_time_zone", ("'EST5EDT4'", "IANA"), id="no IANA zone"
        ),
        pytest.param(
            replace(POLICY, timezone="../etc/passwd"), "wrong_time_zone", ("source.timezone",), id="a path is no zone"
        ),
        pytest.param(replace(POLICY, schema="hub"), "missing_table", ("no schema 'hub'", "source.schema"), id="schema"),
    ],
)
def test_a_wrong_policy_is_told(
    described: Callable[..., SourceShape], policy: SourcePolicy, cause: str, words: tuple[str, ...]
) -> None:
    """PostgreSQL itself would take any zone for a POSIX one."""
    with refused(cause, *words):
        described("migrations", policy=policy)


def test_a_missing_grant_names_the_grant_to_give(make_database: Callable[..., str]) -> None:
    """Only the columns that are hidden, in the statement that shows them."""
    dsn = make_database("grants")
    create_source(dsn)
    role = f"reader_of_{dsn.rsplit('/', 1)[1]}"
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'".encode())
        owner.execute(f"GRANT SELECT (id, data_type, status, started_at) ON servicetitan_sync_logs TO {role}".encode())
        try:
            host = dsn.split("@")[1]
            with (
                refused(
                    "permission",
                    "GRANT SELECT (completed_at, error_message, service_titan_credential_id)"
                    " ON public.servicetitan_sync_logs",
                ),
                open_session(f"postgresql://{role}:pw@{host}", POLICY) as session,
            ):
                describe_source(session, POLICY)
        finally:
            owner.execute(f"DROP OWNED BY {role}".encode())
            owner.execute(f"DROP ROLE {role}".encode())

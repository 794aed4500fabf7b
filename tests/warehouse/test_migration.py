"""The schema is raised by one explicit step, and nothing works with another version than its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from include.sync_health.errors import StorageError
from include.warehouse import migration
from include.warehouse.grants import rights_missing
from include.warehouse.migration import HEAD_REVISION, REVISIONS, require_current, upgrade
from include.warehouse.monitoring_session import MIGRATION_LOCK, SCHEMA, connect, working_rights
from tests.warehouse.monitoring_records import NOW

TABLES = {
    "counted_sync",
    "sync_counter",
    "sync_hour",
    "quality_gauge",
    "metric_emission",
    "api_call_hourly",
    "api_counter",
    "log_position",
    "api_source",
    "probe_result",
    "health_snapshot",
    "alert",
    "alert_event",
    "check_run",
    "credential_snapshot",
    "delivery",
    "policy_version",
    "quality_daily",
    "quality_day",
    "field_quality_daily",
    "quality_revision",
    "schema_version",
    "silence",
    "channel_state",
}


@pytest.fixture
def dsn(make_database: Callable[..., str]) -> str:
    """An empty database."""
    return make_database("migration")


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A login role that may do nothing but connect."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE ROLE monitor_app LOGIN PASSWORD 'app'")
    yield "monitor_app"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("DROP OWNED BY monitor_app CASCADE")
        conn.execute("DROP ROLE monitor_app")


def as_role(dsn: str, role: str) -> str:
    return make_conninfo(dsn, user=role, password="app")


def run(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(statement)


def work(dsn: str) -> None:
    with connect(dsn) as conn:
        require_current(conn)


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'monitoring'").fetchall()
    return {name for (name,) in rows}


def test_the_constants_are_the_scripts() -> None:
    """No task reads the scripts, so this is what keeps them together; one line, no branches."""
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)

    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS
    assert scripts.get_heads() == [HEAD_REVISION]


def test_the_template_makes_a_script_that_follows_the_last(tmp_path: Path) -> None:
    scripts = shutil.copytree(migration._SCRIPTS, tmp_path / "migrations")
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")

    made = command.revision(config, message="Silences", rev_id="next")

    assert isinstance(made, Script)
    assert (made.revision, made.down_revision) == ("next", HEAD_REVISION)
    assert Path(made.path).read_text(encoding="utf-8").startswith('"""\nSilences\n')


def test_migrating_tells_where_it_came_from_and_repeats_without_harm(dsn: str) -> None:
    assert upgrade(dsn) == (None, HEAD_REVISION)
    assert tables(dsn) == TABLES
    assert upgrade(dsn) == (HEAD_REVISION, HEAD_REVISION)
    with connect(dsn) as conn:
        require_current(conn)


def test_of_two_migrations_at_once_one_waits_and_both_succeed(dsn: str) -> None:
    together = threading.Barrier(2)
    ends: list[object] = []

    def migrate() -> None:
        together.wait(timeout=30)
        try:
            ends.append(upgrade(dsn))
        except StorageError as error:
            ends.append(error)

    workers = [threading.Thread(target=migrate) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(ends, key=str) == [(HEAD_REVISION, HEAD_REVISION), (None, HEAD_REVISION)]


def test_a_migration_waits_for_the_lock_and_then_says_so(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "LOCK_WAIT", "50ms")
    with psycopg.connect(dsn) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        with pytest.raises(StorageError, match="safe to try again"):
            upgrade(dsn)
    assert tables(dsn) == set()


def test_a_migration_that_fails_half_way_changes_nothing(dsn: str) -> None:
    """A table in the way, as a failed manual attempt would leave it."""
    run(dsn, "CREATE SCHEMA monitoring")
    run(dsn, "CREATE TABLE monitoring.policy_version (mine text)")

    with pytest.raises(psycopg.errors.DuplicateTable):
        upgrade(dsn)

    assert tables(dsn) == {"policy_version"}
    run(dsn, "DROP TABLE monitoring.policy_version")
    assert upgrade(dsn) == (None, HEAD_REVISION)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("CREATE SCHEMA monitoring AUTHORIZATION monitor_app", id="the role owns the schema alone"),
        pytest.param(
            "CREATE SCHEMA monitoring; GRANT USAGE, CREATE ON SCHEMA monitoring TO monitor_app",
            id="a DBA owns the schema and lets the role create in it",
        ),
        pytest.param("GRANT CREATE ON DATABASE {database} TO monitor_app", id="the role may create schemas"),
    ],
)
def test_no_more_rights_are_needed_than(dsn: str, role: str, prepare: str) -> None:
    run(dsn, prepare.format(database=conninfo_to_dict(dsn)["dbname"]))

    assert upgrade(as_role(dsn, role)) == (None, HEAD_REVISION)
    with connect(as_role(dsn, role)) as conn:
        require_current(conn)


@pytest.mark.parametrize(
    ("prepare", "fix"),
    [
        pytest.param("SELECT 1", "CREATE SCHEMA monitoring AUTHORIZATION monitor_app", id="no right on the database"),
        pytest.param(
            "CREATE SCHEMA monitoring",
            "GRANT USAGE, CREATE ON SCHEMA monitoring TO monitor_app",
            id="no right in the schema",
        ),
    ],
)
def test_a_missing_right_is_one_line_with_the_sql_that_mends_it(dsn: str, role: str, prepare: str, fix: str) -> None:
    run(dsn, prepare)

    with pytest.raises(StorageError) as caught:
        upgrade(as_role(dsn, role))

    message = str(caught.value)
    assert message.endswith(f"run: {fix}")
    assert "\n" not in message
    run(dsn, message.rpartition("run: ")[2])
    assert upgrade(as_role(dsn, role)) == (None, HEAD_REVISION)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("SELECT 1", id="without any right in the schema"),
        pytest.param("GRANT USAGE, CREATE ON SCHEMA monitoring TO monitor_app", id="that may create, but not read"),
    ],
)
@pytest.mark.parametrize(
    ("refused", "owner"),
    [
        pytest.param(upgrade, "migrate with a connection as postgres", id="migrating"),
        pytest.param(work, "connect as the owner of schema monitoring", id="working"),
    ],
)
def test_a_role_beside_the_owner_is_told_the_sql_to_work_and_the_owner_to_migrate_as(
    dsn: str, role: str, prepare: str, refused: Callable[[str], object], owner: str
) -> None:
    """Not in a circle: the one line is all that it takes."""
    upgrade(dsn)
    run(dsn, prepare)

    with pytest.raises(StorageError) as caught:
        refused(as_role(dsn, role))

    message = str(caught.value)
    assert "\n" not in message
    assert owner in message
    run(dsn, message.partition("run: ")[2])
    assert upgrade(as_role(dsn, role)) == (HEAD_REVISION, HEAD_REVISION)
    with connect(as_role(dsn, role)) as conn:
        require_current(conn)
        assert rights_missing(conn, schema=SCHEMA) == ()


def test_a_role_beside_the_owner_cannot_raise_an_older_schema_and_is_told_who_can(
    dsn: str, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(dsn)
    run(dsn, working_rights(role))
    monkeypatch.setattr(migration, "REVISIONS", (*REVISIONS, "next"))
    monkeypatch.setattr(migration, "HEAD_REVISION", "next")

    with pytest.raises(StorageError, match="belong to role postgres; migrate with a connection as postgres"):
        upgrade(as_role(dsn, role))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param([], "is missing; run python -m include.cli migrate", id="no schema"),
        pytest.param(["CREATE SCHEMA monitoring"], "is missing; run python -m include.cli migrate", id="an empty one"),
        pytest.param(
            [
                "CREATE SCHEMA monitoring",
                "CREATE TABLE monitoring.schema_version (version_num text)",
                "INSERT INTO monitoring.schema_version VALUES ('9999')",
            ],
            "at revision 9999, newer than this code's .*; update the project; do not downgrade",
            id="one of a newer project",
        ),
    ],
)
def test_another_version_is_refused_in_one_line(dsn: str, prepare: list[str], message: str) -> None:
    for statement in prepare:
        run(dsn, statement)
    with connect(dsn) as conn:
        conn.execute("CREATE TEMPORARY TABLE mine (x int)")
        with pytest.raises(StorageError, match=message):
            require_current(conn)
        # The caller's transaction is not spoilt.
        assert conn.execute("SELECT count(*) FROM mine").fetchone() == (0,)


def test_an_older_version_is_refused_and_the_command_is_named(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As this code would see it once there is a revision after today's."""
    upgrade(dsn)
    monkeypatch.setattr(migration, "REVISIONS", (*REVISIONS, "next"))
    monkeypatch.setattr(migration, "HEAD_REVISION", "next")
    with connect(dsn) as conn, pytest.raises(StorageError, match=f"{HEAD_REVISION}, older .* include.cli migrate"):
        require_current(conn)


def test_a_newer_schema_is_not_migrated(dsn: str) -> None:
    upgrade(dsn)
    run(dsn, "UPDATE monitoring.schema_version SET version_num = '9999'")

    with pytest.raises(StorageError, match="do not downgrade"):
        upgrade(dsn)


def test_a_database_that_cannot_hold_every_message_is_refused(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("CREATE DATABASE monitoring_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        try:
            with pytest.raises(StorageError, match="encoded in LATIN1, and messages need UTF8"):
                upgrade(make_conninfo(dsn, dbname="monitoring_latin1"))
        finally:
            conn.execute("DROP DATABASE monitoring_latin1")


def test_an_unreachable_database_is_one_line() -> None:
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        upgrade("host=127.0.0.1 port=1 user=u password=s3cr3t dbname=d")
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_checking_the_version_imports_no_alembic(dsn: str) -> None:
    """It runs in every task."""
    upgrade(dsn)
    code = (
        "import sys; from include.warehouse.migration import require_current; "
        "from include.warehouse.monitoring_session import connect; "
        "require_current(connect(sys.argv[1])); "
        "print([name for name in ('alembic', 'sqlalchemy', 'pandas', 'airflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, dsn], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_alembic_alone_is_sent_to_our_command(dsn: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))
    config.set_main_option("path_separator", "os")
    with pytest.raises(StorageError, match=r"include\.cli migrate"):
        command.upgrade(config, "head")


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("SELECT 1 FROM monitoring.alert WHERE is_followed", id="alerts to follow"),
        pytest.param(
            "SELECT 1 FROM monitoring.delivery WHERE channel = 'c' AND status IN ('pending', 'leased') ORDER BY id",
            id="a channel's unfinished deliveries",
        ),
        pytest.param("SELECT 1 FROM monitoring.delivery WHERE fingerprints && ARRAY['f']", id="an alert's deliveries"),
        pytest.param("SELECT 1 FROM monitoring.silence WHERE ends_at > '2026-01-01'", id="silences that are not over"),
        pytest.param("SELECT 1 FROM monitoring.alert_event WHERE fingerprint = 'f' ORDER BY as_of", id="its history"),
        pytest.param(
            "SELECT 1 FROM monitoring.check_run WHERE check_name = 'c' ORDER BY window_to DESC LIMIT 1",
            id="the newest run of a check",
        ),
    ],
)
def test_what_is_asked_all_day_has_an_index(dsn: str, query: str) -> None:
    upgrade(dsn)
    with connect(dsn) as conn:
        conn.execute("SET enable_seqscan = off")  # the tables are empty: make the planner take what there is
        conn.execute("SET enable_sort = off")
        plan = "\n".join(line for (line,) in conn.execute(sql.SQL("EXPLAIN ") + sql.SQL(query)))
    assert "Index" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan


def test_a_delivery_cannot_contradict_itself(dsn: str) -> None:
    upgrade(dsn)
    insert = (
        "INSERT INTO monitoring.delivery (key, channel, reason, members, fingerprints, as_of, status,"
        " next_attempt_at, created_at, updated_at) VALUES ('a', 'c', 'first', '[]', '{}', %(now)s, %(status)s,"
        " %(now)s, %(now)s, %(now)s)"
    )
    impossible: dict[str, Any] = {"sent": "no time", "leased": "no owner", "not_sent": "no reason", "lost": "no such"}
    for status in impossible:
        with connect(dsn) as conn, pytest.raises(psycopg.errors.CheckViolation):
            conn.execute(insert, {"now": NOW, "status": status})

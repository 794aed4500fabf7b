"""Connections: read as Airflow reads them, found where they are, and never shown."""

from __future__ import annotations

import json
import os
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from include.orchestration.connections import (
    LIBPQ_EXTRAS,
    ConnectionValues,
    find_connection,
    has_secrets_backend,
    parse_connection,
    runs_under_airflow,
)
from include.sync_health.errors import ConnectionMissing, MonitorError

ROOT = Path(__file__).resolve().parents[2]


def parsed(text: str) -> ConnectionValues:
    return parse_connection("hub_plus_db", text, where="AIRFLOW_CONN_HUB_PLUS_DB")


URIS = [
    pytest.param("postgresql://u:p@h:5432/d", id="the usual one"),
    pytest.param("postgres://u:p@h/d", id="without a port"),
    pytest.param("postgres://h/d", id="without a user"),
    pytest.param("postgres://u@h/d", id="without a password"),
    pytest.param("postgres://u:p%40%2F%3A%25@h/d%2Fx", id="percent-encoded"),
    pytest.param("postgres://u:p+q@h/d", id="a plus stays a plus outside the query"),
    pytest.param("postgres://u:p@H.Example/d", id="host names are lower case"),
    pytest.param("postgres://u:p@%2Fvar%2FRun/d", id="a socket's directory keeps its case"),
    pytest.param("postgres://u:p@h/d?sslmode=require&connect_timeout=5", id="extras in the query"),
    pytest.param("postgres://u:p@h/d?options=-c%20search_path%3Dhub", id="an encoded extra"),
    pytest.param("postgres://u:p@h/d?sslmode=&x=a+b", id="an empty extra, and a plus in the query"),
    pytest.param("postgres://u:p@h/d?__extra__=%7B%22keepalives%22%3A+1%7D", id="the whole extra as JSON"),
    pytest.param("slack://:xoxb-1@/?timeout=30", id="only a password"),
    pytest.param("slackwebhook://:T%2FB%2FX@hooks.example%2Fservices", id="a host with a path"),
    pytest.param("http://https://h:8080/p", id="a host with a protocol"),
    pytest.param("google-cloud-platform://", id="a type with dashes"),
    pytest.param("smtp://u:p@h:25/?disable_tls=true&disable_ssl=false", id="switches are texts in a URI"),
]
JSONS = [
    pytest.param('{"conn_type": "postgresql", "host": "h", "login": "u", "password": "p", "schema": "d"}', id="plain"),
    pytest.param('{"conn_type": "smtp", "host": "h", "port": "25"}', id="a port as text"),
    pytest.param(
        '{"conn_type": "smtp", "host": "h", "port": 25, "extra": {"disable_tls": true}}', id="extra as object"
    ),
    pytest.param('{"conn_type": "smtp", "extra": "{\\"timeout\\": 5}"}', id="extra as text"),
    pytest.param('{"conn_type": "a-b", "description": "x"}', id="a type with dashes and a description"),
]

# Run in a process of its own, with a home of its own: importing Airflow writes files and registers things.
ORACLE = """
import json, sys
from airflow.sdk.definitions.connection import Connection
answers = []
for text in json.load(sys.stdin):
    found = Connection.from_json(text, conn_id="x") if text.startswith("{") else Connection.from_uri(text, conn_id="x")
    answers.append([found.conn_type, found.host or None, found.port or None, found.login or None,
                    found.password or None, found.schema or None, json.loads(found.extra or "{}")])
print(json.dumps(answers))
"""


def airflow_environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "_AIRFLOW"))}
    return {**kept, "AIRFLOW_HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


def python(code: str, environment: dict[str, str], *, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_every_form_is_read_as_airflow_reads_it(tmp_path: Path) -> None:
    """The oracle is the code that reads the same variable in a task."""
    texts = [str(case.values[0]) for case in (*URIS, *JSONS)]
    theirs = json.loads(python(ORACLE, airflow_environment(tmp_path), stdin=json.dumps(texts)))

    ours = [
        [c.conn_type, c.host, c.port, c.login, c.password, c.schema, dict(c.extra)] for c in (parsed(t) for t in texts)
    ]

    assert ours == theirs


SECRET_TEXT = st.text(alphabet=string.printable.strip() + "äß€ ", min_size=1, max_size=20)


@given(
    login=SECRET_TEXT,
    password=SECRET_TEXT,
    database=SECRET_TEXT,
    key=st.sampled_from(["sslmode", "x"]),
    value=SECRET_TEXT,
)
def test_whatever_is_percent_encoded_comes_back(login: str, password: str, database: str, key: str, value: str) -> None:
    encoded = [quote(text, safe="") for text in (login, password, database, value)]
    uri = "postgres://{}:{}@h:5432/{}?{key}={}".format(*encoded, key=key)

    found = parsed(uri)

    assert (found.login, found.password, found.schema) == (login, password, database)
    assert found.extra == {key: value}
    # A secret is not in a text that another secret would leave as it is.
    other = replace(found, password="another", extra={key: "another"})
    assert (repr(found), str(found)) == (repr(other), str(other))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("hunter2", "is neither a URI", id="only a password"),
        pytest.param("host=h password=hunter2", "is neither a URI", id="a libpq string"),
        pytest.param('{"password": "hunter2"', "not valid JSON", id="broken JSON"),
        pytest.param('{"user": "u", "password": "hunter2"}', "unknown keys 'user'", id="an unknown key"),
        pytest.param(
            '{"conn_type": "smtp", "password": 2}', "password must be a text", id="a password that is a number"
        ),
        pytest.param('{"conn_type": "smtp", "port": "hunter2"}', "port must be", id="a port that is no number"),
        pytest.param('{"conn_type": "smtp", "port": 70000}', "port must be", id="a port out of range"),
        pytest.param(
            '{"conn_type": "smtp", "extra": "hunter2"}', "extra is not valid JSON", id="an extra that is no JSON"
        ),
        pytest.param(
            '{"conn_type": "smtp", "extra": [1]}', "extra must be a JSON object", id="an extra that is a list"
        ),
        pytest.param("postgres://u:hunter2/x@h/d", "not a valid URI", id="a slash in the password"),
        pytest.param("postgres://u:p@h:port/d", "not a valid URI", id="a port that is a word"),
        pytest.param("slack://:hunter2@/?base_url=http://h/api/", "'://' twice", id="an unencoded URL in an extra"),
    ],
)
def test_what_cannot_be_read_names_the_variable_and_never_its_value(text: str, says: str) -> None:
    with pytest.raises(MonitorError, match=r"^AIRFLOW_CONN_HUB_PLUS_DB: ") as caught:
        parsed(text)

    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_neither_password_nor_extra_nor_host_is_ever_shown() -> None:
    found = parsed(
        '{"conn_type": "slackwebhook", "host": "https://hooks.example/services/T/B/hunter1", "password": "hunter2",'
        ' "extra": {"client_secret": "hunter3", "nested": [{"x": "hunter4"}]}}'
    )

    assert "hunter" not in f"{found!r} {found!s} {found}"
    assert set(found.secrets) == {"hunter2", "hunter3", "hunter4"}


# -- where they are found ------------------------------------------------------------------------


def test_a_shell_finds_it_in_the_environment_without_importing_airflow(tmp_path: Path) -> None:
    code = (
        "import sys; from include.orchestration.connections import find_connection\n"
        "print(find_connection('hub_plus_db').schema, sorted({m.split('.')[0] for m in sys.modules} & {'airflow', 'pandas'}))"
    )

    said = python(code, airflow_environment(tmp_path, AIRFLOW_CONN_HUB_PLUS_DB="postgres://h/hub"))

    assert said == "hub []"


def test_a_missing_one_names_the_variable_and_why_airflows_database_does_not_help(tmp_path: Path) -> None:
    with pytest.raises(ConnectionMissing) as caught:
        find_connection("hub_plus_db", inside_airflow=False, environ={"AIRFLOW_HOME": str(tmp_path)})

    assert "AIRFLOW_CONN_HUB_PLUS_DB" in str(caught.value)
    assert "only in Airflow's database cannot be seen from a shell" in str(caught.value)


def test_a_shell_asks_the_secrets_backend_that_airflow_is_configured_with(tmp_path: Path) -> None:
    """A real one: Airflow's own backend of a local file."""
    secrets = tmp_path / "connections.json"
    secrets.write_text(json.dumps({"hub_plus_db": {"conn_type": "postgres", "host": "h", "schema": "vault"}}))
    environment = airflow_environment(
        tmp_path,
        AIRFLOW__SECRETS__BACKEND="airflow.secrets.local_filesystem.LocalFilesystemBackend",
        AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps({"connections_file_path": str(secrets)}),
    )
    code = (
        "from include.orchestration.connections import find_connection\n"
        "from include.sync_health.errors import ConnectionMissing\n"
        "found = find_connection('hub_plus_db').schema\n"
        "try:\n    find_connection('monitoring_db')\n"
        "except ConnectionMissing as error:\n    print(found, error)\n"
    )

    said = python(code, environment)

    assert said.startswith("vault connection 'monitoring_db' is not configured")


def test_inside_airflow_its_own_lookup_is_asked(tmp_path: Path) -> None:
    """The mark of Airflow's processes makes find_connection ask it, here through Airflow's own environment backend."""
    environment = airflow_environment(
        tmp_path, _AIRFLOW_PROCESS_CONTEXT="client", AIRFLOW_CONN_HUB_PLUS_DB="postgres://u:p@h:1/d?sslmode=require"
    )
    code = (
        "import sys; from include.orchestration.connections import find_connection\n"
        "found = find_connection('hub_plus_db')\n"
        "assert 'airflow.sdk' in sys.modules\n"
        "print(found.conn_type, found.host, found.port, found.login, found.password, found.schema, dict(found.extra))"
    )

    assert python(code, environment) == "postgres h 1 u p d {'sslmode': 'require'}"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, False, id="a shell"),
        pytest.param({"AIRFLOW_CTX_DAG_ID": "x"}, False, id="a shell that a task started"),
        pytest.param({"_AIRFLOW_PROCESS_CONTEXT": "server"}, True, id="the API server"),
        pytest.param({"_AIRFLOW_PROCESS_CONTEXT": "client"}, True, id="a triggerer"),
        pytest.param({"AIRFLOW_HOME": "/x"}, False, id="a shell where Airflow is installed"),
    ],
)
def test_what_marks_a_process_of_airflow(environ: dict[str, str], expected: bool) -> None:
    assert runs_under_airflow(environ) is expected


def test_the_line_to_the_supervisor_marks_a_task(tmp_path: Path) -> None:
    """As the task runner of Airflow 3.3 keeps it: a global of its module."""
    code = (
        "from airflow.sdk.execution_time import task_runner\n"
        "from include.orchestration.connections import runs_under_airflow\n"
        "before = runs_under_airflow({})\ntask_runner.SUPERVISOR_COMMS = object()\nprint(before, runs_under_airflow({}))"
    )

    assert python(code, airflow_environment(tmp_path)) == "False True"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("[secrets]\nbackend = a.B\n", True, id="a backend"),
        pytest.param("[secrets]\nbackend =\nbackend_kwargs =\n", False, id="the shipped file leaves it empty"),
        pytest.param("[workers]\nsecrets_backend = a.B\n", True, id="one of workers"),
        pytest.param("[core]\nx = %(y)s\n[core]\n", False, id="a file with percent signs and repeated sections"),
        pytest.param("no section", False, id="no configuration at all"),
    ],
)
def test_a_backend_in_airflow_cfg_is_seen_without_airflow(tmp_path: Path, content: str, expected: bool) -> None:
    (tmp_path / "airflow.cfg").write_text(content)

    assert has_secrets_backend({"AIRFLOW_HOME": str(tmp_path)}) is expected
    assert has_secrets_backend({"AIRFLOW_HOME": str(tmp_path / "none")}) is False


# -- PostgreSQL ----------------------------------------------------------------------------------


def test_conninfo_reaches_a_real_server(make_database) -> None:
    found = parsed(make_database("conn"))

    with psycopg.connect(found.postgres_conninfo(application_name="the monitor's doctor")) as conn:
        row = conn.execute("SELECT current_database(), current_setting('application_name')").fetchone()

    assert row == (found.schema, "the monitor's doctor")


def test_conninfo_takes_only_what_libpq_knows_from_extra() -> None:
    found = parsed(
        '{"conn_type": "postgres", "host": "h", "login": "u", "password": "p\'q\\\\ r", "schema": "d", "extra":'
        ' {"sslmode": "verify-full", "keepalives": true, "connect_timeout": 3, "cursor": "dictcursor", "host": "evil",'
        ' "password": "evil", "service": "evil", "sslrootcert": ""}}'
    )

    assert conninfo_to_dict(found.postgres_conninfo()) == {
        "host": "h",
        "user": "u",
        "password": "p'q\\ r",
        "dbname": "d",
        "sslmode": "verify-full",
        "keepalives": "1",
        "connect_timeout": "3",
    }


def test_a_connection_without_a_limit_gets_one() -> None:
    assert conninfo_to_dict(parsed("postgres://h/d").postgres_conninfo())["connect_timeout"] == "10"


def test_every_extra_that_we_pass_is_known_to_this_libpq() -> None:
    known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}

    assert set(LIBPQ_EXTRAS) - known == set()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("mysql://u:hunter2@h/d", "'hub_plus_db' is of type 'mysql'; it must be", id="another database"),
        pytest.param('{"host": "h", "password": "hunter2"}', "is of type 'unknown'", id="no type"),
        pytest.param("postgres://u:hunter2@h", "names no database", id="no database"),
        pytest.param("postgres://u:hunter2@h/d?iam=true", "IAM", id="a token of the cloud"),
    ],
)
def test_a_connection_that_is_no_postgres_says_how_to_mend_it(text: str, says: str) -> None:
    with pytest.raises(MonitorError, match=says) as caught:
        parsed(text).postgres_conninfo()

    assert "hunter2" not in str(caught.value)

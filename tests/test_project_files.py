"""The files that people and platforms meet first agree with each other and with the names fixed for them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from include.simulation.airflow_settings import AirflowSettingsError, read_airflow_settings
from include.simulation.demo_state import ROOTS_STATE

PROJECT_ROOT = Path(__file__).resolve().parents[1]
LOCK = (PROJECT_ROOT / "requirements.lock").read_text(encoding="utf-8")
STORES_LOCK = (PROJECT_ROOT / "requirements-stores.lock").read_text(encoding="utf-8")
LOCKED_LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: ; [^\\]+)? \\$")


def direct_requirements(name: str) -> list[Requirement]:
    """The requirements that a file names itself."""
    lines = (PROJECT_ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


def locked_versions(lock: str = LOCK) -> dict[str, list[Version]]:
    """Every version that the lock has of a name; markers can give more than one."""
    versions: dict[str, list[Version]] = {}
    for line in lock.splitlines():
        if match := LOCKED_LINE.match(line):
            versions.setdefault(canonicalize_name(match[1]), []).append(Version(match[2]))
    return versions


DIRECT = direct_requirements("requirements.txt") + direct_requirements("requirements-dev.txt")


@pytest.mark.parametrize("requirement", [pytest.param(each, id=each.name) for each in DIRECT])
def test_every_direct_requirement_is_locked_within_its_bounds(requirement: Requirement) -> None:
    locked = locked_versions().get(canonicalize_name(requirement.name), [])

    assert locked, f"{requirement.name} is missing: run make lock"
    assert all(requirement.specifier.contains(version) for version in locked)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-stores.txt"])
def test_the_stores_environment_has_every_direct_requirement(name: str) -> None:
    """It is the project's, and over it what differs."""
    locked = locked_versions() | locked_versions(STORES_LOCK)

    for requirement in direct_requirements(name):
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is missing: run make lock"
        assert all(requirement.specifier.contains(version) for version in versions)


def test_the_stores_lock_has_only_what_differs() -> None:
    assert set(packages_of(STORES_LOCK)) & set(packages_of(LOCK)) == set()


def test_what_the_stores_leave_out_is_in_no_lock() -> None:
    left_out = {canonicalize_name(each.name) for each in direct_requirements("requirements-stores-without.txt")}

    assert len(left_out) > 40
    assert left_out & (locked_versions() | locked_versions(STORES_LOCK)).keys() == set()


def packages_of(lock: str) -> list[str]:
    """A lock's packages, each with its hashes."""
    return re.split(r"\n(?=\S)", lock.strip())


@pytest.mark.parametrize(
    ("lock", "least"), [pytest.param(LOCK, 100, id="project"), pytest.param(STORES_LOCK, 50, id="stores")]
)
def test_every_locked_package_has_hashes(lock: str, least: int) -> None:
    packages = packages_of(lock)

    assert len(packages) > least
    assert [package.split("\n", 1)[0] for package in packages if "--hash=sha256:" not in package] == []
    assert all(LOCKED_LINE.match(package.split("\n", 1)[0]) for package in packages)


@pytest.mark.parametrize(
    "name",
    [
        "requirements.lock",
        "requirements.txt",
        "requirements-dev.txt",
        "requirements-stores.lock",
        "requirements-stores.txt",
        ".ci/setup",
        ".ci/setup-stores",
        "Makefile",
    ],
)
def test_no_package_index_is_named(name: str) -> None:
    text = (PROJECT_ROOT / name).read_text(encoding="utf-8")

    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", text)


def test_airflow_itself_is_not_pinned_for_the_runtime_image() -> None:
    """The Runtime ships its own build: an exact pin would replace it."""
    (airflow,) = [each for each in direct_requirements("requirements.txt") if each.name == "apache-airflow"]

    assert str(airflow.specifier) == "<3.4,>=3.3"


def test_the_image_is_an_astro_runtime_of_the_same_airflow() -> None:
    lines = (PROJECT_ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    instructions = [line for line in lines if line and not line.startswith("#")]

    assert instructions == ["FROM astrocrpublic.azurecr.io/runtime:3.3-8"]
    assert {version.release[:2] for version in locked_versions()["apache-airflow"]} == {(3, 3)}


def test_the_airflow_settings_name_the_fixed_connections_and_the_pools() -> None:
    settings = read_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")

    types = {conn_id: connection.conn_type for conn_id, connection in settings.connections.items()}
    assert types == {
        "hub_plus_db": "postgres",
        "monitoring_db": "postgres",
        "slack_alerts": "slack",
        "alert_email": "smtp",
    }
    assert {pool.name: pool.slots for pool in settings.pools} == {
        "servicetitan_source": 2,
        "servicetitan_backfill": 2,
    }


def test_the_airflow_settings_hold_no_secret() -> None:
    settings = read_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")

    assert [name for name, connection in settings.connections.items() if connection.password] == []


def test_a_connection_becomes_the_json_that_airflow_reads() -> None:
    settings = read_airflow_settings(PROJECT_ROOT / "airflow_settings.yaml")
    connection = settings.connections["hub_plus_db"]

    assert connection.variable_name == "AIRFLOW_CONN_HUB_PLUS_DB"
    assert json.loads(connection.to_json()) == {
        "conn_type": "postgres",
        "host": "host.docker.internal",
        "schema": "hub_plus",
        "login": "servicetitan_monitor",
        "port": 5432,
        "extra": {"sslmode": "prefer"},
    }


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        pytest.param({"airflow": {"pool": []}}, "unknown keys", id="a misspelt section is refused"),
        pytest.param(
            {"airflow": {"connections": [{"conn_id": "a", "conn_type": "http", "host": "b"}]}},
            "unknown keys",
            id="a misspelt field is refused",
        ),
        pytest.param(
            {"airflow": {"connections": [{"conn_id": "a", "conn_type": "http"}] * 2}},
            "given twice: a",
            id="a connection given twice is refused",
        ),
        pytest.param(
            {"airflow": {"connections": [{"conn_id": "a", "conn_type": "http", "conn_port": "80"}]}},
            "must be a port number",
            id="a port in quotes is refused",
        ),
        pytest.param({"airflow": {"pools": [{"pool_name": "a"}]}}, "at least 1", id="a pool without slots is refused"),
        pytest.param({"airflow": None}, "must be a mapping", id="an empty file is refused"),
    ],
)
def test_mistakes_in_the_airflow_settings_are_refused(tmp_path: Path, document: object, complaint: str) -> None:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")

    with pytest.raises(AirflowSettingsError, match=complaint):
        read_airflow_settings(path)


def test_every_make_target_has_its_help_and_the_promised_ones_exist() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, flags=re.MULTILINE))
    helped = set(re.findall(r"^([a-z0-9-]+):.*## \S", makefile, flags=re.MULTILINE))
    phony = set(re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)[0].split())

    assert targets == helped == phony
    assert {"help", "setup", "lint", "test", "test-stores", "bench", "demo", "clean"} <= targets


@pytest.mark.parametrize(
    ("args", "runs"),
    [
        pytest.param("", ["tests/orchestration/stores"], id="all tests: those too"),
        pytest.param('-k "one or two"', ['tests/orchestration/stores -k "one or two"'], id="a name: of those too"),
        pytest.param("-x tests/dags", [], id="another path: not those"),
        pytest.param(
            "-x tests/dags tests/orchestration/stores/test_reading.py",
            ["tests/orchestration/stores/test_reading.py -x"],
            id="a path of theirs: that one",
        ),
    ],
)
def test_make_test_ends_with_the_tests_of_stores(args: str, runs: list[str]) -> None:
    told = subprocess.run(
        ["make", "--dry-run", "test", f"ARGS={args}"],
        cwd=PROJECT_ROOT,
        env={"PATH": os.environ["PATH"]},  # without the make that may have started the tests
        capture_output=True,
        text=True,
        check=True,
    )

    found = re.findall(
        r"^\.venv-stores/bin/python -m pytest (.*?)\s*(?:\|\| \[ \$\? = 5 \])?$", told.stdout, flags=re.MULTILINE
    )
    assert found == runs
    assert (".ci/setup-stores" in told.stdout.splitlines()) == bool(runs)


@pytest.mark.parametrize("place", ["an argument of make", "the environment"])
def test_make_hands_the_source_on_as_it_was_given(tmp_path: Path, place: str) -> None:
    """With make itself, on a Makefile whose interpreter only tells what it got."""
    source = """postgresql://u:p$word$(shell touch made)$$`touch run`'"\\#%41 x@h/db"""
    (tmp_path / "Makefile").write_text((PROJECT_ROOT / "Makefile").read_text(encoding="utf-8"), encoding="utf-8")
    for name, script in (
        (".ci/setup", "#!/bin/sh\n"),
        (".venv/bin/python", '#!/bin/sh\nprintf "%s\\n" "$DEMO_SOURCE" "$*"\n'),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "word": "other"}  # without the make that may have started the tests
    given = []
    if place == "the environment":
        environment["SOURCE"] = source
    else:
        given = [f"SOURCE={source}"]

    told = subprocess.run(
        ["make", "demo", "ARGS=--once", *given],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.splitlines() == [source, "-m include.simulation.demo --once"]
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", ".ci", ".venv"}


def test_make_clean_removes_the_folder_that_the_demo_uses_for_root() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    folder = re.findall(r"^ROOTS_DEMO := ([^#\n]+)", makefile, flags=re.MULTILINE)

    assert folder == [str(ROOTS_STATE)]


def test_ci_runs_what_a_developer_runs() -> None:
    lines = (PROJECT_ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    makes = [line for line in lines if line.startswith("make ")]

    assert [line.split()[-1] for line in makes] == ["lint", "test"]
    assert "set -euo pipefail" in lines


@pytest.mark.parametrize("name", [".ci/run", ".ci/setup", ".ci/setup-stores"])
def test_ci_scripts_can_be_executed(name: str) -> None:
    assert (PROJECT_ROOT / name).stat().st_mode & 0o111

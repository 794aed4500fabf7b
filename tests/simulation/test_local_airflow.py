"""One real Airflow, started as the demo starts it: it runs a DAG, keeps roles apart and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import psutil
import pytest

from include.simulation.airflow_settings import ConnectionSetting, PoolSetting
from include.simulation.local_airflow import LocalAirflow, LocalAirflowError
from include.simulation.postgres import EmbeddedPostgres

PROBE_DAG = '''
"""A DAG that tells what it was given, and one that does not end by itself."""
import time
from airflow.sdk import BaseHook, dag, get_current_context, task

@dag(schedule=None)
def probe():
    @task(pool="probe_pool")
    def tell() -> dict:
        print("the probe was here")
        return {"conf": get_current_context()["dag_run"].conf, "host": BaseHook.get_connection("hub_plus_db").host}
    tell()

@dag(schedule=None)
def endless():
    @task
    def hang() -> None:
        time.sleep(600)
    hang()

probe()
endless()
'''


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: EmbeddedPostgres
) -> Iterator[tuple[LocalAirflow, list[str]]]:
    """A running Airflow with its own DAG folder, and the lines of progress it told."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    (home / "plugins").mkdir()
    (home / "dags" / "probe.py").write_text(PROBE_DAG, encoding="utf-8")
    (home / "dags" / "broken.py").write_text("import no_such_module\nfrom airflow.sdk import dag\n", encoding="utf-8")
    lines: list[str] = []
    airflow = LocalAirflow(
        home / "state",
        metadata_dsn=postgres_server.create_database("local_airflow_metadata"),
        connections=[ConnectionSetting(conn_id="hub_plus_db", conn_type="postgres", host="hub.example.com")],
        pools=[PoolSetting(name="probe_pool", slots=2, description="for the probe")],
        dags_folder=home / "dags",
        plugins_folder=home / "plugins",
        progress=lines.append,
    )
    try:
        airflow.start()
        yield airflow, lines
    finally:
        airflow.stop()
        postgres_server.drop_database("local_airflow_metadata")


def test_a_triggered_dag_runs_in_its_pool_with_its_conf_and_connections(
    airflow: tuple[LocalAirflow, list[str]],
) -> None:
    local, _ = airflow
    local.wait_for_dag("probe")
    run_id = local.trigger("probe", conf={"notify": "never"})

    assert local.wait_for_run("probe", run_id) == "success"
    assert local.xcom("probe", run_id, "tell") == {"conf": {"notify": "never"}, "host": "hub.example.com"}
    (instance,) = local.task_instances("probe", run_id)
    assert (instance["task_id"], instance["state"], instance["pool"]) == ("tell", "success", "probe_pool")
    assert "the probe was here" in local.task_log("probe", run_id, "tell")


def test_a_broken_dag_file_is_told_with_its_error(airflow: tuple[LocalAirflow, list[str]]) -> None:
    local, _ = airflow
    local.wait_for_dag("probe")  # of the same folder: the folder has been read

    with pytest.raises(LocalAirflowError, match=r"broken\.py cannot be imported: .*no_such_module"):
        local.wait_for_dag("broken", timeout=60)


@pytest.mark.parametrize(
    ("user", "status"),
    [
        pytest.param("viewer", httpx.codes.FORBIDDEN, id="a viewer may not trigger"),
        pytest.param("admin", httpx.codes.OK, id="an admin may trigger"),
    ],
)
def test_roles_are_enforced(airflow: tuple[LocalAirflow, list[str]], user: str, status: int) -> None:
    local, _ = airflow
    local.wait_for_dag("probe")
    answer = httpx.post(
        f"{local.url}/api/v2/dags/probe/dagRuns",
        json={"logical_date": None},
        headers={"Authorization": f"Bearer {local.token_for(user)}"},
        trust_env=False,
    )

    assert answer.status_code == status


def test_stopping_ends_every_process_even_under_a_running_task(airflow: tuple[LocalAirflow, list[str]]) -> None:
    """The last test of this module: it stops the Airflow that the others use."""
    local, lines = airflow
    local.wait_for_dag("endless")
    run_id = local.trigger("endless")
    while local.task_instances("endless", run_id)[0]["state"] != "running":
        local.require_running()
    assert local.guard_pid is not None
    guard = psutil.Process(local.guard_pid)
    family = [guard, *guard.children(recursive=True)]
    assert len(family) > 5  # four components, a worker and the task at least

    local.stop()

    _, alive = psutil.wait_procs(family, timeout=1)
    assert [each for each in alive if has_not_ended(each)] == []
    with pytest.raises(LocalAirflowError, match="not running"):
        local.require_running()
    assert "creating Airflow's metadata database" in lines


def has_not_ended(process: psutil.Process) -> bool:
    """Whether a process runs; one that the machine's first process has yet to collect does not."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

"""Airflow knows connections of type servicetitan: their form, their hook, and its test, asked over Airflow's own API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from include.orchestration.servicetitan_connection import AUTH_URLS, LONGEST_TIMEOUT_SECONDS
from include.orchestration.servicetitan_hook import ServiceTitanHook
from include.orchestration.servicetitan_provider import provider_info
from include.simulation.servicetitan_server import ServiceTitanServer

ROOT = Path(__file__).resolve().parents[2]
(METADATA,) = ROOT.glob("*.dist-info")

# In a process of its own: Airflow looks for providers once, with the path that it has then.
ASK_THE_MANAGERS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from airflow.models.connection import Connection as Stored
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Connection
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
manager = ProvidersManager()
hook = ProvidersManagerTaskRuntime().hooks["servicetitan"]
print(json.dumps({
    "version": manager.providers["servicetitan-monitor"].version,
    "package": hook.package_name,
    "testable": hook.connection_testable,
    "hooks": [type(kind(conn_id="c", conn_type="servicetitan").get_hook()).__name__ for kind in (Stored, Connection)],
    "widgets": [name for name in manager.connection_form_widgets if "servicetitan" in name],
    "sensitive": [name for name, widget in manager.connection_form_widgets.items()
                  if "servicetitan" in name and widget.is_sensitive],
}))
"""
ASK_THE_API = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
from airflow.api_fastapi.app import create_app
from fastapi.testclient import TestClient
body = json.load(sys.stdin)
with TestClient(create_app(apps="core")) as http:
    http.headers["Authorization"] = "Bearer " + http.get("/auth/token").json()["access_token"]
    forms = http.get("/ui/connections/hook_meta").json()
    created = http.post("/api/v2/connections", json=body)
    read = http.get("/api/v2/connections/" + body["connection_id"])
    tested = http.post("/api/v2/connections/test", json=body)
    wrong = http.post("/api/v2/connections/test", json={**body, "password": "cs1.wrong"})
with open(sys.argv[1], "w") as file:
    json.dump({
        "forms": [form for form in forms if form["connection_type"] == "servicetitan"],
        "created": created.status_code, "read": read.json(), "tested": tested.json(), "wrong": wrong.json(),
    }, file)
"""


def run(script: str, *arguments: str, stdin: str = "", cwd: Path | None = None, **environment: str) -> str:
    """Return what a Python of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        timeout=240,
        env=os.environ | environment,
    ).stdout


@pytest.fixture(scope="module")
def managers(airflow_metadata: Path) -> Mapping[str, Any]:
    """What Airflow's managers of providers say; started elsewhere, with the project on PYTHONPATH alone."""
    answer: Mapping[str, Any] = json.loads(run(ASK_THE_MANAGERS, cwd=airflow_metadata).splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def api(airflow_metadata: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What Airflow's API says of the form and of a connection that leads to the simulated ServiceTitan."""
    path = tmp_path_factory.mktemp("form") / "answer.json"
    with ServiceTitanServer() as server:
        body = {
            "connection_id": "servicetitan_form",
            "conn_type": "servicetitan",
            "login": server.client.client_id,
            "password": server.client.client_secret,
            "extra": json.dumps(server.extra()),
        }
        run(
            ASK_THE_API,
            str(path),
            stdin=json.dumps(body),
            cwd=airflow_metadata,
            AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
            AIRFLOW__CORE__TEST_CONNECTION="Enabled",
            AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES="app_key",
        )
        calls = {"token": server.called("token"), "api": server.called("api")}
    return json.loads(path.read_text(encoding="utf-8")) | {"calls": calls}


def test_airflow_finds_the_provider_and_its_hook(managers: Mapping[str, Any]) -> None:
    assert managers["version"] == "0.1.0"
    assert managers["package"] == "servicetitan-monitor"
    assert managers["testable"] is True


def test_a_connection_gets_our_hook_in_the_server_and_in_a_task(managers: Mapping[str, Any]) -> None:
    assert managers["hooks"] == ["ServiceTitanHook", "ServiceTitanHook"]


def test_the_manager_has_a_field_for_each_extra_and_hides_the_key(managers: Mapping[str, Any]) -> None:
    assert managers["widgets"] == [
        f"extra__servicetitan__{name}" for name in ("app_key", "tenant_id", "environment", "timeout")
    ]
    assert managers["sensitive"] == ["extra__servicetitan__app_key"]


def test_the_form_has_its_labels(api: Mapping[str, Any]) -> None:
    (form,) = api["forms"]

    assert (form["hook_name"], form["hook_class_name"]) == (
        "ServiceTitan",
        "include.orchestration.servicetitan_hook.ServiceTitanHook",
    )
    standard = {
        name: field["title"] for name, field in form["standard_fields"].items() if field and not field["hidden"]
    }
    assert standard == {"login": "Client ID", "password": "Client Secret"}
    assert {name: field["schema"]["title"] for name, field in form["extra_fields"].items()} == {
        "app_key": "Application Key",
        "tenant_id": "Tenant ID",
        "environment": "Environment",
        "timeout": "Timeout",
    }
    assert form["extra_fields"]["app_key"]["schema"]["format"] == "password"
    assert form["extra_fields"]["environment"]["value"] == "production"


def test_the_test_button_asks_servicetitan(api: Mapping[str, Any]) -> None:
    assert api["created"] == 201
    assert api["tested"]["status"] is True
    assert api["tested"]["message"].startswith("127.0.0.1 answered for tenant 1234567890 in ")
    assert api["wrong"]["status"] is False
    assert "invalid_client" in api["wrong"]["message"]
    assert api["calls"] == {"token": [200, 400], "api": [200]}


def test_a_connection_that_is_read_shows_neither_secret_nor_key(api: Mapping[str, Any]) -> None:
    """The key is hidden where the deployment names it as sensitive (docs/servicetitan-connection.md)."""
    server = ServiceTitanServer()
    text = json.dumps(api["read"])

    assert server.client.client_secret not in text
    assert server.client.app_key not in text
    assert json.loads(api["read"]["extra"])["tenant_id"] == "1234567890"


# --- the files ---


def distribution() -> Distribution:
    return PathDistribution(METADATA)


def test_the_metadata_agree_with_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = distribution()

    assert (found.metadata["Name"], found.version) == (project["name"], project["version"])
    assert found.metadata["Summary"] == project["description"]
    assert METADATA.name == f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    assert provider_info()["package-name"] == project["name"]


def test_the_entry_point_leads_to_the_provider() -> None:
    (entry,) = distribution().entry_points

    assert entry.group == "apache_airflow_provider"
    assert entry.load() is provider_info


def test_the_image_takes_the_metadata_along() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert [line for line in ignored if "dist-info" in line or line in ("*", "include")] == []


def test_the_provider_is_as_airflow_wants_providers_to_be() -> None:
    import airflow

    (folder,) = airflow.__path__
    info = provider_info()
    jsonschema.validate(info, json.loads((Path(folder) / "provider_info.schema.json").read_text(encoding="utf-8")))
    full = json.loads((Path(folder) / "provider.yaml.schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(info["connection-types"], full["properties"]["connection-types"])


def test_the_form_offers_what_the_connection_takes() -> None:
    (kind,) = provider_info()["connection-types"]
    fields = kind["conn-fields"]

    assert (kind["connection-type"], kind["hook-name"]) == (ServiceTitanHook.conn_type, ServiceTitanHook.hook_name)
    assert fields["environment"]["schema"]["enum"] == list(AUTH_URLS)
    assert fields["timeout"]["schema"]["maximum"] == LONGEST_TIMEOUT_SECONDS


def test_looking_for_providers_loads_nothing_heavy() -> None:
    script = (
        "import sys, include.orchestration.servicetitan_provider as p; p.provider_info(); print(sorted(sys.modules))"
    )
    loaded = run(script, cwd=ROOT)

    assert [name for name in ("airflow", "pandas", "httpx", "psycopg") if f"'{name}'" in loaded] == []

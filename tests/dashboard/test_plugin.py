"""The plugin: what every process of Airflow pays for it, and what it declares."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from include.dashboard.app import PREFIX

PROJECT = Path(__file__).parents[2]

HEAVY = ("pandas", "numpy", "psycopg", "fastapi", "starlette", "prometheus_client", "yaml", "sqlalchemy", "httpx")

LOOK = """
import json, sys
sys.path.insert(0, "plugins")
import airflow.plugins_manager
before = set(sys.modules)
import servicetitan_monitor
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_importing_the_plugin_brings_nothing_heavy() -> None:
    """Beyond what Airflow has of itself: this file, and the module that builds the app at the first request."""
    told = subprocess.run(
        [sys.executable, "-c", LOOK], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]

    brought = json.loads(told)
    assert set(brought) - {"include"} == {"include.dashboard", "include.dashboard.app", "servicetitan_monitor"}
    assert not [name for name in brought if name.split(".")[0] in HEAVY]


def test_there_is_one_file_and_it_only_declares() -> None:
    """Airflow imports each file of the folder, in each of its processes."""
    files = sorted(path.name for path in (PROJECT / "plugins").glob("**/*.py"))

    assert files == ["servicetitan_monitor.py"]


@pytest.mark.filterwarnings("ignore")  # Airflow's own, of what it imports
def test_the_prefix_is_none_of_airflows_own() -> None:
    """Airflow refuses those, with a line in a log that nobody reads."""
    from airflow.api_fastapi.app import RESERVED_URL_PREFIXES

    assert not [prefix for prefix in RESERVED_URL_PREFIXES if PREFIX.startswith(prefix)]

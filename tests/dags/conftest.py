"""An Airflow home of the tests' own, with a fresh metadata database."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.airflow_home import AIRFLOW_HOME

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture(scope="session")
def airflow_metadata() -> Path:
    """Migrate the metadata database (SQLite, which `dag.test` is content with) and return Airflow's home."""
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=240)
    return AIRFLOW_HOME

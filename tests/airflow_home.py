"""
Airflow's surroundings for the whole test session, set before anything imports Airflow.

`tests/conftest.py` imports this first. Child processes inherit it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

PROJECT = Path(__file__).parents[1]
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="monitor-airflow-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "SERVICETITAN_"))]:
    del os.environ[_name]  # what the developer's shell has set must not decide a test
os.environ.update(
    {
        "AIRFLOW_HOME": str(AIRFLOW_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": str(PROJECT),
    }
)

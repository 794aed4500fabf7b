"""The guard ends every descendant of its processes, however its parent ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

PROJECT_ROOT = Path(__file__).resolve().parents[2]

# A stubborn component with a task of its own, as Airflow has them: in another process group, deaf to SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
task = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print(os.getpid(), task.pid, flush=True)
time.sleep(600)
"""

# Stands for the demo: it starts a guard, tells its pid, and would live on.
PARENT = """
import subprocess, sys, time
guard = subprocess.Popen([sys.executable, "-m", "include.simulation.process_guard", sys.argv[1]],
                         stdin=subprocess.PIPE, start_new_session=True)
print(guard.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent_and_family(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A parent with a guard, a stubborn component and its task, all running."""
    log = tmp_path / "stubborn.log"
    specs = json.dumps([{"name": "stubborn", "argv": [sys.executable, "-c", STUBBORN], "log": str(log)}])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, specs], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline())]
        _wait_until(lambda: log.exists() and len(log.read_text().split()) == 2)
        pids += [int(pid) for pid in log.read_text().split()]
        family = [psutil.Process(pid) for pid in pids]
        yield parent, family
        for process in family:
            if process.is_running():
                process.kill()
        parent.kill()


@pytest.mark.parametrize(
    "signum",
    [
        pytest.param(signal.SIGKILL, id="a killed parent leaves nothing behind"),
        pytest.param(signal.SIGTERM, id="a terminated parent leaves nothing behind"),
    ],
)
def test_nothing_outlives_the_parent(
    parent_and_family: tuple[subprocess.Popen[str], list[psutil.Process]], signum: int
) -> None:
    parent, family = parent_and_family
    assert all(process.is_running() for process in family)

    parent.send_signal(signum)

    _, alive = psutil.wait_procs(family, timeout=12)
    assert [process.pid for process in alive] == []


def test_a_component_that_ends_by_itself_ends_the_others_and_is_named(tmp_path: Path) -> None:
    specs = [
        {"name": "steady", "argv": ["sleep", "600"], "log": str(tmp_path / "steady.log")},
        {"name": "scheduler", "argv": [sys.executable, "-c", "raise SystemExit(3)"], "log": str(tmp_path / "s.log")},
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "include.simulation.process_guard", json.dumps(specs)],
        cwd=PROJECT_ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as guard:
        assert guard.stderr is not None
        told = guard.stderr.read()  # ends with the guard and every child that shares its standard error
        assert guard.wait(timeout=15) == 1
    assert told == "scheduler ended by itself with exit code 3\n"


def _wait_until(condition: object, *, timeout: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the family did not start"
        time.sleep(0.05)

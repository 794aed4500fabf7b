"""Where the demo keeps what it has, and how it forgets it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from include.simulation.local_airflow import PROJECT_ROOT
from include.simulation.server_account import ServerAccount
from include.sync_health.errors import MonitorError

OURS = frozenset(
    {
        "airflow",
        "inbox.jsonl",
        "postgres",
        "postgres.lock",
        "postgres.log",
        "postgres.password",
        "world",
        "world.new",
    }
)
"""All that a demo leaves in its state folder."""


def choose_state_dir(*, once: bool) -> Path:
    """
    Return ``.demo/live`` or ``.demo/once`` of the project.

    As root, PostgreSQL runs as another user, who must be able to get there; where the project lies in a closed folder
    (such as root's home), it is a folder under /var/tmp that only root may write.

    Raises:
        MonitorError: that folder belongs to somebody else.
    """
    name = "once" if once else "live"
    if ServerAccount.for_this_process().barrier_to(PROJECT_ROOT) is None:
        return PROJECT_ROOT / ".demo" / name
    folder = Path("/var/tmp/servicetitan-monitor-demo")  # noqa: S108  made by root, and refused if by anybody else
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise MonitorError(f"{folder} belongs to somebody else; name another folder with --state")
    return folder / name


def forget(state_dir: Path) -> None:
    """
    Remove what a demo kept there; no-op where there is nothing.

    Raises:
        MonitorError: the folder holds something that no demo made.
    """
    if not state_dir.exists():
        return
    if unknown := {entry.name for entry in state_dir.iterdir()} - OURS:
        raise MonitorError(f"{state_dir} holds {min(unknown)!r}, which no demo made: not removed")
    shutil.rmtree(state_dir)

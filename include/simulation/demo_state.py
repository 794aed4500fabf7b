"""Where the demo keeps what it has, who may look at it, and how it is forgotten."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from include.simulation.demo_calls import FOLDER, POLICY
from include.simulation.local_airflow import PROJECT_ROOT
from include.simulation.server_account import ServerAccount
from include.sync_health.errors import MonitorError

ROOTS_STATE = Path("/var/tmp/servicetitan-monitor-demo")  # noqa: S108  made by root, and refused if by anybody else
"""Root's, where the project lies in a closed folder; `make clean` removes it too."""

LOCK = "demo.lock"
"""Held while a demo uses the state folder; it outlives `forget`, or two demos could hold two locks of one name."""

BEGAN = "began"
"""Remembers when the history of the simulated Hub Plus ended; "since" did, of one with a week of history only."""

SHELL = "connections.sh"
"""Exports the connections for a shell, as long as the demo runs."""

OURS = frozenset(
    {
        LOCK,
        BEGAN,
        f"{BEGAN}.new",
        SHELL,
        FOLDER,
        POLICY,
        "airflow",
        "inbox.jsonl",
        "postgres",
        "postgres.lock",
        "postgres.log",
        "postgres.password",
        "since",  # of earlier versions, as what follows
        "since.new",
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
    folder = ROOTS_STATE
    folder.mkdir(mode=0o711, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise MonitorError(f"{folder} belongs to somebody else; name another folder with --state")
    folder.chmod(0o711)  # whatever the umask: the server's account passes through it
    return folder / name


@contextlib.contextmanager
def claim(state_dir: Path, *, fresh: bool) -> Iterator[None]:
    """
    Keep the folder for one demo as long as the context lasts; ``fresh`` forgets what earlier ones kept there.

    The folder is made where need be, and closed to other users: mode 0700, or for root 0711, because the server's
    account must get to its own folder in there. A folder that holds anything else than a demo's keeps its mode.

    Raises:
        MonitorError: a demo is running there, the folder cannot be used, or `forget` refuses it.
    """
    if fresh:
        _require_ours(state_dir)  # before anything is written there
    try:
        _make_private(state_dir)
        (state_dir / LOCK).touch(mode=0o600)  # who may open it may also hold it
        lock = (state_dir / LOCK).open("w", encoding="ascii")
    except OSError as error:
        raise MonitorError(
            f"nothing can be kept in {state_dir} ({error.strerror}); choose another folder with --state"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MonitorError(
                f"a demo is running here ({state_dir}); stop it, or choose another folder with --state"
            ) from None
        if fresh:
            forget(state_dir)
        # In a folder that root leaves passable, these are closed by themselves.
        (state_dir / "airflow").mkdir(exist_ok=True)
        (state_dir / "airflow").chmod(0o700)
        (state_dir / "postgres.log").touch()
        (state_dir / "postgres.log").chmod(0o600)
        yield


def forget(state_dir: Path) -> None:
    """
    Remove what a demo kept there, all but its lock; no-op where there is nothing.

    Raises:
        MonitorError: the folder holds something that no demo made.
    """
    _require_ours(state_dir)
    for entry in _entries(state_dir):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def _require_ours(state_dir: Path) -> None:
    if unknown := _foreign(state_dir):
        raise MonitorError(f"{state_dir} holds {min(unknown)!r}, which no demo made: not removed")


def _foreign(state_dir: Path) -> set[str]:
    return {entry.name for entry in _entries(state_dir)} - OURS


def _entries(state_dir: Path) -> list[Path]:
    return list(state_dir.iterdir()) if state_dir.is_dir() else []


def _make_private(state_dir: Path) -> None:
    mode = 0o700 if ServerAccount.for_this_process().uid is None else 0o711
    if not state_dir.exists():
        state_dir.mkdir(parents=True, exist_ok=True)
        state_dir.chmod(mode)
    elif _entries(state_dir) and not _foreign(state_dir):  # of an earlier start; an empty one is left as it was given
        state_dir.chmod(mode)

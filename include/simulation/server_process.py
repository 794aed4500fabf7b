"""The process of the embedded PostgreSQL: started as another user where need be, and never outliving us."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from include.simulation.server_account import ServerAccount

LAUNCHER = """
import ctypes, os, signal, sys
parent, uid, gid, *command = sys.argv[1:]
if int(uid) >= 0:
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
if sys.platform == "linux":
    # After setuid, which would clear it. 1 = PR_SET_PDEATHSIG; SIGINT is PostgreSQL's fast shutdown.
    ctypes.CDLL(None).prctl(1, int(signal.SIGINT), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the process that started this server is gone")
os.execv(command[0], command)
"""
"""Becomes the server: drops privileges and ties its life to ours. A program rather than a ``preexec_fn``, which is
not safe beside threads. The path to the interpreter need not be open to the server's account: it starts as us."""


def spawn_server(command: Sequence[str], *, account: ServerAccount, log_path: Path) -> subprocess.Popen[bytes]:
    """
    Start the server as ``account``, tied to our life, with its output appended to ``log_path``.

    It is started from a thread that lives as long as it does: the kernel's parent-death signal follows the *thread*
    that forked, and a server started from a short-lived one would be stopped with it.

    Raises:
        OSError: the interpreter cannot be started.
    """
    identity = (account.uid, account.gid) if account.uid is not None else (-1, -1)
    launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, *map(str, (os.getpid(), *identity)), *command]
    started: list[subprocess.Popen[bytes] | OSError] = []
    is_started = threading.Event()

    def keep() -> None:
        try:
            with log_path.open("ab") as log:
                process = subprocess.Popen(
                    launch,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env=server_environment(),
                    start_new_session=True,  # a Ctrl-C is for us, who stop the server when those who use it are done
                )
        except OSError as error:
            started.append(error)
            is_started.set()
            return
        started.append(process)
        is_started.set()
        process.wait()

    threading.Thread(target=keep, name="embedded-postgres", daemon=True).start()
    is_started.wait()
    if isinstance(started[0], OSError):
        raise started[0]
    return started[0]


def server_environment() -> dict[str, str]:
    """Return our environment without what would change the server's ways: PG* variables and locales."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C"}

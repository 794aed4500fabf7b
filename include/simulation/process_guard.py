"""
Keep a few long-running child processes together, and leave none of them behind.

``python -m include.simulation.process_guard '<json>'`` starts each process of
``[{"name": ..., "argv": [...], "log": ...}, ...]`` and then waits for the end of its own standard input, which is a pipe
that its parent holds. The pipe closes however the parent ends, by Ctrl-C, SIGTERM or SIGKILL, so nothing outlives it.

A separate process is needed because neither of the usual means is enough for Airflow: PR_SET_PDEATHSIG reaches only
direct children, and a signal to the process group misses running tasks, which Airflow moves to groups of their own. The
guard is the reaper of all its descendants (Linux), so it sees and ends those too.

Exit codes: 0 stopped on request, 1 a process ended by itself (its name and code are on standard error), 2 bad arguments.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

GRACE_SECONDS = 6.0  # between SIGTERM and SIGKILL; Airflow's own components need 3 to 6
POLL_SECONDS = 0.5

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    """Call prctl(2) where there is one; elsewhere the pipe alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _start(spec: dict[str, Any]) -> subprocess.Popen[bytes]:
    path = Path(spec["log"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as log:
        return subprocess.Popen(
            spec["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Should even the guard be killed, its children are asked to end. The guard has one thread: fork is safe.
            preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
        )


def _living_descendants() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if _is_alive(child)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _send(processes: list[psutil.Process], signum: int) -> None:
    for process in processes:
        try:
            process.send_signal(signum)
        except psutil.NoSuchProcess:
            continue


def _reap() -> None:
    """Collect ended children, adopted ones too, so that none stays as a zombie."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def stop_all(children: list[subprocess.Popen[bytes]], *, grace: float = GRACE_SECONDS) -> None:
    """Ask the children to end, and after ``grace`` seconds kill every descendant that is left."""
    for child in children:
        if child.poll() is None:
            child.terminate()
    deadline = time.monotonic() + grace
    while living := _living_descendants():
        if time.monotonic() > deadline:
            _send(living, signal.SIGKILL)
        _reap()
        time.sleep(0.1)
    _reap()


def guard(specs: list[dict[str, Any]]) -> int:
    """Run the processes until standard input ends, SIGTERM or SIGINT comes, or one of them ends by itself."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: os.write(wake_writer, b"x"))

    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for spec in specs:
            children[spec["name"]] = _start(spec)
        while True:
            readable, _, _ = select.select([sys.stdin.fileno(), wake_reader], [], [], POLL_SECONDS)
            if wake_reader in readable or (readable and not os.read(sys.stdin.fileno(), 4096)):
                return 0
            ended = {name: child.returncode for name, child in children.items() if child.poll() is not None}
            for name, code in ended.items():
                print(f"{name} ended by itself with exit code {code}", file=sys.stderr, flush=True)
            if ended:
                return 1
    finally:
        stop_all(list(children.values()))


def main(argv: list[str]) -> int:
    """Parse the one argument and guard its processes."""
    try:
        (text,) = argv
        specs = json.loads(text)
    except ValueError as error:
        print(f"process_guard: need one JSON argument: {error}", file=sys.stderr)
        return 2
    return guard(specs)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""
The machine that runs us: how much of its disk and memory is free. Imported at parse time: nothing heavy.

In a container the limit of its control group counts, where that is tighter than the machine's own memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from include.sync_health.health import Unseen
from include.sync_health.health_resources import Space

KIBIBYTE = 1024
"""The unit of /proc/meminfo, which it calls kB."""

NO_LIMIT = 1 << 60
"""Version 1 of control groups writes the largest number there is, rounded to a page, where nothing is limited."""


def disk_space(places: Mapping[str, Path] | None = None) -> Space | Unseen:
    """
    Return the fullest of the disks that hold some folders.

    What counts as free is what an ordinary process may still use.

    Args:
        places: each folder by what it is called in the report; None: that of temporary files, and Airflow's home.
    """
    spaces: list[Space] = []
    errors: list[str] = []
    for name, folder in (_places() if places is None else places).items():
        try:
            usage = shutil.disk_usage(folder)
        except OSError as error:
            errors.append(f"the disk of {name} cannot be read: {error.strerror}")
            continue
        # Not `total`: a file system keeps some of it for root, and `free` is without that.
        spaces.append(Space(of=f"the disk of {name}", total_bytes=usage.used + usage.free, free_bytes=usage.free))
    if errors or not spaces:
        return Unseen(reason="; ".join(errors) or "no folder is known")
    return min(spaces, key=lambda space: space.free_share)


def memory_space(*, root: Path = Path("/")) -> Space | Unseen:
    """
    Return the memory that is free for us: the machine's, or what our control group allows where that is less.

    What the kernel can give back at any time (caches of files) counts as free.

    Args:
        root: where ``proc`` and ``sys`` are; another one in tests.
    """
    spaces = [*_machine(root), *_control_groups(root)]
    if not spaces:
        return Unseen(reason="neither /proc/meminfo nor a control group tells the memory of this machine")
    return min(spaces, key=lambda space: space.free_share)


def _places() -> dict[str, Path]:
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    places = {"temporary files": Path(tempfile.gettempdir())}
    return {"Airflow's home": home, **places} if home.exists() else places


def _machine(root: Path) -> Iterable[Space]:
    lines = _lines(root / "proc/meminfo")
    values = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    try:
        total, free = (int(values[name][0]) * KIBIBYTE for name in ("MemTotal", "MemAvailable"))
    except (KeyError, IndexError, ValueError):
        return
    yield Space(of="this machine's memory", total_bytes=total, free_bytes=free)


def _control_groups(root: Path) -> Iterable[Space]:
    """Yield every limit that holds for this process: a group's own, and those of the groups around it."""
    for line in _lines(root / "proc/self/cgroup"):
        _, _, named = line.partition(":")
        controllers, separator, path = named.partition(":")
        if not separator:
            continue
        if not controllers:
            mount, limit, used, reclaimable = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount = "sys/fs/cgroup/memory"
            limit, used, reclaimable = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        # Inside a container the path is often that on the host, which is not to be seen there: then only the mount is.
        own = PurePosixPath(path.lstrip("/"))
        for group in dict.fromkeys([own, *own.parents, PurePosixPath(".")]):
            if ".." in group.parts:
                continue
            folder = root / mount / group
            allowed, taken = _number(folder / limit), _number(folder / used)
            if allowed is None or taken is None or not 0 < allowed < NO_LIMIT:
                continue
            taken -= _reclaimable(folder / "memory.stat", reclaimable)
            free = min(max(allowed - taken, 0), allowed)
            yield Space(of="the memory that our control group allows", total_bytes=allowed, free_bytes=free)


def _reclaimable(file: Path, name: str) -> int:
    for line in _lines(file):
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _number(file: Path) -> int | None:
    """Return a file's number; None where there is no such file, or it says ``max``."""
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []

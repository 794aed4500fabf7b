"""How much room a machine has: from files as Linux writes them, and from this very machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from include.orchestration.machine_state import disk_space, memory_space
from include.sync_health.health import Unseen
from include.sync_health.health_resources import Space

GIB = 1 << 30
MEMINFO = "MemTotal:       16777216 kB\nMemFree:          900000 kB\nMemAvailable:    8388608 kB\nBuffers: 1 kB\n"
MACHINE = ("this machine's memory", 16 * GIB, 8 * GIB)


def group(total: int, free: int) -> tuple[str, int, int]:
    """What a control group allows, in GiB."""
    return ("the memory that our control group allows", total * GIB, free * GIB)


def v2(folder: str, limit: str, used: int, reclaimable: int = 0) -> dict[str, str]:
    """The files of a control group of version 2."""
    return {
        f"sys/fs/cgroup/{folder}memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{folder}memory.current": f"{used * GIB}\n",
        f"sys/fs/cgroup/{folder}memory.stat": f"anon 5\ninactive_file {reclaimable * GIB}\nactive_file 7\n",
    }


def v1(folder: str, limit: int, used: int, reclaimable: int = 0) -> dict[str, str]:
    """The files of a control group of version 1."""
    return {
        f"sys/fs/cgroup/memory/{folder}memory.limit_in_bytes": f"{limit}\n",
        f"sys/fs/cgroup/memory/{folder}memory.usage_in_bytes": f"{used * GIB}\n",
        f"sys/fs/cgroup/memory/{folder}memory.stat": f"cache 5\ntotal_inactive_file {reclaimable * GIB}\n",
    }


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param({}, MACHINE, id="no control group at all"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", **v2("", str(4 * GIB), 3)}, group(4, 1), id="a container that allows 4 GiB"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", **v2("", str(4 * GIB), 3, 2)},
            MACHINE,
            id="a container whose use is mostly the cache of files: the machine has less",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", **v2("", "max", 3)}, MACHINE, id="a container without a limit"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/system.slice/airflow.service\n",
                **v2("system.slice/airflow.service/", "max", 1),
                **v2("system.slice/", str(8 * GIB), 7),
            },
            group(8, 1),
            id="a service whose slice is limited",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/kubepods/pod1/abc\n", **v2("", str(2 * GIB), 1)},
            MACHINE,
            id="a path of the host that the container does not have: its mount counts, half of it is free",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/kubepods/pod1/abc\n", **v2("", str(4 * GIB), 4)},
            group(4, 0),
            id="the same, with nothing left",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", **v2("", str(4 * GIB), 9)}, group(4, 0), id="more taken than allowed"
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../../x\n", **v2("", str(4 * GIB), 3)},
            group(4, 1),
            id="a path that leads outside",
        ),
        pytest.param(
            {"proc/self/cgroup": "5:cpu:/a\n4:memory,hugetlb:/docker/abc\n", **v1("docker/abc/", 2 * GIB, 2, 1)},
            MACHINE,
            id="version 1: half of it is free, as of the machine",
        ),
        pytest.param(
            {"proc/self/cgroup": "5:cpu:/a\n4:memory:/docker/abc\n", **v1("", 4 * GIB, 4, 1)},
            group(4, 1),
            id="version 1, in a container",
        ),
        pytest.param(
            {"proc/self/cgroup": "4:memory:/\n", **v1("", 9223372036854771712, 4)}, MACHINE, id="version 1, no limit"
        ),
        pytest.param({"proc/self/cgroup": "odd\n\n::\n"}, MACHINE, id="a file that makes no sense"),
    ],
)
def test_memory(tmp_path: Path, files: Mapping[str, str], found: tuple[str, int, int]) -> None:
    """The tightest limit counts; of a machine of 16 GiB, half of which is free."""
    lay(tmp_path, {"proc/meminfo": MEMINFO, **files})
    of, total, free = found

    assert memory_space(root=tmp_path) == Space(of=of, total_bytes=total, free_bytes=free)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({}, id="no Linux"),
        pytest.param({"proc/meminfo": "MemTotal: much kB\nMemAvailable: 1 kB\n"}, id="a number that is none"),
        pytest.param({"proc/meminfo": "MemTotal: 5 kB\n"}, id="a kernel that does not say what is free"),
        pytest.param({"proc/meminfo": "MemTotal:\nMemAvailable:\n"}, id="empty lines"),
    ],
)
def test_memory_that_nobody_tells(tmp_path: Path, files: Mapping[str, str]) -> None:
    """It is not known, which is neither none nor enough."""
    lay(tmp_path, files)

    assert isinstance(memory_space(root=tmp_path), Unseen)


def test_this_machine_has_some() -> None:
    """By its own files, wherever this runs on Linux."""
    memory, disk = memory_space(), disk_space()

    assert isinstance(memory, Space)
    assert isinstance(disk, Space)
    assert 0 < memory.free_bytes <= memory.total_bytes
    assert 0 < disk.free_bytes <= disk.total_bytes


def test_the_disk_of_temporary_files_and_of_airflows_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named for people, not by its path; a home that is not there is no folder of ours."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "nowhere"))

    found = disk_space()

    assert isinstance(found, Space)
    assert found.of == "the disk of temporary files"


def test_a_folder_that_is_gone_is_not_known(tmp_path: Path) -> None:
    """Nor is what could be read beside it all there is to know."""
    found = disk_space({"temporary files": tmp_path, "logs": tmp_path / "gone"})

    assert found == Unseen(reason="the disk of logs cannot be read: No such file or directory")


def lay(root: Path, files: Mapping[str, str]) -> None:
    """Write files below a root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

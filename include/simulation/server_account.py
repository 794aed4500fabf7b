"""Who runs the embedded PostgreSQL: us, or, since PostgreSQL refuses root, an existing unprivileged user."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.sync_health.errors import MonitorError

ACCOUNTS = ("nobody", "postgres", "daemon")
"""Users that exist nearly everywhere, in the order tried; none is ever created."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAccount:
    """The user the server runs as; ``uid`` and ``gid`` are None when that is the present one."""

    name: str
    uid: int | None = None
    gid: int | None = None

    @classmethod
    def for_this_process(cls) -> ServerAccount:
        """
        Return the present user, or, for root, the first of `ACCOUNTS` that exists.

        Raises:
            MonitorError: this is root and none of them exists.
        """
        if os.geteuid() != 0:
            return cls(name=str(os.geteuid()))
        for name in ACCOUNTS:
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid != 0:
                return cls(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
        raise MonitorError(f"PostgreSQL refuses root, and none of {', '.join(ACCOUNTS)} exists; use an ordinary user")

    def own(self, path: Path) -> None:
        """Give a file or folder to this account; nothing to do when it is the present user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def subprocess_identity(self) -> dict[str, Any]:
        """Return the arguments that make `subprocess.run` drop to this account."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def barrier_to(self, path: Path) -> Path | None:
        """Return the topmost folder on the way to ``path`` that this account may not enter, or None."""
        if self.uid is None:
            return None
        for folder in reversed([path.resolve(), *path.resolve().parents]):
            if not folder.is_dir():
                continue
            status = folder.stat()
            if status.st_uid == self.uid:
                allowed = stat.S_IXUSR
            elif status.st_gid == self.gid:
                allowed = stat.S_IXGRP
            else:
                allowed = stat.S_IXOTH
            if not status.st_mode & allowed:
                return folder
        return None

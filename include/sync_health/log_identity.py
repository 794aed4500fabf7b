"""
Which log file is which: what was read under one name is found again under another.

A file is known by its first bytes: its first lines carry times to the microsecond. They stay the same when it grows, is
renamed, copied or packed, and differ once it was emptied or made anew, whatever its name and inode. Of several files with
the same first bytes (a copy that is about to be cut off, a file and its archive) one is read: they hold the same lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HEAD_BYTES = 4_096
"""So many first bytes are compared, of a shorter file all."""

LEAST_HEAD = 64
"""A file with fewer bytes waits until it has grown: a blank line or a bracket is no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFile:
    """
    A file as it is there now.

    Args:
        path: absolute, or a URL.
        inode: device and inode; "" where there is none.
        size: bytes as it lies there, packed or not.
        head: its first `HEAD_BYTES`, unpacked.
        is_packed: whether it is an archive, which never grows.
    """

    path: str
    inode: str
    size: int
    head: bytes
    is_packed: bool = False

    def told(self) -> dict[str, str | int]:
        """Return what tells it apart later on, for JSON; see `KnownFile.of`."""
        head = self.head[:HEAD_BYTES]
        return {"inode": self.inode, "head_bytes": len(head), "head_hash": head_hash(head)}


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFile:
    """A file that was read before: its key, where it was then, and how it begins."""

    key: str
    path: str
    inode: str
    head_bytes: int
    head_hash: str

    @classmethod
    def of(cls, key: str, path: str, told: Mapping[str, Any]) -> KnownFile:
        """Return it from what `SeenFile.told` gave, among other things."""
        return cls(
            key=key,
            path=path,
            inode=told.get("inode", ""),
            head_bytes=told["head_bytes"],
            head_hash=told["head_hash"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """
    Which file is read as which.

    Args:
        known: (file, key) of those that were read before.
        fresh: those that are new.
        copies: those whose lines another one of these holds as well.
        short: those that are too short to be told apart.
    """

    known: tuple[tuple[SeenFile, str], ...]
    fresh: tuple[SeenFile, ...]
    copies: tuple[SeenFile, ...]
    short: tuple[SeenFile, ...]


def head_hash(head: bytes) -> str:
    """Return what stands for the first bytes of a file."""
    return hashlib.sha256(head).hexdigest()[:32]


def match_files(seen: Sequence[SeenFile], known: Sequence[KnownFile]) -> Matched:
    """
    Return which file is read as which.

    Of files that begin alike, one that is no archive comes first, then the one with the inode that was read, then the
    longest, then the first by name.

    Args:
        seen: the files that are there.
        known: what was read before.
    """
    groups: dict[str, list[SeenFile]] = {}
    inodes: dict[str, str] = {each.key: each.inode for each in known}
    fresh: list[list[SeenFile]] = []
    short = []
    for file in sorted(seen, key=lambda each: each.path):
        if len(file.head) < LEAST_HEAD:
            short.append(file)
        elif (found := _known_as(file, known)) is not None:
            groups.setdefault(found.key, []).append(file)
        else:
            alike = next((group for group in fresh if _begin_alike(group[0].head, file.head)), None)
            if alike is None:
                fresh.append([file])
            else:
                alike.append(file)
    copies: list[SeenFile] = []

    def first(files: list[SeenFile], inode: str) -> SeenFile:
        best = min(files, key=lambda each: (each.is_packed, each.inode != inode, -each.size, each.path))
        copies.extend(each for each in files if each is not best)
        return best

    return Matched(
        known=tuple((first(files, inodes[key]), key) for key, files in groups.items()),
        fresh=tuple(first(files, "") for files in fresh),
        copies=tuple(copies),
        short=tuple(short),
    )


def _known_as(file: SeenFile, known: Sequence[KnownFile]) -> KnownFile | None:
    fits = [
        each
        for each in known
        if LEAST_HEAD <= each.head_bytes <= len(file.head) and head_hash(file.head[: each.head_bytes]) == each.head_hash
    ]
    return max(fits, key=lambda each: (each.head_bytes, each.inode == file.inode, each.path == file.path), default=None)


def _begin_alike(one: bytes, other: bytes) -> bool:
    length = min(len(one), len(other))
    return one[:length] == other[:length]

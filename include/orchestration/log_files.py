"""
Log files where they lie: found by the policy's paths, opened, unpacked, and read from an offset on.

A path is absolute and may hold ``*``, ``?``, ``[...]`` and ``**``; a URL (``file://``, ``s3://``, ``gs://`` and what else
Airflow's ObjectStoragePath knows) likewise. Archives are told by their first bytes, not by their name.

The application's error file repeats each error of its main file. A file whose name is another one's with ``_error`` or
``_errors`` (``servicetitan_errors.log``, ``servicetitan_errors-2026-03-01.log``) is passed over when that other one, of
whatever date, is found in the same folder, or was read there before: at a rotation it may be missing for a while. Alone,
it is read.
"""

from __future__ import annotations

import fnmatch
import glob
import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from include.sync_health.errors import MonitorError
from include.sync_health.log_identity import HEAD_BYTES, SeenFile

_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1
_WILD = re.compile(r"[*?\[]")
_CHANGED = "it has changed while it was read; the next run looks at it again"
_ERROR_NAME = re.compile(r"(.+?)[_-]errors?(?=[.-]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """
    A log file that is there.

    Args:
        path: absolute, or a URL.
        inode: device and inode; "" where there is none.
        size: bytes as it lies there.
        changed_at: what its store says of its last change; only ever compared.
        opener: opens it for reading bytes.
        is_same: asks the store whether it is still the file that was found, where what is opened may become another one
            with nothing told; else None.
    """

    path: str
    inode: str
    size: int
    changed_at: str
    opener: Callable[[], IO[bytes]] = field(repr=False, compare=False)
    is_same: Callable[[], bool] | None = field(default=None, repr=False, compare=False)

    @property
    def stamp(self) -> str:
        """What changes with the file, and not with its name where it has an inode: archives are renamed every day."""
        return f"{self.inode or self.path} {self.size} {self.changed_at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """
    What was found.

    Args:
        files: by path.
        error_copies: paths of files that repeat errors of others.
        missing: patterns that no file matches, and those that could not be looked at; one line each.
    """

    files: tuple[LogFile, ...]
    error_copies: tuple[str, ...]
    missing: tuple[str, ...]


class LogUnreadable(MonitorError):
    """A file cannot be opened, read or unpacked; one line."""


class LogChanged(LogUnreadable):
    """Another file stands under the name by now, as at a rotation; the next run looks at it again."""


def find_logs(patterns: Sequence[str], *, connection: str | None = None, known: Iterable[str] = ()) -> Found:
    """
    Return the files that the patterns name, each once.

    Args:
        patterns: absolute paths or URLs, with or without wild cards.
        connection: Airflow's connection id for URLs.
        known: paths of files that were read before; one that the patterns still name has an error file even while it is
            not there.
    """
    found: dict[str, LogFile] = {}
    missing = []
    for pattern in patterns:
        try:
            files = list(_remote(pattern, connection) if "://" in pattern else _local(pattern))
        except Exception as error:  # noqa: BLE001 - whatever a store's library raises
            missing.append(f"{_shown(pattern)}: cannot be looked at: {_reason(error)}")
            continue
        if not files:
            missing.append(f"{_shown(pattern)}: no such file")
        found |= {each.path: each for each in files}
    named = [path for path in known if any(fnmatch.fnmatchcase(path, pattern) for pattern in map(_path_of, patterns))]
    kept, copies = _without_error_copies(sorted(found.values(), key=lambda each: each.path), known=named)
    return Found(files=tuple(kept), error_copies=tuple(copies), missing=tuple(missing))


class LogStream:
    """
    What is in a file, archive or not.

    Raises:
        LogUnreadable: in the place of whatever a store's library raises.
        LogChanged: the store has another file under the name by now.
    """

    def __init__(self, file: LogFile) -> None:
        self._is_same = file.is_same
        with _unreadable():
            self._raw = file.opener()
            self.is_packed = self._raw.read(len(_MAGIC)) == _MAGIC
            self._raw.seek(0)
        self._stream: Any = gzip.GzipFile(fileobj=self._raw, mode="rb") if self.is_packed else self._raw
        # An archive cannot go back without unpacking all anew.
        self._held, self._held_at = b"", 0

    def __enter__(self) -> LogStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._raw.close()

    def read_at(self, offset: int, size: int) -> bytes:
        """Return so many bytes from an offset on; fewer only at the end. More than a head are of the file that was found."""
        begin = offset - self._held_at
        held = self._held[begin:] if self.is_packed and 0 <= begin <= len(self._held) else None
        with _unreadable(was_open=True):
            if held is None:
                self._stream.seek(offset)
            parts = [held] if held else []
            missing = size - len(held or b"")
            while missing > 0 and (part := self._stream.read(missing)):
                parts.append(part)
                missing -= len(part)
            if size > HEAD_BYTES and self._is_same is not None and not self._is_same():
                raise LogChanged(_CHANGED)
        data = parts[0] if len(parts) == 1 else b"".join(parts)  # most often there is nothing to copy
        if self.is_packed:
            self._held, self._held_at = data, offset
        return data[:size]

    def head(self) -> bytes:
        """Return the first `HEAD_BYTES`, as they are now; of an archive before anything else is read."""
        if self.is_packed:
            return self.read_at(0, HEAD_BYTES)
        with _unreadable():
            self._stream.seek(0)
            head: bytes = self._stream.read(HEAD_BYTES)
        return head


@contextmanager
def _unreadable(*, was_open: bool = False) -> Iterator[None]:
    try:
        yield
    except LogUnreadable:
        raise
    except Exception as error:
        # s3fs asks for the ETag that it found; what a rotation renames or deletes is gone under its name.
        if type(error).__name__ == "FileExpired" or (was_open and isinstance(error, FileNotFoundError)):
            raise LogChanged(_CHANGED) from error
        raise LogUnreadable(_reason(error)) from error


def see_file(file: LogFile) -> SeenFile:
    """
    Return a file as it is told apart from others.

    Raises:
        LogUnreadable: it cannot be read.
    """
    with LogStream(file) as stream:
        head = stream.read_at(0, HEAD_BYTES)
        return SeenFile(path=file.path, inode=file.inode, size=file.size, head=head, is_packed=stream.is_packed)


def _local(pattern: str) -> Iterable[LogFile]:
    if not Path(pattern).is_absolute():
        raise ValueError("the path is not absolute")
    names = sorted(glob.glob(pattern, recursive=True)) if _WILD.search(pattern) else [pattern]  # noqa: PTH207 - of a whole path
    for name in names:
        path = Path(name)
        with suppress(FileNotFoundError):  # rotated away meanwhile
            told = path.stat()
            if path.is_file():
                yield LogFile(
                    path=str(path),
                    inode=f"{told.st_dev}:{told.st_ino}",
                    size=told.st_size,
                    changed_at=str(told.st_mtime_ns),
                    opener=lambda path=path: path.open("rb"),  # type: ignore[misc] # a lambda's default
                )


def _remote(pattern: str, connection: str | None) -> Iterable[LogFile]:
    from airflow.sdk import ObjectStoragePath

    from include.orchestration.connections import find_connection

    scheme, rest = pattern.split("://", 1)
    if scheme == "file":
        yield from _local(rest)
        return
    if connection is not None:
        find_connection(connection)  # without it Amazon's provider takes the machine's own credentials
    parts = rest.split("/")
    wild = next((place for place, part in enumerate(parts) if _WILD.search(part)), None)
    base = ObjectStoragePath(f"{scheme}://{'/'.join(parts[:wild])}", conn_id=connection)
    store = base.fs  # raises what is wrong with the connection; the path alone would go on without it
    store.invalidate_cache()  # it keeps what it listed for as long as the process lives
    if wild is None:
        with suppress(FileNotFoundError):
            yield from _stored(base, store.info(base.path), connection)
        return
    root = base.path.rstrip("/")
    # With the details, which a listing has; to ask for those of each object takes minutes where there are thousands.
    for name, info in sorted(store.glob(f"{root}/{'/'.join(parts[wild:])}", detail=True).items()):
        yield from _stored(base / name.removeprefix(f"{root}/"), info, connection)


def _stored(path: Any, info: Mapping[str, Any], connection: str | None) -> Iterable[LogFile]:
    if info["type"] != "file":
        return
    changed = next((info[name] for name in ("ETag", "etag", "LastModified", "updated", "mtime") if info.get(name)), "")
    yield LogFile(
        # Airflow writes the connection where a URL has its user; the policy's patterns, which name a file, do not.
        path=str(path).replace(f"://{connection}@", "://", 1) if connection else str(path),
        inode="",
        size=int(info.get("size") or 0),
        changed_at=str(changed),
        opener=lambda: path.open("rb"),
        is_same=partial(_has_generation, path, info["generation"]) if info.get("generation") else None,
    )


def _has_generation(path: Any, generation: object) -> bool:
    """Google's library reads part by part, each of whatever lies under the name by then."""
    store = path.fs
    store.invalidate_cache()
    return bool(store.info(path.path).get("generation") == generation)


def _path_of(pattern: str) -> str:
    return pattern.removeprefix("file://")


def _without_error_copies(files: Sequence[LogFile], *, known: Iterable[str]) -> tuple[list[LogFile], list[str]]:
    kept, copies = [], []
    names = [each.path.rpartition("/") for each in files]
    before = [path.rpartition("/") for path in known]
    mains = {(folder, name) for folder, _, name in (*names, *before) if not _ERROR_NAME.match(name)}
    for file, (folder, _, name) in zip(files, names, strict=True):
        error = _ERROR_NAME.match(name)
        is_main = error and re.compile(rf"{re.escape(error[1])}(?=[.-]|$)")
        if is_main and any(where == folder and is_main.match(other) for where, other in mains):
            copies.append(file.path)
        else:
            kept.append(file)
    return kept, copies


def _shown(pattern: str) -> str:
    from include.sync_health.redaction import clean

    return clean(pattern, limit=200)


def _reason(error: BaseException) -> str:
    from include.sync_health.redaction import clean

    return f"{type(error).__name__}: {clean(str(error), limit=200)}" if str(error) else type(error).__name__

"""
A log file in chunks of whole lines, the next one read and cut up while what came before it is counted.

Reading and cutting leave the interpreter to others for most of their time, counting keeps it; so two cores share a file.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.orchestration.log_files import LogStream
    from include.sync_health.log_cuts import CutBlock

CHUNK_BYTES = 4 << 20
"""Bytes that are read at once; several times the longest line that is read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """
    Some whole lines.

    Args:
        cut: the lines; none where the chunk lies within a line that is longer than it.
        offset: of the byte behind the chunk, unpacked.
        in_long_line: whether that is within such a line.
        ends_long_line: whether such a line ends with the chunk.
    """

    cut: CutBlock
    offset: int
    in_long_line: bool = False
    ends_long_line: bool = False


def read_chunks(
    stream: LogStream,
    *,
    offset: int,
    in_long_line: bool,
    size: int,
    cut: Callable[[bytes], CutBlock],
    check: Callable[[], None],
) -> Generator[LogChunk]:
    """
    Yield what is in a file from an offset on, whole lines only; in an archive, which never grows, the last one too.

    Left early, it waits until the thread that reads has ended; close it before the stream.

    Args:
        stream: of the file.
        offset: of its first byte, unpacked.
        in_long_line: whether that is within a line that is longer than a chunk.
        size: `CHUNK_BYTES`; of a chunk at most.
        cut: takes a block of lines apart; called in a thread, by one at a time.
        check: is called after each read, and raises where the file is another one by now.

    Raises:
        LogUnreadable: once the chunks before it are yielded.
    """
    chunks = _chunks(stream, offset, in_long_line, size=size, cut=cut, check=check)
    with ThreadPoolExecutor(1, thread_name_prefix="read-log") as thread:
        upcoming = thread.submit(next, chunks, None)
        while (chunk := upcoming.result()) is not None:
            upcoming = thread.submit(next, chunks, None)
            yield chunk


def _chunks(
    stream: LogStream,
    offset: int,
    in_long_line: bool,
    *,
    size: int,
    cut: Callable[[bytes], CutBlock],
    check: Callable[[], None],
) -> Iterator[LogChunk]:
    while data := stream.read_at(offset, size):
        check()
        is_end = len(data) < size
        if in_long_line:
            line = data.find(b"\n") + 1
            in_long_line = not line
            offset += line or len(data)
            yield LogChunk(cut=cut(b""), offset=offset, in_long_line=in_long_line, ends_long_line=not in_long_line)
            continue
        lines = data.rfind(b"\n") + 1
        if is_end and stream.is_packed:
            lines = len(data)
        if lines:
            offset += lines
            yield LogChunk(cut=cut(data[:lines]), offset=offset)
        elif is_end:
            return
        else:
            offset += len(data)
            in_long_line = True
            yield LogChunk(cut=cut(b""), offset=offset, in_long_line=True)

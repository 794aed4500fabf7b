"""A log file in chunks of whole lines, taken apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.orchestration.log_files import LogStream
    from include.sync_health.log_cuts import CutBlock

CHUNK_BYTES = 8 << 20
"""Bytes that are read at once; several times the longest line that is read. Half of it takes an eighth more time."""


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
) -> Iterator[LogChunk]:
    """
    Yield what is in a file from an offset on, whole lines only; in an archive, which never grows, the last one too.

    Args:
        stream: of the file.
        offset: of its first byte, unpacked.
        in_long_line: whether that is within a line that is longer than a chunk.
        size: `CHUNK_BYTES`; of a chunk at most.
        cut: takes a block of lines apart.
        check: is called after each read, and raises where the file is another one by now.

    Raises:
        LogUnreadable: the file cannot be read on.
    """
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

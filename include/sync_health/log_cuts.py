"""
A block of log lines taken apart where the lines differ: params, time, end; without a step for each line.

Lines of one kind are laid out alike: the time stands so many bytes before the end, params so many behind the beginning.
`Layout` remembers the distances that were met; each is tried on all lines at once, and a new one is learned from a line
that none of them fits. A cut is right when the text that must stand there does, wherever else that text may stand: what
the parts mean is for the one who reads them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from include.sync_health.monolog_lines import MAX_LINE_BYTES, WORDS
from include.sync_health.monolog_times import TIME_WIDTH

MARK, PARAMS, AFTER_PARAMS = b'"datetime":"', b'"params":', b',"credential_id":'
"""Texts at which lines are cut: before the time, before params, after params."""

_BEGIN = len(b'{"message":"')
_KIND = _BEGIN + len(WORDS[0]) + 1
"""Where the message begins in lines that are cut, and where it says which of the client's it is."""

MOST_TRIED = 64
"""Distances that are remembered of each kind of line, lines that are looked at for more in one block, and kinds."""

_LEAST = 96
"""A shorter line is no line of Monolog about a call."""

Array = NDArray[np.int64]


Distances = dict[int, int]
"""Distances that were met, with how many lines had each of late; the most frequent first."""


@dataclass(slots=True)
class Layout:
    """
    Distances that were met.

    Args:
        marks: from the end of a line to its mark.
        params: from the beginning to params, by kind of line: what a line begins with after `_KIND`.
        after: from the mark to what follows params, likewise.
    """

    marks: Distances = field(default_factory=dict)
    params: dict[int, Distances] = field(default_factory=dict)
    after: dict[int, Distances] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CutBlock:
    """
    The lines of a block.

    Args:
        block: the lines.
        lines, too_long: how many.
        other, other_begin, other_end: places and bounds of lines that matter and are not cut.
        stray_begin, stray_end: bounds of lines that do not matter, and do not begin like JSON.
        place, begin, end: of those that are; the same length as ``ends`` and ``has_params``.
        has_params: which have params.
        heads: of those that have none: up to the mark.
        fronts: of those that have: up to and with `PARAMS`.
        params: of these: with `AFTER_PARAMS` behind them.
        backs: of these: from `AFTER_PARAMS` to the mark.
        times: `TIME_WIDTH` bytes each, one after the other.
        ends: behind the time.
    """

    block: bytes
    lines: int
    too_long: int
    other: Array
    other_begin: Array
    other_end: Array
    stray_begin: Array
    stray_end: Array
    place: Array
    begin: Array
    end: Array
    has_params: NDArray[np.bool_]
    heads: pa.BinaryArray
    fronts: pa.BinaryArray
    params: pa.BinaryArray
    backs: pa.BinaryArray
    times: bytes
    ends: pa.BinaryArray


def cut_block(block: bytes, layout: Layout) -> CutBlock:
    """
    Return the lines of a block, taken apart.

    Args:
        block: whole lines; the last may lack its line feed.
        layout: is added to.
    """
    data = np.frombuffer(block, np.uint8)
    end = _line_feeds(data)
    if len(block) and (not len(end) or end[-1] != len(block) - 1):
        end = np.append(end, len(block))
    begin = np.concatenate([np.zeros(1, np.int64), end[:-1] + 1])[: len(end)]
    is_long = end - begin > MAX_LINE_BYTES
    texts = _Texts(block)
    is_cut = (end - begin >= _LEAST) & ~is_long
    if not block.isascii():
        is_cut[np.searchsorted(end, _beyond_ascii(block))] = False
    fits = np.flatnonzero(is_cut)
    is_cut[fits] = texts.stand_at(begin[fits] + _BEGIN, WORDS[0])
    place = np.flatnonzero(is_cut)
    mark = _found_marks(texts, begin[place], end[place], layout)
    is_cut[place[mark < 0]] = False
    place, mark = place[mark >= 0], mark[mark >= 0]
    first, after = _found_params(texts, begin[place], mark, layout)
    has_params = first >= 0
    rest = np.flatnonzero(~is_cut & ~is_long)
    matters = _matter(block, begin[rest], end[rest])
    other, rest = rest[matters], rest[~matters]
    is_stray = end[rest] == begin[rest]
    is_stray[~is_stray] = ~np.isin(data[begin[rest[~is_stray]]], np.frombuffer(b"{[", np.uint8))
    stray = rest[is_stray]
    time = mark + len(MARK)
    return CutBlock(
        block=block,
        lines=len(end),
        too_long=int(is_long.sum()),
        other=other,
        other_begin=begin[other],
        other_end=end[other],
        stray_begin=begin[stray],
        stray_end=end[stray],
        place=place,
        begin=begin[place],
        end=end[place],
        has_params=has_params,
        heads=_parts(block, begin[place[~has_params]], mark[~has_params]),
        fronts=_parts(block, begin[place[has_params]], first[has_params]),
        params=_parts(block, first[has_params], after[has_params] + len(AFTER_PARAMS)),
        backs=_parts(block, after[has_params], mark[has_params]),
        times=np.ndarray((max(len(block) - TIME_WIDTH + 1, 0),), f"V{TIME_WIDTH}", block, strides=(1,))[time].tobytes(),
        ends=_parts(block, time + TIME_WIDTH, end[place]),
    )


def _line_feeds(data: NDArray[np.uint8]) -> Array:
    """Return where line feeds stand; eight bytes at a time, for lines are long."""
    is_one = data == ord("\n")
    whole = len(data) // 8 * 8
    words = is_one[:whole].view("<u8")
    place = np.flatnonzero(words != 0)
    word = words[place]
    # A word with one byte that is one is a power of 256, whose exponent tells which.
    found: Array = place * 8 + (np.frexp(word.astype(np.float64))[1] - 1) // 8
    has_several = (word & (word - 1)) != 0
    if not has_several.any() and not is_one[whole:].any():
        return found
    doubtful = np.append((place[has_several, None] * 8 + np.arange(8)).ravel(), np.arange(whole, len(data)))
    return np.sort(np.append(found[~has_several], doubtful[is_one[doubtful]]), kind="stable")


def _beyond_ascii(block: bytes) -> Array:
    """Return where bytes stand that are beyond ASCII; eight at a time, for they are rare."""
    words = np.frombuffer(block, "<u8", len(block) // 8)
    high = np.flatnonzero((words & np.uint64(0x8080808080808080)) != 0) * 8
    found = [high + offset for offset in range(8)] + [np.arange(len(block) // 8 * 8, len(block))]
    places = np.concatenate(found)
    places = places[np.frombuffer(block, np.uint8)[places] >= 0x80]
    return places.astype(np.int64)


def _matter(block: bytes, begin: Array, end: Array) -> NDArray[np.bool_]:
    """Return which lines hold one of `WORDS`."""
    found = np.zeros(len(begin), bool)
    # Over all lines at once: to look into each by itself takes many times longer.
    lines = _parts(block, begin, np.minimum(end + 1, len(block)))
    bounds = np.frombuffer(lines.buffers()[1], np.int32)[: len(lines) + 1] if len(lines) else np.zeros(1, np.int32)
    joined = b"" if not len(lines) else lines.buffers()[2].to_pybytes()[bounds[0] : bounds[-1]]
    begins = (bounds - bounds[0]).tolist()
    for word in WORDS:
        place = joined.find(word)
        while place >= 0:
            line = bisect_right(begins, place) - 1
            found[line] = True
            place = joined.find(word, begins[line + 1])
    return found


class _Texts:
    """Asks at many places of a block at once whether a text stands there."""

    def __init__(self, block: bytes) -> None:
        self.block = block
        # Eight bytes from each place on.
        self._words = np.ndarray((max(len(block) - 7, 0),), "<u8", block, strides=(1,))

    def words_at(self, places: Array) -> NDArray[np.uint64]:
        """Return the eight bytes from each place on, as numbers."""
        found: NDArray[np.uint64] = self._words[places] if len(places) else np.zeros(0, np.uint64)
        return found

    def stand_at(self, places: Array, text: bytes) -> NDArray[np.bool_]:
        """Return where a text of at least eight bytes stands; each place must lie within the block."""
        found = (places >= 0) & (places <= len(self.block) - len(text))
        # The last of the pieces overlaps the one before it, where the length is no multiple of eight.
        for offset in (*range(0, len(text) - 8, 8), len(text) - 8):
            asked = np.flatnonzero(found)
            word = np.frombuffer(text[offset : offset + 8], "<u8")[0]
            found[asked] = self._words[places[asked] + offset] == word
        return found


def _found_marks(texts: _Texts, begin: Array, end: Array, layout: Layout) -> Array:
    """Return where the mark stands that has the width of a time, and more, behind it; -1 where none was found."""
    found = np.full(len(end), -1, np.int64)
    rest = np.arange(len(end))

    def tried(distance: int) -> int:
        nonlocal rest
        if not len(rest):
            return 0
        places = end[rest] - distance
        fits = (places > begin[rest]) & texts.stand_at(places, MARK)
        found[rest[fits]] = places[fits]
        rest = rest[~fits]
        return int(fits.sum())

    _try_known(layout.marks, tried)
    for _ in range(MOST_TRIED):
        if not len(rest):
            break
        line = texts.block[int(begin[rest[0]]) : int(end[rest[0]])]
        distance = len(line) - line.rfind(MARK)
        if len(MARK) + TIME_WIDTH < distance <= len(line):
            layout.marks[distance] = tried(distance)
        else:
            rest = rest[1:]
    return found


def _found_params(texts: _Texts, begin: Array, mark: Array, layout: Layout) -> tuple[Array, Array]:
    """Return where params begin, and where what follows them does; -1 for both where either was not found."""
    first, after = np.full(len(mark), -1, np.int64), np.full(len(mark), -1, np.int64)
    kinds = texts.words_at(begin + _KIND)
    rest = np.arange(len(begin))
    for _ in range(MOST_TRIED):  # of more kinds than any client has, the others are read whole
        if not len(rest):
            break
        kind = int(kinds[rest[0]])
        is_kind = kinds[rest] == kinds[rest[0]]
        lines, rest = rest[is_kind], rest[~is_kind]
        _find(texts, PARAMS, lines, begin, +1, mark, first, _of_kind(layout.params, kind))
        lines = lines[first[lines] >= 0]
        first[lines] += len(PARAMS)
        _find(texts, AFTER_PARAMS, lines, mark, -1, first, after, _of_kind(layout.after, kind))
    is_lost = (after < first) | (after < 0)
    first[is_lost] = after[is_lost] = -1
    return first, after


def _find(
    texts: _Texts, text: bytes, rest: Array, origin: Array, sign: int, bound: Array, found: Array, distances: Distances
) -> None:
    """Write down where a text stands between origin and bound of each line of ``rest``, by distance from its origin."""

    def tried(distance: int) -> int:
        nonlocal rest
        if not len(rest):
            return 0
        places = origin[rest] + sign * distance
        within = places + len(text) <= bound[rest] if sign > 0 else places >= bound[rest]
        fits = within & texts.stand_at(places, text)
        found[rest[fits]] = places[fits]
        rest = rest[~fits]
        return int(fits.sum())

    _try_known(distances, tried)
    missed = 0
    for _ in range(MOST_TRIED):
        if not len(rest) or missed == 2:  # a kind whose first lines have none will have none
            return
        low, high = sorted((int(origin[rest[0]]), int(bound[rest[0]])))
        place = texts.block.find(text, low, high)
        if place < 0:
            missed += 1
            rest = rest[1:]
        else:
            distance = abs(place - int(origin[rest[0]]))
            distances[distance] = tried(distance)


def _try_known(distances: Distances, tried: Callable[[int], int]) -> None:
    """Try known distances, the most frequent first; of too many, those that fewest lines had are dropped."""
    known = sorted(distances, key=distances.__getitem__, reverse=True)[:MOST_TRIED]
    counts = {distance: tried(distance) for distance in known}
    distances.clear()
    distances.update(counts)


def _of_kind(layout: dict[int, Distances], kind: int) -> Distances:
    if kind not in layout and len(layout) >= MOST_TRIED:
        layout.clear()
    return layout.setdefault(kind, {})


def _parts(block: bytes, begin: Array, end: Array) -> pa.BinaryArray:
    """Return parts of a block that follow each other, none overlapping the next by more than nothing."""
    bounds = np.empty(2 * len(begin) + 1, np.int32)
    bounds[0:-1:2], bounds[1::2] = begin, end
    bounds[-1] = end[-1] if len(end) else 0
    whole = pa.BinaryArray.from_buffers(pa.binary(), 2 * len(begin), [None, pa.py_buffer(bounds), pa.py_buffer(block)])
    return whole.take(pa.array(np.arange(0, 2 * len(begin), 2)))

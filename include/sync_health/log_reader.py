"""
Blocks of lines to the events that they tell of, at the speed of looking lines up.

Most lines of a log say what others have said before, at another time and with other params. So a line is taken apart:

    {"message":"ServiceTitan API GET request","context":{"endpoint":"/customers","params":   {"page":7}
    ,"credential_id":12},"level":200,...,"datetime":"   2026-03-01T08:00:00.123456+01:00   ","extra":{"process_id":4711}}

What stands before and after params is looked up as one, then the end; params must be JSON of their own, and the time one of
Monolog's. A part is known once it has been read, whole, with a stand-in for what was cut out, and the stand-in was
found where it belongs: then whatever stands there in another line makes the same of the rest. Every other line is read by
itself (`read_line`). The outcome is the same, which tests hold over hostile lines.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import tzinfo
from itertools import repeat
from typing import Any, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from include.sync_health.log_cuts import AFTER_PARAMS, MARK, CutBlock, Layout, cut_block
from include.sync_health.log_events import NO_CALL, Events, Meaning, meaning_of, writer_of
from include.sync_health.monolog_lines import LineCounts, count_unread, decode, read_line
from include.sync_health.monolog_times import NO_TIME, TIME_WIDTH, instant_of, microseconds_of

MOST_KNOWN = 200_000
"""
Parts of lines that are kept; of more, all are learned anew. So many do for 5,000 credentials: some twenty parts of each, of 300
bytes or so.
"""

_STAND_IN = secrets.token_hex(TIME_WIDTH // 2)  # nobody can write it into a log
_TIME = _STAND_IN.encode()
_NUMBER = re.compile(rb"/[0-9]+(?=[/?#\"])")
_UNKNOWN = -1  # of a part that must be read with its line
_NOT_MET = -2  # of a part that is not known yet
_HALF = 32  # bits of a pair's second number
_Part = TypeVar("_Part", bytes, int)


class _Anything(msgspec.Struct, gc=False):
    """Any object; its fields are looked at by nobody."""


_json = msgspec.json.Decoder(_Anything | list[Any])
_all_json = msgspec.json.Decoder(list[_Anything | list[Any] | int])

_BETWEEN = secrets.randbelow(9 * 10**12) + 10**12  # nobody can write it into a log either
_SEPARATOR = np.frombuffer(b",%13d , " % _BETWEEN, np.uint8)


def _without_numbers(parts: list[bytes]) -> list[bytes]:
    """Return parts of lines with the same number in all paths; of all at once, for each by itself takes twice as long."""
    return _NUMBER.sub(b"/0", b"\n".join(parts)).split(b"\n")


def _are_json(parts: pa.BinaryArray) -> NDArray[np.bool_]:
    """Return which parts are JSON, but for the `AFTER_PARAMS` at their ends."""
    encoded = parts.dictionary_encode()  # pages and sizes recur
    return _each_is_json(encoded.dictionary)[_codes(encoded)]


def _each_is_json(parts: pa.BinaryArray) -> NDArray[np.bool_]:
    width = len(AFTER_PARAMS)
    bounds = np.frombuffer(parts.buffers()[1], np.int32)[: len(parts) + 1]
    joined = np.frombuffer(parts.buffers()[2], np.uint8)[bounds[0] : bounds[-1]].copy()
    joined[(bounds[1:] - bounds[0] - width)[:, None] + np.arange(width)] = _SEPARATOR
    try:
        found = _all_json.decode(b"[" + joined.tobytes() + b"0]")
    except msgspec.DecodeError:
        found = []
    # A part that holds less or more than one value would move a separator, or hide it.
    if len(found) == 2 * len(parts) + 1 and found[1::2] == [_BETWEEN] * len(parts):
        return np.ones(len(parts), bool)
    return np.array([_is_json(part[:-width]) for part in parts.to_pylist()], bool)


def _is_json(part: bytes) -> bool:
    try:
        _json.decode(part)
    except msgspec.DecodeError:
        return False
    return True


def _codes(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    found: NDArray[np.int64] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


class LineReader:
    """
    Reads the blocks of one or more files; what it has learned of one serves for the next.

    Args:
        zone: of times that name none.
    """

    def __init__(self, *, zone: tzinfo) -> None:
        self._zone = zone
        self._layout = Layout()
        self.counts = LineCounts()
        """What the lines were, since the beginning."""
        self._forget()

    def cut(self, block: bytes) -> CutBlock:
        """
        Return a block of lines taken apart; of several blocks one at a time, while `events` may be at work on another.

        Args:
            block: whole lines; the last may lack its line feed.
        """
        return cut_block(block, self._layout)

    def read(self, block: bytes) -> Events:
        """Return the events of a block, in the order of its lines; see `cut`."""
        return self.events(self.cut(block))

    def events(self, cut: CutBlock) -> Events:
        """Return the events of a block that was taken apart, in the order of its lines."""
        known = (self._heads, self._texts, self._pairs, self._ends, self._codes)
        if sum(map(len, known)) > MOST_KNOWN:
            self._forget()
        block = cut.block
        self.counts.lines += cut.lines
        self.counts.too_long += cut.too_long
        slow = [
            (place, block[begin:end])
            for place, begin, end in zip(
                cut.other.tolist(), cut.other_begin.tolist(), cut.other_end.tolist(), strict=True
            )
        ]
        for begin, end in zip(cut.stray_begin.tolist(), cut.stray_end.tolist(), strict=True):
            count_unread(block[begin:end], self.counts)
        code = self._heads_of(cut)
        writer = self._looked_up(cut.ends, self._ends, self._codes_of_ends)
        at = microseconds_of(cut.times)
        is_known = (code >= 0) & (writer >= 0) & (at != NO_TIME)
        slow += [
            (int(cut.place[each]), block[int(cut.begin[each]) : int(cut.end[each])])
            for each in np.flatnonzero(~is_known).tolist()
        ]
        return self._events(code[is_known], writer[is_known], at[is_known], cut.place[is_known], slow)

    def _heads_of(self, cut: CutBlock) -> NDArray[np.int64]:
        """Return the code of what each head tells, `_UNKNOWN` where its line must be read by itself."""
        code = np.full(len(cut.place), _UNKNOWN, np.int64)
        code[~cut.has_params] = self._looked_up(cut.heads, self._heads, self._codes_of_heads)
        if len(cut.fronts):
            front = self._looked_up(cut.fronts, self._fronts, self._numbers_of_fronts)
            back = self._looked_up(cut.backs, self._backs, self._numbers_of_backs)
            pairs = pa.array(front << _HALF | back)
            found = self._looked_up(pairs, self._pairs, self._codes_of_pairs)
            found[~_are_json(cut.params)] = _UNKNOWN
            code[cut.has_params] = found
        return code

    def _looked_up(
        self, parts: pa.Array, known: Mapping[_Part, int], learned: Callable[[list[_Part]], list[int]]
    ) -> NDArray[np.int64]:
        """Return what each part means, looking at each different one once."""
        encoded = parts.dictionary_encode()
        different = encoded.dictionary.to_pylist()
        meant = np.array(list(map(known.get, different, repeat(_NOT_MET))), np.int64)
        fresh = np.flatnonzero(meant == _NOT_MET)
        if len(fresh):
            meant[fresh] = learned([different[each] for each in fresh.tolist()])
        return meant[_codes(encoded)]

    def _forget(self) -> None:
        self._heads: dict[bytes, int] = {}
        self._fronts: dict[bytes, int] = {}
        self._backs: dict[bytes, int] = {}
        self._texts: list[bytes] = []  # of fronts and backs, by their numbers
        self._pairs: dict[int, int] = {}
        self._ends: dict[bytes, int] = {}
        self._codes: dict[Meaning, int] = {}
        self._table = np.zeros((1_024, len(Meaning._fields)))
        self._credentials: dict[str, int] = {}
        self._endpoints: dict[str, int] = {}
        self._writers: dict[str, int] = {}

    def _codes_of_heads(self, heads: list[bytes]) -> list[int]:
        """Return what heads of lines tell; their numbers in paths are all the same, see `meaning_of`."""
        return [
            self._heads[head] if head in self._heads else self._heads.setdefault(head, self._learned(head))
            for head in _without_numbers(heads)
        ]

    def _numbers_of_fronts(self, fronts: list[bytes]) -> list[int]:
        """Return the numbers of what stands before params, the same for all numbers in paths."""
        return [self._number_of(front, self._fronts) for front in _without_numbers(fronts)]

    def _numbers_of_backs(self, backs: list[bytes]) -> list[int]:
        return [self._number_of(back, self._backs) for back in backs]

    def _number_of(self, text: bytes, numbers: dict[bytes, int]) -> int:
        number = numbers.get(text)
        if number is None:
            number = numbers[text] = len(self._texts)
            self._texts.append(text)
        return number

    def _codes_of_pairs(self, pairs: list[int]) -> list[int]:
        """Return what heads tell that have these numbers before and after their params."""
        for pair in pairs:
            front, back = self._texts[pair >> _HALF], self._texts[pair & (1 << _HALF) - 1]
            self._pairs[pair] = self._learned(front + b"{}" + back)
        return [self._pairs[pair] for pair in pairs]

    def _learned(self, head: bytes) -> int:
        """Read the head of a line with stand-ins for params, time and end; return the code of what it tells."""
        try:
            entry = decode(head + MARK + _TIME + b'"}')
        except msgspec.DecodeError:
            return _UNKNOWN
        if entry.datetime != _STAND_IN or entry.extra is not None:
            return _UNKNOWN
        return self._code_of(meaning_of(entry))

    def _codes_of_ends(self, ends: list[bytes]) -> list[int]:
        """Return the codes of who wrote lines that end so."""
        self._ends |= {end: self._learned_end(end) for end in ends}
        return [self._ends[end] for end in ends]

    def _learned_end(self, tail: bytes) -> int:
        """Read the end of a line behind a stand-in for the rest of it; return the code of its writer."""
        writer = _UNKNOWN
        try:
            entry = decode(b'{"message":"m","context":[1],' + MARK + _TIME + tail)
        except msgspec.DecodeError:
            pass
        else:
            # An end that says more than who wrote the line would take the place of what its head says.
            if entry.message == "m" and entry.context == [1] and entry.datetime == _STAND_IN:
                writer = self._writers.setdefault(writer_of(entry), len(self._writers))
        return writer

    def _code_of(self, meaning: Meaning) -> int:
        code = self._codes.get(meaning)
        if code is None:
            code = self._codes[meaning] = len(self._codes)
            if code == len(self._table):
                self._table = np.concatenate([self._table, np.zeros_like(self._table)])
            told = meaning._replace(
                credential=self._credentials.setdefault(meaning.credential, len(self._credentials)),  # type: ignore[arg-type] # codes, in the table
                endpoint=self._endpoints.setdefault(meaning.endpoint, len(self._endpoints)),  # type: ignore[arg-type] # same
            )
            self._table[code] = told
        return code

    def _events(
        self,
        code: NDArray[np.int64],
        writer: NDArray[np.int64],
        at: NDArray[np.int64],
        place: NDArray[np.int64],
        slow: list[tuple[int, bytes]],
    ) -> Events:
        """Return the events of all lines in their order, reading the slow ones by themselves."""
        if slow:
            found = [(where, entry) for where, line in slow for entry in read_line(line, self.counts)]
            meant = [self._code_of(meaning_of(entry)) for _, entry in found]
            wrote = [self._writers.setdefault(writer_of(entry), len(self._writers)) for _, entry in found]
            moment = [instant_of(entry.datetime, zone=self._zone) for _, entry in found]
            place = np.concatenate([place, np.array([where for where, _ in found], np.int64)])
            order = np.argsort(place, kind="stable")
            code = np.concatenate([code, np.array(meant, np.int64)])[order]
            writer = np.concatenate([writer, np.array(wrote, np.int64)])[order]
            at = np.concatenate([at, np.array(moment, np.int64)])[order]
        kind = self._table[code, 0]
        if (kind == NO_CALL).any():
            is_call = kind != NO_CALL
            code, writer, at = code[is_call], writer[is_call], at[is_call]
        self.counts.entries += len(code)
        if (has_no_time := at == NO_TIME).any():
            self.counts.no_time += int(has_no_time.sum())
            code, writer, at = code[~has_no_time], writer[~has_no_time], at[~has_no_time]
        return self._columns(self._table[code], writer, at)

    def _columns(self, told: NDArray[np.float64], writer: NDArray[np.int64], at: NDArray[np.int64]) -> Events:
        kind, method, status, response_ms, credential, endpoint, is_id_unknown = told.T
        self.counts.ids_unknown += int(is_id_unknown.sum())
        return Events(
            at=at,
            kind=kind.astype(np.int8),
            method=method.astype(np.int8),
            status=status.astype(np.int16),
            response_ms=response_ms.copy(),
            credential=credential.astype(np.int64),
            endpoint=endpoint.astype(np.int64),
            writer=writer,
            credentials=tuple(self._credentials),
            endpoints=tuple(self._endpoints),
            writers=tuple(self._writers),
        )

"""
Rows of the sync log as arrays, and what becomes of them: which belong to a read, which are odd, and their frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from include.sync_health.frames import (
    COUNT_COLUMNS,
    DATA_TYPES,
    DETAIL_COLUMNS,
    DETAIL_TEXT_LIMIT,
    RUN_COLUMNS,
    RUN_STATUSES,
)
from include.warehouse.binary_arrays import counts_of, decode_texts
from include.warehouse.packed_columns import number_of_groups, unpacked, unpacked_groups, unpacked_times
from include.warehouse.run_codes import CANCELLED_UNIT, DATA_TYPE_UNIT, DETAIL_UNIT, LARGE_DETAIL_UNIT, TEXT_UNIT
from include.warehouse.source_schema import COUNTS, SourceShape, count_types
from include.warehouse.source_statements import FINISHED_BADLY
from include.warehouse.source_time import SANE_FROM, SANE_UNTIL, is_bare

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far a stamp may lie ahead of the database's clock before it counts as one from the future."""

KEY_DTYPES: dict[str, type] = {"integer": np.int64, "uuid": object}
"""numpy type of a key column by its kind."""

COMPRESSED_FROM, COMPRESSION = 2_000, 8
"""PostgreSQL compresses a row of more than about 2 kB; JSON that repeats its keys, to an eighth at most as a rule."""

_CODE_BYTES = 2
_SANE_FROM, _SANE_UNTIL = np.datetime64(SANE_FROM, "us"), np.datetime64(SANE_UNTIL, "us")

Times = NDArray[np.datetime64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class RunRows:
    """
    Rows of the sync log, column by column; times in UTC, NaT where the source has none.

    ``counts`` has a row for each and a column for each of `COUNT_COLUMNS`, and ``details`` one for each of
    `DETAIL_COLUMNS`, or none where they were not asked for.
    """

    ids: NDArray[Any]
    credentials: NDArray[Any]
    codes: Codes
    started: Times
    completed: Times
    finished: Times
    texts: NDArray[Any]
    counts: NDArray[np.float64]
    details: NDArray[Any]

    def __len__(self) -> int:
        return len(self.ids)

    def joined(self, other: RunRows) -> RunRows:
        """Return these rows and those of ``other`` whose ids are not among them."""
        if not len(other):
            return self
        added = other.only(~np.isin(other.ids, self.ids)) if len(self) else other
        return RunRows(*(np.concatenate(pair) for pair in zip(self.columns(), added.columns(), strict=True)))

    @staticmethod
    def merged(parts: Sequence[tuple[RunRows, Flags]]) -> RunRows:
        """Return the rows chosen of each part, one part after the other; each is copied once."""
        places = [np.flatnonzero(chosen) for _, chosen in parts]
        total = sum(map(len, places))
        columns = []
        for pieces in zip(*(rows.columns() for rows, _ in parts), strict=True):
            column = np.empty((total, *pieces[0].shape[1:]), dtype=pieces[0].dtype)
            begin = 0
            for piece, chosen in zip(pieces, places, strict=True):
                # Of a mode that may raise, numpy would copy twice.
                piece.take(chosen, axis=0, out=column[begin : begin + len(chosen)], mode="clip")
                begin += len(chosen)
            columns.append(column)
        return RunRows(*columns)

    def only(self, chosen: NDArray[Any]) -> RunRows:
        """Return the rows chosen, by flags or by positions."""
        # Flags would be counted again for each column.
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        return RunRows(*(column.take(places, axis=0) for column in self.columns()))

    def has_status(self, *names: str) -> Flags:
        """Return which rows have one of these statuses."""
        return _is_status(self.codes % DATA_TYPE_UNIT, *names)

    def finished_in(self, finished_from: datetime, as_of: datetime) -> Flags:
        """Return which rows finished in ``(finished_from, as_of]``."""
        chosen: Flags = (self.finished > moment(finished_from)) & (self.finished <= moment(as_of))
        return chosen

    def belongs_at(self) -> Times:
        """Return the instant by which each row belongs to a day: its end, or, having none, its start."""
        at: Times = np.where(np.isnat(self.completed), self.started, self.completed)
        return at

    def open_at(self, as_of: datetime, *, started_before: datetime | None = None) -> Flags:
        """
        Return which rows were open at ``as_of``: started by then and finished later, or pending or running and
        not finished at all. A completed row without ``completed_at`` is neither open nor finished.
        """
        is_unfinished = np.isnat(self.finished) & self.has_status("pending", "running")
        chosen: Flags = (self.started <= moment(as_of)) & ((self.finished > moment(as_of)) | is_unfinished)
        return chosen if started_before is None else chosen & (self.started < moment(started_before))

    def undated_in(self, started_from: datetime, as_of: datetime) -> Flags:
        """
        Return which rows started in ``(started_from, as_of]`` and neither finished nor are open, as far as they say:
        completed without a ``completed_at``, or of a status unknown to us. They prove that something started.
        """
        chosen: Flags = np.isnat(self.finished) & ~self.has_status("pending", "running")
        return chosen & (self.started > moment(started_from)) & (self.started <= moment(as_of))

    def anomalies(self, *, now: datetime, among: Flags | None = None) -> dict[str, int]:
        """
        Return how many rows are odd, ``among`` some of them or all, by kind; kinds without any are left out.

            future_stamp                    started or completed after ``now`` by more than `CLOCK_TOLERANCE`
            negative_duration               completed before it started
            unknown_status, null_status     no status that Hub Plus has; NULL
            unknown_data_type, null_data_type
            completed_without_completed_at
            open_with_completed_at          pending or running, and yet a completed_at
            missing_started_at
        """
        status, data_type = self.codes % DATA_TYPE_UNIT, self.codes % CANCELLED_UNIT // DATA_TYPE_UNIT
        limit = moment(now + CLOCK_TOLERANCE)
        flags: dict[str, Flags] = {
            "future_stamp": (self.started > limit) | (self.completed > limit),
            "negative_duration": self.completed < self.started,
            "unknown_status": status == len(RUN_STATUSES) - 1,
            "null_status": status == len(RUN_STATUSES),
            "unknown_data_type": data_type == len(DATA_TYPES) - 1,
            "null_data_type": data_type == len(DATA_TYPES),
            "completed_without_completed_at": self.has_status("completed") & np.isnat(self.completed),
            "open_with_completed_at": self.has_status("pending", "running") & ~np.isnat(self.completed),
            "missing_started_at": np.isnat(self.started),
        }
        told = flags if among is None else {kind: flag & among for kind, flag in flags.items()}
        return {kind: int(flag.sum()) for kind, flag in told.items() if flag.any()}

    def frame(self, *, in_order: bool = True) -> pd.DataFrame:
        """
        Return `RUN_COLUMNS`, and `COUNT_COLUMNS` and `DETAIL_COLUMNS` where there are any, by ``finished_at`` and then
        ``sync_id``; rows that are not finished come last. Without ``in_order`` they stay as they are.
        """
        rows = self
        if in_order:
            by_id = np.argsort(self.ids, kind="stable")
            rows = self.only(by_id[np.argsort(self.finished[by_id], kind="stable")])
        status, data_type = rows.codes % DATA_TYPE_UNIT, rows.codes % CANCELLED_UNIT // DATA_TYPE_UNIT
        columns: dict[str, Any] = {
            "sync_id": rows.ids,
            "credential_id": rows.credentials,
            "data_type": _categories(data_type, DATA_TYPES),
            "status": _categories(status, RUN_STATUSES),
            "is_cancelled": ((rows.codes & CANCELLED_UNIT) > 0) | rows.has_status("cancelled"),
            "started_at": _utc(rows.started),
            "completed_at": _utc(rows.completed),
            "finished_at": _utc(rows.finished),
            # Without the dtype, pandas 3 would turn None into NaN.
            "error_message": pd.Series(rows.texts, dtype=object),
        }
        counts = COUNT_COLUMNS[: rows.counts.shape[1]]
        columns |= {column: rows.counts[:, place] for place, column in enumerate(counts)}
        details = DETAIL_COLUMNS[: rows.details.shape[1]]
        columns |= {column: pd.Series(rows.details[:, place], dtype=object) for place, column in enumerate(details)}
        # Nobody else has these arrays: they need not be copied into blocks.
        return pd.DataFrame(columns, columns=[*RUN_COLUMNS, *counts, *details], copy=False)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Return the columns in the order of the fields."""
        return (
            self.ids,
            self.credentials,
            self.codes,
            self.started,
            self.completed,
            self.finished,
            self.texts,
            self.counts,
            self.details,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRows:
    """
    Rows as they left the database.

    Args:
        buffers: the columns of one `SourceStatements.runs` result.
        shape, zone: what its statement was made for.
        counts: the count columns it asked for, in its order; the others are NaN. None: no counts at all.
        details: the columns it asked details of; empty: there are none. None: they were not asked for.
        detail_batches: results of `SourceStatements.details` for `detail_keys`.
    """

    buffers: Sequence[bytes | None]
    shape: SourceShape
    zone: str
    counts: Sequence[str] | None = None
    details: Sequence[str] | None = None
    detail_batches: Sequence[Sequence[bytes | None]] = ()

    def __len__(self) -> int:
        return len(self._code or b"") // _CODE_BYTES

    @property
    def _code(self) -> bytes | None:
        return self.buffers[number_of_groups(self.shape.key_types)]

    @property
    def detail_bytes(self) -> int:
        """About how many bytes the texts of the details have, rather more than fewer."""
        return int(self._large_sizes().sum()) + (len(self.buffers[-2] or b"") if self.details else 0)

    def detail_keys(self, *, bytes_at_most: int, rows_at_most: int) -> Iterator[list[Any]]:
        """Yield the keys of the rows that have large details, in batches of about so many bytes of text."""
        sizes = self._large_sizes()
        is_large = (unpacked(self._code, "int2", name="code") & LARGE_DETAIL_UNIT) > 0
        keys = self._keys()[0][is_large].tolist()
        begin = weight = 0
        for place, size in enumerate(sizes.tolist()):
            if place > begin and (weight + size > bytes_at_most or place - begin == rows_at_most):
                yield keys[begin:place]
                begin, weight = place, 0
            weight += size
        if begin < len(keys):
            yield keys[begin:]

    def _large_sizes(self) -> NDArray[np.int64]:
        """Return about how many bytes of text each row has that has large details."""
        if not self.details:
            return np.empty(0, dtype=np.int64)
        stored = unpacked(self.buffers[-1], "int4", name="detail sizes").astype(np.int64)
        # What is stored in more than this may be compressed, and no text is longer than what is read of it.
        likely = np.where(stored > COMPRESSED_FROM, COMPRESSION * stored, stored)
        return np.minimum(likely, DETAIL_TEXT_LIMIT * len(self.details))

    def decoded(self) -> RunRows:
        """
        Return the rows.

        Raises:
            SourceError: ``invalid``: the buffers are not what that statement returns.
        """
        shape, details = self.shape, self.details
        ids, credentials = self._keys()
        rows = len(ids)
        code, started_at, completed_at, late, messages, *others = self.buffers[number_of_groups(shape.key_types) :]
        codes = unpacked(code, "int2", name="code", rows=rows)
        started = self._times(started_at, "started_at", rows=rows)
        completed = self._times(completed_at, "completed_at", rows=rows)
        finished = completed.copy()
        # Both are in the order of the rows they were taken from.
        finished[_is_status(codes % DATA_TYPE_UNIT, *FINISHED_BADLY) & np.isnat(completed)] = unpacked_times(
            late, name="late"
        )
        texts = np.full(rows, None, dtype=object)
        texts[(codes & TEXT_UNIT) > 0] = decode_texts(messages)
        numbers, details_at = self._numbers(others, rows=rows)
        told = np.full((rows, 0 if details is None else 1), None, dtype=object)
        if details:
            told[(codes & DETAIL_UNIT) > 0, 0] = decode_texts(others[details_at])
            at = {key: place for place, key in enumerate(ids.tolist())} if self.detail_batches else {}
            for batch in self.detail_batches:
                keys: list[Any] = unpacked(batch[0], shape.key_type("id"), name="id").tolist()
                told[[at[key] for key in keys], 0] = decode_texts(batch[1])
        return RunRows(ids, credentials, codes, started, completed, finished, texts, numbers, told)

    def _keys(self) -> tuple[NDArray[Any], NDArray[Any]]:
        kinds = self.shape.key_types
        ids, credentials = unpacked_groups(
            self.buffers[: number_of_groups(kinds)], kinds, names=self.shape.keys, rows=len(self)
        )
        # The kind of a key must not depend on whether there are rows.
        return ids.astype(KEY_DTYPES[self.shape.run_key]), credentials.astype(KEY_DTYPES[self.shape.credential_id_key])

    def _numbers(self, buffers: Sequence[bytes | None], *, rows: int) -> tuple[NDArray[np.float64], int]:
        """Return the counts, and how many of the buffers they were in."""
        if self.counts is None:
            return np.empty((rows, 0)), 0
        numbers = np.full((rows, len(COUNTS)), np.nan)
        kinds = count_types(self.shape, self.counts)
        groups = number_of_groups(kinds)
        columns = unpacked_groups(buffers[:groups], kinds, names=self.counts, rows=rows)
        for column, values in zip(self.counts, columns, strict=True):
            numbers[:, list(COUNTS).index(column)] = counts_of(values)
        return numbers, groups

    def _times(self, buffer: bytes | None, column: str, *, rows: int) -> Times:
        times = unpacked_times(buffer, name=column, rows=rows)
        # Where it had to convert, the database has left out what is no time.
        if is_bare(is_aware=self.shape.runs.is_aware(column), zone=self.zone):
            times[~((times >= _SANE_FROM) & (times <= _SANE_UNTIL))] = np.datetime64("NaT", "us")
        return times


def moment(at: datetime) -> np.datetime64:
    """Return an aware datetime as numpy's, in UTC."""
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "us")


def _is_status(status: Codes, *names: str) -> Flags:
    is_named = np.zeros(DATA_TYPE_UNIT, dtype=bool)
    is_named[[RUN_STATUSES.index(name) for name in names]] = True
    chosen: Flags = is_named[status]
    return chosen


def _categories(codes: Codes, names: tuple[str, ...]) -> pd.Categorical[str]:
    # NULL has the code after the last; the frame tells it as "unknown".
    return pd.Categorical.from_codes(np.minimum(codes, len(names) - 1), categories=pd.Index(names))


def _utc(times: Times) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(times).tz_localize("UTC")

"""
Reads what is new in the application's log files, counts the calls in it, and remembers how far it came.

A file is read in chunks. What a chunk comes to, and the position behind it, are committed together: killed at any moment,
the next run goes on where the last commit ended, and nothing is lost or counted twice. A position moves only from where
its reader found it, so that of two runs at once one counts a chunk, and the other leaves the file to it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from functools import partial
from typing import TYPE_CHECKING, Any

from include.orchestration.log_chunks import CHUNK_BYTES, LogChunk, read_chunks
from include.orchestration.log_files import LogChanged, LogFile, LogStream, LogUnreadable, find_logs, see_file
from include.orchestration.structured_logs import DecisionLog
from include.sync_health.log_identity import KnownFile, head_hash, match_files
from include.warehouse.read_ahead import read_ahead

if TYPE_CHECKING:
    import pandas as pd
    import psycopg

    from include.sync_health.log_calls import Counted
    from include.sync_health.log_reader import LineReader
    from include.sync_health.measuring_policies import ApiCallsPolicy
    from include.warehouse.log_positions import LogPosition

log = DecisionLog("servicetitan.api_calls")

COMMIT_CHUNKS = 20
"""Chunks that are committed together: each commit writes every counter anew, which costs as much as reading many chunks."""

FORGET_AFTER = timedelta(days=90)
"""A file that nobody has seen for so long is forgotten; one that comes back later would count again."""

Names = Mapping[str, tuple[str, str]]
"""(environment, company id) by credential id."""

Taken = Callable[["pd.DataFrame"], None]
"""Is told `INCREMENT_COLUMNS` of what was counted, after each commit."""


@dataclass(slots=True)
class LogIngestion:
    """
    What one run did.

    Args:
        counts: lines by what they were, files, and response times: names are those of `LineCounts.told`, and ``files``,
            ``error_copies``, ``copies``, ``too_short``, ``unreadable``, ``changed``, ``left_to_another``, ``requests``,
            ``times_told``, ``times_estimated``.
        missing: what the policy names and is not there, and files that could not be read; one line each.
        is_available: whether any file was found that can be read.
        read_until: the newest time that a counted line tells.
    """

    counts: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    is_available: bool = False
    read_until: datetime | None = None

    @property
    def has_timings(self) -> bool:
        """Whether this run saw a response time."""
        return self.counts.get("times_told", 0) + self.counts.get("times_estimated", 0) > 0

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[name] = self.counts.get(name, 0) + number


def ingest_logs(
    dsn: str,
    *,
    policy: ApiCallsPolicy,
    names: Names,
    zone: tzinfo,
    clock: Callable[[], datetime],
    chunk_bytes: int = CHUNK_BYTES,
    taken: Taken = lambda increments: None,
) -> LogIngestion:
    """
    Read what is new in all files of the policy into ``api_call_hourly`` and ``api_counter``, source ``log``.

    A file that cannot be read is told, and keeps no other from being read. The last line without a line feed waits for
    it, except in an archive.

    Args:
        dsn: the monitoring database.
        policy: which files, and the connection of URLs.
        names: of the credentials.
        zone: of times that name none.
        clock: the wall clock, aware.
        chunk_bytes: `CHUNK_BYTES`; at least twice the longest line, where it is given.
        taken: is told what each commit has counted.

    Raises:
        StorageError: our database; what was committed stays.
    """
    from include.sync_health.log_reader import LineReader
    from include.warehouse.log_positions import read_positions
    from include.warehouse.monitoring_session import connect

    with connect(dsn) as conn:
        with conn.transaction():
            before = read_positions(conn)
        found = find_logs(policy.logs, connection=policy.logs_connection, known=[each.path for each in before])
        done = LogIngestion(missing=list(found.missing))
        done.count("error_copies", len(found.error_copies))
        for path in found.error_copies:
            log.info("log_file_passed_over", "%(file)s: not read: it repeats errors of another file", file=str(path))
        run = _Run(conn, done, LineReader(zone=zone), names=names, clock=clock, chunk_bytes=chunk_bytes, taken=taken)
        for file, position in run.plan(found.files, before=before):
            run.read(file, position)
        run.close_the_rest()
    done.is_available = done.counts.get("unreadable", 0) < len(found.files)
    for line in done.missing:
        log.warning("log_file_doubtful", "%(note)s", note=line)
    done.counts |= run.reader.counts.told()
    return done


class _Gathered:
    """What some chunks of one file come to."""

    def __init__(self) -> None:
        from include.sync_health.log_calls import OpenCalls
        from include.sync_health.log_tally import CallTally

        self.tally, self.open_calls = CallTally(), OpenCalls()
        self.chunks = self.requests = self.times_told = self.times_estimated = 0

    def add(self, counted: Counted) -> None:
        """Add what one more chunk comes to."""
        self.open_calls = counted.open_calls
        self.chunks += 1
        self.requests += counted.requests
        self.times_told += counted.times_told
        self.times_estimated += counted.times_estimated


@dataclass(frozen=True, slots=True)
class _Stored:
    """A position as it is stored, and what was counted with it as ``INCREMENT_COLUMNS``; None for nothing."""

    position: LogPosition
    increments: pd.DataFrame | None


class _Run:
    """One run over all files."""

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        done: LogIngestion,
        reader: LineReader,
        *,
        names: Names,
        clock: Callable[[], datetime],
        chunk_bytes: int,
        taken: Taken,
    ) -> None:
        from include.sync_health.endpoints import MOST_ENDPOINTS
        from include.warehouse.api_hour_reader import read_endpoints

        self.reader = reader
        self._conn, self._done, self._names, self._clock = conn, done, names, clock
        self._chunk_bytes, self._taken, self._room = chunk_bytes, taken, MOST_ENDPOINTS
        # Those that have a name already keep it, whatever this run reads first.
        with conn.transaction():
            self._endpoints = set(read_endpoints(conn, source="log"))
        self._newest: int | None = None

    def plan(self, files: tuple[LogFile, ...], *, before: list[LogPosition]) -> list[tuple[LogFile, LogPosition]]:
        """Return what is to be read from where, by the positions before; files that are new have one now."""
        from include.warehouse.api_sources import lock_source
        from include.warehouse.log_positions import LogPosition, add_position, move_position, read_positions

        now = self._clock()
        finished = {each.state["finished"]: each.key for each in before if "finished" in each.state}
        seen, read_out = [], set()
        # In no transaction: to look at the many files of a store takes minutes.
        for file in files:
            self._done.count("files")
            if file.stamp in finished:  # an archive that was read to its end is not unpacked again
                read_out.add(finished[file.stamp])
                continue
            try:
                seen.append((file, see_file(file)))
            except LogUnreadable as error:
                self._failed(file, error)
        # Two runs at once must not find the same file new.
        with self._conn.transaction():
            lock_source(self._conn, "log")
            stored = {each.key: each for each in read_positions(self._conn)}
            matched = match_files(
                [each for _, each in seen], [KnownFile.of(each.key, each.path, each.state) for each in stored.values()]
            )
            # One whose plain file is there as well goes on with that.
            for key in (read_out & stored.keys()) - {key for _, key in matched.known}:
                self._touch(stored[key], now)
            self._done.count("copies", len(matched.copies))
            self._done.count("too_short", len(matched.short))
            by_path = {file.path: file for file, _ in seen}
            planned = []
            for known, key in matched.known:
                old = stored[key]
                position = replace(old, path=known.path, moves=old.moves + 1, state={**old.state, **known.told()})
                if move_position(self._conn, position, now=now):
                    planned.append((by_path[known.path], position))
            for fresh in matched.fresh:
                position = LogPosition(key=head_hash(fresh.head), path=fresh.path, state=fresh.told())
                if add_position(self._conn, position, now=now):
                    planned.append((by_path[fresh.path], position))
        return sorted(planned, key=lambda each: each[0].path)

    def read(self, file: LogFile, position: LogPosition) -> None:
        """Read a file to its end, chunk by chunk, and tell it in one line."""
        lines = requests = 0
        try:
            with LogStream(file) as stream, closing(self._gathered(file, stream, position)) as parts:
                for stored, counted in self._store_alongside(parts):
                    if stored is None:
                        self._done.count("left_to_another")
                        log.info("log_file_left", "%(file)s: left to another run that reads it", file=str(file.path))
                        return
                    self._tell(stored, counted)
                    lines += stored.position.lines - position.lines
                    requests += counted.requests
                    position = stored.position
        except LogUnreadable as error:
            self._failed(file, error)
        log.info(
            "log_file_read",
            "%(file)s: %(lines)s lines read, %(requests)s requests counted, up to byte %(offset)s",
            file=str(file.path),
            lines=lines,
            requests=requests,
            offset=position.offset,
        )

    def close_the_rest(self) -> None:
        """Count what nothing can close any more: requests that waited too long, also of files that are gone."""
        from include.sync_health.log_calls import OPEN_FOR, OpenCalls, close_calls
        from include.warehouse.log_positions import delete_positions, read_positions

        now = self._clock()
        before = _microseconds(now) - OPEN_FOR
        with self._conn.transaction():
            positions = read_positions(self._conn)
        for position in positions:
            waiting = OpenCalls.of(position.state.get("open", {}))
            gathered = _Gathered()
            gathered.add(close_calls(waiting, tally=gathered.tally, before=before))
            if len(gathered.open_calls) < len(waiting):
                state = {**position.state, "open": gathered.open_calls.told()}
                if (stored := self._store(replace(position, state=state), gathered)) is not None:
                    self._tell(stored, gathered)
        with self._conn.transaction():
            kept = [each.key for each in positions if each.state.get("open", {}).get("requests")]
            delete_positions(self._conn, before=now - FORGET_AFTER, kept=kept)
        if self._newest is not None:
            self._done.read_until = _moment(self._newest)

    def _gathered(
        self, file: LogFile, stream: LogStream, position: LogPosition
    ) -> Generator[tuple[LogPosition, _Gathered]]:
        """Yield what is to be committed together: a position, and what the chunks before it come to."""
        gathered, before, is_whole = _Gathered(), position, True
        _require_same(position, stream)  # it was looked at a while ago
        # Emptied and written anew while it is read: then what was read is of no known file.
        can_change = bool(file.inode) and not stream.is_packed
        chunks = read_chunks(
            stream,
            offset=position.offset,
            in_long_line=bool(position.state.get("in_long_line")),
            size=self._chunk_bytes,
            cut=self.reader.cut,
            check=partial(_require_same, position, stream) if can_change else lambda: None,
        )
        try:
            # Reading and cutting leave the interpreter to others for most of their time, counting keeps it.
            with closing(read_ahead(chunks, name="read-log")) as ahead:
                for chunk in ahead:
                    position = self._count(chunk, position, gathered)
                    if gathered.chunks == COMMIT_CHUNKS:
                        yield replace(position, moves=before.moves), gathered
                        gathered, before = _Gathered(), replace(position, moves=before.moves + 1)
        except LogUnreadable as error:
            self._failed(file, error)  # what was read before it counts
            is_whole = False
        if is_whole and stream.is_packed and position.state.get("finished") != file.stamp:
            position = replace(position, state={**position.state, "finished": file.stamp})
        if gathered.chunks or position.state != before.state:
            yield replace(position, moves=before.moves), gathered

    def _count(self, chunk: LogChunk, position: LogPosition, gathered: _Gathered) -> LogPosition:
        """Count a chunk, and return the position behind it with what it leaves open."""
        from include.sync_health.log_calls import OpenCalls, count_calls

        before = self.reader.counts.lines
        events = self.reader.events(chunk.cut)
        if chunk.ends_long_line:
            self.reader.counts.lines += 1
            self.reader.counts.too_long += 1
        waiting = OpenCalls.of(position.state.get("open", {}))
        gathered.add(count_calls(events, waiting=waiting, tally=gathered.tally))
        if len(events.at):
            newest = int(events.at.max())
            self._newest = newest if self._newest is None else max(self._newest, newest)
        lines = position.lines + self.reader.counts.lines - before
        state = {name: value for name, value in position.state.items() if name != "in_long_line"}
        state |= {"in_long_line": True} if chunk.in_long_line else {}
        return replace(position, offset=chunk.offset, lines=lines, state={**state, "open": gathered.open_calls.told()})

    def _store_alongside(
        self, parts: Iterable[tuple[LogPosition, _Gathered]]
    ) -> Iterator[tuple[_Stored | None, _Gathered]]:
        """Store each part while the next one is gathered: the database has time of its own for it."""
        with ThreadPoolExecutor(1, thread_name_prefix="write-calls") as thread:
            storing: tuple[Future[_Stored | None], _Gathered] | None = None
            for position, gathered in parts:
                if storing is not None:
                    yield storing[0].result(), storing[1]
                storing = thread.submit(self._store, position, gathered), gathered
            if storing is not None:
                yield storing[0].result(), storing[1]

    def _store(self, position: LogPosition, gathered: _Gathered) -> _Stored | None:
        """Move a position and add what was counted, in one transaction; None, and nothing, where it was moved already."""
        from include.warehouse.api_hours import add_calls
        from include.warehouse.log_positions import move_position

        position = replace(position, moves=position.moves + 1)
        increments = None
        hours = self._capped(gathered.tally.hours())
        with self._conn.transaction():
            if not move_position(self._conn, position, now=self._clock()):
                return None
            if len(hours):
                increments = add_calls(self._conn, hours, source="log", names=self._names, now=self._clock())
        return _Stored(position, increments)

    def _tell(self, stored: _Stored, gathered: _Gathered) -> None:
        """Tell what was stored, once it is."""
        if stored.increments is not None:
            self._taken(stored.increments)
        self._done.count("requests", gathered.requests)
        self._done.count("times_told", gathered.times_told)
        self._done.count("times_estimated", gathered.times_estimated)

    def _capped(self, hours: pd.DataFrame) -> pd.DataFrame:
        """Return hours in which at most so many endpoints of this run have a name; those that had one keep it."""
        from include.sync_health.endpoints import OTHER, most_frequent

        calls = hours.groupby("endpoint")["requests"].sum()
        fresh = {str(name): int(number) for name, number in calls.items() if name not in self._endpoints}
        self._endpoints |= most_frequent(fresh, most=max(0, self._room - len(self._endpoints)))
        if all(name in self._endpoints for name in fresh):
            return hours
        return hours.assign(endpoint=hours["endpoint"].where(hours["endpoint"].isin(self._endpoints), OTHER))

    def _touch(self, position: LogPosition, now: datetime) -> None:
        from include.warehouse.log_positions import move_position

        move_position(self._conn, replace(position, moves=position.moves + 1), now=now)

    def _failed(self, file: LogFile, error: LogUnreadable) -> None:
        self._done.count("changed" if isinstance(error, LogChanged) else "unreadable")
        self._done.missing.append(f"{file.path}: cannot be read: {error}")


def _require_same(position: LogPosition, stream: LogStream) -> None:
    """Refuse another file than the one that the position is of."""
    if head_hash(stream.head()[: position.state["head_bytes"]]) != position.state["head_hash"]:
        raise LogChanged("it has changed while it was read; the next run looks at it again")


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(microseconds: int) -> datetime:
    from datetime import UTC

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

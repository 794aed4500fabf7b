"""
Where in the primary key a time lies, found by probing a few blocks of rows. Pure: the probes come from outside.

Keys are handed out in the order in which rows are inserted, and ``started_at`` follows them, but not strictly:

- a row may carry a time up to D before its insertion (late commits, a clock change), D being the caller's slack;
- single rows may carry any time at all (future stamps, imported old rows): as long as they are fewer than half
  of a block, its median is the time of an honest row;
- keys have gaps, and whole ranges may be gone.

What follows, and what the property tests hold (a "block" is the first rows from a key on):

    lower bound of T: no honest row of a key below it started at or after T + D
    upper bound of T: no honest row of a key from it on started at or before T - D

Where blocks contradict each other (a later block is older than an earlier one by more than disorder explains),
the bound that reads more is taken. Blocks at growing distances outside the bound are probed for that: a burst of
backdated rows longer than a block hides the rows behind it only if it covers them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

BLOCK_ROWS = 100
"""Rows of a block: enough for a median that stray rows do not move, few enough to cost microseconds."""

TELLING_ROWS = BLOCK_ROWS // 2
"""Plausible rows that a block needs to say anything: at the table's end a block may hold one row, and that a stray."""

GALLOP_STEPS = tuple(BLOCK_ROWS * 4**power for power in range(10))
"""Distances from the newest key of the first blocks: most windows end now, so their start is met in one round."""

GUARD_DISTANCES = (BLOCK_ROWS, 8 * BLOCK_ROWS, 64 * BLOCK_ROWS)
"""Distances outside a bound of the blocks that confirm it."""

SLOPPY_SHARE = 16
"""A bound may read this fraction of the window too much: another round of probes costs more than those rows."""

MAX_ROUNDS = 64
"""A round at least halves the bracket, so that 63 bits of key need fewer; reached only if probes contradict."""


@dataclass(frozen=True, slots=True)
class Block:
    """
    The first `BLOCK_ROWS` rows whose key is at least ``pivot``.

    ``median`` is that of their plausible ``started_at`` in the source's raw form (naive or aware, the same for all
    blocks); None when fewer than `TELLING_ROWS` are plausible. Such a block says nothing.
    """

    pivot: int
    first_id: int
    last_id: int
    median: datetime | None


Probe = Callable[[Sequence[int]], Iterable[Block]]
"""Return the blocks at these pivots, in any order; pivots past the last row are left out."""


@dataclass(frozen=True, slots=True)
class Bound:
    """
    Args:
        key: rows with a key below it are before the time (lower: read from here on; upper: read up to here,
            itself excluded). None: there is no bound on this side.
        rounds: round trips it took, those of the blocks known before not counted.
        blocks: blocks probed in them.
        is_widened: blocks contradicted each other, and the wider range was taken.
    """

    key: int | None
    rounds: int = 0
    blocks: int = 0
    is_widened: bool = False


@dataclass(frozen=True, slots=True)
class _Bracket:
    """Between ``before`` (older than the target) and ``after`` (not older) the time lies."""

    before: Block | None
    after: Block | None
    is_contradicted: bool

    @property
    def width(self) -> int:
        """Keys between the two; 0 where one side is open or both are one block."""
        if self.before is None or self.after is None or self.before.last_id >= self.after.first_id:
            return 0
        return self.after.pivot - self.before.first_id


def find_bound(
    probe: Probe,
    *,
    target: datetime,
    side: Literal["lower", "upper"],
    known: Iterable[Block],
    scan_end: int,
) -> Bound:
    """
    Return the bound of ``target`` on one side of a window; see the module's text for what it promises.

    Args:
        probe: reads blocks; one call is one round trip.
        target: the time, comparable with the blocks' medians.
        side: ``lower`` errs towards older rows, ``upper`` towards newer ones.
        known: blocks read before, among them those at the smallest key and near the largest one.
        scan_end: where the read will end, to judge how exact the bound need be.
    """
    blocks = {block.pivot: block for block in known}
    if not blocks:
        return Bound(None)
    smallest, largest = min(block.first_id for block in blocks.values()), max(b.last_id for b in blocks.values())
    known_count, rounds = len(blocks), 0
    first = bracket = _bracket(blocks.values(), target, side)
    while rounds < MAX_ROUNDS:
        askable = [
            {pivot for pivot in wanted if smallest <= pivot <= largest} - blocks.keys()
            for wanted in (_inside(bracket, target, scan_end), _guards(bracket, side))
        ]
        pivots = sorted(askable[0] or askable[1])
        if not pivots:
            break
        rounds += 1
        answers = {block.pivot: block for block in probe(pivots)}
        for pivot in pivots:
            # A pivot with no row behind it is remembered as a block that says nothing.
            blocks[pivot] = answers.get(pivot, Block(pivot, pivot, pivot, None))
        bracket = _bracket(blocks.values(), target, side)
    else:
        # Probes that change under our feet; the bracket they started from is wide and safe.
        bracket = replace(first, is_contradicted=True)
    return Bound(_key(bracket, side), rounds, len(blocks) - known_count, bracket.is_contradicted)


def _bracket(blocks: Iterable[Block], target: datetime, side: Literal["lower", "upper"]) -> _Bracket:
    """Return the neighbouring blocks around the target: around the first crossing seen for lower, the last for upper."""
    telling = sorted((block for block in blocks if block.median is not None), key=lambda block: block.pivot)
    if side == "lower":
        is_past = [block.median is not None and block.median >= target for block in telling]
        at = is_past.index(True) if True in is_past else len(telling)
        is_contradicted = not all(is_past[at:])
    else:
        is_past = [block.median is not None and block.median > target for block in telling]
        at = len(telling) - is_past[::-1].index(False) if False in is_past else 0
        is_contradicted = any(is_past[:at])
    return _Bracket(telling[at - 1] if at > 0 else None, telling[at] if at < len(telling) else None, is_contradicted)


def _inside(bracket: _Bracket, target: datetime, scan_end: int) -> list[int]:
    """Return pivots that narrow the bracket, or none when it is narrow enough."""
    before, after = bracket.before, bracket.after
    if before is None or after is None or before.median is None or after.median is None:
        return []
    width = bracket.width
    if width <= max(2 * BLOCK_ROWS, abs(scan_end - after.pivot) // SLOPPY_SHARE):
        return []
    low = before.first_id
    # Even steps keep the worst case logarithmic; the three around the interpolated key usually end the search.
    pivots = [low + width * quarter // 4 for quarter in (1, 2, 3)]
    if after.median > before.median:
        share = min(max((target - before.median) / (after.median - before.median), 0.0), 1.0)
        likely, spread = low + int(width * share), max(BLOCK_ROWS, width // 32)
        pivots += [likely - spread, likely, likely + spread]
    return [pivot for pivot in pivots if low < pivot < after.pivot]


def _guards(bracket: _Bracket, side: Literal["lower", "upper"]) -> list[int]:
    """Return pivots outside the bound that must agree with it."""
    if side == "lower":
        return [] if bracket.before is None else [bracket.before.pivot - distance for distance in GUARD_DISTANCES]
    return [] if bracket.after is None else [bracket.after.last_id + distance for distance in GUARD_DISTANCES]


def _key(bracket: _Bracket, side: Literal["lower", "upper"]) -> int | None:
    if side == "lower":
        return None if bracket.before is None else bracket.before.pivot
    return None if bracket.after is None else bracket.after.last_id + 1

"""The search for a time in the primary key: what it promises for every table, and where it could be misled."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.warehouse.id_window import BLOCK_ROWS, GALLOP_STEPS, TELLING_ROWS, Block, Bound, find_bound

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass
class KeyedStarts:
    """A table of keys and starts that answers probes as the database does, and counts them."""

    ids: list[int]
    starts: list[datetime]
    rounds: int = 0
    asked: list[int] = field(default_factory=list)

    def block(self, pivot: int) -> Block | None:
        """Return the block at a pivot, None past the last row."""
        at = bisect.bisect_left(self.ids, pivot)
        if at == len(self.ids):
            return None
        starts = sorted(self.starts[at : at + BLOCK_ROWS])
        median = starts[(len(starts) - 1) // 2] if len(starts) >= TELLING_ROWS else None
        return Block(pivot, self.ids[at], self.ids[min(at + BLOCK_ROWS, len(self.ids)) - 1], median)

    def probe(self, pivots: Sequence[int]) -> list[Block]:
        """Answer one round trip."""
        self.rounds += 1
        self.asked += pivots
        return [block for pivot in pivots if (block := self.block(pivot)) is not None]

    def survey(self) -> list[Block]:
        """Return the blocks that the reader knows before it searches."""
        first, last = self.ids[0], self.ids[-1]
        pivots = {max(first, last - step) for step in (*GALLOP_STEPS, 2**62)}
        return [block for pivot in pivots if (block := self.block(pivot)) is not None]

    def find(self, target: datetime, side: Literal["lower", "upper"] = "lower") -> Bound:
        """Search."""
        return find_bound(self.probe, target=target, side=side, known=self.survey(), scan_end=self.ids[-1])


def even(count: int, *, every: timedelta = MINUTE, first_id: int = 1) -> KeyedStarts:
    """Return a table whose starts rise evenly, without a gap."""
    return KeyedStarts(list(range(first_id, first_id + count)), [BEGIN + every * n for n in range(count)])


@st.composite
def disordered_tables(draw: st.DrawFn) -> tuple[KeyedStarts, list[bool], timedelta, datetime]:
    """Return a table with gaps, bursts, late rows and strays, which rows are honest, their disorder, and a target."""
    count = draw(st.integers(1, 3_000))
    random = Random(draw(st.integers(0, 2**32)))  # noqa: S311 - rows, not secrets
    disorder = draw(st.sampled_from([timedelta(0), MINUTE, HOUR, DAY]))
    stray_every = draw(st.sampled_from([0, 3, 7, 40]))
    key, inserted_at = draw(st.integers(1, 10**9)), BEGIN
    ids, starts, honest = [], [], []
    for number in range(count):
        key += 1 if random.random() < 0.97 else random.choice([2, 50, 5_000, 2_000_000])
        inserted_at += random.choice([timedelta(0), MINUTE, MINUTE, 10 * MINUTE])
        if random.random() < 0.002:
            inserted_at += 20 * DAY
        # A stray row among every three is fewer than half of any block.
        is_stray = bool(stray_every) and number % stray_every == 1
        honest.append(not is_stray)
        ids.append(key)
        if is_stray:
            starts.append(inserted_at + random.uniform(-400, 400) * DAY)
        else:
            starts.append(inserted_at - random.random() ** 3 * disorder)
    target = BEGIN + draw(st.floats(-0.1, 1.1)) * (inserted_at - BEGIN)
    return KeyedStarts(ids, starts), honest, disorder, target


@settings(max_examples=150, deadline=None)
@given(disordered_tables())
def test_the_lower_bound_excludes_no_row_of_the_window_that_is_late_within_the_slack(
    case: tuple[KeyedStarts, list[bool], timedelta, datetime],
) -> None:
    """With the window's start as target plus the slack, every honest row of the window has a key from the bound on."""
    table, honest, disorder, target = case
    bound = table.find(target)
    excluded = [
        start
        for key, start, is_honest in zip(table.ids, table.starts, honest, strict=True)
        if bound.key is not None and key < bound.key and is_honest
    ]
    assert not [start for start in excluded if start >= target + disorder]


@settings(max_examples=150, deadline=None)
@given(disordered_tables())
def test_the_upper_bound_excludes_no_row_that_started_before_it_by_the_slack(
    case: tuple[KeyedStarts, list[bool], timedelta, datetime],
) -> None:
    """The mirror image: nothing that started by ``target - disorder`` is left out at the end."""
    table, honest, disorder, target = case
    bound = table.find(target, "upper")
    excluded = [
        start
        for key, start, is_honest in zip(table.ids, table.starts, honest, strict=True)
        if bound.key is not None and key >= bound.key and is_honest
    ]
    assert not [start for start in excluded if start <= target - disorder]


@settings(max_examples=60, deadline=None)
@given(case=disordered_tables(), side=st.sampled_from(["lower", "upper"]))
def test_the_search_takes_logarithmically_many_rounds(
    case: tuple[KeyedStarts, list[bool], timedelta, datetime], side: Literal["lower", "upper"]
) -> None:
    """Every round quarters a bracket; contradictions may open a new one, once per guard at most."""
    table, _, _, target = case
    bound = table.find(target, side)
    span = table.ids[-1] - table.ids[0] + 1
    assert bound.rounds == table.rounds <= 4 * (span.bit_length() / 2 + 2)


@pytest.mark.parametrize(
    "back",
    [
        pytest.param(timedelta(days=1), id="a day ago"),
        pytest.param(timedelta(days=8), id="eight days ago"),
        pytest.param(timedelta(days=400), id="more than a year ago"),
    ],
)
def test_a_window_of_ten_million_rows_is_found_in_few_rounds(back: timedelta) -> None:
    """Interpolation: an even table needs one or two rounds to narrow and one to confirm."""

    class EvenMillions(KeyedStarts):
        def block(self, pivot: int) -> Block | None:
            last = 10_000_000
            if pivot > last:
                return None
            end = min(pivot + BLOCK_ROWS - 1, last)
            return Block(pivot, pivot, end, BEGIN + timedelta(seconds=8.64) * ((pivot + end) // 2))

    table = EvenMillions([1, 10_000_000], [])
    newest = BEGIN + timedelta(seconds=8.64) * 10_000_000
    bound = table.find(newest - back)

    expected = 10_000_000 - back / timedelta(seconds=8.64)
    assert bound.rounds <= 3
    assert bound.blocks + len(table.survey()) < 30
    assert bound.key is not None
    # At most a sixteenth of the window too much, or a few blocks.
    assert 0 <= expected - bound.key <= max(3 * BLOCK_ROWS, (10_000_000 - expected) / 15)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda n: n == 90_050, "one future stamp", id="a single stray row"),
        pytest.param(lambda n: n % 3 == 0, "a third of all rows", id="a third of all rows stray"),
    ],
)
def test_stray_stamps_do_not_move_the_bound(spoil: object, why: str) -> None:
    """Medians ignore rows that are fewer than half of a block."""
    clean, dirty = even(100_000), even(100_000)
    assert callable(spoil)
    dirty.starts = [start + 300 * DAY if spoil(n) else start for n, start in enumerate(dirty.starts)]
    target = clean.starts[90_000]

    honest, spoiled = clean.find(target), dirty.find(target)
    assert honest.key is not None
    assert spoiled.key is not None, why
    assert spoiled.key <= 90_001
    assert abs(spoiled.key - honest.key) <= 1_000


def test_a_burst_of_backdated_rows_widens_the_window_instead_of_cutting_it() -> None:
    """500 old rows were imported after the window had begun; a pivot among them says "older", guards disagree."""
    table = even(100_000)
    for position in range(93_500, 94_000):
        table.starts[position] = BEGIN - 400 * DAY
    bound = table.find(table.starts[90_000])

    assert bound.key is not None
    assert bound.key <= 90_001
    assert bound.is_widened


def test_rows_that_say_nothing_are_passed_over() -> None:
    """Blocks without a plausible start, such as a range of future stamps, neither stop nor mislead the search."""
    table = even(50_000)

    def probe(pivots: Sequence[int]) -> list[Block]:
        return [silenced(block) for block in table.probe(pivots)]

    def silenced(block: Block) -> Block:
        is_silent = 30_000 <= block.pivot < 35_000
        return Block(block.pivot, block.first_id, block.last_id, None if is_silent else block.median)

    bound = find_bound(
        probe,
        target=table.starts[32_000],
        side="lower",
        known=[silenced(block) for block in table.survey()],
        scan_end=50_000,
    )
    assert bound.key is not None
    assert 29_000 <= bound.key <= 32_001


@pytest.mark.parametrize(
    ("position", "side", "key"),
    [
        pytest.param(-1, "lower", None, id="everything is newer: no lower bound"),
        pytest.param(-1, "upper", 101, id="everything is newer: the upper bound is the first block's end"),
        pytest.param(20_001, "upper", None, id="everything is older: no upper bound"),
    ],
)
def test_a_time_outside_the_table(position: int, side: Literal["lower", "upper"], key: int | None) -> None:
    """A side without rows has no bound."""
    assert even(20_000).find(BEGIN + position * MINUTE, side).key == key


def test_a_window_after_the_last_row_keeps_the_newest_block() -> None:
    """All medians are older; rows of the last block may still be late ones."""
    bound = even(20_000).find(BEGIN + 30 * DAY)
    assert bound.key is not None
    assert 20_000 - 2 * BLOCK_ROWS <= bound.key <= 20_000


def test_an_unknown_table_has_no_bound_and_costs_nothing() -> None:
    """Nothing was surveyed: the table is empty."""
    table = even(10)
    assert find_bound(table.probe, target=BEGIN, side="lower", known=[], scan_end=0) == Bound(None)
    assert table.rounds == 0

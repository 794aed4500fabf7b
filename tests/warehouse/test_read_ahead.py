"""What is fetched in a thread: in its order, with its failure in its place, and ended when nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from threading import Event

import pytest

from include.warehouse.read_ahead import read_ahead


def test_the_next_item_is_fetched_while_this_one_is_worked_on() -> None:
    asked = [Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for place, event in enumerate(asked):
            event.set()
            yield place

    for item in read_ahead(items(), name="test"):
        assert item == 3 or asked[item + 1].wait(10)
    assert all(event.is_set() for event in asked)


def test_a_failure_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    ahead = read_ahead(items(), name="test")

    assert (next(ahead), next(ahead)) == (1, 2)
    with pytest.raises(OSError, match="gone"):
        next(ahead)


def test_left_early_the_fetch_under_way_is_given_up_until_it_has_ended() -> None:
    begun, stop, calls = Event(), Event(), []

    def items() -> Iterator[int]:
        yield 1
        begun.set()
        stop.wait(30)
        yield 2

    def give_up() -> None:
        calls.append(begun.wait(10))
        if len(calls) == 2:  # the first one came too early
            stop.set()

    with closing(read_ahead(items(), name="test", give_up=give_up)) as ahead:
        assert next(ahead) == 1
    assert calls == [True, True]

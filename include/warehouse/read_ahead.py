"""Something that takes time to come by, fetched in a thread while what came before it is worked on."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")

GIVE_UP_SECONDS = 0.2
"""How long to wait for a fetch that was given up before it is given up again."""


def read_ahead(items: Iterator[Item], *, name: str, give_up: Callable[[], None] | None = None) -> Generator[Item]:
    """
    Yield items, none of them None, while a thread fetches the next one; left early, it waits until that has ended.

    What a fetch raises is raised once the items before it are yielded.

    Args:
        items: are asked for in the thread, one at a time.
        name: of the thread.
        give_up: ends the fetch that is under way, as far as it can; called until it has ended.
    """
    with ThreadPoolExecutor(1, thread_name_prefix=name) as thread:
        upcoming = thread.submit(next, items, None)
        try:
            while (item := upcoming.result()) is not None:
                upcoming = thread.submit(next, items, None)
                yield item
        finally:
            # A cancelling that comes between two statements ends neither.
            while give_up is not None and not upcoming.done():
                give_up()
                wait([upcoming], timeout=GIVE_UP_SECONDS)

"""One computation at a time, and its result for a while."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from include.dashboard.cached_page import CachedPage, PageBusy
from include.sync_health.errors import StorageError


class Work:
    """Computes pages that are numbered, and stops in between where a test wants it to."""

    def __init__(self, *, fresh: timedelta = timedelta(seconds=15)) -> None:
        self.fresh = fresh
        self.done = 0
        self.now = 1000.0
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.waits = False
        self.fails = False

    def clock(self) -> float:
        return self.now

    def compute(self) -> tuple[int, timedelta]:
        self.began.release()
        if self.waits:
            assert self.may_end.acquire(timeout=60)
        if self.fails:
            raise StorageError("gone")
        self.done += 1
        return self.done, self.fresh


@pytest.mark.parametrize(
    ("later", "page"),
    [
        pytest.param(14.999, 1, id="just before it is stale"),
        pytest.param(15.0, 2, id="exactly as old as it may be is stale"),
        pytest.param(100.0, 2, id="long after"),
    ],
)
def test_a_page_is_told_again_while_it_is_fresh(later: float, page: int) -> None:
    """From when it began to be computed."""
    work = Work()
    cached = CachedPage(work.compute, clock=work.clock)
    assert cached.get() == 1

    work.now += later

    assert cached.get() == page


def test_nothing_is_kept_for_no_time() -> None:
    """``cache: 0s`` computes each time."""
    work = Work(fresh=timedelta(0))
    cached = CachedPage(work.compute, clock=work.clock)

    assert [cached.get(), cached.get()] == [1, 2]


def test_a_failure_is_not_kept() -> None:
    """Whoever asks next tries again, and the lock is free."""
    work = Work()
    cached = CachedPage(work.compute, clock=work.clock)
    work.fails = True
    with pytest.raises(StorageError, match="gone"):
        cached.get()
    work.fails = False

    assert cached.get() == 1


class WatchedLock:
    """A lock that tells how many have asked for it."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._lock = threading.Lock()

    def acquire(self, *, timeout: float) -> bool:
        self.asked.release()
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_those_who_wait_get_what_the_first_computed() -> None:
    """Many ask at once, also where nothing is kept: one computes."""
    work = Work(fresh=timedelta(0))
    work.waits = True
    cached = CachedPage(work.compute, clock=work.clock)
    lock = WatchedLock()
    cached._lock = lock  # type: ignore[assignment]

    with ThreadPoolExecutor(5) as pool:
        found = [pool.submit(cached.get, patience=60)]
        assert work.began.acquire(timeout=60)
        found += [pool.submit(cached.get, patience=60) for _ in range(4)]
        for _ in range(5):
            assert lock.asked.acquire(timeout=60)
        work.may_end.release()

        assert [each.result(timeout=60) for each in found] == [1, 1, 1, 1, 1]


def test_who_waits_for_too_long_is_told() -> None:
    """A thread of the server is not kept for ever."""
    work = Work()
    work.waits = True
    cached = CachedPage(work.compute, clock=work.clock)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cached.get)
        assert work.began.acquire(timeout=60)
        with pytest.raises(PageBusy, match="still being computed"):
            cached.get(patience=0.0)
        work.may_end.release()

        assert first.result(timeout=60) == 1

"""A page that costs something: computed by one thread at a time, and answered again for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from include.sync_health.errors import MonitorError

Page = TypeVar("Page")

PATIENCE_SECONDS = 20.0
"""For so long a request waits for one that computes: each of them holds a thread of the server meanwhile."""


class PageBusy(MonitorError):
    """Another request has been computing the page for longer than anybody waits."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Page]):
    page: Page
    until: float  # of the clock


class CachedPage(Generic[Page]):
    """
    One page of this process, for as long as it is fresh.

    A failure is not kept: whoever asks next tries again.

    Args:
        compute: returns the page and for how long it is fresh, from the moment that computing began.
        clock: seconds that only ever rise.
    """

    def __init__(
        self, compute: Callable[[], tuple[Page, timedelta]], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._compute, self._clock = compute, clock
        self._lock = threading.Lock()
        self._kept: _Kept[Page] | None = None

    def get(self, *, patience: float = PATIENCE_SECONDS) -> Page:
        """
        Return the page.

        Raises:
            PageBusy: another thread computed for longer than ``patience`` seconds.
        """
        before = self._kept
        if before is not None and self._clock() < before.until:
            return before.page
        if not self._lock.acquire(timeout=patience):
            raise PageBusy("the figures are still being computed for another request; ask less often, or again later")
        try:
            if (kept := self._kept) is not None and kept is not before:
                return kept.page  # computed while this one waited
            began = self._clock()
            page, fresh = self._compute()
            self._kept = _Kept(page, began + fresh.total_seconds())
            return page
        finally:
            self._lock.release()

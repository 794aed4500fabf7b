"""The access tokens that this process has, so that calls of one client sign in once, not each time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from include.sync_health.api_problems import ServiceTitanError, Token

TOKEN_MARGIN_SECONDS = 60.0  # a kept token is given up so long before it lapses, or a tenth of its life if that is less


class TokenCache:
    """
    Access tokens, each kept until shortly before it lapses; safe to use from several threads.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}
        self._minting: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def take(self, key: str, mint: Callable[[], Token | ServiceTitanError]) -> tuple[str, bool] | ServiceTitanError:
        """
        Return a token and whether it was kept from before, or why there is none.

        Threads that need the same one wait for the first of them to mint it.
        """
        with self._lock:
            minting = self._minting.setdefault(key, threading.Lock())
        with minting:
            began = self._clock()
            with self._lock:
                kept, until = self._kept.get(key, ("", began))
            if began < until:
                return kept, True
            token = mint()
            if isinstance(token, ServiceTitanError):
                return token
            until = began + token.lifetime - min(TOKEN_MARGIN_SECONDS, token.lifetime / 10)
            with self._lock:
                self._kept = {name: value for name, value in self._kept.items() if began < value[1]}
                self._kept[key] = (token.value, until)
            return token.value, False

    def forget(self, key: str, token: str) -> None:
        """Forget this token; one that another thread has minted since is kept."""
        with self._lock:
            if self._kept.get(key, ("", 0.0))[0] == token:
                del self._kept[key]


TOKENS = TokenCache()
"""The tokens of this process."""

"""A gate before a store's server: it notes what is asked, refuses what a test wants refused, and can act in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class _Rule:
    begin: str
    status: int | None
    action: Callable[[], object] | None
    times: int
    skip: int = 0


@dataclass
class Gate:
    """
    The gate.

    Args:
        requests: what was asked, as "GET /path?query", unquoted.
    """

    requests: list[str] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)

    def refuse(self, begin: str, status: int, *, times: int = 1_000_000) -> None:
        """Answer so many requests that begin so with a status."""
        self._rules.append(_Rule(begin, status, None, times))

    def before_the_next(self, begin: str, action: Callable[[], object], *, skip: int = 0) -> None:
        """Do something before the next request that begins so is answered, or before a later one."""
        self._rules.append(_Rule(begin, None, action, 1, skip))

    def open(self) -> None:
        """Forget all rules and requests."""
        self._rules.clear()
        self.requests.clear()

    def meet(self, request: str) -> int | None:
        """Note a request, and return the status to refuse it with."""
        self.requests.append(request)
        for rule in self._rules:
            if not rule.times or not request.startswith(rule.begin):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            rule.times -= 1
            if rule.action is not None:
                rule.action()
            else:
                return rule.status
        return None

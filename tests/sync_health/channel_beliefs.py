"""
What the readers of a channel believe, message by message: the yardstick for "told open" and "told closed".

A reader believes an alert open once a message said so, and closed once one said that. So a close of what the reader does not
believe open is news of nothing, and an alert that stays believed open was never told closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from include.sync_health.alerts import OF_WHAT_IS_OPEN, OPENINGS, NotifyReason
from include.sync_health.verdicts import Severity

RECEIPTS = frozenset({NotifyReason.SILENCE_ENDED, NotifyReason.DIGEST})
"""Summaries of what was kept back: what they list as open is told open, of the rest they give the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """
    One alert that a message speaks of: open or over, as the message shows it.

    ``is_another_episode``: it shows a later one than the message was decided for, so that a late close says "open again".
    """

    fingerprint: str
    is_open: bool
    severity: Severity
    is_another_episode: bool = False


@dataclass
class Beliefs:
    """
    What each channel believes open, with the worst severity that it was told.

    ``faults`` are the messages that no reader could make sense of.
    """

    open: dict[tuple[str, str], Severity] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def hear(self, channel: str, reason: NotifyReason, lines: Sequence[Line]) -> None:
        """Take in one message."""
        if reason is NotifyReason.CLOSED:
            self._hear_close(channel, lines)
        elif reason in OF_WHAT_IS_OPEN:
            for line in lines:
                before = self.open.get((channel, line.fingerprint))
                if line.is_open and before is None and reason not in OPENINGS:
                    self.faults.append(f"{channel}: {reason} of what was never told open: {line.fingerprint[:12]}")
                self._believe(channel, line)  # one that is over by now says both: opened, and closed
        elif reason in RECEIPTS:
            for line in lines:
                if line.is_open and not line.is_another_episode:
                    self._believe(channel, line)

    def _hear_close(self, channel: str, lines: Sequence[Line]) -> None:
        news = [(channel, line.fingerprint) in self.open for line in lines]
        if not all(news):
            names = ", ".join(line.fingerprint[:12] for line in lines)
            self.faults.append(f"{channel}: told closed, but not believed open: {names}")
        for line in lines:
            if line.is_open and not line.is_another_episode:
                self.faults.append(f"{channel}: told closed while it is open: {line.fingerprint[:12]}")
            self._believe(channel, line)

    def _believe(self, channel: str, line: Line) -> None:
        key = (channel, line.fingerprint)
        if line.is_open:
            self.open[key] = max(line.severity, self.open.get(key, line.severity), key=lambda each: each.rank)
        else:
            self.open.pop(key, None)

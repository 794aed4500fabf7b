"""
The calls of the ServiceTitan API that the demo's Hub Plus logs, as Monolog's JSON, and the policy that names the files.

Hours of them lie behind the demo's begin; from then on a further file is written from time to time, as a rotation would.
They are of the credentials of the demo's world, and of nothing that its syncs do: it is their number that is looked at.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from include.simulation.demo_script import CREDENTIALS
from include.simulation.monolog_files import LogPlan, write_log

FOLDER = "hub_plus_logs"
"""In the demo's state folder."""

POLICY = "policy.yaml"
"""In the demo's state folder: what differs from the policy that ships."""

HISTORY = timedelta(hours=5)
GAP_SECONDS = 2.0  # between two lines, of which a third begin a call: 600 calls an hour


class DemoCalls:
    """
    The log files in one state folder.

    Args:
        state_dir: exists; what an earlier demo wrote there stays, and is gone on from.
        since: up to when the history goes where there is none yet; aware.
    """

    def __init__(self, state_dir: Path, *, since: datetime) -> None:
        self._folder = state_dir / FOLDER
        self._folder.mkdir(exist_ok=True)
        self.policy = state_dir / POLICY
        self.policy.write_text(f'api_calls: {{logs: ["{self._folder.resolve()}/servicetitan-*.log"]}}\n', "utf-8")
        self._reached = since
        if not self._files():
            self._write(since - HISTORY, since)

    def go_on(self, now: datetime) -> None:
        """Write what was logged since the last time, or since the demo was started again."""
        if now - self._reached >= timedelta(seconds=30):
            self._write(self._reached, now)
            self._reached = now

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("servicetitan-*.log"))

    def _write(self, begin: datetime, end: datetime) -> None:
        number = len(self._files())
        plan = LogPlan(
            lines=int((end - begin).total_seconds() / GAP_SECONDS),
            seed=number + 1,
            start=begin,
            gap=GAP_SECONDS,
            ids=tuple(str(credential) for credential in range(1, CREDENTIALS + 1)),
            is_told=True,
        )
        # A file that is seen half-written would be taken for one that grows, which is fine too; yet one name is one minute.
        unfinished = self._folder / "unfinished"
        write_log(unfinished, plan)
        unfinished.rename(self._folder / f"servicetitan-{number:05}.log")

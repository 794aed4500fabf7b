"""
What can go wrong, in one module so that every layer can raise it without an import loop.

    MonitorError                  one line for a person: what was found, and the fix
    ├── PolicyError               the policy file is wrong: path, value, what is allowed
    ├── FrameError                a frame lacks a column that its contract names
    ├── RequestError              a Param or an argument that makes no sense
    ├── SourceError               the source cannot be read as it should be; has a ``cause``
    ├── StorageError              the monitoring schema is missing, newer than the code, or unreachable
    ├── ConnectionMissing         a connection that nobody configured
    └── DeliveryError             a channel refused or did not answer; has ``permanent``
"""

from __future__ import annotations

from collections.abc import Iterable


class MonitorError(Exception):
    """Base of all errors whose text is meant for a person: one line, no traceback needed."""


class PolicyError(MonitorError):
    """
    The policy is wrong.

    Args:
        path: dotted path of the key, such as ``rules.sync_failures.window``.
        value: what stands there.
        allowed: what may stand there, in words.
    """

    def __init__(self, *, path: str, value: object, allowed: str) -> None:
        self.path, self.value, self.allowed = path, value, allowed
        super().__init__(f"{path}: {_shown(value)} is not allowed; {allowed}")


class FrameError(MonitorError):
    """A frame lacks columns of its contract."""

    def __init__(self, *, frame: str, missing: Iterable[str]) -> None:
        super().__init__(f"frame {frame!r} lacks the columns {', '.join(sorted(missing))}")


class RequestError(MonitorError):
    """A Param or an argument that makes no sense: its name, its value and the fix, in one line."""


class SourceError(MonitorError):
    """
    The source cannot be read as it should be.

    Args:
        cause: one word for the identity of the monitor-health alert: ``unreachable``, ``missing_table``,
            ``ambiguous_table``, ``missing_column``, ``permission``, ``timeout``, ``interrupted``,
            ``wrong_time_zone``, ``no_rows``, ``invalid``.
        detail: what was found, and the fix, in one line.
        transient: True when trying again shortly may help.
    """

    def __init__(self, detail: str, *, cause: str, transient: bool = False) -> None:
        self.cause, self.transient = cause, transient
        super().__init__(detail)


class CountsUnreadable(SourceError):
    """The columns of the sync log that count records, and they alone, are not there or may not be read."""


class StorageError(MonitorError):
    """The monitoring schema is missing, newer than this code, or cannot be reached."""


class ConnectionMissing(MonitorError):
    """
    Nobody configured this connection.

    Args:
        conn_id: its id.
        in_shell: True where Airflow's own database cannot be asked: then adding it there is no fix.
    """

    def __init__(self, conn_id: str, *, in_shell: bool = False) -> None:
        self.conn_id = conn_id
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        fix = (
            f"set {variable} in this shell (one kept only in Airflow's database cannot be seen from a shell)"
            if in_shell
            else f"set {variable} or add it in Airflow"
        )
        super().__init__(f"connection {conn_id!r} is not configured; {fix}")


class DeliveryError(MonitorError):
    """
    A channel refused a message or did not answer.

    Args:
        code: the service's own word for it, such as ``channel_not_found`` or ``421``.
        permanent: True when the same message can never succeed there.
        retry_after: seconds the service asked us to wait, if it did.
        ambiguous: True when the message may have been accepted all the same.
        channel_wide: False when only this message is refused, and others to the same channel may well pass.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        permanent: bool,
        retry_after: float | None = None,
        ambiguous: bool = False,
        channel_wide: bool = True,
    ) -> None:
        self.code, self.permanent = code, permanent
        self.retry_after, self.ambiguous, self.channel_wide = retry_after, ambiguous, channel_wide
        super().__init__(detail)


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

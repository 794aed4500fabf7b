"""Our errors in Airflow's terms: what a retry may mend, and what only a person can."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from include.sync_health.errors import MonitorError, PolicyError, RequestError

log = logging.getLogger("servicetitan.tasks")


@contextmanager
def in_airflow_terms() -> Iterator[None]:
    """
    Turn a `MonitorError` into one line that fails the task, without a traceback of ours.

    Raises:
        AirflowFailException: a wrong Param or policy file: trying again is no use.
        AirflowException: any other `MonitorError`: the task's retries apply.
    """
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    try:
        yield
    except (RequestError, PolicyError) as error:
        raise AirflowFailException(str(error)) from None
    except MonitorError as error:
        raise AirflowException(str(error)) from None

"""Our errors in Airflow's terms: what a retry may mend, and what only a person can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from include.sync_health.errors import MonitorError, PolicyError, RequestError, SourceError

REFUSED = "refused"
"""XCom key by which a task says that it failed for a user's wrong Param: nothing that anybody must be told of."""


@contextmanager
def in_airflow_terms(ti: Any = None) -> Iterator[None]:
    """
    Turn a `MonitorError` into one line that fails the task, without a traceback of ours.

    Args:
        ti: the task instance, to leave `REFUSED` for `conclude` after a wrong Param; None leaves nothing.

    Raises:
        AirflowFailException: a wrong Param or policy file, or a source that is not as it should be: trying again is no use.
        AirflowException: any other `MonitorError`: the task's retries apply.
    """
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    try:
        yield
    except RequestError as error:
        if ti is not None:
            ti.xcom_push(key=REFUSED, value=True)
        raise AirflowFailException(str(error)) from None
    except PolicyError as error:
        raise AirflowFailException(str(error)) from None
    except SourceError as error:
        # A column that is not there is not there half a minute later; and a run that tries again keeps the next one waiting.
        raise (AirflowException if error.transient else AirflowFailException)(str(error)) from None
    except MonitorError as error:
        raise AirflowException(str(error)) from None

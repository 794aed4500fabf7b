"""What a Celery worker calls itself to Airflow: two of them on one machine would have the same host name."""

from __future__ import annotations

import os

VARIABLE = "E2E_WORKER_NAME"
CALLABLE = f"{__name__}.worker_name"
"""For ``[core] hostname_callable``."""


def worker_name() -> str:
    """Return the name that this process inherited from its worker."""
    return os.environ[VARIABLE]

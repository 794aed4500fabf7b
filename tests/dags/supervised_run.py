"""
One run of a DAG whose tasks run as on a worker: each in a process of its own, whose supervisor writes its log file.

``python -m tests.dags.supervised_run DAG_ID`` with `EXECUTOR` as Airflow's executor. A process of its own, since Airflow
sets logging up once, and the supervisor forks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from airflow.executors.base_executor import BaseExecutor

DAGS = Path(__file__).parents[2] / "dags"
EXECUTOR = "tests.dags.supervised_run.SupervisedExecutor"


class SupervisedExecutor(BaseExecutor):
    """Runs each task at once, under a real supervisor that asks Airflow's execution API in this process."""

    def _process_workloads(self, workloads: Any) -> None:
        from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, supervise_task

        for workload in workloads:
            del self.queued_tasks[workload.key]
            code = supervise_task(
                ti=workload.ti,
                bundle_info=workload.bundle_info,
                dag_rel_path=workload.dag_rel_path,
                token=workload.token,
                client=InProcessTestSupervisor._api_client(),
                log_path=workload.log_path,
                subprocess_logs_to_stdout=True,
            )
            (self.fail if code else self.success)(workload.key)

    def end(self) -> None:
        """Nothing is left to wait for."""


def main(dag_id: str) -> None:
    """Run the DAG once; each task has one try."""
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(DAGS).dags[dag_id]
    for task in dag.tasks:
        task.retries = 0
    dag.test(use_executor=True)


if __name__ == "__main__":
    main(sys.argv[1])

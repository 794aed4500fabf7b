"""A failure notice that cannot be sent: one line says so, and nothing else breaks by it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from include.orchestration import failure_notice, operators
from include.orchestration.duties import EVALUATION
from include.orchestration.settings import FAILURE_CHANNEL_VARIABLE

assert (
    operators
)  # Airflow sets up logging when it is first imported: within a test, that would take the log from `caplog`


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        pytest.param(
            None, "slack:#ops could not be told: Airflow has no usable slack", id="its channel has no connection"
        ),
        pytest.param('{"conn_type": "slack"}', "slack:#ops could not be told", id="its connection lacks the token"),
    ],
)
def test_a_failure_channel_that_cannot_be_used_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, connection: str | None, says: str
) -> None:
    """The outage does not count as told, so that the next failure tells of it."""
    monkeypatch.setenv(FAILURE_CHANNEL_VARIABLE, "slack:#ops")
    for variable in ("AIRFLOW_CONN_SLACK_ALERTS", "AIRFLOW_CONN_SLACK_ALERTS_WEBHOOK"):
        monkeypatch.delenv(variable, raising=False)
    if connection is not None:
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_ALERTS", connection)
    context = {"ti": SimpleNamespace(dag_id="servicetitan_sync_failures"), "dag_run": SimpleNamespace(run_id="r")}

    assert not failure_notice._tell(context, {EVALUATION: ["evaluate"]}, state="failed")
    assert says in caplog.text

"""One run of a check over a few plain rows, under a policy read from its files: what it finds, and what it sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from include.orchestration.policy_file import SHIPPED_FILE, load_policy
from include.sync_health.alerts import Alert, Delivery, NotifyReason
from include.sync_health.checks import EVERYTHING, Check
from include.sync_health.credential_facts import credential_facts
from include.sync_health.judgement import TickInput, judge_tick
from include.sync_health.lifecycle import step
from include.sync_health.measured_facts import NOTHING_MEASURED, MeasuredFacts
from include.sync_health.notifications import decide
from include.sync_health.observations import Observation
from include.sync_health.policy import Policy
from include.sync_health.stored_days import StoredDays
from include.sync_health.verdicts import Verdict
from tests.agreement.plain_frames import counted_runs, credentials_of
from tests.sync_health.frames_of import AS_OF
from tests.sync_health.oracle import Row
from tests.sync_health.oracle_credentials import Credential

STORY_FILE: Path = SHIPPED_FILE.parent / "policies" / "story.yaml"
STORY = load_policy(overlay=STORY_FILE).policy
SHIPPED = load_policy(environ={}).policy

ACME = Credential(id=7)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run of a check found and decided."""

    observations: Sequence[Observation]
    alerts: Mapping[str, Alert]
    deliveries: Sequence[Delivery]

    def found(self, rule: str) -> list[Observation]:
        """The rule's breaches."""
        return [each for each in self.observations if each.rule == rule and each.verdict is Verdict.BREACH]

    def sent(self) -> list[NotifyReason]:
        """Why each message to Slack is sent."""
        return [
            each.reason for each in self.deliveries if each.reason is not None and each.channel.startswith("slack:")
        ]


def run_check(
    policy: Policy,
    *,
    rows: Sequence[Row] = (),
    credentials: Sequence[Credential] = (ACME,),
    check: Check = EVERYTHING,
    as_of: datetime = AS_OF,
    alerts: Mapping[str, Alert] | None = None,
    stored: StoredDays | None = None,
    measured: MeasuredFacts = NOTHING_MEASURED,
) -> Run:
    """Judge, step and decide, as the DAG's task does between its two databases."""
    known = dict(alerts or {})
    runs = counted_runs(rows)
    observations = judge_tick(
        TickInput(
            runs=runs,
            credentials=credential_facts(credentials_of(credentials), runs=runs, as_of=as_of, is_present=True),
            as_of=as_of,
            check=check,
            open_alerts={key: alert for key, alert in known.items() if alert.state.is_open},
            stored=stored,
            measured=measured,
        ),
        policy=policy,
    ).observations
    result = step(known, observations, policy=policy, as_of=as_of)
    decision = decide(
        result.alerts,
        policy=policy,
        as_of=as_of,
        configured=["slack", "email"],
        open_alerts={key: alert for key, alert in known.items() if alert.state.is_open},
    )
    return Run(observations=observations, alerts={**known, **decision.alerts}, deliveries=decision.deliveries)


def failed(ago: timedelta, *, number: int, credential: int = ACME.id, error: str = "HTTP 401 invalid_client") -> Row:
    """A run that failed so long before AS_OF."""
    return _row(number, credential, ago, status="failed", error_message=error)


def completed(
    ago: timedelta, *, number: int, credential: int = ACME.id, processed: int = 100, failures: int = 0
) -> Row:
    """A run that completed so long before AS_OF, having lost some of its records."""
    return _row(
        number,
        credential,
        ago,
        status="completed",
        records_processed=processed,
        records_successful=processed - failures,
        records_failed=failures,
    )


def running(ago: timedelta, *, number: int) -> Row:
    """A run that started so long before AS_OF and is still open."""
    start = AS_OF - ago
    return Row(
        id=number,
        credential=ACME.id,
        data_type="invoices",
        status="running",
        started_at=start,
        completed_at=None,
        updated_at=start,
    )


def three_failures(*, credential: int = ACME.id, error: str = "HTTP 401 invalid_client") -> list[Row]:
    """Three runs that failed within the last hour, the latest five minutes ago."""
    return [
        failed(minutes * MINUTE, number=100 * credential + minutes, credential=credential, error=error)
        for minutes in (25, 15, 5)
    ]


def _row(number: int, credential: int, ago: timedelta, **known: object) -> Row:
    end = AS_OF - ago
    values: dict[str, object] = {
        "id": number,
        "credential": credential,
        "data_type": "invoices",
        "started_at": end - MINUTE,
        "completed_at": end,
        "updated_at": end,
    }
    return Row(**{**values, **known})  # type: ignore[arg-type]

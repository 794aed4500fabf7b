"""``health``: the health check, made now without storing it, or as the 15-minute DAG stored it last."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

_WIDTH = 17


def add_parser(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "health",
        help="the health check: credentials, API, recent syncs, databases and machine",
        description="Look at the credentials, the ServiceTitan API, the syncs of the last hour, both databases, this machine "
        "and Airflow's scheduler, and print the report. Nothing is written; the API is called for at most health.probe_sample "
        "credentials, where a connection servicetitan_<credential id> exists here. Exit code 0: healthy, or a warning; 1: "
        "degraded or unhealthy; 2: something could not be seen, which wins over 1.",
    )
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument(
        "--stored",
        action="store_true",
        help="do not look: print the report that the DAG stored last; one that is out of date is exit code 2",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """
    Print the report, or with ``--json`` the object that `HealthReport.as_json` (``--stored``: `health_answer`) describes.

    Returns:
        0: healthy or warning; 1: degraded or unhealthy; 2: some part is unknown, or what is stored is out of date, or
        nothing is.

    Raises:
        MonitorError: the policy is wrong; with ``--stored`` also: our database cannot be read.
    """
    now = datetime.now(UTC)
    answer = _stored(now) if args.stored else _looked(now)
    if args.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for line in _lines(answer):
            print(line)
    return exit_code(answer)


def exit_code(answer: Mapping[str, Any]) -> int:
    """Return the exit code of a report."""
    from include.sync_health.health import OK, HealthStatus

    unknown = str(HealthStatus.UNKNOWN)
    if unknown in (answer["status"], *(part["status"] for part in answer["details"].values())):
        return 2
    return 0 if HealthStatus(answer["status"]).http_status == OK else 1


def _stored(now: datetime) -> dict[str, Any]:
    from include.orchestration.settings import policy_in_force, postgres_conninfo
    from include.sync_health.health import health_answer
    from include.warehouse.health_snapshots import newest_health
    from include.warehouse.migration import require_current
    from include.warehouse.monitoring_session import connect

    policy = policy_in_force().loaded.policy
    with connect(postgres_conninfo(policy.storage_connection)) as conn:
        require_current(conn)
        _, answer = health_answer(newest_health(conn), now=now)
    return answer


def _looked(now: datetime) -> dict[str, Any]:
    from include.orchestration.health_look import HealthLook, conninfo_or_error, look
    from include.orchestration.settings import policy_in_force

    policy = policy_in_force().loaded.policy
    looked = look(
        HealthLook(
            policy=policy,
            as_of=now,
            now=now,
            source_conninfo=conninfo_or_error(policy.source.connection),
            monitoring_conninfo=conninfo_or_error(policy.storage_connection),
        )
    )
    return looked.report.as_json()


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the report as people read it: each part, its reasons, and the credentials that have an issue."""
    told = answer.get("reason") or f"as of {answer['metadata']['last_check']}"
    was = f", was {answer['stored_status']}" if "stored_status" in answer else ""
    yield f"{answer['name']}: {answer['status']} ({told}{was})"
    for name, part in answer["details"].items():
        yield f"{name:<{_WIDTH}} {part['status']}"
        for reason in part["reasons"]:
            yield f"{'':<{_WIDTH}} - {reason}"
        for issue in part.get("issues", ()):
            yield (
                f"{'':<{_WIDTH}} - {issue['issue']}: {issue['company']} ({issue['environment']}), "
                f"credential {issue['credential_id']}"
            )
        if left_out := part.get("issues_left_out"):
            yield f"{'':<{_WIDTH}} - and {left_out} more issues"
        for result in part.get("test_results", ()):
            took = result.get("response_time")
            said = result.get("error") or (f"answered in {took:g} ms" if took is not None else "answered")
            yield f"{'':<{_WIDTH}} - credential {result['credential_id']}: {said}"

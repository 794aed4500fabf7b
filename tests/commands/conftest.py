"""Fixtures of the commands' tests: a source, and surroundings where ``doctor`` finds nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from include.simulation.hub_plus import create_source
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.warehouse.migration import upgrade
from tests.commands.doctor_surroundings import READER, SECRET, Surroundings, as_reader

HARMLESS = (
    "id, company_id, environment, connection_status, token_expires_at, last_connection_attempt, created_at, updated_at"
)


@pytest.fixture
def source(make_database: Callable[..., str]) -> str:
    """Return the DSN of a source whose last sync started five minutes ago, as a role that may only read."""
    dsn = make_database("source")
    create_source(dsn)
    with psycopg.connect(dsn) as conn:
        conn.execute(f"DROP ROLE IF EXISTS {READER}")
        conn.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{SECRET}'")
        conn.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
        conn.execute(f"REVOKE SELECT ON servicetitan_credentials FROM {READER}")
        conn.execute(f"GRANT SELECT ({HARMLESS}) ON servicetitan_credentials TO {READER}")
        conn.execute(
            "CREATE VIEW servicetitan_credentials_monitor AS SELECT id, client_id IS NOT NULL AS has_client_id,"
            " client_secret IS NOT NULL AS has_client_secret FROM servicetitan_credentials"
        )
        conn.execute(f"GRANT SELECT ON servicetitan_credentials_monitor TO {READER}")
    return dsn


@pytest.fixture
def place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, make_database: Callable[..., str]
) -> Iterator[Surroundings]:
    """Return surroundings where all is well."""
    storage = make_database("storage")
    upgrade(storage)
    surroundings = Surroundings(monkeypatch, tmp_path)
    with SlackServer(tokens={f"xoxb-{SECRET}": ("chat:write", "channels:read")}) as slack, MailServer() as mail:
        surroundings.connection("hub_plus_db", as_reader(source))
        surroundings.connection("monitoring_db", storage)
        surroundings.connection(
            "slack_alerts", {"conn_type": "slack", "password": slack.token, "extra": {"base_url": slack.base_url}}
        )
        extra = {"from_email": "monitor@hub.example", "disable_ssl": True, "disable_tls": True, "secret": SECRET}
        surroundings.connection(
            "alert_email", {"conn_type": "smtp", "host": mail.host, "port": mail.port, "extra": extra}
        )
        yield surroundings
        assert slack.messages == []
        assert mail.mails == []

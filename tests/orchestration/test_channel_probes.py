"""What doctor finds out about Slack and mail, against servers that answer as the real ones do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pytest_httpserver import HTTPServer

from include.orchestration.channel_probes import mail_findings, slack_findings
from include.orchestration.connections import ConnectionValues
from include.orchestration.findings import Finding, Status
from include.simulation.mail_server import MailServer
from include.simulation.slack_server import SlackServer
from include.simulation.slack_workspace import Channel

TOKEN = "xoxb-0000-hunter2"
OPEN, PUBLIC, LIST, PRIVATE = "chat:write", "chat:write.public", "channels:read", "groups:read"
CHANNELS = (
    Channel(id="C0MEMBER00", name="member"),
    Channel(id="C0OUTSIDE0", name="outside", is_member=False),
    Channel(id="C0ARCHIVED", name="archived", is_archived=True),
)


def slack_connection(base_url: str, *, token: str = TOKEN, **extra: Any) -> ConnectionValues:
    return ConnectionValues(
        conn_id="slack_alerts", conn_type="slack", password=token, extra={"base_url": base_url, **extra}
    )


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    found = list(findings)
    assert len({finding.name for finding in found}) == len(found), "every finding has a name of its own"
    assert all((finding.fix == "") is (finding.status is Status.PASS) for finding in found), "what is wrong has a fix"
    assert "hunter2" not in repr(found)
    return {finding.name: finding for finding in found}


# -- Slack ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scopes", "channel", "status", "says"),
    [
        pytest.param((OPEN, LIST), "#member", Status.PASS, "is a member", id="a member may post"),
        pytest.param((OPEN, LIST), "C0MEMBER00", Status.PASS, "is a member", id="a member, by id"),
        pytest.param((OPEN, LIST), "#outside", Status.FAIL, "is no member", id="an outsider may not"),
        pytest.param((OPEN, LIST), "C0OUTSIDE0", Status.FAIL, "is no member", id="an outsider may not, by id"),
        pytest.param((OPEN, PUBLIC, LIST), "#outside", Status.PASS, PUBLIC, id="an outsider may with the public scope"),
        pytest.param((OPEN, LIST), "#archived", Status.FAIL, "is archived", id="nobody may in an archive"),
        pytest.param((OPEN, LIST), "#none", Status.WARN, "can see", id="unseen: it may be private"),
        pytest.param(
            (OPEN, LIST, PRIVATE), "#none", Status.FAIL, "can see", id="unseen although private ones are seen"
        ),
        pytest.param((OPEN, LIST, PRIVATE), "C0NOSUCH00", Status.FAIL, "can see", id="an id that is none"),
        pytest.param((OPEN,), "#member", Status.WARN, "cannot be told", id="without a scope to look"),
    ],
)
def test_whether_a_channel_takes_messages(scopes: tuple[str, ...], channel: str, status: Status, says: str) -> None:
    with SlackServer(channels=CHANNELS, tokens={TOKEN: scopes}) as slack:
        found = by_name(slack_findings(slack_connection(slack.base_url), [channel]))

        assert slack.messages == []
    assert found["slack.token"].status is found["slack.scopes"].status is Status.PASS
    assert found[f"slack.channel.{channel}"].status is status
    assert says in found[f"slack.channel.{channel}"].detail


def test_a_token_that_may_not_write_fails_by_its_scopes() -> None:
    with SlackServer(channels=CHANNELS, tokens={TOKEN: (LIST,)}) as slack:
        found = by_name(slack_findings(slack_connection(slack.base_url), ["#member"]))

    assert found["slack.scopes"].status is Status.FAIL
    assert "lacks chat:write; it has channels:read" in found["slack.scopes"].detail
    assert "reinstall" in found["slack.scopes"].fix


def test_a_revoked_token_is_told_and_nothing_else_asked() -> None:
    with SlackServer(channels=CHANNELS, tokens={TOKEN: (OPEN,)}) as slack:
        slack.workspace.revoke(TOKEN)
        found = by_name(slack_findings(slack_connection(slack.base_url), ["#member"]))

    assert set(found) == {"slack.token"}
    assert found["slack.token"].status is Status.FAIL
    assert "token_revoked" in found["slack.token"].detail


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param({"mode": "drop_before"}, "cannot be reached", id="the line breaks"),
        pytest.param(
            {"mode": "delay", "delay": timedelta(seconds=3)}, "cannot be reached (TimeoutError)", id="no answer"
        ),
        pytest.param({"status": 503}, "refuses", id="an answer that is no JSON"),
        pytest.param({"error": "account_inactive"}, "refuses the token: account_inactive", id="the app was removed"),
        pytest.param({"error": "ratelimited"}, "ratelimited", id="too many calls"),
    ],
)
def test_slack_that_does_not_answer_is_a_finding(fault: dict[str, Any], says: str) -> None:
    with SlackServer(channels=CHANNELS, tokens={TOKEN: (OPEN,)}) as slack:
        slack.fail_next("auth.test", **fault)
        found = by_name(slack_findings(slack_connection(slack.base_url), ["#member"], timeout=1))

    assert found["slack.token"].status is Status.FAIL
    assert says in found["slack.token"].detail


def test_channels_that_cannot_be_listed_leave_the_rest_standing() -> None:
    with SlackServer(channels=CHANNELS, tokens={TOKEN: (OPEN, LIST)}) as slack:
        slack.fail_next("conversations.list", error="internal_error")
        found = by_name(slack_findings(slack_connection(slack.base_url), ["#member"]))

    assert found["slack.scopes"].status is Status.PASS
    assert found["slack.channels"].status is Status.WARN


def test_slack_that_is_not_there_is_a_finding() -> None:
    with SlackServer() as slack:
        url = slack.base_url

    found = by_name(slack_findings(slack_connection(url), ["#member"], timeout=1))

    assert "cannot be reached" in found["slack.token"].detail


@pytest.mark.parametrize(
    ("connection", "says"),
    [
        pytest.param(ConnectionValues(conn_id="c", conn_type="slack"), "has no token", id="no token"),
        pytest.param(
            ConnectionValues(conn_id="c", conn_type="http", password=TOKEN), "of type 'http'", id="another type"
        ),
    ],
)
def test_a_connection_that_is_no_slack_is_a_finding(connection: ConnectionValues, says: str) -> None:
    (finding,) = slack_findings(connection, ["#member"])

    assert finding.status is Status.FAIL
    assert says in finding.detail


def test_a_redirect_is_a_finding_and_not_followed(httpserver: HTTPServer) -> None:
    """It would take the token along."""
    elsewhere = {"Location": httpserver.url_for("/elsewhere")}
    httpserver.expect_request("/api/auth.test").respond_with_data("", status=302, headers=elsewhere)

    found = by_name(slack_findings(slack_connection(httpserver.url_for("/api/")), ["#member"]))
    assert "base_url" in found["slack.token"].fix
    assert [request.path for request, _ in httpserver.log] == ["/api/auth.test"]


# -- mail ----------------------------------------------------------------------------------------

PLAIN = {"disable_ssl": True, "disable_tls": True}
STARTTLS = {"disable_ssl": True}


def mail_connection(port: int, *, host: str = "127.0.0.1", login: str | None = None, **extra: Any) -> ConnectionValues:
    return ConnectionValues(
        conn_id="alert_email",
        conn_type="smtp",
        host=host,
        port=port,
        login=login,
        password="hunter2" if login else None,
        extra={"from_email": "monitor@hub.example", **extra},
    )


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a key and a certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=12))
        .not_valid_after(now + timedelta(hours=12))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize(
    ("extra", "login", "status", "says"),
    [
        pytest.param(PLAIN, None, Status.PASS, "answers (no TLS)", id="no TLS and no login"),
        pytest.param({}, None, Status.FAIL, "STARTTLS are both on", id="an extra that says nothing asks for both TLS"),
        pytest.param({"disable_tls": True}, None, Status.FAIL, "TLS fails", id="TLS where there is none"),
        pytest.param(
            STARTTLS, None, Status.FAIL, "STARTTLS extension not supported", id="STARTTLS where there is none"
        ),
        pytest.param(PLAIN, "monitor", Status.FAIL, "refuses the login: 535", id="a login it does not know"),
    ],
)
def test_a_server_without_tls(extra: dict[str, Any], login: str | None, status: Status, says: str) -> None:
    with MailServer() as mail:
        found = by_name(mail_findings(mail_connection(mail.port, login=login, **extra), ["a@hub.example"]))

        assert mail.mails == []
    assert set(found) == {"mail.server"}
    assert found["mail.server"].status is status
    assert says in found["mail.server"].detail


@pytest.mark.parametrize(
    ("login", "trusts", "extra", "status", "says"),
    [
        pytest.param("monitor", True, STARTTLS, Status.PASS, "(STARTTLS, logged in as monitor)", id="all is right"),
        pytest.param("stranger", True, STARTTLS, Status.FAIL, "refuses the login: 535", id="a wrong login"),
        pytest.param("monitor", False, STARTTLS, Status.FAIL, "certificate is not trusted", id="an unknown authority"),
        pytest.param(
            "monitor",
            False,
            STARTTLS | {"ssl_context": "none"},
            Status.PASS,
            "logged in",
            id="no look at the certificate",
        ),
        pytest.param("monitor", True, PLAIN, Status.FAIL, "", id="a login without TLS"),
        pytest.param(
            "monitor", True, STARTTLS | {"auth_type": "oauth2"}, Status.PASS, "OAuth2 login not tried", id="OAuth2"
        ),
    ],
)
def test_a_server_that_wants_tls_and_a_login(
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    login: str,
    trusts: bool,
    extra: dict[str, Any],
    status: Status,
    says: str,
) -> None:
    if trusts:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with MailServer(tls=server_tls(certificate), login=("monitor", "hunter2")) as mail:
        found = by_name(mail_findings(mail_connection(mail.port, login=login, **extra), ["a@hub.example"]))

    assert found["mail.server"].status is status
    assert says in found["mail.server"].detail


def test_a_server_that_greets_with_a_refusal_is_a_finding() -> None:
    with MailServer() as mail:
        mail.fail_next("refuse_connection")
        found = by_name(mail_findings(mail_connection(mail.port, **PLAIN), []))

    assert found["mail.server"].status is Status.FAIL
    assert "421" in found["mail.server"].detail


def test_a_server_that_never_greets_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = by_name(mail_findings(mail_connection(port, **PLAIN), [], timeout=1))

    assert found["mail.server"].status is Status.FAIL
    assert "cannot be reached" in found["mail.server"].detail


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "bad host", "x" * 300])
def test_a_server_that_is_not_there_is_a_finding(host: str) -> None:
    with MailServer() as mail:
        port = mail.port

    found = by_name(mail_findings(mail_connection(port, host=host, **PLAIN), [], timeout=2))

    assert "cannot be reached" in found["mail.server"].detail


def test_no_sender_fails_and_an_example_recipient_is_told() -> None:
    with MailServer() as mail:
        connection = mail_connection(mail.port, **PLAIN, from_email="")
        found = by_name(mail_findings(connection, ["ops@example.com", "a@hub.example"]))

    assert found["mail.sender"].status is Status.FAIL
    assert found["mail.recipients"].status is Status.WARN
    assert found["mail.recipients"].detail == "ops@example.com is only an example"


def test_a_switch_that_airflow_misreads_is_told() -> None:
    """In a URI every extra is a text, and the provider takes the text "false" for true."""
    with MailServer() as mail:
        connection = mail_connection(mail.port, disable_ssl="true", disable_tls="false")
        found = by_name(mail_findings(connection, []))

    assert found["mail.disable_tls"].status is Status.WARN
    assert "mail.disable_ssl" not in found
    assert found["mail.server"].status is Status.PASS
    assert "no TLS" in found["mail.server"].detail

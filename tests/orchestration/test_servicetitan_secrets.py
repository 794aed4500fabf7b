"""No secret of a connection is shown, logged or hung onto an error, and none goes to a host that nobody vouches for."""

from __future__ import annotations

import gc
import logging
import ssl
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.orchestration.servicetitan_client import ServiceTitanClient
from include.orchestration.servicetitan_tokens import TokenCache
from include.simulation.servicetitan_api import Client
from include.simulation.servicetitan_server import ServiceTitanServer
from include.sync_health.api_problems import NoAnswer, ServiceTitanError
from include.sync_health.verdicts import ErrorClass
from tests.orchestration.servicetitan_clients import LATE, Clock, MakeClient, clients_of, connection_to

PLAIN = Client(client_id="plain-client", client_secret="plain secret words", app_key="plain-application-key")
"""Secrets that nothing knows by their looks."""

TOKEN = "plain-token-words"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[ServiceTitanServer]:
    with ServiceTitanServer(PLAIN, clock=clock.wall) as server:
        yield server


@pytest.fixture
def tokens(clock: Clock) -> TokenCache:
    return TokenCache(clock)


@pytest.fixture
def make_client(server: ServiceTitanServer, tokens: TokenCache) -> Iterator[MakeClient]:
    with clients_of(server, tokens) as make:
        yield make


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate that nobody vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def test_a_certificate_that_nobody_vouches_for_is_refused(self_signed: ssl.SSLContext) -> None:
    with (
        ServiceTitanServer(tls=self_signed) as server,
        ServiceTitanClient(
            connection_to(server, auth_url=f"https://localhost:{server.port}"), tokens=TokenCache()
        ) as client,
    ):
        result = client.probe()

    assert result.error_class is ErrorClass.TIMEOUT
    assert (result.error or "").startswith("localhost: its certificate is not trusted (self-signed certificate")
    assert server.calls == []


FAULTS = [
    pytest.param("token", {"status": 400, "title": "invalid_client"}, id="a refused client"),
    pytest.param("token", {"status": 400, "body": b'{"error": "invalid_client", "error_description": "@"}'}, id="echo"),
    pytest.param("token", {"status": 500, "body": b"@"}, id="a page that repeats them"),
    pytest.param("token", {"mode": "hang"}, id="signing in hangs"),
    pytest.param("token", {"mode": "reset"}, id="signing in breaks"),
    pytest.param("api", {"status": 401, "body": b'{"title": "@"}'}, id="a title that repeats them"),
    pytest.param("api", {"status": 500, "body": b'{"title": "a@", "traceId": "@"}'}, id="a trace id that repeats them"),
    pytest.param("api", {"status": 200, "body": b"@"}, id="no document"),
    pytest.param("api", {"status": 302, "headers": {"Location": "https://example.com/?k=@"}}, id="a redirect"),
    pytest.param("api", {"mode": "hang"}, id="the call hangs"),
    pytest.param("api", {"mode": "drip"}, id="the call drips"),
    pytest.param("api", {"mode": "reset"}, id="the call breaks"),
    pytest.param("api", {"mode": "cut"}, id="the answer is cut"),
]


@pytest.mark.parametrize(("kind", "fault"), FAULTS)
def test_no_secret_is_shown_logged_or_hung_onto_an_error(
    server: ServiceTitanServer,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    kind: Any,
    fault: dict[str, Any],
) -> None:
    # At DEBUG httpcore writes the headers of the answer, whatever a server puts into them.
    caplog.set_level(logging.INFO if "headers" in fault else logging.DEBUG)
    client = make_client(timeout=LATE if fault.get("mode") in ("hang", "drip") else 10)
    secrets = [*client.connection.secrets, *([TOKEN] if kind == "api" else [])]
    if kind == "api":
        server.fail_next("token", status=200, body=b'{"access_token": "%s", "expires_in": 900}' % TOKEN.encode())
    echo = " ".join(secrets).encode()
    fault = {name: value.replace(b"@", echo) if isinstance(value, bytes) else value for name, value in fault.items()}
    if "headers" in fault:
        fault["headers"] = {name: value.replace("@", TOKEN) for name, value in fault["headers"].items()}
    server.fail_next(kind, **fault)

    with pytest.raises(ServiceTitanError) as caught:
        client.get("settings", "business-units")

    error = caught.value
    chain = [error, error.__cause__, error.__context__]
    shown = [
        str(error),
        repr(error),
        repr(error.__dict__),
        "".join(traceback.format_exception(error)),
        repr(client),
        repr(client.connection),
        caplog.text,
        *(str(record.args) for record in caplog.records),
    ]
    assert chain == [error, None, None]
    assert [secret for secret in secrets for text in shown if secret in text] == []


def test_a_broken_call_leaves_no_request_behind(server: ServiceTitanServer, make_client: MakeClient) -> None:
    """An exception of httpx holds the request with its headers: none may live on through ours."""
    server.fail_next("api", mode="reset")
    before = {id(each) for each in httpx_errors()}
    with pytest.raises(NoAnswer) as caught:
        make_client().get("settings", "business-units")
    gc.collect()

    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert [each for each in httpx_errors() if id(each) not in before] == []


def httpx_errors() -> list[object]:
    """Return those that live. By `type`: to ask an object for its class may run code, of a lazy proxy of Airflow's say."""
    return [each for each in gc.get_objects() if issubclass(type(each), httpx.HTTPError)]

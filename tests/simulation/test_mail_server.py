"""The mail server, spoken to by the standard library's ``smtplib``: what it keeps, and every fault it can play."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from include.simulation.mail_server import MailServer

NOW = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer(clock=lambda: NOW) as running:
        yield running


def letter(subject: str = "Hello", *, to: str = "ops@example.com") -> EmailMessage:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = subject, "monitor@example.com", to
    message.set_content("Zwölf Läufe sind gescheitert.\n.\nEnd\n")
    message.add_alternative("<p>Zwölf Läufe sind <b>gescheitert</b>.</p>", subtype="html")
    return message


def send(mail: MailServer, message: EmailMessage | None = None) -> dict[str, Any]:
    with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
        return connection.send_message(message or letter())


def test_a_mail_is_kept_with_its_envelope_and_both_parts(mail: MailServer) -> None:
    send(mail, letter("Zwölf", to="ops@example.com, second@example.com"))

    (kept,) = mail.mails
    assert (kept.number, kept.received_at, kept.sender) == (1, NOW, "monitor@example.com")
    assert kept.recipients == ("ops@example.com", "second@example.com")
    (message,) = mail.messages
    assert message["subject"] == "Zwölf"
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert text.get_content().splitlines() == ["Zwölf Läufe sind gescheitert.", ".", "End"]
    assert html is not None
    assert "<b>gescheitert</b>" in html.get_content()


def test_mails_are_numbered_and_a_number_is_never_given_twice(mail: MailServer) -> None:
    send(mail)
    mail.clear()
    send(mail)

    assert [kept.number for kept in mail.mails] == [2]


def test_a_refused_connection_is_greeted_with_421(mail: MailServer) -> None:
    mail.fail_next("refuse_connection")

    with pytest.raises(smtplib.SMTPConnectError) as caught:
        send(mail)
    assert caught.value.smtp_code == 421
    assert send(mail) == {}
    assert len(mail.mails) == 1


def test_a_refused_recipient_gets_550_and_the_others_their_mail(mail: MailServer) -> None:
    mail.fail_next("refuse_recipient", recipient="gone@example.com")

    refused = send(mail, letter(to="ops@example.com, gone@example.com"))

    assert refused["gone@example.com"][0] == 550
    assert mail.mails[0].recipients == ("ops@example.com",)


def test_a_mail_whose_only_recipient_is_refused_is_not_kept(mail: MailServer) -> None:
    mail.fail_next("refuse_recipient")

    with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
        send(mail)
    assert caught.value.recipients["ops@example.com"][0] == 550
    assert mail.mails == []


def test_the_next_recipient_is_greylisted_when_told(mail: MailServer) -> None:
    mail.fail_next("greylist", times=2)
    codes = []
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            send(mail)
        codes.append(caught.value.recipients["ops@example.com"][0])

    assert codes == [450, 450]
    assert send(mail) == {}


def test_a_greylisting_server_refuses_each_recipient_once() -> None:
    with MailServer(greylist=True) as mail:
        for recipient in ("one@example.com", "two@example.com"):
            with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
                send(mail, letter(to=recipient))
            assert caught.value.recipients[recipient][0] == 450
            assert send(mail, letter(to=recipient)) == {}

        assert [kept.recipients for kept in mail.mails] == [("one@example.com",), ("two@example.com",)]


def test_refused_content_gets_554(mail: MailServer) -> None:
    mail.fail_next("refuse_content")

    with pytest.raises(smtplib.SMTPDataError) as caught:
        send(mail)
    assert caught.value.smtp_code == 554
    assert mail.mails == []


def test_a_connection_dropped_in_data_leaves_nothing(mail: MailServer) -> None:
    mail.fail_next("drop_in_data")

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        send(mail)
    assert mail.mails == []
    assert send(mail) == {}


def test_a_mail_can_be_kept_without_an_answer(mail: MailServer) -> None:
    """The ambiguous case: the sender cannot know that the mail has arrived."""
    mail.fail_next("accept_then_drop")

    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
        send(mail)
    assert len(mail.mails) == 1


def test_a_slow_server_keeps_the_sender_waiting(mail: MailServer) -> None:
    mail.fail_next("slow", delay=timedelta(seconds=0.3))
    before = time.monotonic()
    send(mail)

    assert time.monotonic() - before >= 0.3
    assert len(mail.mails) == 1


def test_a_slow_server_outlasts_an_impatient_sender(mail: MailServer) -> None:
    mail.fail_next("slow", delay=timedelta(minutes=5))

    with (
        pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)),
        smtplib.SMTP(mail.host, mail.port, timeout=0.3) as connection,
    ):
        connection.send_message(letter())


def test_a_login_is_demanded_and_checked() -> None:
    with MailServer(login=("monitor", "secret")) as mail:
        with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                connection.send_message(letter())
            assert refused.value.smtp_code == 530
            with pytest.raises(smtplib.SMTPAuthenticationError):
                connection.login("monitor", "wrong")
        with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
            connection.login("monitor", "secret")
            connection.send_message(letter())

        assert len(mail.mails) == 1


def certificate(folder: Path) -> Path:
    """Write a key and a certificate for 127.0.0.1 that signs itself, valid for a day around now."""
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
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def test_starttls_is_demanded_and_carries_the_login(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with MailServer(tls=context, login=("monitor", "secret")) as mail:
        with smtplib.SMTP(mail.host, mail.port, timeout=5) as connection:
            with pytest.raises(smtplib.SMTPSenderRefused):
                connection.send_message(letter())
            connection.starttls(context=ssl.create_default_context(cafile=str(pem)))
            connection.login("monitor", "secret")
            connection.send_message(letter())

        assert len(mail.mails) == 1


def test_mails_and_port_survive_an_outage() -> None:
    mail = MailServer().start()
    port = mail.port
    send(mail)
    mail.stop()
    with pytest.raises(ConnectionRefusedError):
        send(mail)
    mail.start()
    send(mail)
    mail.stop()

    assert mail.port == port
    assert len(mail.mails) == 2


def test_a_taken_port_is_an_error_that_names_itself() -> None:
    with MailServer() as first, pytest.raises(OSError, match="in use"):
        MailServer(first.port).start()


def test_stopping_waits_for_no_client() -> None:
    mail = MailServer().start()
    with socket.create_connection((mail.host, mail.port), timeout=5) as idle:
        assert idle.recv(100).startswith(b"220")
        stopping = threading.Thread(target=mail.stop, daemon=True)
        stopping.start()
        stopping.join(5)
        assert not stopping.is_alive()
        with suppress(ConnectionError):
            assert idle.recv(100) == b""

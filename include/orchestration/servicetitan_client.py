"""
Calls of ServiceTitan: sign in, ask, and say what came of it. Knows no Airflow.

No redirect is followed, certificates are verified, an answer may have `MAX_BODY_BYTES`, and a call ends when its time is
over, however slowly the answer drips (the time-outs of httpx begin anew with every byte), but for the system's own search
for the host's address. Nothing is tried again, for
calls share 60 a second with the application's own, except once with a new token when one that was kept is refused.

Errors are made as values and raised where nothing is being handled, so that none has an exception of httpx behind it:
those hold the request with its headers.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from include.orchestration.servicetitan_connection import LOCAL_HOSTS, ServiceTitanConnection
from include.orchestration.servicetitan_tokens import TOKENS, TokenCache
from include.sync_health.api_probes import SIGN_IN_PATH, ProbeResult
from include.sync_health.api_problems import (
    Answer,
    NoAnswer,
    ServiceTitanError,
    SignInRefused,
    Token,
    UnreadableAnswer,
    read_document,
    read_token,
)
from include.sync_health.endpoints import templated

if TYPE_CHECKING:
    import httpx

MAX_BODY_BYTES = 1024 * 1024
USER_AGENT = "servicetitan-monitor"

_MODULE = re.compile(r"[a-z][a-z-]{0,40}")
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,60}(?:/[A-Za-z0-9][A-Za-z0-9-]{0,60}){0,5}")
_CONNECTED = ("connect_tcp.complete", "start_tls.complete")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of a call: ``found``, and where, or how it failed."""

    found: Mapping[str, Any] | ServiceTitanError
    endpoint: str
    status_code: int | None
    response_ms: float | None


class ServiceTitanClient:
    """
    Calls of one tenant's API; close it, or use it as a context manager.

    Args:
        connection: whom to sign in as, and where.
        timeout: seconds for one call, signing in included; None: the connection's.
        tokens: where tokens are kept.
        now: the wall clock.
        on_token: told every token that is minted, to keep it out of logs.
    """

    def __init__(
        self,
        connection: ServiceTitanConnection,
        *,
        timeout: float | None = None,
        tokens: TokenCache = TOKENS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_token: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.connection = connection
        self.timeout = connection.timeout if timeout is None else timeout
        self._tokens, self._now, self._on_token = tokens, now, on_token
        identity = "\0".join((connection.client_id, connection.client_secret))
        self._key = f"{connection.auth_url} {hashlib.sha256(identity.encode('utf-8', 'surrogatepass')).hexdigest()}"
        self._clients: dict[str, httpx.Client] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open; the tokens stay."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def get(self, module: str, resource: str, *, params: Mapping[str, str | int] | None = None) -> Mapping[str, Any]:
        """
        Return what ``GET /{module}/v2/tenant/{tenant}/{resource}`` answers with.

        Args:
            module: such as ``settings`` or ``crm``.
            resource: such as ``business-units``, or ``customers/12``.
            params: the query.

        Raises:
            ServiceTitanError: it did not answer with a JSON object; the class says why.
            ValueError: ``module`` or ``resource`` is no path.
        """
        found = self._ask(module, resource, params or {}).found
        if isinstance(found, ServiceTitanError):
            raise found
        return found

    def probe(self) -> ProbeResult:
        """Ask for one business unit, the cheapest list there is, and return how that went; raises nothing for it."""
        at = self._now()
        outcome = self._ask("settings", "business-units", {"pageSize": 1})
        found = outcome.found
        if not isinstance(found, ServiceTitanError) and not isinstance(found.get("data"), list):
            found = UnreadableAnswer("ServiceTitan answered 200, but not with a list of business units")
        failure = found if isinstance(found, ServiceTitanError) else None
        return ProbeResult(
            at=at,
            status_code=outcome.status_code,
            response_ms=outcome.response_ms,
            error_class=failure.error_class if failure else None,
            error=str(failure) if failure else None,
            endpoint=outcome.endpoint,
        )

    def _ask(self, module: str, resource: str, params: Mapping[str, str | int]) -> _Outcome:
        if not (_MODULE.fullmatch(module) and _RESOURCE.fullmatch(resource)):
            raise ValueError("module and resource must be words of letters, digits and dashes")
        deadline = time.monotonic() + self.timeout
        while True:
            taken = self._tokens.take(self._key, lambda: self._mint(deadline))
            if isinstance(taken, ServiceTitanError):
                return _Outcome(found=taken, endpoint=SIGN_IN_PATH, status_code=taken.status_code, response_ms=None)
            token, was_kept = taken
            outcome = self._call(module, resource, params, token=token, deadline=deadline)
            if not isinstance(outcome.found, SignInRefused):
                return outcome
            self._tokens.forget(self._key, token)
            if not was_kept:
                return outcome

    def _call(
        self, module: str, resource: str, params: Mapping[str, str | int], *, token: str, deadline: float
    ) -> _Outcome:
        path = f"/{module}/v2/tenant/{self.connection.tenant_id}/{resource}"
        headers = {"Authorization": f"Bearer {token}", "ST-App-Key": self.connection.app_key}
        began = time.monotonic()
        answer = self._exchange(
            "GET", self.connection.api_url, path, headers=headers, params=params, form=None, deadline=deadline
        )
        took = (time.monotonic() - began) * 1000
        found = (
            answer
            if isinstance(answer, ServiceTitanError)
            else read_document(answer, now=self._now(), secrets=(*self.connection.secrets, token))
        )
        has_answer = isinstance(answer, Answer)
        return _Outcome(
            found=found,
            endpoint=templated(path),
            status_code=answer.status_code,
            response_ms=took if has_answer else None,
        )

    def _mint(self, deadline: float) -> Token | ServiceTitanError:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.connection.client_id,
            "client_secret": self.connection.client_secret,
        }
        answer = self._exchange(
            "POST", self.connection.auth_url, SIGN_IN_PATH, headers={}, params={}, form=form, deadline=deadline
        )
        if isinstance(answer, ServiceTitanError):
            return answer
        token = read_token(answer, now=self._now(), secrets=self.connection.secrets)
        if isinstance(token, Token):
            self._on_token(token.value)
        return token

    def _exchange(
        self,
        method: str,
        base_url: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str | int],
        form: Mapping[str, str] | None,
        deadline: float,
    ) -> Answer | ServiceTitanError:
        """Return the answer, read in full, or why there is none."""
        import httpx

        host = urlsplit(base_url).hostname
        left = deadline - time.monotonic()
        if left <= 0:
            return NoAnswer(f"no time was left to ask {host}: {self.timeout:g} s for the whole call")
        watch = _Watch(left)
        try:
            with (
                watch,
                self._client(base_url).stream(
                    method,
                    f"{base_url}{path}",
                    headers=headers,
                    params=params or None,
                    data=form,
                    timeout=left,
                    extensions={"trace": watch.note},
                ) as response,
            ):
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        return UnreadableAnswer(
                            f"{host} answered {response.status_code} with more than {MAX_BODY_BYTES // 1024} KB",
                            status_code=response.status_code,
                        )
                answer = Answer(
                    status_code=response.status_code,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=bytes(body),
                )
            # The end of an answer without a length may have been our own shutting down.
            if not watch.has_ended:
                return answer
            reason = ""
        except (httpx.HTTPError, OSError, ValueError) as error:
            # ValueError: a socket that was closed while it was read.
            reason = "" if isinstance(error, httpx.TimeoutException) else _reason(error)
        if watch.has_ended or not reason:
            reason = f"no answer within {self.timeout:g} s"
        return NoAnswer(f"{host}: {reason}")

    def _client(self, base_url: str) -> httpx.Client:
        import httpx

        with self._lock:
            if base_url not in self._clients:
                self._clients[base_url] = httpx.Client(
                    follow_redirects=False,
                    # Nothing is kept open: the watch must see each connection being made.
                    limits=httpx.Limits(max_keepalive_connections=0),
                    headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT},
                    # A proxy of the deployment's must not see calls to the machine itself.
                    trust_env=urlsplit(base_url).hostname not in LOCAL_HOSTS,
                )
            return self._clients[base_url]


class _Watch:
    """Ends a call whose time is over by shutting its connection down."""

    def __init__(self, seconds: float) -> None:
        self.has_ended = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take the connection from what httpcore traces."""
        if event.endswith(_CONNECTED):
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
            if self.has_ended:
                self._shut()

    def _end(self) -> None:
        self.has_ended = True
        self._shut()

    def _shut(self) -> None:
        with self._lock:
            if self._socket is not None:
                try:
                    # Not the method of an SSL socket, which would take its TLS away under the reading thread.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                except OSError:
                    return


def _reason(error: BaseException) -> str:
    """Return why there is no answer, in words that hold nothing of the request."""
    link: BaseException | None = error
    for _ in range(10):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({link.verify_message or 'verification failed'})"
        if isinstance(link, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(link, ConnectionRefusedError):
            return "it refuses the connection"
        if isinstance(link, ConnectionResetError):
            return "it reset the connection"
        if link is None:
            break
        link = link.__cause__ or link.__context__
    return f"the connection failed ({type(error).__name__})"

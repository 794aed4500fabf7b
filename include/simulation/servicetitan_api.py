"""
ServiceTitan's token server and API as functions over a `Tenancy`: a request in, an HTTP answer out.

What is refused, and how, is what `reference: source-system.md, section 6` says of the real one: OAuth errors with status
400, a missing application key and an unknown token with 401, a missing scope with 403, 60 calls a second for each application
and tenant with 429. Where the real texts are not known, these are made up in the manner of those that are.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

BUSINESS_UNITS_SCOPE = "tn.stt.businessunits:r"
TOKEN_LIFETIME = timedelta(seconds=900)
CALLS_PER_SECOND = 60
MAX_PAGE_SIZE = 5000
APP_KEY = "ak1.simulatedapplicationkey"

_PATH = re.compile(r"/(?P<module>[a-z-]+)/v2/tenant/(?P<tenant>[^/]+)/(?P<resource>[a-z/-]+)")
_SCOPES = {("settings", "business-units"): BUSINESS_UNITS_SCOPE}

HttpAnswer = tuple[int, Mapping[str, str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An application as one tenant has let it in."""

    client_id: str = "cid.simulatedclientidentity"
    client_secret: str = field(default="cs1.simulatedclientsecretofthetenant", repr=False)
    tenant_id: str = "1234567890"
    app_key: str = field(default=APP_KEY, repr=False)
    scopes: frozenset[str] = frozenset({BUSINESS_UNITS_SCOPE})


class Tenancy:
    """
    Who may call, and the tokens that were given.

    Args:
        clients: those that are let in.
        clock: the source of "now", UTC-aware.
        token_lifetime: told as ``expires_in``, and held to.
        calls_per_second: the limit for each application and tenant; None for none.
    """

    def __init__(
        self,
        *clients: Client,
        clock: Callable[[], datetime],
        token_lifetime: timedelta = TOKEN_LIFETIME,
        calls_per_second: int | None = CALLS_PER_SECOND,
    ) -> None:
        self.clients = {client.client_id: client for client in clients}
        self.token_lifetime, self.calls_per_second = token_lifetime, calls_per_second
        self.clock = clock
        self._tokens: dict[str, tuple[Client, datetime]] = {}
        self._recent: dict[tuple[str, str], deque[datetime]] = {}
        self._lock = threading.Lock()

    def give_token(self, client: Client) -> str:
        """Return a new token of ``client``."""
        token = "eyJhbGciOiJSUzI1NiJ9." + secrets.token_urlsafe(48)
        with self._lock:
            self._tokens[token] = (client, self.clock() + self.token_lifetime)
        return token

    def client_of(self, token: str) -> Client | None:
        """Return whose token this is, None when it is unknown or has lapsed."""
        with self._lock:
            client, until = self._tokens.get(token, (None, self.clock()))
        return client if self.clock() < until else None

    def revoke_tokens(self) -> None:
        """Forget every token, as if all of them had lapsed."""
        with self._lock:
            self._tokens.clear()

    def seconds_until_allowed(self, client: Client) -> int | None:
        """Count a call; return how long to wait where it is one too many, else None."""
        if self.calls_per_second is None:
            return None
        now = self.clock()
        with self._lock:
            recent = self._recent.setdefault((client.app_key, client.tenant_id), deque())
            while recent and now - recent[0] >= timedelta(seconds=1):
                recent.popleft()
            if len(recent) >= self.calls_per_second:
                return 1
            recent.append(now)
        return None


def answer_token(tenancy: Tenancy, method: str, content_type: str, body: bytes) -> HttpAnswer:
    """Answer ``/connect/token``."""
    if method != "POST":
        return 405, {"Allow": "POST"}, b""
    if content_type != "application/x-www-form-urlencoded":
        return oauth_error("invalid_request")
    pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    form = dict(pairs)
    if len(pairs) != len(form):
        return oauth_error("invalid_request")
    client = tenancy.clients.get(form.get("client_id", ""))
    if client is None or form.get("client_secret") != client.client_secret:
        return oauth_error("invalid_client")
    if form.get("grant_type") != "client_credentials":
        return oauth_error("unsupported_grant_type")
    document = {
        "access_token": tenancy.give_token(client),
        "expires_in": int(tenancy.token_lifetime.total_seconds()),
        "token_type": "Bearer",
        "scope": " ".join(sorted(client.scopes)),
    }
    return 200, {"Content-Type": "application/json; charset=UTF-8", "Cache-Control": "no-store"}, _json(document)


def answer_api(
    tenancy: Tenancy, method: str, path: str, query: str, *, app_key: str | None, authorization: str | None
) -> HttpAnswer:
    """Answer a call of the API."""
    if not app_key:
        return problem(401, "Application key not present, check ST-App-Key header value.")
    scheme, _, token = (authorization or "").partition(" ")
    client = tenancy.client_of(token) if scheme == "Bearer" else None
    if client is None:
        return problem(401, "Unauthorized", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
    if app_key != client.app_key:
        return problem(401, "Application key is not valid, check ST-App-Key header value.")
    found = _PATH.fullmatch(path)
    if found is None or (found["module"], found["resource"]) not in _SCOPES:
        return problem(404, "Not Found")
    if found["tenant"] != client.tenant_id:
        return problem(404, f"Tenant {found['tenant']} is not found")
    if _SCOPES[found["module"], found["resource"]] not in client.scopes:
        return problem(403, "Access denied: the application has no scope for this endpoint.")
    if method != "GET":
        return problem(405, "Method Not Allowed", headers={"Allow": "GET"})
    if (wait := tenancy.seconds_until_allowed(client)) is not None:
        return problem(429, rate_limit_title(wait))
    return _page(query)


def rate_limit_title(seconds: int) -> str:
    """Return what a refusal for the rate is titled with; servicepytan reads the seconds as the last word but one."""
    return f"Rate limit is exceeded. Try again in {seconds} seconds."


def problem(
    status: int, title: str, *, headers: Mapping[str, str] | None = None, errors: Mapping[str, Any] | None = None
) -> HttpAnswer:
    """Return a problem document (RFC 7807) as ServiceTitan writes it."""
    document: dict[str, Any] = {
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5",
        "title": title,
        "status": status,
        "traceId": f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00",
    }
    if errors:
        document["errors"] = errors
    return status, {"Content-Type": "application/problem+json; charset=utf-8", **(headers or {})}, _json(document)


def oauth_error(error: str, *, status: int = 400, description: str | None = None) -> HttpAnswer:
    """Return an error of the token server (RFC 6749, section 5.2)."""
    document = {"error": error} | ({"error_description": description} if description else {})
    return status, {"Content-Type": "application/json; charset=UTF-8"}, _json(document)


def _page(query: str) -> HttpAnswer:
    arguments = dict(parse_qsl(query))
    wrong = {
        name: [f"The value '{text}' is not valid."]
        for name, text in arguments.items()
        if name in ("page", "pageSize") and not (text.isdigit() and 0 < int(text) <= MAX_PAGE_SIZE)
    }
    if wrong:
        return problem(400, "One or more validation errors occurred.", errors=wrong)
    page, size = int(arguments.get("page", 1)), int(arguments.get("pageSize", 50))
    units = [{"id": 1000 + number, "active": True, "name": f"Business unit {number}"} for number in range(1, 4)]
    document = {
        "page": page,
        "pageSize": size,
        "hasMore": page * size < len(units),
        "totalCount": len(units) if arguments.get("includeTotal") == "true" else None,
        "data": units[(page - 1) * size : page * size],
    }
    return 200, {"Content-Type": "application/json; charset=utf-8"}, _json(document)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()

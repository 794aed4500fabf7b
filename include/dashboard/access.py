"""
Who may ask: whoever Airflow lets see its plugins; and for some pages, whoever presents the token.

Airflow does not protect the apps that plugins mount: each of our routes has one of these dependencies. With
``simple_auth_manager_all_admins`` Airflow itself makes every request an admin's.
"""

from __future__ import annotations

import hmac
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

log = logging.getLogger("servicetitan.dashboard")

TOKEN_VARIABLE = "SERVICETITAN_MONITOR_TOKEN"  # noqa: S105 - the variable's name
"""Environment variable that holds the token; it wins over the file."""

TOKEN_FILE_VARIABLE = "SERVICETITAN_MONITOR_TOKEN_FILE"  # noqa: S105 - the variable's name
"""Environment variable that names a file which holds the token; read at every request, so that it can be changed."""

LONGEST_TOKEN_FILE = 4096
"""A file with more bytes is no token."""

_SCHEME = b"bearer "


def login() -> Any:
    """Return the dependency that lets in whoever is logged in and may see Airflow's plugins; 401 or 403 for others."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import requires_access_view

    return Depends(requires_access_view(AccessView.PLUGINS))


def token_or_login() -> Any:
    """Return the dependency that lets in whoever presents the token, and whomever `login` lets in."""
    from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
    from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_view

    may_see = requires_access_view(AccessView.PLUGINS)
    presented = Depends(bearer_scheme)  # with it Airflow alone decides which of header and cookie wins

    async def allowed(
        request: Request,
        has_token: bool = Depends(presents_token),
        bearer: Any = presented,
    ) -> None:
        if has_token:
            return
        user = await get_user(request, bearer_credentials=bearer)
        # An auth manager may ask its database.
        await run_in_threadpool(may_see, request, user)

    return Depends(allowed)


def presents_token(request: Request) -> bool:
    """Return whether a request has the token; never, where none is configured. Takes the same time for every wrong one."""
    expected = configured_token(os.environ)
    values = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if expected is None or len(values) != 1 or values[0][: len(_SCHEME)].lower() != _SCHEME:
        return False
    return hmac.compare_digest(values[0][len(_SCHEME) :].strip(), expected)


def configured_token(environ: Mapping[str, str]) -> bytes | None:
    """
    Return the token as it stands now, without surrounding space; None where there is none.

    A file that cannot be read, or holds none, is told in the log: nobody gets in by a token then, and everybody by login.
    """
    if token := environ.get(TOKEN_VARIABLE, "").strip():
        return token.encode("utf-8", "surrogateescape")
    named = environ.get(TOKEN_FILE_VARIABLE, "").strip()
    if not named:
        return None
    try:
        with Path(named).expanduser().open("rb") as file:
            content = file.read(LONGEST_TOKEN_FILE + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~name of nobody
        why = error.strerror if isinstance(error, OSError) else error
        log.error("%s names a file that cannot be read (%s): no token is accepted", TOKEN_FILE_VARIABLE, why)
        return None
    token_bytes = content.strip()
    if not token_bytes or len(content) > LONGEST_TOKEN_FILE or len(token_bytes.split()) > 1:
        log.error("%s names a file that holds no token, one word of text: none is accepted", TOKEN_FILE_VARIABLE)
        return None
    return token_bytes

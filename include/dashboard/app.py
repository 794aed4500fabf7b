"""
The web app, which Airflow's API server mounts at ``/servicetitan-monitor``.

Every process of Airflow imports the plugin, and with it this module: whatever is heavy is imported by the first request,
which only the API server gets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/servicetitan-monitor"
"""Where Airflow mounts it: none of the prefixes that Airflow keeps for itself (``/ui``, ``/api/v2``, ...)."""

NAME = "ServiceTitan Monitor"

Message = MutableMapping[str, Any]


class LazyApp:
    """An ASGI app that is built by its first request."""

    def __init__(self, build: Callable[[], FastAPI]) -> None:
        self._build = build
        self._app: FastAPI | None = None

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if self._app is None:
            self._app = self._build()
        await self._app(scope, receive, send)


def create_app() -> FastAPI:
    """
    Return the app: no route of it answers without a login, or the token where that is allowed.

    It has no documentation pages: Airflow would serve them to everybody.
    """
    from fastapi import FastAPI

    from include.dashboard.access import login, token_or_login
    from include.dashboard.pages import front_page, health_page, metrics_route

    app = FastAPI(title=NAME, openapi_url=None, docs_url=None, redoc_url=None)
    asking = ["GET", "HEAD"]  # many uptime monitors want the status alone; the server leaves the body out
    app.add_api_route("/", front_page, methods=asking, dependencies=[login()])
    app.add_api_route("/health", health_page, methods=asking, dependencies=[token_or_login()])
    app.add_api_route("/metrics", metrics_route(), methods=asking, dependencies=[token_or_login()])
    return app


dashboard = LazyApp(create_app)
"""What the plugin mounts."""

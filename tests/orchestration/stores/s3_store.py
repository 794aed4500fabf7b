"""An S3: moto's server, which speaks its protocol, behind a gate that knows one access key."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote
from wsgiref.types import StartResponse, WSGIEnvironment

from tests.orchestration.stores.gate import Gate
from tests.orchestration.stores.store import SECRET, new_name

KEY = "AKIAMONITORTEST"

PAGE = 20
"""Objects in a page of a list; S3's own have 1,000."""

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_CODES = {403: "AccessDenied", 503: "SlowDown"}
_REFUSED_KEY = ("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")


class S3Store:
    """The server, with a bucket."""

    scheme = "s3"

    def __init__(self) -> None:
        import boto3
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.gate = Gate()
        os.environ["MOTO_S3_DEFAULT_MAX_KEYS"] = str(PAGE)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="s3")
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._client = boto3.client("s3", **self._credentials())
        self.bucket = ""

    def new_bucket(self) -> None:
        """Go on with an empty bucket."""
        self.gate.open()
        self.bucket = new_name("logs-")
        self._client.create_bucket(Bucket=self.bucket)

    def put(self, name: str, data: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=name, Body=data)

    def delete(self, name: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=name)

    def connection(self, *, is_wrong: bool = False, endpoint: str | None = None) -> dict[str, Any]:
        return {
            "conn_type": "aws",
            "login": "AKIAOFNOBODY" if is_wrong else KEY,
            "password": SECRET,
            "extra": {"endpoint_url": endpoint or self.endpoint, "region_name": "us-east-1"},
        }

    def looks(self) -> str:
        return f"GET /{self.bucket}?list-type=2"

    def reads(self, name: str) -> str:
        return f"GET /{self.bucket}/{name}?"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _credentials(self) -> dict[str, str]:
        return {
            "endpoint_url": self.endpoint,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "region_name": "us-east-1",
        }

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        status = self.gate.meet(f"{method} {environ['PATH_INFO']}?{unquote(environ['QUERY_STRING'])}")
        if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            return _refused(start_response, 403, *_REFUSED_KEY)
        if status is not None:
            return _refused(start_response, status, _CODES[status], "Refused by the test.")
        app: Callable[..., Iterable[bytes]] = self._app
        return app(environ, start_response)


def _refused(start_response: StartResponse, status: int, code: str, message: str) -> list[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    start_response(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]

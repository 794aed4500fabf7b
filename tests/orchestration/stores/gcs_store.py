"""
A Google Cloud Storage: an emulator of its JSON API, behind a gate that wants a token, and gives one as Google does.

The key of a service account signs a request for a token; who has another key gets none. The emulator speaks HTTP alone. So
gcsfs's look at the kind of a bucket over gRPC is off: it is for hierarchical and zonal buckets, which are not tested.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from functools import cached_property, partial
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.orchestration.stores.gate import Gate
from tests.orchestration.stores.store import SECRET, new_name

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # gcsfs reads it when it is imported

TOKEN = "ya29.not-a-real-token"
_REASONS = {401: "Invalid Credentials", 403: "Refused by the test.", 503: "Refused by the test."}


class GcsStore:
    """The server, with a bucket."""

    scheme = "gs"

    def __init__(self) -> None:
        from gcp_storage_emulator.storage import Storage

        self.gate = Gate()
        self._storage = Storage(use_memory_fs=True)
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(_guarded(), gate=self.gate, public_key=public, storage=self._storage)
        )
        self._thread = threading.Thread(target=self._server.serve_forever, name="gcs")
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._client = httpx.Client()
        self.bucket = ""

    def new_bucket(self) -> None:
        """Go on with an empty bucket."""
        from gcp_storage_emulator.handlers.buckets import create_bucket

        self.gate.open()
        self.bucket = new_name("logs-")
        create_bucket(self.bucket, self._storage)

    def put(self, name: str, data: bytes, *, encoding: str = "") -> None:
        path = f"/upload/storage/v1/b/{self.bucket}/o?{urlencode({'uploadType': 'media', 'name': name})}"
        self._ask("POST", path, content=data)
        if encoding:
            self._ask("PATCH", self._path(name), json={"contentEncoding": encoding})

    def delete(self, name: str) -> None:
        self._ask("DELETE", self._path(name))

    def connection(self, *, is_wrong: bool = False, endpoint: str | None = None) -> dict[str, Any]:
        key = self._others_key if is_wrong else self._key
        account = {
            "type": "service_account",
            "project_id": "hub",
            "private_key_id": SECRET,
            "private_key": key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "client_email": "monitor@hub.iam.gserviceaccount.com",
            "client_id": "100000000000000000001",
            "token_uri": f"{endpoint or self.endpoint}/token",
        }
        return {
            "conn_type": "google_cloud_platform",
            "extra": {"project": "hub", "keyfile_dict": account, "gcs.endpoint": endpoint or self.endpoint},
        }

    def looks(self) -> str:
        return f"GET /storage/v1/b/{self.bucket}/o?"

    def reads(self, name: str) -> str:
        return f"GET /download/storage/v1/b/{self.bucket}/o/{name}?"

    def stop(self) -> None:
        self._client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @cached_property
    def _others_key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def _path(self, name: str) -> str:
        return f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def _ask(self, method: str, path: str, **content: Any) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"} | (
            {"Content-Type": "application/octet-stream"} if "content" in content else {}
        )
        self._client.request(method, f"{self.endpoint}{path}", headers=headers, **content).raise_for_status()


def _guarded() -> type:
    from gcp_storage_emulator.exceptions import NotFound
    from gcp_storage_emulator.server import RequestHandler
    from google.auth import jwt

    class Guarded(RequestHandler):  # type: ignore[misc] # it has no types
        def __init__(self, *args: Any, gate: Gate, public_key: bytes, storage: object) -> None:
            self._gate = gate
            self._public_key = public_key
            super().__init__(storage, *args)

        def do_GET(self) -> None:
            self._is_refused() or super().do_GET()

        def do_DELETE(self) -> None:
            self._is_refused() or super().do_DELETE()

        def do_POST(self) -> None:
            if self.path == "/token":
                self._give_token()
            else:
                self._is_refused() or super().do_POST()

        def end_headers(self) -> None:
            """Tell the encoding that an object was stored with, as Google does where the client takes it."""
            path = urlsplit(self.path).path.removeprefix("/download/storage/v1/b/")
            if self.command == "GET" and path != self.path and "/o/" in path:
                bucket, _, name = path.partition("/o/")
                with suppress(NotFound):  # then this is a 404
                    if encoding := self.storage.get_file_obj(bucket, unquote(name)).get("contentEncoding"):
                        self.send_header("Content-Encoding", encoding)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

        def _is_refused(self) -> bool:
            status = self._gate.meet(f"{self.command} {unquote(self.path)}")
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status = 401
            if status is not None:
                self._send(status, {"error": {"code": status, "message": _REASONS[status]}})
            return status is not None

        def _give_token(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            try:
                jwt.decode(parse_qs(body)["assertion"][0], certs=self._public_key)
            except ValueError:
                self._send(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
            else:
                self._send(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Guarded

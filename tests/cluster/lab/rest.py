"""A few lines of HTTP to the API server, for tests and for the start of the cluster."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """The API server's refusal."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class Rest:
    """JSON requests under a kubeconfig's current user. One connection a thread."""

    def __init__(self, kubeconfig: Path, timeout: float = 30) -> None:
        self.server, self._tls, self._token = read_kubeconfig(kubeconfig)
        self._timeout = timeout
        self._local = threading.local()

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, body)

    def put(self, path: str, body: Any) -> Any:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Any, kind: str = "merge") -> Any:
        """`kind` is one of merge, strategic, json, apply."""
        return self.request("PATCH", path, body, PATCHES[kind])

    def delete(self, path: str, body: Any = None) -> Any:
        return self.request("DELETE", path, body)

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        """The answer's JSON (text where it is none); ApiError if the server refuses."""
        headers = {"Accept": "application/json", "Content-Type": content_type}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body)
        kept = getattr(self._local, "connection", None)
        try:
            if kept is None:
                raise http.client.NotConnected
            kept.request(method, path, data, headers)
            answer = kept.getresponse()
        except (http.client.HTTPException, OSError):  # none yet, or the server has closed it
            if kept is not None:
                kept.close()
            kept = self._local.connection = self._connect()
            kept.request(method, path, data, headers)
            answer = kept.getresponse()
        text = answer.read().decode()
        if answer.status >= 400:
            try:
                said = json.loads(text)
                raise ApiError(answer.status, said.get("reason", ""), said.get("message", text))
            except ValueError:
                raise ApiError(answer.status, answer.reason, text) from None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self.server)
        assert address.hostname
        if address.scheme == "http":
            return http.client.HTTPConnection(address.hostname, address.port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            address.hostname, address.port, timeout=self._timeout, context=self._tls
        )


def read_kubeconfig(kubeconfig: Path) -> tuple[str, ssl.SSLContext, str | None]:
    """Server, TLS with the client's certificate if there is one, and the token if there is one."""
    config = yaml.safe_load(kubeconfig.read_text())
    context = next(c for c in config["contexts"] if c["name"] == config["current-context"])
    names = context["context"]
    cluster = next(c for c in config["clusters"] if c["name"] == names["cluster"])["cluster"]
    user = next(u for u in config["users"] if u["name"] == names["user"])["user"]
    tls = ssl.create_default_context()
    with tempfile.TemporaryDirectory() as folder:

        def path(of: dict[str, str], key: str) -> str | None:
            if data := of.get(f"{key}-data"):
                file = Path(folder) / key
                file.write_bytes(base64.b64decode(data))
                return str(file)
            return str(kubeconfig.parent / of[key]) if key in of else None

        if ca := path(cluster, "certificate-authority"):
            tls = ssl.create_default_context(cafile=ca)
        if certificate := path(user, "client-certificate"):
            tls.load_cert_chain(certificate, path(user, "client-key"))
    token = user.get("token")
    if not token and (file := user.get("tokenFile")):
        token = (kubeconfig.parent / file).read_text().strip()
    return cluster["server"], tls, token

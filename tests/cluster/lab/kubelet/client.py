"""As much of a Kubernetes client as a kubelet needs, on plain aiohttp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiohttp

from tests.cluster.lab.rest import PATCHES, ApiError, read_kubeconfig

Event = tuple[Literal["SYNC", "ADDED", "MODIFIED", "DELETED"], Any]


class Api:
    """JSON requests to the API server. While `open` is not set, all of them wait."""

    def __init__(self, kubeconfig: Path) -> None:
        self.server, self._tls, self._token = read_kubeconfig(kubeconfig)
        self.open = asyncio.Event()
        self.open.set()
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._session = aiohttp.ClientSession(
            self.server,
            headers=headers,
            connector=aiohttp.TCPConnector(limit=64, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=30),
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        return await self.request("GET", path)

    async def post(self, path: str, body: Any) -> Any:
        return await self.request("POST", path, body)

    async def put(self, path: str, body: Any) -> Any:
        return await self.request("PUT", path, body)

    async def patch(self, path: str, body: Any) -> Any:
        """A strategic merge: lists with a key, as conditions, keep what others put there."""
        return await self.request("PATCH", path, body, PATCHES["strategic"])

    async def delete(self, path: str, body: Any) -> Any:
        return await self.request("DELETE", path, body)

    async def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> Any:
        await self.open.wait()
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type}
        async with self._session.request(method, path, data=data, headers=headers) as answer:
            text = await answer.text()
        if answer.status >= 400:
            raise _error(answer.status, text)
        return json.loads(text)

    async def watch(self, path: str) -> AsyncIterator[Event]:
        """Everything there ("SYNC", a list), then each change; again from the start after a gap."""
        while True:
            try:
                listed = await self.get(path)
                yield "SYNC", listed["items"]
                version = listed["metadata"]["resourceVersion"]
                query = f"?watch=1&allowWatchBookmarks=1&resourceVersion={version}"
                timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
                async with self._session.get(path + query, timeout=timeout) as answer:
                    if answer.status >= 400:
                        raise _error(answer.status, await answer.text())
                    async for line in _lines(answer.content):
                        event = json.loads(line)
                        await self.open.wait()
                        if event["type"] == "ERROR":
                            break  # the version is too old
                        if event["type"] != "BOOKMARK":
                            yield event["type"], event["object"]
            except (aiohttp.ClientError, OSError, ApiError):
                await asyncio.sleep(0.2)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length (aiohttp's own have a limit)."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


def _error(status: int, text: str) -> ApiError:
    try:
        said = json.loads(text)
        return ApiError(status, said.get("reason", ""), said.get("message", text))
    except ValueError:
        return ApiError(status, "", text)

"""What tests tell the stand-in, over HTTP on 127.0.0.1."""

from __future__ import annotations

import signal
from typing import Any

from aiohttp import web

from tests.cluster.lab.kubelet.node import Kubelet


class Control:
    """POST /kill, /oom, /pause, /resume, /reject; GET /pods."""

    def __init__(self, node: Kubelet) -> None:
        self._node = node

    async def start(self) -> int:
        """Its port."""
        app = web.Application()
        app.router.add_post("/kill", self._kill)
        app.router.add_post("/oom", self._oom)
        app.router.add_post("/pause", self._pause)
        app.router.add_post("/resume", self._resume)
        app.router.add_post("/reject", self._reject)
        app.router.add_get("/pods", self._pods)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    async def _pods(self, request: web.Request) -> web.Response:
        return web.json_response([pod.describe() for pod in self._node.pods.values()])

    async def _kill(self, request: web.Request) -> web.Response:
        body = await request.json()
        return self._signal(body, int(body.get("signal", signal.SIGKILL)), oom=False)

    async def _oom(self, request: web.Request) -> web.Response:
        return self._signal(await request.json(), signal.SIGKILL, oom=True)

    def _signal(self, body: Any, number: int, *, oom: bool) -> web.Response:
        pod = self._node.find(body["namespace"], body["pod"])
        if pod is None or pod.describe()["pid"] is None:
            return web.json_response({"error": "it runs no process here"}, status=404)
        pod.oom = oom
        pod.signal(number)
        return web.json_response(pod.describe())

    async def _reject(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._node.rejections.pop(body["namespace"], None)
        if body.get("reason"):
            said = {"reason": body["reason"], "message": body["message"]}
            self._node.rejections[body["namespace"]] = said
        return web.json_response({})

    async def _pause(self, request: web.Request) -> web.Response:
        self._node.api.open.clear()
        return web.json_response({})

    async def _resume(self, request: web.Request) -> web.Response:
        self._node.api.open.set()
        return web.json_response({})

"""Port-forwards to the pods, over the websocket protocol of the kubelet.

A frame begins with its channel: 0 carries data, 1 errors; the first frame of each holds the port.
kubectl speaks SPDY inside its websocket, which is not served here; other clients speak this.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import WSMsgType, web

from tests.cluster.lab.kubelet.node import Kubelet

DATA, ERROR = b"\0", b"\1"


class Forward:
    """Routes for the endpoint that the API server asks."""

    def __init__(self, node: Kubelet) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/portForward/{namespace}/{pod}", self._serve)]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        pod = self._node.find(request.match_info["namespace"], request.match_info["pod"])
        if pod is None or not pod.runs:
            raise web.HTTPNotFound(text="the pod does not run here")
        port = int(request.query.get("port") or request.query["ports"])
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        for channel in (DATA, ERROR):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(pod.ip, port)
        except OSError as problem:
            await socket.send_bytes(ERROR + str(problem).encode())
            await socket.close()
            return socket
        sending = asyncio.create_task(_send(reader, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data[:1] == DATA:
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            sending.cancel()
            with contextlib.suppress(OSError):
                writer.close()
        return socket


async def _send(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            await socket.send_bytes(DATA + data)
    await socket.close()

"""The endpoint that the API server asks for logs and port-forwards."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import yaml
from aiohttp import web

from tests.cluster.lab.kubelet.forward import Forward
from tests.cluster.lab.kubelet.node import Kubelet


class Logs:
    """HTTPS under the node's own certificate, for clients of the cluster's authority."""

    def __init__(self, node: Kubelet) -> None:
        self._node = node

    async def start(self, kubeconfig: Path) -> int:
        """Its port; 0 if the kubeconfig names no files to serve with."""
        config = yaml.safe_load(kubeconfig.read_text())
        user, cluster = config["users"][0]["user"], config["clusters"][0]["cluster"]
        if not {"client-certificate", "client-key"} <= user.keys():
            return 0
        tls = ssl.create_default_context(
            ssl.Purpose.CLIENT_AUTH, cafile=cluster["certificate-authority"]
        )
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_cert_chain(user["client-certificate"], user["client-key"])
        app = web.Application()
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._serve)
        app.add_routes(Forward(self._node).routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        port: int = runner.addresses[0][1]
        return port

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        where, query = request.match_info, request.query
        pod = self._node.find(where["namespace"], where["pod"])
        previous = query.get("previous") == "true"
        log = pod.log(where["container"], previous=previous) if pod else None
        if pod is None or log is None or not log.exists():
            raise web.HTTPNotFound(text=f"no log of {where['container']}")
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await answer.prepare(request)
        with log.open("rb") as file:
            data = file.read()
            if "tailLines" in query:
                count = int(query["tailLines"])
                data = b"".join(data.splitlines(keepends=True)[-count:] if count else [])
            await answer.write(data)
            while query.get("follow") == "true":
                over = pod.log(where["container"]) != log or not pod.runs
                if data := file.read():
                    await answer.write(data)
                elif over:
                    break
                else:
                    await asyncio.sleep(0.1)
        return answer

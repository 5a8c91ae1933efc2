"""What stands for the cluster's network: an HTTP proxy that knows Services."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.lab.kubelet.node import Kubelet


class Proxy:
    """HTTP/1.1 to NAME.NAMESPACE.svc[.cluster.local]; other hosts are taken as they are."""

    def __init__(self, node: Kubelet) -> None:
        self._node = node

    async def start(self) -> int:
        """Its port on 127.0.0.1."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")[:-2]
            method, target, _ = first.split(" ", 2)
            url = urlsplit(target)
            try:
                host, port = self._resolve(url.hostname or "", url.port or 80)
                answer, back = await asyncio.wait_for(asyncio.open_connection(host, port), 5)
                ends.append(back)
            except (LookupError, OSError) as problem:
                text = f"{target}: {problem}\n".encode()
                writer.write(
                    b"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n"
                    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
                )
                await writer.drain()
                return
            path = url._replace(scheme="", netloc="").geturl() or "/"
            hop = ("connection:", "proxy-connection:", "keep-alive:")
            kept = [line for line in lines if not line.lower().startswith(hop)]
            forward = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close"])
            back.write(f"{forward}\r\n\r\n".encode("latin-1"))
            sending = asyncio.create_task(_copy(reader, back))
            await _copy(answer, writer)
            sending.cancel()
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass
        finally:
            for end in ends:
                with contextlib.suppress(OSError):
                    end.close()

    def _resolve(self, host: str, port: int) -> tuple[str, int]:
        name, _, rest = host.removesuffix(".cluster.local").partition(".")
        namespace, _, kind = rest.partition(".")
        if kind != "svc":
            return host, port  # somewhere outside
        service = self._node.services.get((namespace, name))
        if not service:
            raise LookupError("no such Service")
        selector = service["spec"].get("selector")
        opened = next((p for p in service["spec"]["ports"] if p["port"] == port), None)
        if not selector or not opened:
            raise LookupError("the Service has no selector" if opened else "no such port")
        for pod in self._node.everywhere.values():
            if pod["metadata"]["namespace"] == namespace and _serves(pod, selector):
                return pod["status"]["podIP"], _port(pod, opened)
        raise LookupError("no pod of the Service is ready")


def _serves(pod: Any, selector: dict[str, str]) -> bool:
    labels = pod["metadata"].get("labels", {})
    conditions = pod["status"].get("conditions") or ()
    return (
        selector.items() <= labels.items()
        and pod["status"].get("phase") == "Running"
        and not pod["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    )


def _port(pod: Any, opened: Any) -> int:
    target = opened.get("targetPort", opened["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    raise LookupError(f"the pod has no port {target}")


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

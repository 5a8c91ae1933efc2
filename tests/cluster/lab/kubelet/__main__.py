"""The stand-in as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from pathlib import Path

from tests.cluster.lab.kubelet.client import Api
from tests.cluster.lab.kubelet.control import Control
from tests.cluster.lab.kubelet.logs import Logs
from tests.cluster.lab.kubelet.node import Kubelet, Options, guard
from tests.cluster.lab.kubelet.proxy import Proxy


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.cluster.lab.kubelet", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--name", required=True, help="of the node")
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        help="folder of its own. images.json there maps the image names that the node has to "
        '{"entrypoint": [...], "cmd": [...], "env": {...}} and may change at any time; '
        "control.json holds the address to control it by",
    )
    parser.add_argument("--resource", action="append", default=[], metavar="NAME=QUANTITY")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--back-off", type=float, default=10, help="of a container's second restart"
    )
    given = parser.parse_args()
    options = Options(
        name=given.name,
        root=given.root.resolve(),
        resources=dict(text.split("=", 1) for text in given.resource),
        labels=dict(text.split("=", 1) for text in given.label),
        back_off=given.back_off,
    )
    guard(options.root)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_run(given.kubeconfig, options))


async def _run(kubeconfig: Path, options: Options) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    options.root.mkdir(parents=True, exist_ok=True)
    api = Api(kubeconfig)
    node = Kubelet(api, options)
    node.proxy_port = await Proxy(node).start()
    node.port = await Logs(node).start(kubeconfig)
    control = await Control(node).start()
    temporary = options.root / ".control.json"
    temporary.write_text(json.dumps({"url": f"http://127.0.0.1:{control}"}))
    temporary.rename(options.root / "control.json")
    try:
        await node.run()
    finally:
        await api.close()


if __name__ == "__main__":
    main()

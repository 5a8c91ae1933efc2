"""The test cluster by hand: `make cluster`, or python -m tests.cluster.lab COMMAND.

up      start it in the background: control plane, a stand-in node or with --node=real a real one,
        and an S3 server
down    end it, and remove what it held
status  say where it is
build   build all programs that tests use, if they are missing
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import LOOPBACK, ControlPlane
from tests.cluster.lab.node import REPOSITORY, Node
from tests.cluster.lab.real_node import Network, RealNode
from tests.cluster.lab.s3 import VersityGW

FOLDER = binaries.cache().parent / "cluster"
STATE = FOLDER / "state.json"
LOG = FOLDER / "serve.log"


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.cluster.lab",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands: dict[str, Callable[[bool], int]] = {
        "up": up,
        "down": lambda real: down(),
        "status": lambda real: status(),
        "build": lambda real: build((*binaries.DEFAULT, *binaries.NODE, *binaries.TOOLS)),
        "serve": serve,
    }
    parser.add_argument("command", choices=commands, metavar="COMMAND")
    parser.add_argument("--node", choices=("stand-in", "real"), default="stand-in")
    given = parser.parse_args()
    try:
        return commands[given.command](given.node == "real")
    except binaries.Unavailable as problem:
        print(problem, file=sys.stderr)
        return 1


def build(names: Iterable[str]) -> int:
    binaries.build(names, say=lambda text: print(text, flush=True))
    return 0


def up(real: bool) -> int:
    build((*binaries.DEFAULT, *(binaries.NODE if real else ())))
    if not _runs():
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        node = "real" if real else "stand-in"
        with LOG.open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.lab", "serve", f"--node={node}"],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while not STATE.exists():
            if server.poll() is not None:
                print(f"the cluster did not start:\n{LOG.read_text()[-2000:]}", file=sys.stderr)
                return 1
            time.sleep(0.1)
    return status()


def down() -> int:
    if _runs():
        os.kill(_state()["pid"], signal.SIGTERM)
        while _runs():
            time.sleep(0.1)
    shutil.rmtree(FOLDER, ignore_errors=True)
    return 0


def status() -> int:
    if not _runs():
        print("no cluster; `make cluster` starts one", file=sys.stderr)
        return 1
    state = _state()
    print(f"export KUBECONFIG={state['kubeconfig']}")
    print(f"# tests on it: export KINASE_TEST_KUBECONFIG={state['kubeconfig']}")
    keys = f"AWS_ACCESS_KEY_ID={state['access_key']} AWS_SECRET_ACCESS_KEY={state['secret_key']}"
    print(f"# S3 at {state['endpoint']}:")
    print(f"export {keys}")
    print(f"# images of the node: {state['images']}")
    print(f"# kubectl: {state['kubectl']}")
    return 0


def serve(real: bool) -> int:
    """The process that the cluster is children of."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with (FOLDER / "lock").open("w") as lock, contextlib.ExitStack() as stack:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        address, folder = LOOPBACK, FOLDER / "node-1"
        if real:
            network = Network()
            stack.callback(network.stop)
            network.start()
            address = network.address
        cluster = ControlPlane(FOLDER, address=address)
        s3 = VersityGW(FOLDER / "s3", address=address)
        stack.callback(cluster.stop)
        cluster.start()
        stack.callback(s3.stop)
        s3.start()
        node: Node | RealNode
        if real:
            node = RealNode(cluster, network, folder)
            images = f"ctr --address={node.socket} --namespace=k8s.io images import ARCHIVE"
        else:
            node = Node(cluster, folder, resources={"nvidia.com/gpu": 8}, back_off=1)
            images = str(folder / "images.json")
        stack.callback(node.stop)
        node.start()
        state = {
            "pid": os.getpid(),
            "kubeconfig": str(cluster.kubeconfig),
            "endpoint": s3.endpoint,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
            "images": images,
            "kubectl": str(binaries.get("kubectl")),
            "real": real,
        }
        temporary = STATE.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        temporary.rename(STATE)
        ended.wait()
    return 0


def _runs() -> bool:
    """The lock is held as long as the cluster is there."""
    path: Path = FOLDER / "lock"
    if not path.exists():
        return False
    with path.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _state() -> Any:
    return json.loads(STATE.read_text())


if __name__ == "__main__":
    sys.exit(main())

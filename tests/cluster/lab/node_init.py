"""The first process of a real node: python -m tests.cluster.lab.node_init FOLDER

It has mounts, processes and a network of its own (`real_node.py` starts it so). Whatever it changes
there is gone when it ends, and it takes all processes of the node with it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TUNED = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
"""Settings of the whole machine that a kubelet changes: it gets files of its own in their place."""


def main() -> None:
    folder = Path(sys.argv[1])
    config: dict[str, Any] = json.loads((folder / "node.json").read_text())
    socket.sethostname(config["name"])
    _mounts(folder)
    _network(config)
    os.environ["TMPDIR"] = str(folder / "tmp")
    running: dict[int, str] = {}
    for name, argv in config["programs"].items():
        running[_spawn(folder, name, argv)] = name
        while name == "containerd" and not Path(config["socket"]).exists():
            time.sleep(0.05)  # a kubelet that does not find it ends
    while True:  # orphans of pods come to us too
        pid, status = os.wait()
        if name := running.pop(pid, ""):
            print(f"{name} has ended with {os.waitstatus_to_exitcode(status)}", flush=True)
            time.sleep(1)
            running[_spawn(folder, name, config["programs"][name])] = name


def _mounts(folder: Path) -> None:
    _call("mount", "--make-rshared", "/")  # volumes' mounts travel on into pods
    for place in ("/run", "/var/log"):
        _call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    _call("mount", "--bind", str(folder / "kubelet"), "/var/lib/kubelet")
    for name in TUNED:
        mine = folder / "sysctl" / name.replace("/", ".")
        mine.parent.mkdir(exist_ok=True)
        with Path("/proc/sys", name).open("rb") as source, mine.open("wb") as target:
            shutil.copyfileobj(source, target)
        _call("mount", "--bind", str(mine), f"/proc/sys/{name}")


def _network(config: dict[str, Any]) -> None:
    while subprocess.run(["ip", "link", "show", "eth0"], capture_output=True).returncode:
        time.sleep(0.02)  # it is being plugged in from outside
    _call("ip", "link", "set", "lo", "up")
    _call("ip", "address", "add", f"{config['address']}/24", "dev", "eth0")
    _call("ip", "link", "set", "eth0", "up")
    _call("ip", "route", "add", "default", "via", config["gateway"])
    for pods, node in config["routes"].items():
        _call("ip", "route", "add", pods, "via", node)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _spawn(folder: Path, name: str, argv: list[str]) -> int:
    with (folder / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    started.returncode = 0  # it is main() that waits for it
    return started.pid


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()

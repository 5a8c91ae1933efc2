"""Images unpacked once, for all nodes to start with.

A large image takes minutes to unpack. So it is unpacked in a folder of the user's cache, and a node
gets links to its layers: they are never written to, only what is laid over them is.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from tests.cluster.lab import binaries
from tests.cluster.lab.processes import Child

_SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
DATABASES = ("io.containerd.metadata.v1.bolt/meta.db", f"{_SNAPSHOTTER}/metadata.db")
"""Files of containerd that are written in place."""
LAYERS = ("io.containerd.content.v1.content/blobs/sha256", f"{_SNAPSHOTTER}/snapshots")
"""Folders of containerd whose entries, once they are there, are only read."""


def containerd(root: Path, state: Path, socket: Path, more: str = "") -> str:
    """containerd's configuration, without what would write elsewhere."""
    return f"""version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
{more}"""


def ctr(socket: Path, *argv: str) -> str:
    """What containerd's command prints, about what belongs to Kubernetes."""
    command = ["ctr", f"--address={socket}", "--namespace=k8s.io", *argv]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


class ImageStore:
    """A folder with unpacked images."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or binaries.cache().parent / "unpacked"
        self.root = self.folder / "containerd"

    def hold(
        self, archives: Mapping[str, Path], say: Callable[[str], object] = lambda text: None
    ) -> None:
        """Have it hold these images, by name, and no others. One whose archive is the same as the
        last time is there already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        record = self.folder / "images.json"
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # not while a node has them
            held = json.loads(record.read_text()) if record.exists() else {}
            wanted = {name: _identity(path) for name, path in archives.items()}
            if held == wanted:
                return
            record.unlink(missing_ok=True)
            if not held:
                shutil.rmtree(self.root, ignore_errors=True)
            self._change(held, wanted, archives, say)
            temporary = record.with_suffix(".new")
            temporary.write_text(json.dumps(wanted))
            temporary.rename(record)

    def lend(self, root: Path) -> TextIO:
        """Make a root for a node's containerd that has what is held. That stays as it is until the
        file that is returned is closed.
        """
        lock = (self.folder / "lock").open()
        fcntl.flock(lock, fcntl.LOCK_SH)
        for place in LAYERS:
            (root / place).mkdir(parents=True)
            for entry in (self.root / place).iterdir():
                (root / place / entry.name).symlink_to(entry)
        for name in DATABASES:
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy2(self.root / name, root / name)
        return lock

    def _change(
        self,
        held: Mapping[str, str],
        wanted: Mapping[str, str],
        archives: Mapping[str, Path],
        say: Callable[[str], object],
    ) -> None:
        socket = self.folder / "containerd.sock"
        config = self.folder / "containerd.toml"
        config.write_text(containerd(self.root, self.folder / "state", socket))
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        child = Child(
            ["unshare", "--mount", "containerd", f"--config={config}"],
            self.folder / "log",
            {"TMPDIR": str(temporary)},
        )
        try:
            _answers(child, socket)
            for name in held.keys() - wanted.keys():
                ctr(socket, "images", "rm", "--sync", name)
            for name, path in archives.items():
                if held.get(name) == wanted[name]:
                    continue
                say(f"unpacking {name}, {path.stat().st_size >> 20} MiB")
                ctr(socket, "images", "import", str(path))
                if name not in ctr(socket, "images", "ls", "-q").split():
                    raise RuntimeError(f"{path} holds no image {name}")
        finally:
            child.stop()


def _answers(child: Child, socket: Path, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while True:
        with suppress(RuntimeError):
            ctr(socket, "version")
            return
        if not child.alive or time.monotonic() > deadline:
            raise RuntimeError(f"containerd does not answer: {child.said()}")
        time.sleep(0.05)


def _identity(archive: Path) -> str:
    seen = archive.stat()
    return f"{archive.resolve()} {seen.st_size} {seen.st_mtime_ns}"

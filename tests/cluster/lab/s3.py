"""An S3 server of our own: versitygw, with a folder behind it."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.lab import binaries
from tests.cluster.lab.pki import Authority
from tests.cluster.lab.processes import Child, free_ports


@dataclass(frozen=True)
class S3Server:
    """A server to test with, and credentials that may make buckets."""

    endpoint: str
    access_key: str
    secret_key: str


class VersityGW:
    """Runs from start() to stop(), and no longer than the process that started it."""

    access_key = "k"
    secret_key = "s"

    def __init__(
        self, folder: Path, authority: Authority | None = None, address: str = "127.0.0.1"
    ) -> None:
        """Keep objects in `folder`; speak TLS with a certificate of `authority`, if given."""
        self.folder = folder
        self.authority = authority
        self.address = address
        self.endpoint = ""
        self._child: Child | None = None

    def start(self) -> None:
        program = str(binaries.get("versitygw"))
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        env = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        for _ in range(3):  # another process may take the port between our look and its use
            (port,) = free_ports(1, self.address)
            argv = [program, "--port", f"{self.address}:{port}", *self._tls(), "posix", str(data)]
            self._child = Child(argv, self.folder / "log", env)
            if _answers(self._child, self.address, port):
                self.endpoint = f"http{'s' if self.authority else ''}://{self.address}:{port}"
                return
            self._child.stop(0)
        raise RuntimeError(
            f"{program} does not answer: {self._child.said() if self._child else ''}"
        )

    def _tls(self) -> list[str]:
        if self.authority is None:
            return []
        certificate, key = self.authority.issue("s3", "s3", hosts=(self.address,))
        return ["--cert", str(certificate), "--key", str(key)]

    @property
    def pid(self) -> int:
        assert self._child
        return self._child.process.pid

    def stop(self) -> None:
        if self._child:
            self._child.stop()


def _answers(child: Child, address: str, port: int) -> bool:
    deadline = time.monotonic() + 30
    while child.alive and time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            time.sleep(0.05)
            return child.alive  # else the port is another's
    return False

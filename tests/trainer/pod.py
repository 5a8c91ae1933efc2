"""Starts a trainer as the operator's pods do: no arguments, all from the environment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

from kinase.api.trial import TaskJob, Termination, TrialJob
from kinase_trainer.process import main

TRAINER = (sys.executable, "-m", "kinase_trainer")


class Pod:
    """A folder that stands for a pod's, and the processes started in it."""

    def __init__(
        self,
        folder: Path,
        uri: str,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = TRAINER,
    ) -> None:
        self.folder, self.uri, self.command = folder, uri, command
        self.job = folder / "job.json"
        self.log = folder / "termination-log"
        self.output = folder / "output"
        for name in ("home", "tmp"):
            (folder / name).mkdir(exist_ok=True)
        self.environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "OMP_NUM_THREADS": "1",
            "KINASE_JOB": str(self.job),
            "KINASE_STORE": uri,
            "KINASE_METRIC": "val_accuracy",
            "KINASE_TERMINATION_LOG": str(self.log),
            **(environment or {}),
        }

    def start(self, job: TrialJob | TaskJob | str | None, **more: str) -> subprocess.Popen[bytes]:
        """Begin an attempt; without a job, with what lies there."""
        self._prepare(job)
        with self.output.open("wb") as output:
            return subprocess.Popen(
                self.command,
                env={**self.environment, **more},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _prepare(self, job: TrialJob | TaskJob | str | None) -> None:
        if job is not None:
            text = job if isinstance(job, str) else job.model_dump_json(by_alias=True)
            self.job.write_text(text)
        self.log.unlink(missing_ok=True)

    @staticmethod
    def kill(process: subprocess.Popen[bytes]) -> None:
        """Kill it with all that it started, as the kernel does with a container."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)  # a request that is on its way may still have its effect

    def run(self, job: TrialJob | TaskJob | str | None, **more: str) -> int:
        """An attempt from its beginning to its end; returns the exit code."""
        with self.start(job, **more) as process:
            try:
                return process.wait(120)
            finally:
                if process.poll() is None:
                    self.kill(process)

    def here(self, job: TrialJob | TaskJob | str | None, **more: str) -> int:
        """`run` of this project's trainer where it need be no process of its own: in this one,
        which has imported torch."""
        self._prepare(job)
        with (
            self.output.open("w") as output,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, {**self.environment, **more}, clear=True),
        ):
            return main([])

    @property
    def said(self) -> str:
        """All that the process printed."""
        return self.output.read_text(errors="replace")

    @property
    def termination(self) -> Termination:
        """The termination message."""
        return Termination.model_validate_json(self.log.read_bytes())


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for something that happens in another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Forwarder:
    """A network between a client and a server that can be cut."""

    def __init__(self, endpoint: str) -> None:
        target = urlsplit(endpoint)
        self._target = (target.hostname, target.port)
        # bound and never listening: nobody else can take the port while the network is cut
        self._guard = socket.socket()
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._guard.bind(("127.0.0.1", 0))
        self._port = self._guard.getsockname()[1]
        self._listener = self._listen()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._up = threading.Event()
        self._open: set[socket.socket] = set()
        self._serve()

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self._port), reuse_port=True)

    def _serve(self) -> None:
        self._up.set()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            server = socket.create_connection(self._target)
            pair = {client: server, server: client}
            self._open |= set(pair)
            with server:
                while self._up.is_set():
                    for end in select.select(list(pair), [], [], 0.05)[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        pair[end].sendall(data)

    def cut(self) -> None:
        """Nobody answers any more."""
        self._up.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def mend(self) -> None:
        """All is as before."""
        self._listener = self._listen()
        self._serve()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Cut for a while."""
        self.cut()
        try:
            yield
        finally:
            self.mend()

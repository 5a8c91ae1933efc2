"""A container's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.lab.processes import die_with_parent

# Python forks much faster where it has nothing to call in the child.
_SETPRIV = shutil.which("setpriv")
_WRAPPER = [_SETPRIV, "--pdeathsig", "KILL", "--"] if _SETPRIV else []


class Process:
    """A process in a group of its own. It dies with the stand-in, and its group with it."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], folder: Path, log: Path
    ) -> None:
        program = str(folder / argv[0]) if os.sep in argv[0] else argv[0]
        if not shutil.which(program, path=env.get("PATH")):
            raise FileNotFoundError(f"{argv[0]}: executable file not found in $PATH")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_WRAPPER, *argv],
                env=dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if _WRAPPER else die_with_parent,
            )
        self.pid = self._process.pid
        self._ended = asyncio.get_running_loop().create_future()
        self._fd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._fd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self.signal(signal.SIGKILL)  # what it leaves behind; its number is ours until the wait()
        code = self._process.wait()
        if not self._ended.done():
            self._ended.set_result(code if code >= 0 else 128 - code)

    def signal(self, number: int) -> None:
        """To the whole group, if it is there still."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self, timeout: float | None = None) -> int:
        """The exit code as a container has it: 137 after SIGKILL."""
        code: int = await asyncio.wait_for(asyncio.shield(self._ended), timeout)
        return code


def end_leftovers(marker: str) -> None:
    """Kill the processes that have a variable in their environment that begins so."""
    needle = b"\0" + marker.encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if needle in b"\0" + (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)

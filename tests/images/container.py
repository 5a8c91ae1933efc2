"""A container of an image as Pod Security `restricted` and our pods have it, by runc.

A user without rights, no capabilities, no way to gain any, a root file system that cannot be
written, and /tmp.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.images.build import Buildah, Unavailable


@dataclass(frozen=True)
class Root:
    """The unpacked file system of an image, and its configuration."""

    path: Path
    config: dict[str, Any]

    def run(
        self, *command: str, timeout: float = 120, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; without one, the image's entrypoint."""
        with self.start(*command, **options) as process:
            stdout, stderr = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    @contextmanager
    def start(
        self,
        *command: str,
        user: int | None = None,
        env: Mapping[str, str] | None = None,
        mounts: Mapping[Path, str] | None = None,
    ) -> Iterator[Container]:
        """Run a command as the first process of a container, by the image's own user unless
        another is named."""
        given = [*self.config["Entrypoint"]] if not command else [*command]
        variables = [*self.config["Env"], *(f"{k}={v}" for k, v in (env or {}).items())]
        owner, _, group = self.config["User"].partition(":")
        with tempfile.TemporaryDirectory() as folder:
            bundle = Path(folder)
            subprocess.run(["runc", "spec", "--bundle", folder], check=True)
            spec = json.loads((bundle / "config.json").read_text())
            spec["root"] = {"path": str(self.path), "readonly": True}
            spec["process"].update(
                terminal=False,
                user={"uid": int(owner) if user is None else user, "gid": int(group or owner)},
                args=given,
                env=variables,
                cwd=self.config["WorkingDir"] or "/",
                capabilities={},
                noNewPrivileges=True,
            )
            writable = ["nosuid", "nodev", "mode=1777"]
            spec["mounts"] = [
                *(mount for mount in spec["mounts"] if mount["type"] != "cgroup"),
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": writable},
                *(
                    {"destination": to, "type": "bind", "source": str(of), "options": ["rbind"]}
                    for of, to in (mounts or {}).items()
                ),
            ]
            (bundle / "config.json").write_text(json.dumps(spec))
            container = Container(f"kinase-test-{uuid.uuid4().hex[:12]}", bundle)
            try:
                yield container
            finally:
                container.remove()


class Container(subprocess.Popen[str]):
    """A container that runs; its output is read with `communicate`."""

    def __init__(self, name: str, bundle: Path) -> None:
        self._name, self._root = name, str(bundle / "state")
        super().__init__(
            self._runc("run", "--bundle", str(bundle), name),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def _runc(self, *arguments: str) -> Sequence[str]:
        return ["runc", "--root", self._root, *arguments]

    def first(self) -> list[str]:
        """The command line of the container's first process."""
        state = subprocess.run(self._runc("state", self._name), check=True, capture_output=True)
        command = Path(f"/proc/{json.loads(state.stdout)['pid']}/cmdline").read_text()
        return command.rstrip("\0").split("\0")

    def signal(self, name: str) -> None:
        """Send a signal to the container's first process, as Kubernetes does."""
        subprocess.run(self._runc("kill", self._name, name), check=True, capture_output=True)

    def remove(self) -> None:
        """End it, if it runs, and remove what is left of it."""
        subprocess.run(self._runc("delete", "--force", self._name), capture_output=True)
        self.wait(30)


@contextmanager
def unpacked(image: str) -> Iterator[Root]:
    """The file system of an image that was built here."""
    if not shutil.which("runc"):
        raise Unavailable("runc is missing: install Debian's package of that name")
    buildah = Buildah()
    with buildah.container(image) as (_, path):
        found = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
        yield Root(path, found)

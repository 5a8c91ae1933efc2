"""The images of the Dockerfile, built here by buildah on a base made from Debian's packages.

No registry of images is asked. What was built lies in the user's cache, under a name that tells all
that went into it, so what is asked for again is there at once.

The trainer's base holds torch already, as it may for a user (TORCH=base in the Dockerfile).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.images import cpu_torch

REPOSITORY = Path(__file__).parents[2]
TARGETS = ("operator", "controller", "trainer")
SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
NEEDLESS = (
    "usr/share/doc",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)
"""Of the base made here; debootstrap leaves 80 MB of them."""
BASE = "localhost/kinase-base"
LAYERS = 200
"""Layers in buildah's storage beyond which it is emptied: those of some twenty builds."""

Say = Callable[[str], object]


class Unavailable(Exception):
    """Images cannot be built here; the message says what would help."""


@dataclass(frozen=True)
class Image:
    """An image, and the archive of it that `ctr images import` reads."""

    name: str
    archive: Path
    size: int
    """Bytes of the files in the layers above its base."""
    below: int
    """Layers of its base."""

    def files(self) -> Iterator[tarfile.TarInfo]:
        """What lies in the layers above its base."""
        yield from _files(self.archive, self.below)


def folder() -> Path:
    """The user's folder for images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kinase" / "images"


def inputs() -> list[Path]:
    """The files that the build may see: what .dockerignore lets through."""
    found = [REPOSITORY / name for name in ("LICENSE", "README.md", "pyproject.toml")]
    found += (REPOSITORY / "requirements").glob("*.lock")
    for name in ("kinase", "operator", "trainer"):
        found += (p for p in (REPOSITORY / name).rglob("*") if p.is_file())
    return sorted(p for p in found if p.suffix != ".pyc")


def key(target: str) -> str:
    """Digest of all that an image is made of."""
    digest = hashlib.sha256()
    recipe = (REPOSITORY / name for name in ("Dockerfile", ".dockerignore"))
    for path in (Path(__file__), Path(cpu_torch.__file__), *recipe, *inputs()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(REPOSITORY)} {len(content)}\n".encode() + content)
    return f"{target}-{digest.hexdigest()[:16]}"


def build(target: str, say: Say = print) -> Image:
    """An image of the Dockerfile; Unavailable if this machine cannot build one."""
    assert target in TARGETS
    name = f"localhost/kinase-{target}:e2e"
    archive = folder() / f"{key(target)}.tar"
    facts = archive.with_suffix(".json")
    if not facts.is_file():
        with _lock(say):
            if not facts.is_file():
                _build(target, name, archive, say)
    return Image(name, archive, **json.loads(facts.read_text()))


def _build(target: str, name: str, archive: Path, say: Say) -> None:
    buildah = Buildah()
    buildah.make_room()
    base = _base(buildah, say)
    trainer = ("--build-arg", "TORCH=base") if target == "trainer" else ()
    below = _torch_base(buildah, base, say) if target == "trainer" else base
    say(f"building the image {name}")
    buildah(
        *("build", "--layers", "--isolation", "chroot", "--pull-never", "--target", target),
        *("--build-arg", f"BASE={base}", "--build-arg", f"TRAINER_BASE={below}", *trainer),
        *("--tag", name),
        *_network(),
        str(REPOSITORY),
    )
    for old in folder().glob(f"{target}-*"):
        old.unlink()
    # this kind of archive is not compressed: it is read on this machine, soon
    buildah("push", name, f"docker-archive:{archive}:{name}")
    lower = buildah.layers(below)
    size = sum(file.size for file in _files(archive, lower))
    say(f"{name}: {size / 1e6:.0f} MB above its base, {archive.stat().st_size / 1e6:.0f} MB in all")
    archive.with_suffix(".json").write_text(json.dumps({"size": size, "below": lower}))


def _files(archive: Path, below: int) -> Iterator[tarfile.TarInfo]:
    """The files in the layers of an archive but for the lowest ones."""
    with tarfile.open(archive) as image:

        def member(name: str) -> IO[bytes]:
            found = image.extractfile(name)
            assert found is not None
            return found

        for layer in json.load(member("manifest.json"))[0]["Layers"][below:]:
            with tarfile.open(fileobj=member(layer)) as files:
                yield from files


def _network() -> Iterator[str]:
    """How this machine reaches the package index, for the build to do likewise."""
    certificates = next(
        (
            os.environ[n]
            for n in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
            if os.environ.get(n)
        ),
        "",
    )
    if certificates:
        yield from ("--secret", f"id=ca,src={certificates}")
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        if value := os.environ.get(name):
            yield from ("--build-arg", f"{name}={value}")


class Buildah:
    """buildah with a storage of our own."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable(
                "images are built as root here: a base from Debian's packages takes chroot"
            )
        for program in ("buildah", "debootstrap"):
            if not shutil.which(program):
                raise Unavailable(f"{program} is missing: install Debian's package of that name")
        self.root = folder() / "storage"
        self._temporary = folder() / "tmp"
        self._temporary.mkdir(parents=True, exist_ok=True)
        # a folder that is an overlay itself, as in a container, can't have another on top
        self._driver = "overlay"
        try:
            self("info")
        except Unavailable:
            self._driver = "vfs"

    def __call__(self, *arguments: str) -> str:
        """Run a command of buildah; what it prints on stdout."""
        where = ("--root", str(self.root), "--runroot", str(folder() / "run"))
        done = subprocess.run(
            ["buildah", "--storage-driver", self._driver, *where, *arguments],
            env={**os.environ, "TMPDIR": str(self._temporary)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise Unavailable(
                f"buildah {arguments[0]} failed: {(done.stdout + done.stderr)[-3000:]}"
            )
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Whether there is such an image."""
        return image in self("images", "--format", "{{.Name}}:{{.Tag}}").splitlines()

    def layers(self, image: str) -> int:
        """How many layers an image has."""
        return len(
            json.loads(self("inspect", "--type", "image", image))["OCIv1"]["rootfs"]["diff_ids"]
        )

    def make_room(self) -> None:
        """Layers of earlier builds make the next one quick; at times they go."""
        layers = self.root / f"{self._driver}-layers" / "layers.json"
        if layers.is_file() and len(json.loads(layers.read_text())) > LAYERS:
            self("rmi", "--all", "--force")

    @contextmanager
    def container(self, image: str) -> Iterator[tuple[str, Path]]:
        """A container of an image, and the folder where its root lies."""
        name = self("from", "--pull-never", image)
        try:
            yield name, Path(self("mount", name))
        finally:
            self("rm", name)


def _base(buildah: Buildah, say: Say) -> str:
    """The image of Debian with Python, made if need be."""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, NEEDLESS)).encode()).hexdigest()[:12]
    name, content = f"{BASE}:{recipe}", folder() / f"base-{recipe}.tar"
    if buildah.has(name):
        return name
    if not content.is_file():
        say(f"making a base image from Debian's packages in {folder()} (once)")
        with tempfile.TemporaryDirectory(dir=folder()) as temporary:
            root = Path(temporary) / "root"
            root.mkdir(0o755)
            _run(
                *(
                    "debootstrap",
                    "--variant=minbase",
                    f"--include={','.join(PACKAGES)}",
                    SUITE,
                    str(root),
                ),
                *filter(None, [os.environ.get("KINASE_TEST_DEBIAN")]),
            )
            exclude = (f"--exclude=./{path}/*" for path in NEEDLESS)
            _run("tar", "-C", str(root), *exclude, "-cf", f"{temporary}/base.tar", ".")
            Path(temporary, "base.tar").rename(content)
    with buildah.container("scratch") as (container, _):
        buildah("add", container, str(content), "/")
        buildah("commit", container, name)
    return name


def _torch_base(buildah: Buildah, base: str, say: Say) -> str:
    """A base that has torch, too, made if need be."""
    torch, rest = (REPOSITORY / f"requirements/{name}.lock" for name in ("torch", "trainer"))
    recipe = hashlib.sha256(base.encode())
    for path in (torch, Path(cpu_torch.__file__)):
        recipe.update(path.read_bytes())
    name = f"{BASE}-torch:{recipe.hexdigest()[:12]}"
    if buildah.has(name):
        return name
    uv = shutil.which("uv") or shutil.which("uv", path=REPOSITORY / ".make/uv/bin")
    if not uv:
        raise Unavailable("uv is missing: `make setup` installs it")
    say("making a base image that has torch (once)")
    with (
        buildah.container(base) as (container, root),
        tempfile.TemporaryDirectory(dir=folder()) as temporary,
    ):
        (library,) = (root / "usr/lib").glob("python3.*")
        python = library.name.removeprefix("python")
        try:
            for lock in (torch, rest):
                cpu_torch.install(Path(uv), lock, python, Path(temporary, lock.stem))
            cpu_torch.shrink(Path(temporary, torch.stem))
        except (OSError, subprocess.CalledProcessError) as problem:
            said = getattr(problem, "stderr", "")
            raise Unavailable(f"torch could not be made small: {problem} {said}") from None
        packages = f"/usr/local/lib/{library.name}/dist-packages"
        _run("cp", "--archive", f"{temporary}/{torch.stem}/.", f"{root}{packages}")
        # bytecode of what a training loads of torch; what else torch needs is in the image above
        where = ("--isolation", "chroot", "--volume", f"{temporary}/{rest.stem}:/rest:ro")
        environment = ("--env", f"PYTHONPATH={packages}:/rest")
        buildah("run", *where, *environment, container, "python3", "-c", cpu_torch.TRY)
        buildah("commit", container, name)
    return name


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stdout + done.stderr)[-3000:]}")


@contextmanager
def _lock(say: Say) -> Iterator[None]:
    """One build at a time."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting: another process is building images")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    for each in sys.argv[1:] or TARGETS:
        print(build(each))

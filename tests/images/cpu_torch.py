"""torch as the lock file has it, made small enough to be tried on CPUs.

torch cannot be imported without the CUDA libraries that it is linked with, though a run on CPUs
calls none of them. Here the small ones are the real ones; each large one is a stand-in that defines
the same symbols, and ends the process if one is called. What torch does not link with is left out:
Triton, most of cuDNN, headers. So this torch is good for CPUs alone, and only the image that the
tests build has it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

LARGE = 8 << 20
"""Bytes from which on a library is stood in for."""
NEEDLESS = ("bin", "cuda", "triton", "torch/include", "torch/share")

TRY = """
import torch
from torch import nn
layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)
model = nn.Sequential(*layers)
step = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
nn.functional.cross_entropy(model(torch.rand(2, 1, 8, 8)), torch.tensor([0, 1])).backward()
step.step()
"""
"""A program that trains."""


def install(uv: Path, lock: Path, python: str, into: Path) -> None:
    """Install the packages of a lock file for this version of Python."""
    _output(
        *(str(uv), "pip", "install", "--quiet", "--target", str(into), "--python-version", python),
        *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(lock)),
    )


def shrink(into: Path) -> None:
    """Make torch and the CUDA libraries in a folder of packages small."""
    for name in NEEDLESS:
        shutil.rmtree(into / name, ignore_errors=True)
    libraries = {path.name: path for path in (into / "nvidia").glob("*/lib/*.so*")}
    linked = _linked((into / "torch/lib").glob("*.so*"), libraries)
    for path in (into / "nvidia").rglob("*"):
        if path.is_file() and path not in linked:
            path.unlink()
    for path in linked:
        if path.stat().st_size > LARGE:
            stand_in(path)


def _linked(roots: Iterable[Path], libraries: dict[str, Path]) -> set[Path]:
    """Those of `libraries` that the roots are linked with, directly or through one another."""
    found: set[Path] = set()
    unread = list(roots)
    while unread:
        dynamic = _output("readelf", "--dynamic", "--wide", str(unread.pop()))
        for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            if (path := libraries.get(name)) and path not in found:
                found.add(path)
                unread.append(path)
    return found


def stand_in(library: Path) -> None:
    """Replace a library by one of the same name and symbols, each an illegal instruction."""
    named = _output("nm", "--dynamic", "--defined-only", "--with-symbol-versions", str(library))
    versions: dict[str, list[str]] = {}
    for line in named.splitlines():
        kind, name = line.split()[-2:]
        if kind != "A":  # the versions themselves
            symbol, _, version = name.partition("@")
            versions.setdefault(version.lstrip("@"), []).append(symbol)
    symbols = [symbol for each in versions.values() for symbol in each]
    source = "".join(f".globl {s}\n.type {s}, @function\n.set {s}, called\n" for s in symbols)
    script = "".join(
        f"{version} {{ global: {'; '.join(each)}; }};\n"
        for version, each in versions.items()
        if version
    )
    with tempfile.TemporaryDirectory() as temporary:
        assembly, compiled, names = (str(Path(temporary, n)) for n in ("a.s", "a.o", "names"))
        Path(assembly).write_text(f".text\ncalled: ud2\n{source}.section .note.GNU-stack\n")
        Path(names).write_text(script)
        _output("as", "-o", compiled, assembly)
        library.unlink()  # it may be a hard link to a package's file in a cache
        _output(
            *("ld", "-shared", "-soname", library.name, "-o", str(library), compiled),
            *(("--version-script", names) if script else ()),
        )


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

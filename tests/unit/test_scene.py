"""The scene of a test on a cluster, without a cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.cluster.system import Scene


def test_every_hold_ends_on_every_node(tmp_path: Path) -> None:
    nodes: list[Any] = [SimpleNamespace(folder=tmp_path / name) for name in "ab"]
    unused: Any = None
    scene = Scene(unused, nodes[0], unused, "here", unused)
    scene.let()
    scene.hold(1)
    scene.hold(2, node=nodes[1])
    assert len(list(tmp_path.rglob("toy-*"))) == 2
    scene.let()
    scene.let()
    assert not list(tmp_path.rglob("toy-*"))

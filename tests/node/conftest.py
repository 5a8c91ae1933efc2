"""A cluster with real nodes. These tests run when they are named (`make e2e`), not with the others:
they take root, and minutes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import ControlPlane
from tests.cluster.lab.image_store import ImageStore
from tests.cluster.lab.real_node import Network, RealNode, unavailable

HERE = Path(__file__).parent
LOST = 40
"""Seconds without a heartbeat until a node counts as lost, as on other clusters: this machine has
much else to do."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it, or something in it, was asked for."""
    given = (Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in given) else True


@dataclass(frozen=True)
class Lab:
    """A control plane and two nodes."""

    cluster: ControlPlane
    nodes: tuple[RealNode, RealNode]
    seconds: float
    """How long it took to start."""


@contextlib.contextmanager
def a_lab(images: ImageStore | None = None) -> Iterator[Lab]:
    """Start one; `images` are on its nodes from the start."""
    if reason := unavailable():
        pytest.skip(f"no real node: {reason}")
    try:
        binaries.build((*binaries.CONTROL_PLANE, *binaries.NODE))
    except binaries.Unavailable as problem:
        pytest.skip(f"no real node: {problem}")
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.stop)
        network.start()
        cluster = ControlPlane(network.folder / "cluster", address=network.address, lost=LOST)
        stack.callback(cluster.stop)
        cluster.start()
        one, two = (
            RealNode(cluster, network, network.folder / name, name, images=images)
            for name in ("node-1", "node-2")
        )
        for node in (one, two):
            stack.callback(node.stop)
            node.start()
        yield Lab(cluster, (one, two), time.monotonic() - began)

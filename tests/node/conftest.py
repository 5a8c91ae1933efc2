"""A cluster with real nodes. These tests run when they are named (`make e2e`), not with the others:
they take root, and minutes.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster import system
from tests.cluster.lab import binaries, oci
from tests.cluster.lab.control_plane import ControlPlane
from tests.cluster.lab.image_store import ImageStore
from tests.cluster.lab.real_node import Network, RealNode, unavailable
from tests.images import build as images

HERE = Path(__file__).parent
BUSYBOX = "localhost/kinase-lab/busybox:1"
LOST = 40
"""Seconds without a heartbeat until a node counts as lost, as on other clusters: this machine has
much else to do."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the folder out unless it, or something in it, was asked for."""
    given = (Path(config.invocation_params.dir, arg.partition("::")[0]) for arg in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in given) else True


_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


def pytest_configure(config: pytest.Config) -> None:
    """A place for what is measured."""
    config.stash[_FIGURES] = []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured."""
    if figures := config.stash.get(_FIGURES, []):
        terminalreporter.section("measured")
        for name, value in figures:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Callable[[str, float, str], None]:
    """Takes a figure to be printed at the end."""

    def take(name: str, value: float, unit: str) -> None:
        pytestconfig.stash[_FIGURES].append((name, f"{value:.1f} {unit}"))

    return take


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing first: in a fixture it would count as the first test's time."""
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if session.config.option.collectonly or "lab" not in fixtures or unavailable():
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    say = terminal.write_line if terminal else print
    with contextlib.suppress(binaries.Unavailable, images.Unavailable):  # fixtures tell why
        binaries.build((*binaries.DEFAULT, *binaries.NODE), say)
        if "release" in fixtures:
            binaries.build(["helm"], say)
            for target in images.TARGETS:
                images.build(target, say)


@dataclass(frozen=True)
class Lab:
    """A control plane and two nodes."""

    cluster: ControlPlane
    nodes: tuple[RealNode, RealNode]
    seconds: float
    """How long it took to start."""


@contextlib.contextmanager
def a_lab(held: ImageStore | None = None) -> Iterator[Lab]:
    """Start one; the images of `held` are on its nodes from the start."""
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
            RealNode(cluster, network, network.folder / name, name, images=held)
            for name in ("node-1", "node-2")
        )
        for node in (one, two):
            stack.callback(node.stop)
            node.start()
        yield Lab(cluster, (one, two), time.monotonic() - began)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes that have an image with a shell, and the CRDs."""
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("no busybox (Debian: busybox-static)")
    archive = oci.archive(tmp_path_factory.mktemp("image") / "box.tar", BUSYBOX, Path(busybox))
    with a_lab() as lab:
        for node in lab.nodes:
            node.import_image(archive)
        system.install_crds(lab.cluster)
        yield lab

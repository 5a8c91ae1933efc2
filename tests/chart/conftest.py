"""Helm, and what its tests start from."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.sets import SETS
from tests.cluster.fixtures import a_cluster
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.node import Node

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts/kinase"
NEWEST = "1.37.0"
"""Kubernetes that objects are rendered for, unless a test says otherwise."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what is missing first: in a fixture it would count as the first test's time."""
    fixtures = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    wanted = ["helm"] if "helm" in fixtures else []
    if "lab" in fixtures:
        wanted += binaries.DEFAULT
    if not session.config.option.collectonly:
        with contextlib.suppress(binaries.Unavailable):  # the fixture tells why
            binaries.build(wanted)


class Refused(Exception):
    """Helm ended with an error; the message is its own."""


@dataclass(frozen=True)
class Helm:
    """Helm with a home of its own, so that nobody's settings count."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Its output."""
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
        env = {**kept, "HOME": str(self.home), "HELM_CACHE_HOME": str(self.home)}
        if self.kubeconfig:
            env["KUBECONFIG"] = str(self.kubeconfig)
        done = subprocess.run(
            [str(self.program), *arguments], env=env, input=stdin, capture_output=True, text=True
        )
        if done.returncode:
            raise Refused(f"helm {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def template(
        self,
        values: dict[str, Any],
        *arguments: str,
        kubernetes: str = NEWEST,
        namespace: str = "kinase-system",
    ) -> list[dict[str, Any]]:
        """The objects of a release `kinase`, without the CRDs unless the values name them."""
        values = {"crds": {"enabled": False}, **values}
        text = self(
            "template",
            "kinase",
            str(CHART),
            f"--namespace={namespace}",
            f"--kube-version={kubernetes}",
            "--values=-",
            *arguments,
            stdin=json.dumps(values),
        )
        return [item for item in yaml.load_all(text, yaml.CSafeLoader) if item]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    try:
        return Helm(binaries.get("helm"), tmp_path_factory.mktemp("helm"))
    except binaries.Unavailable as problem:
        pytest.skip(f"no helm: {problem}")


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> dict[str, list[dict[str, Any]]]:
    """What every set of values becomes for the newest Kubernetes; to be left as it is."""
    return {name: helm.template(values) for name, values in SETS.items()}


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster without Kinase, beside the one that other tests share."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as found:
        if not isinstance(found, ControlPlane):
            pytest.skip("a release may not meddle with the cluster of KINASE_TEST_KUBECONFIG")
        yield found


@pytest.fixture(scope="session")
def node(lab: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Its stand-in node."""
    node = Node(lab, tmp_path_factory.mktemp("node-1"), back_off=1)
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def on_cluster(helm: Helm, lab: Cluster) -> Helm:
    """Helm as the cluster's administrator."""
    return replace(helm, kubeconfig=lab.kubeconfig)

"""A cluster for the session, and what a test on it starts from."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cluster import system
from tests.cluster.helpers import wait_for
from tests.cluster.lab import binaries
from tests.cluster.lab.control_plane import Cluster, ControlPlane
from tests.cluster.lab.node import Node
from tests.cluster.lab.rest import ApiError
from tests.cluster.lab.s3 import S3Server, VersityGW


@contextlib.contextmanager
def a_cluster(folder: Path) -> Iterator[Cluster]:
    """The cluster of KINASE_TEST_KUBECONFIG, or else a control plane of our own."""
    if given := os.environ.get("KINASE_TEST_KUBECONFIG"):
        yield Cluster(Path(given))
        return
    plane = ControlPlane(folder)
    try:
        plane.start()
    except binaries.Unavailable as problem:
        pytest.skip(f"no cluster: {problem}; or set KINASE_TEST_KUBECONFIG")
    try:
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster that most tests share."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@contextlib.contextmanager
def a_namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace under the Pod Security level `restricted`."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for(lambda: cluster.api.get(account), message=account)  # else no pod is let in
    yield name
    with contextlib.suppress(ApiError, OSError):  # the test may have ended the API server
        cluster.api.delete(f"/api/v1/namespaces/{name}")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own, under the Pod Security level `restricted`."""
    with a_namespace(cluster) as name:
        yield name


@pytest.fixture(scope="session")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The stand-in node `node-1` with eight GPUs that are none; the cluster's only one."""
    if not isinstance(cluster, ControlPlane):
        folder = cluster.kubeconfig.parent / "node-1"
        if not (folder / "control.json").exists():
            pytest.skip("the cluster of KINASE_TEST_KUBECONFIG is not one of `make cluster`")
        yield Node(cluster, folder)
        return
    node = Node(
        cluster,
        tmp_path_factory.mktemp("node-1"),
        resources={"nvidia.com/gpu": 8},
        back_off=1,
    )
    node.start()
    yield node
    node.stop()


@pytest.fixture(scope="session")
def kinase(
    cluster: Cluster, node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[system.Operator]:
    """Kinase on the cluster: CRDs, rights, images, and the operator, which runs.

    A test that ends the operator starts it again.
    """
    system.install_crds(cluster)
    system.install_rights(cluster)
    system.put_images(node)
    waits = {"KINASE_BACKOFF_FIRST": "1", "KINASE_BACKOFF_MOST": "4"}
    operator = system.Operator(cluster, tmp_path_factory.mktemp("operator"), **waits)
    operator.start()
    yield operator
    operator.stop()


@dataclass(frozen=True)
class Bucket:
    """A bucket of the test's own; the Secret `nas-s3` in its namespace has the credentials."""

    name: str
    endpoint: str
    client: Any
    secret: str = "nas-s3"


def a_bucket(cluster: Cluster, namespace: str, server: S3Server | VersityGW) -> Bucket:
    """A new bucket named like the namespace, and its credentials there as a Secret."""
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    client: Any = boto3.Session().client(  # a session of its own, for threads may not share one
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        **{name.lower(): value for name, value in keys.items()},
    )
    client.create_bucket(Bucket=namespace)
    bucket = Bucket(namespace, server.endpoint, client)
    cluster.api.post(
        f"/api/v1/namespaces/{namespace}/secrets",
        {"metadata": {"name": bucket.secret}, "stringData": keys},
    )
    return bucket


@pytest.fixture
def s3_bucket(cluster: Cluster, namespace: str, s3_server: S3Server) -> Bucket:
    """A bucket named like the namespace, and its credentials there as a Secret."""
    return a_bucket(cluster, namespace, s3_server)


@pytest.fixture
def scene(
    kinase: system.Operator, cluster: Cluster, node: Node, namespace: str, s3_bucket: Bucket
) -> system.Scene:
    """A namespace and a bucket of the test's own, where Kinase runs."""
    return system.Scene(cluster, node, kinase, namespace, s3_bucket)

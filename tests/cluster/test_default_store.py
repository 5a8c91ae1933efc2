"""The administrator's store, for manifests that leave the place to the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.cluster import system
from tests.cluster.lab.pki import Authority
from tests.cluster.lab.s3 import VersityGW
from tests.cluster.system import Scene

LOCAL = {"uri": "file://runs"}
"""As a manifest has it that was written for one machine."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VersityGW]:
    """An S3 server whose certificate nobody trusts by himself."""
    server = VersityGW(tmp_path / "s3", Authority(tmp_path / "ca"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(server: VersityGW, scene: Scene) -> Any:
    """A bucket there; the experiment's namespace has the Secret and the ConfigMap."""
    assert server.authority is not None
    client: Any = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        verify=str(server.authority.certificate),
    )
    client.create_bucket(Bucket="all")
    base = f"/api/v1/namespaces/{scene.namespace}"
    keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    scene.cluster.api.post(
        f"{base}/secrets", {"metadata": {"name": "kinase-store"}, "stringData": keys}
    )
    certificate = server.authority.certificate.read_text()
    scene.cluster.api.post(
        f"{base}/configmaps",
        {"metadata": {"name": "kinase-store-ca"}, "data": {"ca.crt": certificate}},
    )
    return client


def test_a_manifest_of_one_machine_runs_as_it_is(
    scene: Scene, server: VersityGW, bucket: Any, tmp_path: Path
) -> None:
    scene.hold(1)
    scene.create(storage=LOCAL, budget={"trials": 4, "parallelism": 2})
    said = scene.until("Ready", "False", "Forbidden")
    assert "KINASE_STORE_URI" in said  # without a default there is no such place

    default = {
        "KINASE_STORE_ENDPOINT": server.endpoint,
        "KINASE_STORE_REGION": "us-east-1",
        "KINASE_STORE_SECRET": "kinase-store",
        "KINASE_STORE_CA": "kinase-store-ca",
    }
    scene.operator.stop()
    try:
        first = system.Operator(
            scene.cluster, tmp_path / "first", KINASE_STORE_URI="s3://all/first", **default
        )
        first.start()
        try:
            scene.begins(1)
            place = scene.get()["status"]["storage"]
        finally:
            first.stop()
        assert place == {
            "uri": "s3://all/first",
            "endpoint": server.endpoint,
            "region": "us-east-1",
            "credentialsSecret": "kinase-store",
            "caConfigMap": "kinase-store-ca",
        }
        # another default from now on: the search that has begun stays where it is
        second = system.Operator(
            scene.cluster, tmp_path / "second", KINASE_STORE_URI="s3://all/second", **default
        )
        second.start()
        scene.let()
        try:
            status = scene.finished()["status"]
        finally:
            second.stop()
    finally:
        scene.operator.start()
    uid = scene.get()["metadata"]["uid"]
    assert status["storage"] == place
    assert status["report"] == f"s3://all/first/{scene.namespace}/{uid}/report.html"
    keys = [item["Key"] for item in bucket.list_objects_v2(Bucket="all")["Contents"]]
    assert f"first/{scene.namespace}/{uid}/report.html" in keys
    assert all(key.startswith("first/") for key in keys)


def test_a_missing_certificate_is_named(
    scene: Scene, server: VersityGW, bucket: Any, tmp_path: Path
) -> None:
    storage = {
        "uri": "s3://all/own",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "credentialsSecret": "kinase-store",
    }
    scene.create(storage=storage)
    said = scene.until("Progressing", "False", "StoreRefused")
    assert "no certificate that is trusted" in said
    # the manifest may be corrected, for the search has not begun
    scene.change(storage={"caConfigMap": "kinase-store-ca"})
    assert scene.finished()["status"]["report"].startswith("s3://all/own/")

"""The test cluster itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.conftest import Bucket
from tests.cluster.helpers import wait_for
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.rest import ApiError, Rest


def test_a_namespace_is_restricted(cluster: Cluster, namespace: str) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "securityContext": {}}]},
    }
    wait_for(
        lambda: cluster.api.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/default"),
        message="the namespace's account",
    )
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.api.post(f"/api/v1/namespaces/{namespace}/pods", pod)


def test_an_account_has_its_own_rights(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.api.post(
        f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "someone"}}
    )
    path = cluster.account_kubeconfig(tmp_path / "kubeconfig", namespace, "someone")
    with pytest.raises(ApiError, match=f"system:serviceaccount:{namespace}:someone"):
        Rest(path).get(f"/api/v1/namespaces/{namespace}/pods")


def test_a_bucket_comes_with_a_secret(cluster: Cluster, namespace: str, s3_bucket: Bucket) -> None:
    secret = cluster.api.get(f"/api/v1/namespaces/{namespace}/secrets/{s3_bucket.secret}")
    assert sorted(secret["data"]) == ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert s3_bucket.endpoint.startswith("http")

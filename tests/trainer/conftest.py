from __future__ import annotations

import uuid

import boto3
import pytest

from tests.cluster.lab.s3 import S3Server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where a new bucket is, as a pod's environment says it."""
    keys = {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
    }
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    bucket = f"kinase-{uuid.uuid4().hex[:12]}"
    client = boto3.client("s3", endpoint_url=s3_server.endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    return {
        "KINASE_STORE": f"s3://{bucket}/nas/ns/uid",
        "KINASE_STORE_ENDPOINT": s3_server.endpoint,
        "KINASE_STORE_REGION": "us-east-1",
        **keys,
    }

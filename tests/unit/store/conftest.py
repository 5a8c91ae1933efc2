from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import boto3
import pytest

from kinase.store.s3 import S3Store


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Nothing of this machine's own configuration; sets credentials."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def credentials(key: str, secret: str) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    return credentials


@pytest.fixture
def new_store(aws_environment: Callable[[str, str], None]) -> Callable[[str, str, str], S3Store]:
    """A store in a new bucket of a server."""

    def make(endpoint: str, key: str, secret: str) -> S3Store:
        aws_environment(key, secret)
        bucket = f"kinase-{uuid.uuid4().hex}"
        client = boto3.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        return S3Store(bucket, "some/prefix", endpoint=endpoint)

    return make

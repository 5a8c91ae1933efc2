"""The lab of a benchmark as the cluster's tests see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import boto3

from bench.cluster import SPACE, Bucket, Lab
from tests.cluster.lab.s3 import VersityGW
from tests.cluster.system import Scene


@dataclass(frozen=True)
class _Bucket(Bucket):
    client: Any = None


def scene_of(it: Lab) -> Scene:
    """The lab as the tests see it."""
    client = boto3.client(
        "s3",
        endpoint_url=it.bucket.endpoint,
        region_name="us-east-1",
        aws_access_key_id=VersityGW.access_key,
        aws_secret_access_key=VersityGW.secret_key,
    )
    bucket = _Bucket(it.bucket.name, it.bucket.endpoint, client=client)
    return Scene(it.cluster, it.node, it.operator, SPACE, bucket)

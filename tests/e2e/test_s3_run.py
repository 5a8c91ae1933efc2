"""A whole experiment whose journal, results and network lie in a real S3 server."""

from __future__ import annotations

import uuid

import boto3
import pytest

from kinase.api import NASExperiment
from kinase.experiment.identity import MismatchError
from kinase.experiment.local import open_run, run
from kinase.report import render
from kinase.report.gather import gather
from kinase.store import StoreError
from tests.cluster.lab.s3 import S3Server
from tests.unit.experiment.helpers import experiment


@pytest.fixture
def storage(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"kinase-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=s3_server.endpoint).create_bucket(Bucket=bucket)
    return {"uri": f"s3://{bucket}/nas", "endpoint": s3_server.endpoint}


def manifest(storage: dict[str, str], **spec: object) -> NASExperiment:
    return experiment(
        **{
            "task": {"dataset": "digits"},
            "training": {"epochs": 2, "device": "cpu"},
            "estimation": {"type": "LowerFidelity", "lowerFidelity": {"epochs": 1}},
            "budget": {"trials": 6, "parallelism": 2},
            "finalists": {"count": 1},
            "storage": storage,
            **spec,
        }
    )


@pytest.mark.slow
def test_a_run_in_a_bucket(storage: dict[str, str]) -> None:
    from kinase_trainer import model

    loop = run(manifest(storage))
    state = loop.state
    assert state.finished is not None
    assert state.finished.winner is not None
    network, card = model.load(loop.store.sub("final"))
    assert sum(p.numel() for p in network.parameters()) == card["params"]
    again = open_run(manifest(storage))
    assert again.state.finished == state.finished
    assert again.state.spent == state.spent
    assert "toy" in render(gather(again))
    with pytest.raises(MismatchError, match=r"spec\.seed is 0 there and 9 here"):
        run(manifest(storage, seed=9))


def test_a_bucket_that_is_not_there(storage: dict[str, str]) -> None:
    missing = {**storage, "uri": "s3://no-such-bucket-here/nas"}
    with pytest.raises(StoreError, match="no-such-bucket-here"):
        run(manifest(missing))


def test_credentials_that_are_wrong(
    storage: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="s3://"):
        run(manifest(storage))

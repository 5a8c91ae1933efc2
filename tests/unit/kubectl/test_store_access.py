"""Where an experiment's store is, and what is said where it cannot be read."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any

import pytest

from kinase.cli_options import Access
from kinase.store import StoreError, StoreUnavailable
from kinase_kubectl.cluster import CONFIG_MAP, SECRET
from kinase_kubectl.problem import Problem
from kinase_kubectl.store_access import StoreAccess, prepare
from tests.unit.kubectl.samples import experiment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No credentials; what the code sets is taken back."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CA_BUNDLE", "PROFILE"):
        monkeypatch.setenv(f"AWS_{name}", "x")
        monkeypatch.delenv(f"AWS_{name}")
    return monkeypatch


def test_the_manifests_store() -> None:
    place = StoreAccess.of(experiment(), Access())
    assert place.uri == "s3://nas/experiments/nas/uid-of-digits"
    assert (place.endpoint, place.secret) == ("http://minio.minio:9000", "nas-s3")


def test_the_operators_choice_goes_first() -> None:
    chosen = {"uri": "s3://default", "region": "eu-1", "caConfigMap": "ca"}
    spec = {"storage": {"uri": "file://runs"}}
    place = StoreAccess.of(experiment(spec=spec, storage=chosen), Access("https://here:1"))
    assert place.uri == "s3://default/nas/uid-of-digits"
    assert (place.endpoint, place.region, place.authorities) == ("https://here:1", "eu-1", "ca")
    with pytest.raises(Problem, match="digits has no store yet"):
        StoreAccess.of(experiment(spec=spec), Access())


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ("http://minio.minio:9000", "port-forward -n minio svc/minio 9000) and add --endpoint "),
        ("http://store.nas.svc", "-n nas svc/store 80) and add --endpoint http://localhost:80"),
        ("https://s.n.svc.cluster.local", "-n n svc/s 443) and add --endpoint https://localhost"),
        ("https://s3.example.com", "give another endpoint with --endpoint URL"),
        ("http://10.0.0.7:9000", "give another endpoint with --endpoint URL"),
    ],
)
def test_a_store_out_of_reach(endpoint: str, hint: str) -> None:
    spec = {"storage": {"uri": "s3://b", "endpoint": endpoint}}
    place = StoreAccess.of(experiment(spec=spec), Access())
    with pytest.raises(Problem) as caught, place.explaining_errors():
        raise StoreUnavailable("it is away")
    assert str(caught.value).startswith("it is away. ")
    assert hint in str(caught.value)
    place = StoreAccess.of(experiment(spec=spec), Access("http://localhost:9"))
    with pytest.raises(Problem, match=r"^it is away$"), place.explaining_errors():
        raise StoreUnavailable("it is away")


def test_a_store_that_refuses(environment: pytest.MonkeyPatch) -> None:
    place = StoreAccess.of(experiment(), Access())
    with pytest.raises(Problem) as caught, place.explaining_errors():
        raise StoreError("no credentials")
    assert "in the Secret nas-s3: --credentials-from-secret reads it" in str(caught.value)
    assert "kubectl get secret nas-s3 -n nas -o yaml" in str(caught.value)
    environment.setenv("AWS_ACCESS_KEY_ID", "a")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with pytest.raises(Problem, match=r"^refused$"), place.explaining_errors():
        raise StoreError("refused")


class Held:
    """A cluster that holds these objects, by kind."""

    def __init__(self, **data: Any) -> None:
        self.data = data
        self.asked: list[tuple[str, str]] = []

    async def read(self, resource: Any, name: str) -> Any:
        self.asked.append((resource.kind, name))
        return {"data": self.data[resource.kind]}


def encoded(**texts: str) -> dict[str, str]:
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}


def prepared(held: Held, spec: Any = None) -> StoreAccess:
    return asyncio.run(prepare(held, experiment(spec=spec), Access(from_secret=True)))  # type: ignore[arg-type]


def test_credentials_of_the_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_SESSION_TOKEN", "of other credentials")
    held = Held(Secret=encoded(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret"))
    prepared(held)
    assert held.asked == [(SECRET.kind, "nas-s3")]
    assert os.environ["AWS_ACCESS_KEY_ID"] == "key"
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert "AWS_SESSION_TOKEN" not in os.environ


def test_the_authorities_of_the_server() -> None:
    secret = encoded(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret")
    held = Held(Secret=secret, ConfigMap={"ca.crt": "-----BEGIN"})
    storage = {"uri": "s3://b", "credentialsSecret": "s", "caConfigMap": "ca"}
    prepared(held, {"storage": storage})
    assert (CONFIG_MAP.kind, "ca") in held.asked
    assert Path(os.environ["AWS_CA_BUNDLE"]).read_text() == "-----BEGIN"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "has no AWS_ACCESS_KEY_ID and no AWS_SECRET_ACCESS_KEY"),
        (encoded(AWS_ACCESS_KEY_ID="a"), "the Secret nas-s3 has no AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "%", "AWS_SECRET_ACCESS_KEY": "%"}, "is not text"),
    ],
)
def test_a_secret_that_does_not_serve(data: dict[str, str], said: str) -> None:
    with pytest.raises(Problem, match=said):
        prepared(Held(Secret=data))


def test_no_secret_is_named() -> None:
    with pytest.raises(Problem, match="digits names no Secret"):
        prepared(Held(), {"storage": {"uri": "s3://b"}})


def test_an_endpoint_that_is_none() -> None:
    with pytest.raises(Problem, match="--endpoint 'localhost:9000' is not a URL"):
        asyncio.run(prepare(Held(), experiment(), Access("localhost:9000")))  # type: ignore[arg-type]

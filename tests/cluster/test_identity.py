"""A store that pods reach by who they are: a role, taken by a token of their ServiceAccount."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.cluster import system
from tests.cluster.lab.control_plane import Cluster
from tests.cluster.lab.node import Image
from tests.cluster.lab.s3 import S3Server
from tests.cluster.system import Scene

ROLE = "arn:aws:iam::000000000001:role/nas"
AUDIENCE = "nas-store"
TAKES = """
import os, runpy, sys
import boto3

keys = boto3.Session().get_credentials().get_frozen_credentials()
os.environ["AWS_ACCESS_KEY_ID"] = keys.access_key
os.environ["AWS_SECRET_ACCESS_KEY"] = keys.secret_key
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A trainer that looks for credentials as boto3 does, and goes on as the fake one."""
ANSWER = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{}</AccessKeyId>
<SecretAccessKey>{}</SecretAccessKey><SessionToken></SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""
"""Without a session's token, which the S3 server of the tests does not know."""
DENIED = """<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>{}</Message></Error>
</ErrorResponse>"""


class Tokens(ThreadingHTTPServer):
    """Gives the store's credentials for a token that the API server vouches for."""

    daemon_threads = True

    def __init__(self, cluster: Cluster, keys: tuple[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cluster, self.keys = cluster, keys
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.given: set[str] = set()
        """Accounts that were given credentials."""

    def user(self, token: str) -> str:
        """Whose token it is, if it is for us."""
        review = self.cluster.api.post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            {"spec": {"token": token, "audiences": [AUDIENCE]}},
        )["status"]
        return str(review["user"]["username"]) if review.get("authenticated") else ""


class _Handler(BaseHTTPRequestHandler):
    server: Tokens

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = {name: values[0] for name, values in parse_qs(body).items()}
        user = self.server.user(asked.get("WebIdentityToken", ""))
        fine = bool(user) and asked.get("RoleArn") == ROLE
        if fine:
            self.server.given.add(user)
        text = ANSWER.format(*self.server.keys) if fine else DENIED.format("not a token for us")
        self.send_response(200 if fine else 400)
        self.send_header("Content-Type", "text/xml")
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def tokens(scene: Scene, s3_server: S3Server) -> Iterator[Tokens]:
    server = Tokens(scene.cluster, (s3_server.access_key, s3_server.secret_key))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_pods_reach_the_store_by_their_service_accounts_and_no_secret(
    scene: Scene, tokens: Tokens, tmp_path: Path
) -> None:
    api, base = scene.cluster.api, f"/api/v1/namespaces/{scene.namespace}"
    for secret in api.get(f"{base}/secrets")["items"]:
        api.delete(f"{base}/secrets/{secret['metadata']['name']}")
    api.post(f"{base}/serviceaccounts", {"metadata": {"name": "trainers"}})
    image = system.images()[system.FAKE]
    taking = (sys.executable, "-c", TAKES, *image.entrypoint[1:])
    scene.node.set_image("kinase/taking:test", Image(entrypoint=taking, env=image.env))
    scene.operator.stop()
    operator = system.Operator(
        scene.cluster,
        tmp_path / "operator",
        KINASE_STORE_URI=f"s3://{scene.bucket.name}/nas",
        KINASE_STORE_ENDPOINT=scene.bucket.endpoint,
        KINASE_STORE_ROLE=ROLE,
        KINASE_STORE_AUDIENCE=AUDIENCE,
        KINASE_STORE_STS=tokens.endpoint,
        KINASE_SERVICE_ACCOUNTS=f"{scene.namespace}/trainers",
    )
    try:
        operator.start()
        template = {"image": "kinase/taking:test", "serviceAccountName": "trainers"}
        small = {"budget": {"trials": 1}, "control": {"share": 0}, "finalists": {"count": 1}}
        place = {"uri": "file://runs"}
        scene.create(storage=place, **small, trialTemplate=template)
        other = {**template, "serviceAccountName": "toy-controller"}
        scene.create("thief", storage=place, **small, trialTemplate=other)
        said = scene.until("Ready", "False", "Forbidden", name="thief")
        assert "pods may not run as 'toy-controller'" in said
        scene.until("Succeeded", "True", timeout=40)
        assert scene.get()["status"]["storage"]["roleArn"] == ROLE
    finally:
        operator.stop()
        scene.operator.start()
    ours = f"system:serviceaccount:{scene.namespace}"
    assert tokens.given == {f"{ours}:toy-controller", f"{ours}:trainers"}
    assert api.get(f"{base}/secrets")["items"] == []
    # what the pods' tokens are for is the store alone: the API server takes none of them
    assert tokens.user("forged") == ""

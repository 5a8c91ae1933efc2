"""Access to an experiment's store from this machine."""

from __future__ import annotations

import atexit
import base64
import binascii
import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kinase.api.storage import is_shared
from kinase.cli_options import Access
from kinase.store import Store, StoreError, StoreUnavailable, open_uri
from kinase_kubectl.cluster import CONFIG_MAP, SECRET, Cluster
from kinase_kubectl.problem import USAGE, Problem
from kinase_kubectl.views import Experiment

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
"""Keys of the Secret; the last one is optional."""
_OF_THE_CLUSTER = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)(\.svc(\.cluster\.local)?)?\.?")
"""A Service's name in the forms that pods can use."""


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Location of an experiment's data, and how to access it."""

    experiment: str
    namespace: str
    uri: str
    """The experiment's own part of the store."""
    endpoint: str | None
    region: str | None
    secret: str | None
    authorities: str | None
    """ConfigMap with the server's CA certificates."""
    overridden: bool = False
    """Whether the user gave the endpoint."""

    @classmethod
    def of(cls, each: Experiment, access: Access) -> StoreAccess:
        """From the manifest, or from the status if the operator chose the storage."""
        chosen = (each.body.get("status") or {}).get("storage") or {}
        storage = chosen or each.spec.get("storage") or {}
        uri = str(storage.get("uri", ""))
        if not is_shared(uri):
            raise Problem(f"{each.name} has no store yet; kinase get {each.name} says why")
        return cls(
            experiment=each.name,
            namespace=each.namespace,
            uri=f"{uri.rstrip('/')}/{each.namespace}/{each.uid}",
            endpoint=access.endpoint or storage.get("endpoint"),
            region=storage.get("region"),
            secret=storage.get("credentialsSecret"),
            authorities=storage.get("caConfigMap"),
            overridden=access.endpoint is not None,
        )

    def open(self) -> Store:
        """The store below `uri`."""
        with self.explaining_errors():
            return open_uri(self.uri, self.endpoint, self.region)

    @contextlib.contextmanager
    def explaining_errors(self) -> Iterator[None]:
        """Turn errors of the store into a `Problem` that says what to do."""
        try:
            yield
        except StoreError as error:
            hint = self._forward() if isinstance(error, StoreUnavailable) else self._secret()
            raise Problem(f"{error}{hint and '. ' + hint}") from None

    def _secret(self) -> str:
        if self.secret is None or all(os.environ.get(key) for key in KEYS[:2]):
            return ""
        return (
            f"The credentials are in the Secret {self.secret}: --credentials-from-secret "
            "reads it with your rights on the cluster (kubectl get secret "
            f"{self.secret} -n {self.namespace} -o yaml shows it)"
        )

    def _forward(self) -> str:
        if self.overridden or self.endpoint is None:
            return ""
        parts = urlsplit(self.endpoint)
        found = _OF_THE_CLUSTER.fullmatch(parts.hostname or "")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if found is None:
            return "If only the cluster can reach it, give another endpoint with --endpoint URL"
        return (
            f"If the address is inside the cluster, forward it (kubectl port-forward -n "
            f"{found[2]} svc/{found[1]} {port}) and add --endpoint "
            f"{parts.scheme}://localhost:{port}"
        )


async def prepare(cluster: Cluster, each: Experiment, access: Access) -> StoreAccess:
    """The location of the store. If requested, copy the Secret's credentials into this process's
    environment, where the S3 client reads them."""
    if access.endpoint is not None and not access.endpoint.startswith(("http://", "https://")):
        raise Problem(
            f"--endpoint {access.endpoint!r} is not a URL; use http(s)://HOST:PORT", USAGE
        )
    place = StoreAccess.of(each, access)
    if access.from_secret:
        await _take_credentials(cluster, place)
        if place.authorities is not None:
            await _take_authorities(cluster, place.authorities)
    return place


async def _take_credentials(cluster: Cluster, place: StoreAccess) -> None:
    if place.secret is None:
        raise Problem(
            f"{place.experiment} names no Secret (storage.credentialsSecret); "
            f"set {KEYS[0]} and {KEYS[1]}"
        )
    data = (await cluster.read(SECRET, place.secret)).get("data") or {}
    missing = [key for key in KEYS[:2] if key not in data]
    if missing:
        raise Problem(f"the Secret {place.secret} has no {' and no '.join(missing)}")
    for key in KEYS:
        os.environ.pop(key, None)  # a session token of other credentials would make these invalid
        if key in data:
            try:
                os.environ[key] = base64.b64decode(data[key], validate=True).decode()
            except (binascii.Error, ValueError):
                raise Problem(f"{key} of the Secret {place.secret} is not text") from None
    os.environ.pop("AWS_PROFILE", None)


async def _take_authorities(cluster: Cluster, name: str) -> None:
    found = ((await cluster.read(CONFIG_MAP, name)).get("data") or {}).get("ca.crt")
    if not found:
        raise Problem(f"the ConfigMap {name} has no ca.crt")
    with tempfile.NamedTemporaryFile("w", suffix=".crt", delete=False) as file:
        file.write(found)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    os.environ["AWS_CA_BUNDLE"] = file.name

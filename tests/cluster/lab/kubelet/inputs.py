"""What a container is given: its volumes, its environment, its command."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from tests.cluster.lab.kubelet.client import Api
from tests.cluster.lab.rest import ApiError

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"

_ROOT_CA = "kube-root-ca.crt"
_FIELD = re.compile(r"metadata\.(annotations|labels)\['(.+)'\]")
_VARIABLE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_SUFFIXES = {
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
    "m": Decimal("0.001"),
    "": Decimal(1),
}


class NotYet(Exception):
    """Something that the container needs does not exist; the message is a kubelet's."""


class Source:
    """Objects that the pod refers to."""

    _kept: ClassVar[dict[str, dict[str, bytes]]] = {}
    """The cluster's certificate, which every pod is given and which does not change."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def data(self, kind: str, name: str, optional: bool) -> dict[str, bytes] | None:
        """What is in a Secret or ConfigMap; None if it may be missing and is."""
        plural = f"{kind.lower()}s"
        if name == _ROOT_CA and name in self._kept:
            return self._kept[name]
        try:
            found = await self._soon("GET", f"/api/v1/namespaces/{self._namespace}/{plural}/{name}")
        except ApiError as problem:
            if problem.status != 404:
                raise NotYet(problem.message) from None
            if optional:
                return None
            raise NotYet(f'{kind.lower()} "{name}" not found') from None
        data = found.get("data") or {}
        if kind == "Secret":
            return {key: base64.b64decode(value) for key, value in data.items()}
        binary = found.get("binaryData") or {}
        content = {
            **{key: value.encode() for key, value in data.items()},
            **{key: base64.b64decode(value) for key, value in binary.items()},
        }
        if name == _ROOT_CA:
            self._kept[name] = content
        return content

    async def token(self, pod: Any, projection: Mapping[str, Any]) -> tuple[str, float]:
        """A token for the pod's account, and the seconds until it should be renewed."""
        account = pod["spec"].get("serviceAccountName") or "default"
        meta = pod["metadata"]
        reference = {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": meta["name"],
            "uid": meta["uid"],
        }
        seconds = projection.get("expirationSeconds") or 3600
        audiences = [projection["audience"]] if projection.get("audience") else []
        try:
            answer = await self._soon(
                "POST",
                f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token",
                {
                    "spec": {
                        "audiences": audiences,
                        "expirationSeconds": seconds,
                        "boundObjectRef": reference,
                    }
                },
            )
        except ApiError as problem:
            raise NotYet(problem.message) from None
        return answer["status"]["token"], seconds * 0.8

    async def host_folder(self, claim: str) -> str:
        """The folder of this machine behind a claim, if its volume is one."""
        try:
            found = await self._soon(
                "GET", f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{claim}"
            )
            name = found["spec"].get("volumeName")
            if not name:
                raise NotYet(f'persistentvolumeclaim "{claim}" is not bound')
            volume = await self._soon("GET", f"/api/v1/persistentvolumes/{name}")
        except ApiError as problem:
            raise NotYet(problem.message) from None
        for kind in ("hostPath", "local"):
            if kind in volume["spec"]:
                return str(volume["spec"][kind]["path"])
        raise NotYet(f'volume "{name}" is neither hostPath nor local')

    async def _soon(self, method: str, path: str, body: Any = None) -> Any:
        """The node may read what its pods refer to, a moment after a pod has been bound."""
        until = time.monotonic() + 2
        while True:
            try:
                return await self._api.request(method, path, body)
            except ApiError as problem:
                if problem.status != 403 or time.monotonic() > until:
                    raise
            await asyncio.sleep(0.005)


def field(pod: Any, path: str, ip: str, node: str) -> str:
    """The value of a fieldRef."""
    meta = pod["metadata"]
    if match := _FIELD.fullmatch(path):
        return str(meta.get(match[1], {}).get(match[2], ""))
    if path in ("metadata.annotations", "metadata.labels"):
        entries = meta.get(path.partition(".")[2], {})
        return "\n".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}"
            for key, value in sorted(entries.items())
        )
    values = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": node,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", "default"),
        "status.podIP": ip,
        "status.podIPs": ip,
        "status.hostIP": "127.0.0.1",
        "status.hostIPs": "127.0.0.1",
    }
    if path not in values:
        raise NotYet(f"unsupported fieldPath: {path}")
    return str(values[path])


def resource(container: Any, reference: Mapping[str, Any]) -> str:
    """The value of a resourceFieldRef; a limit that is not set is what the machine has."""
    kind, _, name = reference["resource"].partition(".")
    given = container.get("resources", {}).get(kind, {}).get(name)
    if given is None and kind == "limits":
        has = {"cpu": os.cpu_count() or 1, "memory": _memory()}
        given = has.get(name, 0)
    divisor = quantity(reference.get("divisor") or "1") or Decimal(1)
    return str(math.ceil(quantity(given or 0) / divisor))


def quantity(text: str | int) -> Decimal:
    """A Kubernetes quantity such as 500m or 2Gi."""
    match = re.fullmatch(r"([-+.\d]+(?:[eE][-+]?\d+)?)(\w*)", str(text))
    if not match or match[2] not in _SUFFIXES:
        raise NotYet(f"quantity {text!r}")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def expand(text: str, variables: Mapping[str, str]) -> str:
    """$(NAME) by its value; one that does not exist stays, and $$ is a dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return variables.get(match[1], match[0])

    return _VARIABLE.sub(replace, text)


CHECKOUT = str(Path(__file__).resolve().parents[4])


def rewriter(paths: Mapping[str, str], ip: str, checkout: str = CHECKOUT) -> Callable[[str], str]:
    """A function that turns the container's paths in a text into the machine's.

    A path counts as a whole component, at the start of a text, after what is no part of a path,
    or in a file:// URL. What lies in this checkout is the machine's own, also if that is below a
    container's path such as /tmp. The address 0.0.0.0 becomes the pod's own, as pods share ports.
    """
    table = {path.rstrip("/"): target for path, target in paths.items()}

    def alternative(path: str) -> str:
        own = checkout.removeprefix(path) if checkout.startswith(f"{path}/") else ""
        return re.escape(path) + (rf"(?!{re.escape(own)}(?![\w.\-]))" if own else "")

    ordered = "|".join(alternative(path) for path in sorted(table, key=len, reverse=True))
    pattern = re.compile(
        r"(?<![\d.])(?P<any>0\.0\.0\.0)(?![\d.])"
        + (rf"|(?:(?<![\w./\-])|(?<=file://))(?P<path>{ordered})(?![\w.\-])" if ordered else "")
    )
    return lambda text: pattern.sub(
        lambda match: ip if match["any"] else table[match["path"]], text
    )


async def environment(
    source: Source, pod: Any, container: Any, ip: str, node: str
) -> dict[str, str]:
    """The variables that the pod gives its container."""
    namespace = pod["metadata"]["namespace"]
    variables: dict[str, str] = {}
    for entry in container.get("envFrom") or ():
        for kind, key in (("Secret", "secretRef"), ("ConfigMap", "configMapRef")):
            if reference := entry.get(key):
                data = await source.data(kind, reference["name"], bool(reference.get("optional")))
                prefix = entry.get("prefix", "")
                variables.update(
                    {f"{prefix}{name}": value.decode() for name, value in (data or {}).items()}
                )
    for entry in container.get("env") or ():
        name, origin = entry["name"], entry.get("valueFrom")
        if origin is None:
            variables[name] = expand(entry.get("value", ""), variables)
        elif reference := origin.get("fieldRef"):
            variables[name] = field(pod, reference["fieldPath"], ip, node)
        elif reference := origin.get("resourceFieldRef"):
            variables[name] = resource(container, reference)
        else:
            kind, key = next(
                (kind, key)
                for kind, key in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef"))
                if key in origin
            )
            reference = origin[key]
            optional = bool(reference.get("optional"))
            data = await source.data(kind, reference["name"], optional)
            if data is not None and reference["key"] in data:
                variables[name] = data[reference["key"]].decode()
            elif not optional:
                raise NotYet(
                    f"couldn't find key {reference['key']} in {kind} "
                    f"{namespace}/{reference['name']}"
                )
    return variables


class Volumes:
    """The pod's volumes, each a folder."""

    def __init__(self, source: Source, folder: Path, ip: str, node: str) -> None:
        self._source = source
        self._folder = folder
        self._ip = ip
        self._node = node
        self._paths: dict[str, Path] = {}
        self._downward: list[tuple[Path, Any]] = []
        self._tokens: list[tuple[Path, Any, float]] = []

    async def make(self, pod: Any) -> None:
        """Fill them; NotYet if something they hold is missing."""
        self._downward, self._tokens = [], []
        for volume in pod["spec"].get("volumes") or ():
            path = self._folder / volume["name"]
            path.mkdir(parents=True, exist_ok=True)
            self._paths[volume["name"]] = path
            try:
                await self._fill(pod, volume, path)
            except NotYet as problem:
                raise NotYet(
                    f'MountVolume.SetUp failed for volume "{volume["name"]}" : {problem}'
                ) from None

    async def _fill(self, pod: Any, volume: Any, path: Path) -> None:
        if "emptyDir" in volume:
            return
        if claim := volume.get("persistentVolumeClaim"):
            self._paths[volume["name"]] = Path(await self._source.host_folder(claim["claimName"]))
        elif host := volume.get("hostPath"):
            self._paths[volume["name"]] = Path(host["path"])
        elif projected := volume.get("projected"):
            for projection in projected.get("sources") or ():
                await self._project(pod, projection, path)
        elif secret := volume.get("secret"):
            await self._project(pod, {"secret": {**secret, "name": secret["secretName"]}}, path)
        elif "configMap" in volume or "downwardAPI" in volume:
            await self._project(pod, volume, path)
        else:
            kinds = ", ".join(key for key in volume if key != "name")
            raise NotYet(f"the stand-in has no volumes of kind {kinds}")

    async def _project(self, pod: Any, projection: Any, path: Path) -> None:
        if downward := projection.get("downwardAPI"):
            for item in downward.get("items") or ():
                self._downward.append((path / item["path"], item))
            self.refresh(pod)
        elif wanted := projection.get("serviceAccountToken"):
            token, lasts = await self._source.token(pod, wanted)
            _write(path / wanted["path"], token.encode())
            self._tokens.append((path / wanted["path"], wanted, time.monotonic() + lasts))
        else:
            kind, key = (
                ("Secret", "secret") if "secret" in projection else ("ConfigMap", "configMap")
            )
            await self._copy(pod, kind, projection[key], path)

    async def _copy(self, pod: Any, kind: str, reference: Any, path: Path) -> None:
        optional = bool(reference.get("optional"))
        data = await self._source.data(kind, reference["name"], optional) or {}
        items = reference.get("items")
        names = {i["key"]: i["path"] for i in items} if items else {key: key for key in data}
        for key, name in names.items():
            if key in data:
                _write(path / name, data[key])
            elif not optional:
                raise NotYet(f"references non-existent {kind.lower()} key: {key}")

    def refresh(self, pod: Any) -> None:
        """Write the files of the pod's own fields anew."""
        for path, item in self._downward:
            if reference := item.get("fieldRef"):
                text = field(pod, reference["fieldPath"], self._ip, self._node)
            else:
                reference = item["resourceFieldRef"]
                text = resource(pod["spec"]["containers"][0], reference)
            if not path.exists() or path.read_text() != text:
                _write(path, text.encode())

    async def renew_tokens(self, pod: Any) -> None:
        """Replace the tokens that are about to expire."""
        for number, (path, wanted, due) in enumerate(self._tokens):
            if time.monotonic() > due:
                token, lasts = await self._source.token(pod, wanted)
                _write(path, token.encode())
                self._tokens[number] = (path, wanted, time.monotonic() + lasts)

    def mounts(self, container: Any) -> dict[str, str]:
        """The machine's path of each of the container's mounts."""
        found = {}
        for mount in container.get("volumeMounts") or ():
            path = self._paths[mount["name"]]
            if inner := mount.get("subPath"):
                path = path / inner
                if not path.exists():
                    path.mkdir(parents=True)
            found[mount["mountPath"]] = str(path)
        return found


def _write(path: Path, data: bytes) -> None:
    """In one step, as readers may look at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"..{path.name}")
    temporary.write_bytes(data)
    temporary.rename(path)

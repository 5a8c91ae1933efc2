"""Schemas of Kubernetes' own objects, from the OpenAPI that each release's source holds.

The versions are those that the test cluster is built from (`tests/cluster/lab/parts`), so a machine
that has built it has the module, and Go checks it by go.sum.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from tests.cluster.lab.binaries import PARTS, Unavailable

Schema = dict[str, Any]
MINORS = tuple(sorted(path.name.removeprefix("kubernetes-") for path in PARTS.glob("kubernetes-*")))
MONITORING = Path(__file__).parent / "monitoring"
_PREFIX = "#/definitions/"
_LOOSE = {
    # what the API server reads in more ways than its OpenAPI says
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}


class _Loader(yaml.CSafeLoader):
    """Takes `=` for a text, as Kubernetes does."""


_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.construct_yaml_str)


def module(folder: Path, name: str) -> Path:
    """Where Go has a module that a folder's go.mod requires; fetched if it does not exist."""
    if not shutil.which("go"):
        raise Unavailable(f"{name} is read from Go's modules: install Go")
    done = subprocess.run(
        ["go", "mod", "download", "-json", name], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise Unavailable(f"{name}: {done.stderr or done.stdout}")
    return Path(json.loads(done.stdout)["Dir"])


@functools.cache
def definitions(minor: str) -> dict[str, Schema]:
    """The definitions of a minor release, strict: a field that is unknown is refused."""
    source = module(PARTS / f"kubernetes-{minor}", "k8s.io/kubernetes")
    found = json.loads((source / "api/openapi-spec/swagger.json").read_text())["definitions"]
    return {name: _LOOSE.get(name) or _strict(schema) for name, schema in found.items()}


def _strict(schema: Any) -> Any:
    """Without words, and with no field but those that are named."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _strict(field) for name, field in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if key not in ("description", "default", "format") and not key.startswith("x-kubernetes")
    }
    if "properties" in kept:
        kept["additionalProperties"] = False
    return kept


def closure(names: Iterable[str], known: dict[str, Schema]) -> dict[str, Schema]:
    """Definitions, with those that they refer to."""
    found: dict[str, Schema] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = known[name]
            waiting += references(known[name])
    return dict(sorted(found.items()))


def references(schema: Any) -> Iterator[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        if isinstance(reference := schema.get("$ref"), str):
            yield reference.removeprefix(_PREFIX)
        for value in schema.values():
            yield from references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from references(value)


@functools.cache
def _by_kind(minor: str) -> dict[tuple[str, str], str]:
    """Definitions' names by apiVersion and kind."""
    source = module(PARTS / f"kubernetes-{minor}", "k8s.io/kubernetes")
    found = json.loads((source / "api/openapi-spec/swagger.json").read_text())["definitions"]
    return {
        (f"{kind['group']}/{kind['version']}".lstrip("/"), kind["kind"]): name
        for name, schema in found.items()
        for kind in schema.get("x-kubernetes-group-version-kind", ())
    }


@functools.cache
def monitoring() -> dict[str, Schema]:
    """Those CRDs of Prometheus Operator that the chart has objects of, by kind."""
    source = module(MONITORING, "github.com/prometheus-operator/prometheus-operator")
    folder = source / "example/prometheus-operator-crd"
    plurals = ("servicemonitors", "podmonitors", "prometheusrules")
    files = [folder / f"monitoring.coreos.com_{plural}.yaml" for plural in plurals]
    crds = [yaml.load(file.read_text(), _Loader) for file in files]
    return {crd["spec"]["names"]["kind"]: crd for crd in crds}


@functools.cache
def validator(minor: str, api_version: str, kind: str) -> Callable[[Any], list[str]]:
    """What is wrong with an object, in the eyes of a minor release."""
    schema: Schema
    if api_version == "monitoring.coreos.com/v1":
        [version] = [v for v in monitoring()[kind]["spec"]["versions"] if v["name"] == "v1"]
        schema = _strict(version["schema"]["openAPIV3Schema"])
        known = definitions(minor)
        meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
        schema["properties"]["metadata"] = {"$ref": f"{_PREFIX}{meta}"}
        schema["definitions"] = closure([meta], known)
    else:
        name = _by_kind(minor)[api_version, kind]
        schema = {"$ref": f"{_PREFIX}{name}", "definitions": closure([name], definitions(minor))}
    checker = jsonschema.Draft7Validator(schema)

    def check(item: Any) -> list[str]:
        return [
            f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
            for error in checker.iter_errors(item)
        ]

    return check

"""What somebody changed of an experiment's children: pure functions.

An object is compared field by field with what is wanted of it: what Kinase sets, and what would
widen it, such as one port more. What others may add (labels, annotations, the pull secrets of a
ServiceAccount) stays.
"""

from __future__ import annotations

from typing import Any

from kinase.api import names

Object = dict[str, Any]

FIELDS = ("spec", "rules", "roleRef", "subjects", "automountServiceAccountToken")
"""What of an object is compared, besides its labels and annotations."""
_SERVICE = ("selector", "ports", "type", "externalIPs", "externalName", "publishNotReadyAddresses")
"""Of a Service: all that decides who is reached by it, and from where."""


def content(item: Object) -> Object:
    """What is compared of an object: without what the API server fills in by itself."""
    found: Object = {field: item[field] for field in FIELDS if item.get(field) is not None}
    spec = found.get("spec")
    if spec is not None and "podSelector" in spec:
        found["spec"] = {**spec, **{way: _ways(spec[way]) for way in _WAYS if spec.get(way)}}
    elif spec is not None:
        kept = {field: spec[field] for field in _SERVICE if spec.get(field)}
        ports = [_without(port, "nodePort") for port in spec.get("ports") or ()]
        found["spec"] = {"type": "ClusterIP", **kept, "ports": _ports(ports)}
    annotations = item["metadata"].get("annotations") or {}
    return {**found, "annotations": annotations} if annotations else found


_WAYS = ("ingress", "egress")


def _ways(rules: list[Object]) -> list[Object]:
    return [{**rule, "ports": _ports(rule["ports"])} if "ports" in rule else rule for rule in rules]


def _ports(ports: list[Object]) -> list[Object]:
    return [{"protocol": "TCP", **port} for port in ports]


def _without(item: Object, field: str) -> Object:
    return {name: value for name, value in item.items() if name != field}


def changed(wanted: Object, found: Object) -> list[str]:
    """The fields in which an object differs from what is wanted, both as `content` has them."""
    fields = [field for field in FIELDS if wanted.get(field) != found.get(field)]
    held = found.get("annotations", {})
    if any(held.get(name) != value for name, value in wanted.get("annotations", {}).items()):
        fields.append("annotations")
    return fields


def correction(body: Object, found: Object) -> Object:
    """The JSON merge patch that makes of an object what is wanted, whose content is `found`. A
    binding's role cannot be changed, and is left out."""
    wanted = content(body)
    metadata = {key: body["metadata"][key] for key in ("labels", "annotations")}
    patch: Object = {"metadata": metadata}
    for field in changed(wanted, found):
        if field not in ("annotations", "roleRef"):
            patch[field] = _patch(wanted.get(field), found.get(field))
    return patch


def _patch(wanted: Any, found: Any) -> Any:
    """A merge patch leaves what it does not name: what is too much is named, as null."""
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return wanted
    extra = {name: None for name in found if name not in wanted}
    return extra | {name: _patch(value, found.get(name)) for name, value in wanted.items()}


def by_hand(body: Object, found: Object) -> bool:
    """Whether somebody else changed it; if not, it was made by another operator, or for other
    settings."""
    wanted = body["metadata"]["annotations"][names.SPEC_HASH]
    return bool(found.get("annotations", {}).get(names.SPEC_HASH) == wanted)

"""Detect changes to an experiment's children by others: pure functions.

An object is compared field by field with its desired state: fields that Kinase sets, and additions
that would grant more, such as another port. Harmless additions by others (labels, annotations,
owners, the pull secrets of a ServiceAccount) stay. Labels and annotations that Kinase has set but
no longer wants are removed; the API server records in `managedFields` who set them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kinase.api import names

Object = dict[str, Any]

FIELDS = ("spec", "rules", "roleRef", "subjects", "automountServiceAccountToken")
"""Fields of an object that are compared as a whole."""
ENTRIES = ("labels", "annotations")
"""Fields of its metadata that are compared entry by entry."""
MANAGER = "kinase-operator"
"""Field manager of the operator's writes."""
_SERVICE = ("selector", "ports", "type", "externalIPs", "externalName", "publishNotReadyAddresses")
"""Fields of a Service that determine its targets and who can reach them."""


def content(item: Object) -> Object:
    """The compared part of an object, without defaults from the API server."""
    found: Object = {field: item[field] for field in FIELDS if item.get(field) is not None}
    spec = found.get("spec")
    if spec is not None and "podSelector" in spec:
        found["spec"] = {**spec, **{way: _ways(spec[way]) for way in _WAYS if spec.get(way)}}
    elif spec is not None:
        kept = {field: spec[field] for field in _SERVICE if spec.get(field)}
        ports = [_without(port, "nodePort") for port in spec.get("ports") or ()]
        found["spec"] = {"type": "ClusterIP", **kept, "ports": _ports(ports)}
    metadata = item["metadata"]
    kept = {name: metadata[name] for name in (*ENTRIES, "ownerReferences") if metadata.get(name)}
    ours = {part: names for part in ENTRIES if (names := sorted(_ours(metadata, part)))}
    return {**found, **kept, **({"ours": ours} if ours else {})}


def _ours(metadata: Object, part: str) -> set[str]:
    """Names of the labels or annotations that only the operator has set."""
    ours: set[str] = set()
    others: set[str] = set()
    for entry in metadata.get("managedFields") or ():
        fields = (entry.get("fieldsV1") or {}).get("f:metadata", {}).get(f"f:{part}", {})
        (ours if entry.get("manager") == MANAGER else others).update(
            name.removeprefix("f:") for name in fields if name.startswith("f:")
        )
    return ours - others


_WAYS = ("ingress", "egress")


def _ways(rules: list[Object]) -> list[Object]:
    return [{**rule, "ports": _ports(rule["ports"])} if "ports" in rule else rule for rule in rules]


def _ports(ports: list[Object]) -> list[Object]:
    return [{"protocol": "TCP", **port} for port in ports]


def _without(item: Object, field: str) -> Object:
    return {name: value for name, value in item.items() if name != field}


def changed(wanted: Object, found: Object) -> list[str]:
    """The fields in which an object differs from its desired state, both as returned by
    `content`."""
    fields = [field for field in FIELDS if wanted.get(field) != found.get(field)]
    for part in ENTRIES:
        held = found.get(part, {})
        entries = wanted.get(part, {}).items()
        if any(held.get(name) != value for name, value in entries) or any(
            _withdrawn(part, wanted, found)
        ):
            fields.append(part)
    held_by = found.get("ownerReferences", ())
    if any(owner not in held_by for owner in wanted.get("ownerReferences", ())):
        fields.append("ownerReferences")
    return fields


def _withdrawn(part: str, wanted: Object, found: Object) -> Iterator[str]:
    """Labels or annotations that the operator has set but no longer wants."""
    for name in found.get("ours", {}).get(part, ()):
        if name in found.get(part, {}) and name not in wanted.get(part, {}):
            yield name


def correction(body: Object, found: Object) -> Object:
    """The JSON merge patch from an object with the content `found` to its desired state. The role
    of a binding is omitted, because it cannot be changed."""
    wanted = content(body)
    metadata: Object = {
        part: {**dict.fromkeys(_withdrawn(part, wanted, found)), **wanted.get(part, {})}
        for part in ENTRIES
    }
    patch: Object = {"metadata": metadata}
    for field in changed(wanted, found):
        if field in FIELDS and field != "roleRef":
            patch[field] = _patch(wanted.get(field), found.get(field))
        elif field == "ownerReferences":  # a merge patch replaces a list as a whole
            mine = wanted[field]
            uids = {owner["uid"] for owner in mine}
            others = [owner for owner in found.get(field, ()) if owner.get("uid") not in uids]
            metadata[field] = [*others, *mine]
    return patch


def _patch(wanted: Any, found: Any) -> Any:
    """A merge patch keeps fields that it does not name, so fields to remove are set to null."""
    if not isinstance(wanted, dict) or not isinstance(found, dict):
        return wanted
    extra = {name: None for name in found if name not in wanted}
    return extra | {name: _patch(value, found.get(name)) for name, value in wanted.items()}


def by_hand(body: Object, found: Object) -> bool:
    """Whether somebody else changed it. Otherwise it was created by another operator version, or
    with other settings."""
    wanted = body["metadata"]["annotations"][names.SPEC_HASH]
    return bool(found.get("annotations", {}).get(names.SPEC_HASH) == wanted)

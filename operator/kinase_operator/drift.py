"""What somebody changed of an experiment's children: pure functions.

An object is compared field by field with what is wanted of it: what Kinase sets, and what would
widen it, such as one port more. What others may add (labels, annotations, owners, the pull secrets
of a ServiceAccount) stays. Of labels and annotations those go that Kinase has set and does not want
any more; the API server notes in `managedFields` who set which.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kinase.api import names

Object = dict[str, Any]

FIELDS = ("spec", "rules", "roleRef", "subjects", "automountServiceAccountToken")
"""What of an object is compared as a whole."""
ENTRIES = ("labels", "annotations")
"""What of its metadata is compared entry by entry."""
MANAGER = "kinase-operator"
"""Field manager of all that the operator writes."""
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
    metadata = item["metadata"]
    kept = {name: metadata[name] for name in (*ENTRIES, "ownerReferences") if metadata.get(name)}
    ours = {part: names for part in ENTRIES if (names := sorted(_ours(metadata, part)))}
    return {**found, **kept, **({"ours": ours} if ours else {})}


def _ours(metadata: Object, part: str) -> set[str]:
    """Names of the labels or annotations that the operator has set, and nobody else."""
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
    """The fields in which an object differs from what is wanted, both as `content` has them."""
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
    """Labels or annotations that the operator has set and does not want any more."""
    for name in found.get("ours", {}).get(part, ()):
        if name in found.get(part, {}) and name not in wanted.get(part, {}):
            yield name


def correction(body: Object, found: Object) -> Object:
    """The JSON merge patch that makes of an object what is wanted, whose content is `found`. A
    binding's role cannot be changed, and is left out."""
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

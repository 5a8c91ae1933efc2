"""The CustomResourceDefinitions, written from the models: `python -m kinase.api.crd`.

Their schemas are structural, as Kubernetes requires: every value has exactly one type. Checks of a
model's validators that go beyond the bounds of one field are added as CEL rules (`Rule`), so that
the API server rejects what `kinase validate` rejects.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticUndefined

from kinase.api import names
from kinase.api._base import Model, Rule, format_duration
from kinase.api.experiment import NASExperiment
from kinase.api.nastrial import NASTrial

Schema = dict[str, Any]

HEAD = "# Written from kinase/api by `make generate`.\n"

ORDER = [
    "description",
    "type",
    "format",
    "enum",
    "default",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "maxProperties",
    "anyOf",
    "required",
    "properties",
    "additionalProperties",
    "items",
]
"""Order of a schema's keywords; all others follow them."""

Column = tuple[str, str, str] | tuple[str, str, str, int]
"""Heading, type and path of a column of `kubectl get`; with the priority 1 it is only in the wide
output."""

EXPERIMENT_COLUMNS: tuple[Column, ...] = (
    ("Phase", "string", ".status.phase"),
    ("Trials", "string", ".status.progress"),
    ("Running", "integer", ".status.trials.running"),
    ("Paused", "integer", ".status.trials.paused", 1),
    ("Best", "number", ".status.best.value"),
    ("Best Rung", "integer", ".status.best.rung", 1),
    ("Budget Left", "string", ".status.budgetLeft"),
    ("Age", "date", ".metadata.creationTimestamp"),
)
TRIAL_COLUMNS: tuple[Column, ...] = (
    ("Phase", "string", ".status.phase"),
    ("Reason", "string", ".status.reason"),
    ("Attempt", "integer", ".spec.attempt"),
    ("Workers", "integer", ".spec.workers", 1),
    ("Candidates", "integer", ".spec.candidates", 1),
    ("Value", "number", ".status.value"),
    ("Epochs", "integer", ".status.epochs"),
    ("Node", "string", ".status.node"),
    ("Age", "date", ".metadata.creationTimestamp"),
)


def crds() -> dict[str, Schema]:
    """The definitions by file name."""
    found = (
        _crd(NASExperiment, names.EXPERIMENTS, "nasx", EXPERIMENT_COLUMNS),
        _crd(NASTrial, names.TRIALS, "nast", TRIAL_COLUMNS),
    )
    return {f"{crd['metadata']['name']}.yaml": crd for crd in found}


def text(crd: Schema) -> str:
    """A definition as YAML."""
    return HEAD + yaml.dump(crd, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes repeated parts in full instead of as YAML anchors, which are hard to read."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _crd(model: type[Model], plural: str, short: str, columns: tuple[Column, ...]) -> Schema:
    kind = model.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["kinase"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": type_, "jsonPath": path}
                        | ({"priority": priority[0]} if priority else {})
                        for name, type_, path, *priority in columns
                    ],
                    "schema": {"openAPIV3Schema": _root(model)},
                }
            ],
        },
    }


def _root(model: type[Model]) -> Schema:
    found = schema(model)
    for name in ("apiVersion", "kind"):  # the API server validates these fields itself
        del found["properties"][name]["enum"]
    # a schema can restrict only these fields of the metadata
    found["properties"]["metadata"] = {"type": "object", "properties": {"name": {"type": "string"}}}
    found["required"] = ["spec"]
    return found


def schema(model: type[Model]) -> Schema:
    """The structural schema of a model."""
    generated = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _structural(generated, generated.pop("$defs", {}))


class _Generator(GenerateJsonSchema):
    """JSON Schema with the models' rules, without null, with defaults in the form of a manifest."""

    def model_schema(self, schema: Any) -> Schema:
        found = super().model_schema(schema)
        if rules := schema["cls"].cel_rules():
            found["x-kubernetes-validations"] = [_validation(rule) for rule in rules]
        return found

    def nullable_schema(self, schema: Any) -> Schema:
        """Drop null from a type: a field that can be null can be omitted, which means the same to
        the API server."""
        return self.generate_inner(schema["schema"])

    def tuple_schema(self, schema: Any) -> Schema:
        """Write a tuple of items of one type as a list of fixed length."""
        found = super().tuple_schema(schema)
        if items := found.pop("prefixItems", None):
            if any(item != items[0] for item in items):
                raise NotImplementedError(f"a tuple of different items: {items}")
            found["items"] = items[0]
        return found

    def default_schema(self, schema: Any) -> Schema:
        found = self.generate_inner(schema["schema"])
        default = _plain(schema.get("default", PydanticUndefined))
        if default in (None, []) or default is PydanticUndefined:  # omitting it means the same
            return found
        return {**({"allOf": [found]} if "$ref" in found else found), "default": default}


def _plain(default: Any) -> Any:
    """A default in the form of a manifest.

    The API server fills in the fields of an empty struct, but it first evaluates the struct's rules
    on the default, and the rules need their fields.
    """
    match default:
        case Model():
            if type(default).model_validate({}) != default:
                raise NotImplementedError(f"{default!r} is not what an empty struct becomes")
            if not default.cel_rules():
                return {}
            return {
                field.alias: value
                for field in type(default).model_fields.values()
                if (value := _plain(field.default)) not in (None, [], PydanticUndefined)
            }
        case timedelta():
            return format_duration(default)
        case tuple():
            return [_plain(item) for item in default]
    return default


def _structural(node: Schema, defs: dict[str, Schema]) -> Schema:
    """A JSON Schema in the form that the API server requires."""
    node = _whole(node, defs)
    node.pop("title", None)
    if "description" in node:
        node["description"] = " ".join(node["description"].split())
    if "const" in node:
        node["enum"] = [node.pop("const")]
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in node:
            node[bound.lower()] = node[f"exclusive{bound}"]
            node[f"exclusive{bound}"] = True
    if "anyOf" in node and "x-kubernetes-int-or-string" not in node:
        raise NotImplementedError(f"values of several types: {node['anyOf']}")
    if node.get("type") == "object":
        _object(node, defs)
    if "items" in node:
        node["items"] = _structural(node["items"], defs)
    return {key: node[key] for key in (*(k for k in ORDER if k in node), *node) if key in node}


def _whole(node: Schema, defs: dict[str, Schema]) -> Schema:
    """The schema with its references resolved; its own keywords take precedence."""
    found: Schema = {}
    for part in (*node.pop("allOf", ()), *([{"$ref": node.pop("$ref")}] if "$ref" in node else ())):
        found |= _whole(dict(defs[part["$ref"].rpartition("/")[2]]), defs)
    return found | node


def _object(node: Schema, defs: dict[str, Schema]) -> None:
    if "properties" in node:
        node["properties"] = {n: _structural(p, defs) for n, p in node["properties"].items()}
    keys = node.pop("propertyNames", {})
    for pattern, values in node.pop("patternProperties", {}).items():
        keys["pattern"] = pattern
        node["additionalProperties"] = values
    values = node.pop("additionalProperties", True)
    if isinstance(values, dict):
        node["additionalProperties"] = _structural(values, defs)
    elif values and not {"properties", "x-kubernetes-preserve-unknown-fields"} & set(node):
        # a map of anything, since in an object of free form CEL considers {a: 1} and {b: 1} equal
        node["additionalProperties"] = {
            "x-kubernetes-preserve-unknown-fields": True,
            "nullable": True,
        }
    if keys:
        node["x-kubernetes-validations"] = [
            *_key_rules(keys),
            *node.get("x-kubernetes-validations", ()),
        ]


def _key_rules(keys: Schema) -> Iterator[dict[str, str]]:
    """Rules for the bounds of a map's keys, which a structural schema cannot express."""
    if longest := keys.get("maxLength"):
        shortest = keys.get("minLength", 0)
        yield {
            "rule": f"self.all(key, size(key) >= {shortest} && size(key) <= {longest})",
            "message": f"a key must have {shortest} to {longest} characters",
        }
    if pattern := keys.get("pattern"):
        yield {
            "rule": f"self.all(key, key.matches({_quoted(pattern)}))",
            "message": f"a key must have the form {pattern}",
        }


def _validation(rule: Rule) -> dict[str, str]:
    """A rule in the form of the API server."""
    found = {"rule": rule.cel}
    parts = re.split(r"\{(.+?)\}", rule.message)
    if len(parts) == 1:
        found["message"] = rule.message
    else:
        words = "%s".join(part.replace("%", "%%") for part in parts[::2])
        # only for the text that format() returns can the API server estimate the length
        found["messageExpression"] = f"{_quoted(words)}.format([{', '.join(parts[1::2])}])"
    if rule.path:
        found["fieldPath"] = rule.path
    if rule.reason != "Invalid":
        found["reason"] = f"FieldValue{rule.reason}"
    return found


def _quoted(words: str) -> str:
    """Text as a CEL literal."""
    return json.dumps(words, ensure_ascii=False)


def main(arguments: list[str]) -> None:
    """Write the definitions into every given folder, or else to the standard output."""
    for name, crd in crds().items():
        for folder in arguments:
            (Path(folder) / name).write_text(text(crd))
        if not arguments:
            print(f"---\n{text(crd)}", end="")


if __name__ == "__main__":
    main(sys.argv[1:])

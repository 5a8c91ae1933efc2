"""The CRDs: up to date, structural, and a rule for every validator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from kinase.api import NASExperiment, NASTrial
from kinase.api._base import Model
from kinase.api.crd import Schema, crds, schema, text
from kinase.api.load import Document, ManifestError, models_in, validate
from tests.cluster.crd_cases import (
    CASES,
    UNKNOWN,
    Case,
    Changes,
    beyond_bounds,
    manifest,
)

ROOT = Path(__file__).parents[3]
FREE = "x-kubernetes-preserve-unknown-fields"
BEYOND = dict(beyond_bounds())


@pytest.mark.parametrize("name", crds())
def test_the_files_are_up_to_date(name: str) -> None:
    assert (ROOT / "crds" / name).read_text() == text(crds()[name]), "run `make generate`"


def nodes(schema: Schema) -> Iterator[Schema]:
    yield schema
    below = [*schema.get("properties", {}).values()]
    below += [schema[k] for k in ("items", "additionalProperties") if k in schema]
    for each in below:
        yield from nodes(each)


@pytest.mark.parametrize("top", [NASExperiment, NASTrial])
def test_the_schema_is_structural(top: type[Model]) -> None:
    for node in nodes(schema(top)):
        assert {"type", "x-kubernetes-int-or-string", FREE} & set(node), node
        assert not {"$ref", "$defs", "title", "const", "allOf"} & set(node)
        assert not ("properties" in node and "additionalProperties" in node)


def test_every_field_is_described() -> None:
    for top in (NASExperiment, NASTrial):
        for node in nodes(schema(top)):
            for name, field in node.get("properties", {}).items():
                assert field.get("description"), name


def every_model(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    if model not in seen:
        seen.add(model)
        for info in model.model_fields.values():
            for below in models_in(info.annotation):
                every_model(below, seen)
    return seen


def test_every_validator_of_a_model_has_its_twin() -> None:
    models = {m for top in (NASExperiment, NASTrial) for m in every_model(top, set())}
    for model in models:
        assert issubclass(model, Model)
        checks = [
            name
            for name, decorator in model.__pydantic_decorators__.model_validators.items()
            if decorator.info.mode == "after"
        ]
        assert bool(checks) <= bool(model.cel_rules()), f"{model.__name__}: {checks}"


def test_what_is_free_of_form_is_kept() -> None:
    found = schema(NASExperiment)["properties"]["spec"]["properties"]
    options = found["space"]["properties"]["custom"]["properties"]["options"]
    assert options["additionalProperties"] == {FREE: True, "nullable": True}
    csi = found["trialTemplate"]["properties"]["volumes"]["items"]["properties"]["csi"]
    assert csi["type"] == "object"  # whether there is one, a rule can ask of an object alone
    assert csi[FREE]


def test_defaults_of_a_manifest() -> None:
    spec = schema(NASExperiment)["properties"]["spec"]["properties"]
    assert spec["task"]["default"]["dataset"] == "digits"  # its rules need their fields
    assert spec["estimation"]["default"] == {"type": "Auto"}  # its rules look at the type
    assert spec["retention"]["properties"]["pods"]["default"] == "10m"
    assert "default" not in spec["budget"]["properties"]["trials"]
    assert "default" not in spec["space"]["properties"]["chain"]


def refusal(document: Any) -> str:
    try:
        validate(Document("case", document, {}))
    except ManifestError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_models_keep_the_rules(case: Case) -> None:
    assert refusal(manifest(case.accepted)) == ""
    assert case.names.split(".")[-1] in refusal(manifest(case.refused))


@pytest.mark.parametrize("bound", BEYOND)
def test_the_models_keep_the_bounds(bound: str) -> None:
    field = bound.split()[0].removesuffix(".[]").split(".")[-1]
    assert field in refusal(BEYOND[bound])


@pytest.mark.parametrize(("changes", "field"), UNKNOWN.values(), ids=UNKNOWN)
def test_the_models_refuse_what_they_do_not_know(changes: Changes, field: str) -> None:
    assert f"unknown field {field!r}" in refusal(manifest(changes))

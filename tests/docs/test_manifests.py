"""Every manifest that the pages show is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from kinase.api import NASExperiment
from kinase.api.load import Document
from kinase.experiment.check import check
from tests.docs.blocks import Block, blocks, pages

SMALLEST: dict[str, Any] = {
    "apiVersion": "kinase.dev/v1alpha1",
    "kind": "NASExperiment",
    "metadata": {"name": "whole"},
    "spec": {
        "space": {"type": "Chain"},
        "strategy": {"type": "Random"},
        "budget": {"trials": 10},
    },
}
"""What a part of a manifest is put into."""
ELSEWHERE = {"docs/search-spaces.md", "docs/strategies.md", "docs/estimators.md"}
"""Pages whose manifests name members of a package that a reader writes."""


def merged(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    whole = dict(base)
    for key, value in part.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = merged(whole[key], value) if both else value
    return whole


def documents() -> Iterator[tuple[Block, Any]]:
    for page in pages():
        for block in blocks(page, "yaml"):
            for document in yaml.safe_load_all(block.text):
                yield block, document


FOUND = list(documents())
EXPERIMENTS = [
    (block, document)
    for block, document in FOUND
    if document.get("kind") == "NASExperiment" or ("spec" in document and "kind" not in document)
]


def test_there_are_experiments() -> None:
    assert sum(document.get("kind") == "NASExperiment" for _, document in EXPERIMENTS) >= 4
    assert any("kind" not in document for _, document in EXPERIMENTS)


@pytest.mark.parametrize(("block", "document"), EXPERIMENTS, ids=lambda v: getattr(v, "place", ""))
def test_experiments_are_valid(block: Block, document: dict[str, Any]) -> None:
    if "kind" not in document:
        document = merged(SMALLEST, document)
    experiment = NASExperiment.model_validate(document)
    problems = check(experiment, Document(block.place, None, {}), trainer="torch")
    assert problems == [], problems


@pytest.mark.parametrize("page", sorted(ELSEWHERE))
def test_parts_of_a_spec_are_valid(page: str) -> None:
    for block in blocks(page, "yaml"):
        NASExperiment.model_validate(merged(SMALLEST, {"spec": yaml.safe_load(block.text)}))


@pytest.mark.parametrize(
    ("block", "document"),
    [
        (block, document)
        for block, document in FOUND
        if "kind" in document and document["kind"] != "NASExperiment"
    ],
    ids=lambda v: getattr(v, "place", ""),
)
def test_other_objects_say_what_they_are(block: Block, document: dict[str, Any]) -> None:
    assert document["apiVersion"].count("/") <= 1
    assert document["metadata"]["name"]


@pytest.mark.parametrize("page", pages())
def test_json_is_json(page: str) -> None:
    for block in blocks(page, "json"):
        json.loads(block.text)

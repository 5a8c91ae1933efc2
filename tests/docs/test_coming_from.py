"""The page for those who come from Katib or a script: its searches run, and its tables name fields
that exist. That its manifests are valid is in test_manifests."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from kinase.api import Kind, NASExperiment, Outcome
from kinase.store.memory import MemoryStore
from tests.docs.blocks import blocks
from tests.trainer.helpers import searched

PAGE = "docs/coming-from.md"
TITLED = {block.title: block.text for block in blocks(PAGE) if block.title}
THREE = {"cells": 3, "filters": 2}
SMALL: dict[str, dict[str, Any]] = {
    "katib-darts": {"nodes": 1, "search": THREE, "evaluation": THREE},
    "katib-enas": {"layers": 2, "filters": 2},
}
"""The spaces of tiny searches."""


@pytest.mark.parametrize("name", SMALL)
def test_a_search_of_katib_is_one_here(name: str) -> None:
    document = yaml.safe_load(TITLED[f"{name}.yaml"])
    spec = document["spec"]
    spec["task"] = {"dataset": "digits", "resolution": 8}
    spec["training"].update(epochs=1, device="cpu")
    spec["space"][spec["space"]["type"].lower()] |= SMALL[name]
    spec["estimation"]["oneShot"] |= {"epochs": 1, "candidates": 6}
    spec["finalists"] = {"count": 1}
    if "enas" in spec["strategy"]:
        spec["strategy"]["enas"] |= {"steps": 2, "paths": 2, "derived": 2}
    state = searched(NASExperiment.model_validate(document), MemoryStore()).state
    assert state.finished is not None
    assert state.finished.winner is not None
    [supernet] = state.of_kind(Kind.SUPERNET)
    assert supernet.outcome is Outcome.SUCCEEDED
    assert supernet.cost.epochs == 1
    assert supernet.derived
    assert state.counts[Kind.CONTROL] == 1


def test_the_script_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(TITLED["script.py"], PAGE, "exec"), {})
    assert re.fullmatch(r"genotype \[[0-2], [0-2]\]\n", capsys.readouterr().out)


def fields() -> list[str]:
    """What the right-hand columns of the tables name in code, by its path."""
    found = []
    for block in re.findall(r"^\| .+ \|$", open_page(), re.MULTILINE):
        right = block.rsplit(" | ", 1)[1]
        found += re.findall(r"`([a-z][A-Za-z]+(?:\.[A-Za-z]+)+)(?::[^`]*)?`", right)
    return [name for name in dict.fromkeys(found) if not name.endswith((".md", ".yaml"))]


def open_page() -> str:
    from tests.docs.blocks import ROOT

    return (ROOT / PAGE).read_text()


@pytest.mark.parametrize("path", fields())
def test_a_table_names_fields_that_exist(path: str) -> None:
    from kinase.api.crd import schema

    place: Any = schema(NASExperiment)["properties"]["spec"]
    for name in path.split("."):
        place = place["properties"][name]
    assert place["description"]

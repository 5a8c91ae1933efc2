"""Every member of the pillars has its page, and what the page says of it holds."""

from __future__ import annotations

import re
import tomllib

import pytest
import yaml

from kinase.api._base import struct_name
from kinase.api.reference import filled
from kinase.space.presets import PRESETS
from tests.docs.blocks import ROOT, blocks, exists

PILLARS = {
    "kinase.spaces": "spec.space",
    "kinase.strategies": "spec.strategy",
    "kinase.estimators": "spec.estimation",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MEMBERS = [
    (name, field) for group, field in PILLARS.items() for name in PROJECT["entry-points"][group]
]
FOLDER = ROOT / "docs" / "methods"
HEADINGS = ["Paper", "Algorithm", "Options", "Differences", "Oracle", "Costs"]


def page_of(member: str) -> str:
    """The page's file: MultiBranch has multi-branch.md."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", member).lower() + ".md"


@pytest.mark.parametrize(("member", "field"), MEMBERS)
class TestTheMember:
    def test_has_a_page_with_all_its_parts(self, member: str, field: str) -> None:
        text = (FOLDER / page_of(member)).read_text()
        assert text.startswith(f"# {member}\n")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS

    def test_states_its_options_as_the_models_have_them(self, member: str, field: str) -> None:
        text = (FOLDER / page_of(member)).read_text()
        struct = f"{field}.{struct_name(member)}"
        assert re.findall(r"^<!-- fields: (\S+) -->$", text, re.MULTILINE) == [struct]
        assert filled(text) == text, f"run: python -m kinase.api.reference {page_of(member)}"

    def test_has_a_manifest_that_uses_it(self, member: str, field: str) -> None:
        manifests = [
            yaml.safe_load(block.text)
            for block in blocks(f"docs/methods/{page_of(member)}", "yaml")
            if block.text.startswith("apiVersion:")
        ]
        part = field.removeprefix("spec.")
        assert [manifest["spec"][part]["type"] for manifest in manifests] == [member]

    def test_is_in_the_list_of_methods(self, member: str, field: str) -> None:
        assert f"[`{member}`]({page_of(member)})" in (FOLDER / "index.md").read_text()

    def test_names_oracles_that_are_there(self, member: str, field: str) -> None:
        text = (FOLDER / page_of(member)).read_text()
        oracles = re.findall(r"`(tests/[^`]+)`", text.partition("## Oracle")[2])
        assert oracles
        assert [test for test in oracles if not exists(test)] == []


def test_no_page_is_left_of_a_member_that_is_gone() -> None:
    pages = {page.name for page in FOLDER.glob("*.md")}
    others = {"index.md", "curve-rules.md", "zero-cost-proxies.md"}
    assert pages == others | {page_of(member) for member, _ in MEMBERS}


def test_pages_are_told_apart_by_their_names() -> None:
    assert len({page_of(member) for member, _ in MEMBERS}) == len(MEMBERS)


def test_presets_are_as_the_page_of_cells_says() -> None:
    text = (FOLDER / "cell.md").read_text()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    stated = {row[0]: row[1:] for row in rows if len(row) == 1 + len(PRESETS)}
    assert stated[""] == [f"`{name}`" for name in PRESETS]
    for column, preset in enumerate(PRESETS.values()):
        assert stated["inputs of a cell"][column].startswith(f"{preset.inputs},")
        assert stated["intermediate nodes"][column] == str(preset.nodes)
        assert stated["operations"][column] == ", ".join(f"`{op}`" for op in preset.ops)
        for row, scale in (("search", preset.search), ("finalists", preset.evaluation)):
            assert stated[f"{row}, cells x filters"][column] == f"{scale.cells} x {scale.filters}"


def test_published_cells_are_named_on_the_page_of_cells() -> None:
    text = (FOLDER / "cell.md").read_text()
    [row] = [line for line in text.splitlines() if line.startswith("| published cells |")]
    assert re.findall(r"`([^`]+)`", row) == [n for p in PRESETS.values() for n in p.named]


def test_tables_elsewhere_are_as_the_models_have_them() -> None:
    for page in (ROOT / "docs").glob("**/*.md"):
        text = page.read_text()
        if "<!-- fields: " in text and page.parent != FOLDER:
            assert filled(text) == text, f"run: python -m kinase.api.reference {page}"


def test_the_navigation_has_every_method() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    [methods] = [e["Methods"] for e in yaml.safe_load(text)["nav"] if "Methods" in e]
    listed = {title: page for e in methods if isinstance(e, dict) for title, page in e.items()}
    for member, _ in MEMBERS:
        assert listed[member] == f"methods/{page_of(member)}"

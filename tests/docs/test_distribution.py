"""The name under which Kinase is installed: that of PyPI's `kinase` is another project's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT

NAME = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
FOREIGN = re.compile(
    r"\bkinase\[[a-z]"  # an extra of another project's package
    r"|\b(?:pip3?|pipx|uv|poetry|conda)\s+(?:pip\s+)?(?:install|add|download)\b"
    r"[^\n`]*?[\s'\"]kinase(?=$|[\s'\"`\[=<>~!;,)])"
)
"""A command or a word that would install what is not ours."""


def pages() -> list[Path]:
    found = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    for folder in ("docs", "examples", "charts", "kinase", "operator", "trainer", "bench"):
        for ending in ("md", "py", "txt", "yaml", "yml", "tpl"):
            found += (ROOT / folder).rglob(f"*.{ending}")
    return found


def test_no_page_and_no_message_installs_another_project() -> None:
    assert len(pages()) > 200
    wrong = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in pages()
        for found in FOREIGN.finditer(path.read_text())
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "line",
    [
        "pip install kinase",
        "pip install 'kinase[s3]'",
        "python -m pip install --upgrade kinase==0.1",
        "uv pip install kinase",
        "uv add kinase",
        "comes with `kinase[report]`",
    ],
)
def test_such_a_line_is_found(line: str) -> None:
    assert FOREIGN.search(line)


@pytest.mark.parametrize(
    "line",
    [f"pip install '{NAME}[s3]'", f"pip install {NAME}", "helm install kinase charts/kinase"],
)
def test_a_right_one_is_not(line: str) -> None:
    assert not FOREIGN.search(line)
    assert NAME != "kinase"

"""The site is built with broken links as errors, and needs nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.blocks import ROOT

LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
    "use": "href",
    "object": "data",
}
"""What a browser loads by itself; a link that a reader may follow is another matter."""
NAMED_ONLY = ("canonical", "prev", "next", "license")
"""Relations of a `link` that load nothing."""


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    # not --quiet: what it does not print it does not count
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", str(config), "--site-dir", str(site)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


class Loaded(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in NAMED_ONLY:
            return
        value = given.get(LOADS.get(tag, ""))
        if value:
            self.loads.append(value)


def test_every_page_loads_only_what_the_site_holds(site: Path) -> None:
    pages = list(site.glob("**/*.html"))
    assert len(pages) > 30
    for page in pages:
        reader = Loaded()
        reader.feed(page.read_text())
        assert reader.loads, page
        for address in reader.loads:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{page.name} loads {address}"
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0]).exists(), (page, address)


def test_styles_load_nothing_from_elsewhere(site: Path) -> None:
    for sheet in site.glob("**/*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", sheet.read_text()), sheet


def test_the_search_knows_the_pages(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    for page in ("methods/evolution.html", "manifest.html", "operating/backup.html"):
        assert page in found


def test_a_linked_file_of_the_repository_is_shown(site: Path) -> None:
    text = (site / "examples" / "cluster" / "gpu.yaml.file.html").read_text()
    assert "nvidia.com/gpu" in text
    assert "CONTRIBUTING.html" in (site / "index.html").read_text()


def _levels(nav: Any) -> Iterator[int]:
    for item in nav:
        below = next(iter(item.values())) if isinstance(item, dict) else None
        yield 1 + max(_levels(below), default=0) if isinstance(below, list) else 1


def test_the_navigation_has_two_levels_at_most() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert max(_levels(nav)) == 2


def _pages(nav: Any) -> Iterator[str]:
    for item in nav:
        below = next(iter(item.values())) if isinstance(item, dict) else item
        yield from _pages(below) if isinstance(below, list) else [below]


def test_the_navigation_has_every_page_once() -> None:
    listed = list(_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(set(listed)) == sorted(listed)


FLAWS = {
    "[gone](gone.md)": "'gone.md'",
    "[gone](../examples/gone.yaml)": "gone.yaml",
    "[no such heading](index.md#gone)": "#gone",
    "[from the root](/index.md)": "/index.md",
    "[no page](folder/)": "folder/",
    "![gone](img/gone.png)": "gone.png",
}


@pytest.mark.parametrize("flawed", [False, True])
def test_what_leads_nowhere_is_an_error(tmp_path: Path, flawed: bool) -> None:
    """The rules of `mkdocs.yml`, on a small site of their own."""
    given = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config = {key: given[key] for key in ("validation", "strict", "use_directory_urls")}
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Small\n\n" + "\n".join(FLAWS if flawed else ()))
    if flawed:
        (docs / "extra.md").write_text("# Not in the navigation\n")
    small = {**config, "site_name": "small", "plugins": [], "nav": [{"Small": "index.md"}]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert (done.returncode != 0) is flawed, done.stderr
    if flawed:
        warnings = done.stderr.split("WARNING")
        for complaint in (*FLAWS.values(), "extra.md"):
            assert any(complaint in warning for warning in warnings[1:]), complaint

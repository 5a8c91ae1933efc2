"""What the site needs beyond MkDocs: links from a page to the repository around `docs/`.

Pages link to files by their paths in the repository, so that they can also be read there. This hook
adds linked files outside `docs/` to the site: Markdown becomes a page, any other file is shown on a
page. A nav entry that ends in `/*` means all pages of that folder.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
CODE = re.compile(r"<td[^>]*>.*?</td>")
FENCE = re.compile(r"^ *(```|~~~)")
LANGUAGES = {".py": "python", ".sh": "bash", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}


def on_config(config: MkDocsConfig) -> None:
    """Write out the nav's `/*`."""
    config.nav = _written_out(config.nav, Path(config.docs_dir))


def _written_out(nav: Any, docs: Path) -> Any:
    if isinstance(nav, dict):
        return {title: _written_out(items, docs) for title, items in nav.items()}
    if not isinstance(nav, list):
        return nav
    found: list[Any] = []
    for item in nav:
        if isinstance(item, str) and item.endswith("/*"):
            pages = sorted((docs / item.removesuffix("/*")).glob("*.md"))
            found += [page.relative_to(docs).as_posix() for page in pages]
        else:
            found.append(_written_out(item, docs))
    return found


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Take in what pages link to outside `docs/`, and what that links to."""
    waiting = [file.src_uri for file in files.documentation_pages()]
    while waiting:
        page = waiting.pop()
        for target in _targets(page, (ROOT / _in_repository(page)).read_text()):
            site = _in_site(target)
            if target.startswith("docs/") or files.get_file_from_path(site):
                continue
            if not (ROOT / target).is_file():
                continue  # MkDocs will say so
            if site == target:  # Markdown
                files.append(File.generated(config, site, abs_src_path=str(ROOT / target)))
                waiting.append(site)
            else:
                shown = File.generated(config, site, content=_shown(target))
                shown.inclusion = InclusionLevel.NOT_IN_NAV
                files.append(shown)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links within the repository into links within the site."""
    here = page.file.src_uri
    if here == "index.md":
        page.meta["hide"] = ["navigation", "toc"]  # the landing page has the width to itself
    if here.endswith(".file.md"):
        return markdown

    def turned(match: re.Match[str]) -> str:
        site = _in_site(_resolved(here, match[2]))
        return match[1] + posixpath.relpath(site, posixpath.dirname(here) or ".") + match[3]

    return "\n".join(
        line if fenced else LINK.sub(turned, line) for line, fenced in _lines(markdown)
    )


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show a `\\|` in a table's code as the `|` that it means: Python-Markdown leaves it."""
    return CODE.sub(lambda found: found[0].replace("\\|", "|"), html)


def _targets(page: str, markdown: str) -> Iterator[str]:
    for line, fenced in _lines(markdown):
        if not fenced:
            yield from (_resolved(page, match[2]) for match in LINK.finditer(line))


def _lines(markdown: str) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each belongs to a fenced block."""
    fence = ""
    for line in markdown.split("\n"):
        mark = FENCE.match(line)
        if fence:
            yield line, True
            if mark and mark[1] == fence:
                fence = ""
        else:
            fence = mark[1] if mark else ""
            yield line, bool(mark)


def _in_repository(page: str) -> str:
    """The path of a page of the site in the repository."""
    return page if not (ROOT / "docs" / page).is_file() else f"docs/{page}"


def _resolved(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(_in_repository(page)), link))


def _in_site(path: str) -> str:
    """The path in the site of a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path == "README.md":
        return "index.md"  # it has the same place
    return path if path.endswith(".md") else f"{path}.file.md"


def _shown(path: str) -> str:
    """A page that shows a file."""
    text = (ROOT / path).read_text()
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text) or [""]))
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"# {Path(path).name}\n\n`{path}`\n\n{fence}{language}\n{text}{fence}\n"

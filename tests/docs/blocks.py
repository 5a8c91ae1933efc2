"""The fenced blocks of a page, and what a page says of them.

A block of commands is run by a test, unless a comment stands right before it:

    <!-- not run: WHY -->
    <!-- run by: tests/FILE.py::TEST -->

A block with a `title` is a file of that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = ("bash", "sh", "shell", "console")
FENCE = re.compile(r"^( *)(```+)([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (not run|run by): ((?:(?!-->).)+?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: str
    line: int
    language: str
    title: str | None
    text: str
    not_run: str | None
    """Why no test runs it."""
    run_by: str | None
    """The test that does, elsewhere."""

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[tuple[str, str]]:
        """Commands, each with the output that the page shows."""
        if self.language != "console" or not self.text.startswith("$ "):
            return [(self.text, "")]
        found: list[tuple[str, str]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> ") and not found[-1][1]:  # a command goes on
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
            else:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
        return found


def blocks(page: str, *languages: str) -> list[Block]:
    """Those of a page, by its path in the repository; of some languages, or all."""
    text = (ROOT / page).read_text()
    found = []
    for fence in FENCE.finditer(text):
        info = fence[3].strip()
        language = info.split(" ")[0]
        if languages and language not in languages:
            continue
        title = re.search(r'title="([^"]+)"', info)
        mark = MARK.search(text, 0, fence.start())
        indent = len(fence[1])
        content = "".join(line[indent:] for line in fence[4].splitlines(keepends=True))
        found.append(
            Block(
                page,
                text.count("\n", 0, fence.start()) + 1,
                language,
                title[1] if title else None,
                content,
                not_run=mark[2] if mark and mark[1] == "not run" else None,
                run_by=mark[2] if mark and mark[1] == "run by" else None,
            )
        )
    return found


def pages() -> list[str]:
    """Every page of the documentation, the README and its like included."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/*.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)


def exists(test: str) -> bool:
    """Whether a test that a page names is there, such as tests/e2e/test_x.py::test_y."""
    file, _, name = test.partition("::")
    if not (ROOT / file).is_file():
        return False
    kind = "class" if name[:1].isupper() else "def"
    return (
        not name or re.search(rf"^ *{kind} {name}\b", (ROOT / file).read_text(), re.M) is not None
    )

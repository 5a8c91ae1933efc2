"""Tables and facts as text: with colours and bars on a terminal, otherwise plain."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from kinase_kubectl.views import Listing, Row

GAP = 3
"""Spaces between columns, as in kubectl."""
BAR = 12
"""Width of a bar in a table in characters, if there is space for it."""
STYLES = {
    "Searching": "cyan",
    "Finalists": "cyan",
    "Running": "cyan",
    "Succeeded": "green",
    "Stopped": "green",
    "Suspended": "yellow",
    "Infeasible": "yellow",
    "Pending": "dim",
    "Paused": "dim",
    "Deleting": "dim",
    "Failed": "bold red",
}
"""Style of a phase."""


def widths(table: Listing) -> list[int]:
    """Width of each column."""
    return [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]


def plain_row(row: Row, wide: Sequence[int]) -> str:
    """A row of aligned text."""
    cells = (cell.ljust(width + GAP) for cell, width in zip(row, wide, strict=True))
    return "".join(cells).rstrip()


def plain(table: Listing) -> list[str]:
    """A table as aligned text."""
    wide = widths(table)
    return [plain_row(row, wide) for row in (table.head, *table.rows)]


def bar(share: float, length: int) -> Text:
    """A share as a bar that is readable without colours."""
    done = round(share * length)
    text = Text("━" * done, "green" if share >= 1 else "cyan")
    return text.append("─" * (length - done), "dim")


def styled(table: Listing, room: int) -> list[Text]:
    """A table for a terminal `width` characters wide. Progress is drawn as a bar if it fits; no
    text is cut off."""
    wide = widths(table)
    fits = sum(wide) + GAP * (len(wide) - 1) + BAR + 1 <= room
    lines = []
    for row in (table.head, *table.rows):
        line = Text()
        for title, cell, width in zip(table.head, row, wide, strict=True):
            if title == "DONE" and fits:
                share = float(cell.rstrip("%")) / 100 if cell.endswith("%") else None
                line.append(bar(share, BAR) if share is not None else Text(" " * BAR)).append(" ")
            line.append(cell.ljust(width + GAP), _style(title, cell))
        line.rstrip()
        lines.append(line)
    return lines


def _style(title: str, cell: str) -> str:
    if cell == title:
        return "bold"
    if title == "PHASE":
        return STYLES.get(cell, "")
    return "yellow" if title in ("NOTE", "REASON") else ""


def plain_facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Facts in the form of `kubectl describe`."""
    width = max(len(word) for word, _ in facts) + 1
    return [f"{word + ':':{width}}  {text}" for word, text in facts]


def styled_facts(facts: Sequence[tuple[str, str]], share: float | None) -> list[Text]:
    """The same for a terminal, with a progress bar."""
    width = max(len(word) for word, _ in facts) + 1
    lines = []
    for word, text in facts:
        line = Text(f"{word + ':':{width}}  ", "dim")
        line.append(text, _style("PHASE", text) if word == "Phase" else "not dim")
        if word == "Phase" and share is not None:
            line.append("  ").append(bar(share, 2 * BAR)).append(f" {share:.0%}")
        if word == "Trouble":
            line.stylize("yellow", width)
        lines.append(line)
    return lines

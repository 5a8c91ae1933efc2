"""Tables and facts on the terminal: with colours there, as plain aligned text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kinase_kubectl.views import Listing, Row

GAP = 3
"""Spaces between columns, as kubectl has them."""
STYLES = {
    "Searching": "cyan",
    "Finalists": "cyan",
    "Running": "cyan",
    "Succeeded": "green",
    "Stopped": "green",
    "Suspended": "yellow",
    "Infeasible": "yellow",
    "Pending": "dim",
    "Deleting": "dim",
    "Failed": "bold red",
}
"""How a phase is shown."""


def widths(table: Listing) -> list[int]:
    """What each column needs."""
    return [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]


def plain_row(row: Row, wide: Sequence[int]) -> str:
    """A row of aligned text."""
    cells = (cell.ljust(width + GAP) for cell, width in zip(row, wide, strict=True))
    return "".join(cells).rstrip()


def plain(table: Listing) -> list[str]:
    """A table as aligned text."""
    wide = widths(table)
    return [plain_row(row, wide) for row in (table.head, *table.rows)]


def rich(table: Listing) -> Table:
    """A table for a terminal. A share of the work is drawn as a bar."""
    found = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for title in table.head:
        found.add_column(title, no_wrap=title != "MESSAGE", overflow="fold")
    for row in table.rows:
        cells: list[RenderableType] = []
        for title, cell in zip(table.head, row, strict=True):
            if title == "DONE" and cell:
                bar = ProgressBar(total=100, completed=float(cell.rstrip("%")), width=12)
                both = Table.grid(padding=(0, 1))
                both.add_row(bar, cell)
                cells.append(both)
            elif title == "PHASE":
                cells.append(Text(cell, STYLES.get(cell, "")))
            elif title in ("NOTE", "REASON"):
                cells.append(Text(cell, "yellow"))
            else:
                cells.append(Text(cell))
        found.add_row(*cells)
    return found


def plain_facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Facts as `kubectl describe` writes them."""
    width = max(len(word) for word, _ in facts) + 1
    return [f"{word + ':':{width}}  {text}" for word, text in facts]


def rich_facts(facts: Sequence[tuple[str, str]], share: float | None) -> RenderableType:
    """The same for a terminal, with a bar of the work that is done."""
    found = Table.grid(padding=(0, 2))
    found.add_column(style="dim", justify="right")
    found.add_column(overflow="fold")
    for word, text in facts:
        if word == "Phase" and share is not None:
            both = Table.grid(padding=(0, 2))
            bar = ProgressBar(total=1.0, completed=share, width=24)
            both.add_row(Text(text, STYLES.get(text, "")), bar, f"{share:.0%}")
            found.add_row(word.lower(), both)
        else:
            found.add_row(word.lower(), Text(text))
    return found


def show(console: Console, *parts: RenderableType) -> None:
    """Print what was made by the functions above."""
    console.print(Group(*parts), highlight=False, soft_wrap=not console.is_terminal)

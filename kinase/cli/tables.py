"""Tables of the command line: columns as wide as they must be, as many as the terminal holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "   "
"""Between columns, as kubectl has it."""
LEAST = 20
"""Characters of a column that is cut to what is left; with fewer it is left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    cells: Sequence[str]
    rank: int = 0
    """Of two columns, the one with the higher rank is left out first; 0 stays."""
    cut: bool = False
    """Whether its cells are cut to the room that is left. Only the last column may be."""

    @property
    def width(self) -> int:
        """Of its widest cell."""
        return max(map(len, (self.title, *self.cells)))


def room() -> int | None:
    """Characters of a line: of the terminal, or as COLUMNS says; None where neither sets a limit,
    as in a pipe."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):  # not a terminal, or a stream without a file
        return None


def fitted(columns: Sequence[Column], width: int | None) -> list[Column]:
    """The columns that a line of so many characters holds, in their order.

    Args:
        columns: all that there are.
        width: characters of a line; None holds all.
    """
    kept = list(columns)
    while width is not None and kept:
        over = sum(column.width + len(GAP) for column in kept) - len(GAP) - width
        if over <= 0:
            break
        last = kept[-1]
        if last.cut and last.width - over >= max(LEAST, len(last.title)):
            kept[-1] = _cut(last, last.width - over)
            break
        # the last of several, so that what remains is what comes first
        rank, worst = max((column.rank, i) for i, column in enumerate(kept))
        if rank == 0:
            break
        kept.pop(worst)
    return kept


def _cut(column: Column, width: int) -> Column:
    cells = [
        cell if len(cell) <= width else f"{cell[: width - 3].rstrip()}..." for cell in column.cells
    ]
    return Column(column.title, cells, column.rank, column.cut)


def lines(columns: Sequence[Column]) -> Iterator[str]:
    """The table's lines, the titles first."""
    rows = zip(*((column.title, *column.cells) for column in columns), strict=True)
    for row in rows:
        cells = (cell.ljust(column.width) for cell, column in zip(row, columns, strict=True))
        yield GAP.join(cells).rstrip()

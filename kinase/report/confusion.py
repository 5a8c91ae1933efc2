"""Confusion matrix of the winner on the test split: a heat map as inline SVG."""

from __future__ import annotations

from markupsafe import Markup

from kinase.report.data import Winner
from kinase.report.theme import shorten

WRITTEN = 20
"""Maximum number of classes for counts in the cells."""
NAMED = 50
"""Maximum number of classes for names at the sides."""
LONGEST = 20
"""Maximum characters of a name."""
SIDE, CHARACTER = 520.0, 6.6
"""Side of the map, in px, and the width of a character."""
WORST = 10
"""Number of listed confusions."""


def names(winner: Winner) -> list[str]:
    """Names of the classes, or their numbers."""
    assert winner.confusion is not None
    count = len(winner.confusion)
    known = list(winner.classes[:count])
    return known + [str(index) for index in range(len(known), count)]


def worst(winner: Winner) -> list[tuple[str, str, int, float]]:
    """The most frequent confusions: true class, predicted class, samples, share of the true
    class."""
    named = names(winner)
    pairs = [
        (named[i], named[j], count, count / sum(row))
        for i, row in enumerate(winner.confusion or ())
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[3], pair[:2]))[:WORST]


def heat_map(winner: Winner) -> Markup:
    """Rows are the true classes, columns the predicted ones; a cell's colour is its share of the
    row. Cells without samples are omitted."""
    assert winner.confusion is not None
    named = [shorten(name, LONGEST) for name in names(winner)]
    count = len(named)
    cell = min(40.0, SIDE / count)
    left = 26.0 + (CHARACTER * max(map(len, named)) if count <= NAMED else 0)
    size = left + count * cell + 1
    pieces = [_cell(winner, i, j, left, cell) for i in range(count) for j in range(count)]
    if count <= NAMED:
        pieces += [_label(name, index, left, cell) for index, name in enumerate(named)]
    middle = left + count * cell / 2
    return Markup(
        '<svg class="heat" viewBox="0 0 {0:.0f} {0:.0f}" width="{0:.0f}" role="img" '
        'aria-label="Confusion matrix of {1} classes">'
        '<rect class="frame" x="{2:.1f}" y="{2:.1f}" width="{3:.1f}" height="{3:.1f}"/>{4}'
        '<text class="axis" x="{5:.1f}" y="14">predicted class</text>'
        '<text class="axis" transform="translate(14 {5:.1f}) rotate(-90)">true class</text></svg>'
    ).format(size, count, left, count * cell, Markup("").join(pieces), middle)


def _cell(winner: Winner, row: int, column: int, left: float, cell: float) -> Markup:
    assert winner.confusion is not None
    number = winner.confusion[row][column]
    if not number:
        return Markup("")
    share = number / sum(winner.confusion[row])
    x, y = left + column * cell, left + row * cell
    named = names(winner)
    text = Markup("")
    if len(named) <= WRITTEN:
        text = Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
            "dark" if share > 0.5 else "light", x + cell / 2, y + cell / 2, number
        )
    return Markup(
        '<g><title>{}, predicted {}: {:,} ({:.1%})</title><rect x="{:.1f}" y="{:.1f}" '
        'width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}"/>{}</g>'
    ).format(named[row], named[column], number, share, x, y, cell, cell, max(share, 0.06), text)


def _label(name: str, index: int, left: float, cell: float) -> Markup:
    at = left + (index + 0.5) * cell
    return Markup(
        '<text class="row" x="{0:.1f}" y="{1:.1f}">{2}</text>'
        '<text class="column" transform="translate({1:.1f} {0:.1f}) rotate(-90)">{2}</text>'
    ).format(left - 5, at, name)

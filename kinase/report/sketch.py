"""An architecture's sketch as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from kinase.report.layered import Layout, Place, layout
from kinase.report.theme import shorten
from kinase.space import Sketch

BOX, LABEL = 30.0, 19.0
"""Heights of a node's box and of an edge's label, in px."""
CHARACTER, SMALL = 7.6, 6.5
"""Widths of a character in a box and in a label, in a monospaced font."""
GAP, MARGIN = 26.0, 6.0
LONGEST = 32
"""Maximum characters of a label. Longer labels are truncated; the data below the drawing has them
in full."""
Edge = tuple[str, str, str]


def draw(sketch: Sketch, title: str) -> Markup:
    """All groups of a sketch, each as a separate figure."""
    group = sketch.group or {}
    # Labels are side by side if edges go down, and below each other if they go right.
    downwards = 2 * sum(bool(label) for _, _, label in sketch.edges) <= len(sketch.edges)
    names = list(dict.fromkeys(group.get(node, "") for node, _ in sketch.nodes))
    return Markup("").join(
        _part(
            [(node, label) for node, label in sketch.nodes if group.get(node, "") == name],
            [e for e in sketch.edges if group.get(e[0], "") == group.get(e[1], "") == name],
            name,
            title,
            downwards,
        )
        for name in names
    )


def _part(
    nodes: list[tuple[str, str]], edges: Sequence[Edge], name: str, title: str, downwards: bool
) -> Markup:
    laid = _lay(nodes, edges, downwards)

    def xy(along: float, across: float) -> tuple[float, float]:
        x, y = (across, along) if downwards else (along, across)
        return x + MARGIN, y + MARGIN

    pieces = [_path([xy(*point) for point in route], downwards) for route in laid.routes if route]
    for (_, _, text), place in zip(edges, laid.labels, strict=True):
        if place is not None:
            pieces.append(_box(xy(place.along, place.across), place, text, downwards, "op"))
    for node, text in nodes:
        place = laid.nodes[node]
        pieces.append(_box(xy(place.along, place.across), place, text, downwards, "node"))
    width, height = laid.size[::-1] if downwards else laid.size
    width, height = width + 2 * MARGIN, height + 2 * MARGIN
    whole = f"{title}: {name}" if name else title
    return Markup(
        '<figure class="sketch"><div class="scroll" tabindex="0" role="group" aria-label="{}">'
        '<svg role="img" width="{:.0f}" height="{:.0f}" viewBox="0 0 {:.0f} {:.0f}">'
        "<title>{}</title><desc>{}</desc>{}</svg></div>{}</figure>"
    ).format(
        whole,
        width,
        height,
        width,
        height,
        whole,
        _words(nodes, edges),
        Markup("").join(pieces),
        Markup("<figcaption>{} cell</figcaption>").format(name) if name else "",
    )


def _words(nodes: list[tuple[str, str]], edges: Sequence[Edge]) -> str:
    """A description of the drawing, for screen readers."""
    label = dict(nodes)
    return "; ".join(
        f"{label[a]} to {label[b]}" + (f" by {text}" if text else "") for a, b, text in edges
    )


def _lay(nodes: list[tuple[str, str]], edges: Sequence[Edge], downwards: bool) -> Layout:
    def size(width: float, height: float) -> tuple[float, float]:
        return (height, width) if downwards else (width, height)

    def long(text: str) -> int:
        return min(len(text), LONGEST)

    return layout(
        {node: size(max(40.0, long(text) * CHARACTER + 20), BOX) for node, text in nodes},
        [(a, b) for a, b, _ in edges],
        [size(long(text) * SMALL + 12, LABEL) if text else None for _, _, text in edges],
        (GAP, 14.0) if downwards else (2 * GAP, 12.0),
    )


def _box(middle: tuple[float, float], place: Place, text: str, down: bool, kind: str) -> Markup:
    width, height = place.size[::-1] if down else place.size
    x, y = middle
    return Markup(
        '<g class="{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="6"/>'
        '<text x="{:.1f}" y="{:.1f}" dominant-baseline="central">{}</text></g>'
    ).format(kind, x - width / 2, y - height / 2, width, height, x, y, shorten(text, LONGEST))


def _slopes(points: list[tuple[float, float]]) -> list[float]:
    """d across / d along at each (across, along): a cubic through the points with these neither
    overshoots nor waves (Fritsch & Butland 1984: harmonic means, zero where it turns)."""
    secants = [(c2 - c1) / (a2 - a1) for (c1, a1), (c2, a2) in pairwise(points)]
    inner = [2 * a * b / (a + b) if a * b > 0 else 0.0 for a, b in pairwise(secants)]
    return [0.0, *inner, 0.0]


def _path(points: list[tuple[float, float]], downwards: bool) -> Markup:
    """A smooth line that leaves and arrives along the direction of the edges."""
    points = list(dict.fromkeys(points))
    steep = _slopes([point[::-1] for point in points] if not downwards else points)
    text = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for i, ((x1, y1), (x2, y2)) in enumerate(pairwise(points)):
        if downwards:
            third = (y2 - y1) / 3
            bend = (x1 + steep[i] * third, y1 + third, x2 - steep[i + 1] * third, y2 - third)
        else:
            third = (x2 - x1) / 3
            bend = (x1 + third, y1 + steep[i] * third, x2 - third, y2 - steep[i + 1] * third)
        text += "C{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}".format(*bend, x2, y2)
    x, y = points[-1]
    head = (
        f"M{x - 4:.1f},{y - 7:.1f}L{x:.1f},{y:.1f}L{x + 4:.1f},{y - 7:.1f}"
        if downwards
        else f"M{x - 7:.1f},{y - 4:.1f}L{x:.1f},{y:.1f}L{x - 7:.1f},{y + 4:.1f}"
    )
    return Markup('<path d="{}"/>').format(text + head)

"""An architecture's sketch as inline SVG: layers from top to bottom, drawn by longest path."""

from __future__ import annotations

from collections import defaultdict

from markupsafe import Markup, escape

from kinase.space import Sketch

BOX_HEIGHT, GAP_X, GAP_Y, CHARACTER = 30, 26, 54, 7.3


def draw(sketch: Sketch, title: str) -> Markup:
    """All groups of a sketch, side by side."""
    group = sketch.group or {}
    names = list(dict.fromkeys(group.get(node, "") for node, _ in sketch.nodes))
    parts = [
        _draw(sketch, [n for n in sketch.nodes if group.get(n[0], "") == name], name, title)
        for name in names
    ]
    return Markup("").join(parts)


def _ranks(ids: list[str], edges: list[tuple[str, str, str]]) -> dict[str, int]:
    """Longest way from a source, for each node; ids are in topological order."""
    rank = dict.fromkeys(ids, 0)
    for node in ids:
        for source, target, _ in edges:
            if target == node:
                rank[node] = max(rank[node], rank[source] + 1)
    return rank


def _draw(sketch: Sketch, nodes: list[tuple[str, str]], name: str, title: str) -> Markup:
    ids = [node for node, _ in nodes]
    inside = set(ids)
    edges = [e for e in sketch.edges if e[0] in inside and e[1] in inside]
    rank = _ranks(ids, edges)
    labels = dict(nodes)
    rows: dict[int, list[str]] = defaultdict(list)
    for node in ids:
        rows[rank[node]].append(node)
    position: dict[str, float] = {}
    widths = {node: max(44.0, len(labels[node]) * CHARACTER + 18) for node in ids}
    for level in sorted(rows):  # order a row by the middle of its sources

        def middle(node: str) -> float:
            sources = [position[s] for s, t, _ in edges if t == node and s in position]
            return sum(sources) / len(sources) if sources else 0.0

        rows[level].sort(key=middle)
        total = sum(widths[n] for n in rows[level]) + GAP_X * (len(rows[level]) - 1)
        x = -total / 2
        for node in rows[level]:
            position[node] = x + widths[node] / 2
            x += widths[node] + GAP_X
    spread = 60.0  # room for edges that pass rows by at the side
    left = min(position[n] - widths[n] / 2 for n in ids) - spread
    right = max(position[n] + widths[n] / 2 for n in ids) + spread
    height = (max(rank.values()) + 1) * GAP_Y + 10
    pieces = [_edge(e, rank, position, i) for i, e in enumerate(edges)]
    for node in ids:
        x, y = position[node], rank[node] * GAP_Y + 5
        pieces.append(
            Markup(
                '<rect x="{:.1f}" y="{}" width="{:.1f}" height="{}" rx="6"/>'
                '<text x="{:.1f}" y="{}">{}</text>'
            ).format(x - widths[node] / 2, y, widths[node], BOX_HEIGHT, x, y + 20, labels[node])
        )
    caption = f"{title}: {name}" if name else title
    return Markup(
        '<figure class="sketch"><svg role="img" viewBox="{:.0f} 0 {:.0f} {}" '
        'style="max-width:{:.0f}px"><title>{}</title>{}</svg>{}</figure>'
    ).format(
        left,
        right - left,
        height,
        (right - left) * 1.1,
        caption,
        Markup("").join(pieces),
        Markup("<figcaption>{} cell</figcaption>").format(name) if name else "",
    )


def _edge(
    edge: tuple[str, str, str], rank: dict[str, int], position: dict[str, float], number: int
) -> Markup:
    source, target, label = edge
    x1, y1 = position[source], rank[source] * GAP_Y + 5 + BOX_HEIGHT
    x2, y2 = position[target], rank[target] * GAP_Y + 5
    span = rank[target] - rank[source]
    bow = 0.0 if span == 1 else (46 + 14 * span) * (1 if number % 2 else -1)
    c1, c2 = y1 + (y2 - y1) * 0.35, y2 - (y2 - y1) * 0.35
    path = f"M{x1:.1f},{y1}C{x1 + bow:.1f},{c1:.1f} {x2 + bow:.1f},{c2:.1f} {x2:.1f},{y2}"
    text = Markup("")
    if label:
        # a third of the way, so that labels of edges into one node keep apart
        t = 0.3 + 0.4 * ((number * 0.37) % 1.0)
        u = 1 - t
        x = u**3 * x1 + 3 * u * u * t * (x1 + bow) + 3 * u * t * t * (x2 + bow) + t**3 * x2
        y = u**3 * y1 + 3 * u * u * t * c1 + 3 * u * t * t * c2 + t**3 * y2
        text = Markup('<text class="edge" x="{:.1f}" y="{:.1f}">{}</text>').format(
            x, y + 4, escape(label)
        )
    return Markup('<path d="{}"/>{}').format(path, text)

"""Layered drawing of a small directed graph: ranks, crossings, coordinates.

After Sugiyama, Tagawa & Toda 1981 ("Methods for Visual Understanding of Hierarchical System
Structures") and Gansner et al. 1993 ("A Technique for Drawing Directed Graphs"): a node's rank is
its longest way from a source; an edge that spans ranks goes through a virtual node on each; the
order on a rank follows the barycentre of the neighbours; coordinates are as near to the neighbours'
mean as the order and the sizes allow. Between two ranks there is another one for the edges' labels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 12
"""Passes down and up for order, and again for coordinates; small graphs settle in fewer."""
VIRTUAL = 10.0
"""Width of an edge that passes a rank, in px."""

Size = tuple[float, float]
"""(along, across) the direction of the edges, in px."""


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a box: centre and size, (along, across) the direction of the edges."""

    along: float
    across: float
    size: Size


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawn graph; all coordinates are >= 0."""

    nodes: dict[str, Place]
    labels: list[Place | None]
    """Label position of each edge, in the given order; None without a label."""
    routes: list[list[tuple[float, float]]]
    """The points (along, across) of each edge, including both ends."""
    size: Size


def ranks(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Longest way from a source to each node; `ids` are in topological order."""
    into: dict[str, list[str]] = defaultdict(list)
    for source, target in edges:
        into[target].append(source)
    rank: dict[str, int] = {}
    for node in ids:
        rank[node] = max((rank[s] + 1 for s in into[node] if s in rank), default=0)
    return rank


def layout(
    sizes: Mapping[str, Size],
    edges: Sequence[tuple[str, str]],
    label_sizes: Sequence[Size | None],
    gap: Size,
) -> Layout:
    """Lay a graph out.

    `sizes` holds the nodes in topological order; `gap` is the room between ranks and between
    neighbours on a rank. A backward edge gets no route.
    """
    rank = {node: 2 * r for node, r in ranks(list(sizes), edges).items()}
    room: dict[str, Size] = dict(sizes)
    level = dict(rank)
    paths: list[list[str]] = []
    label_at: list[str | None] = []
    for number, ((source, target), label) in enumerate(zip(edges, label_sizes, strict=True)):
        between = range(rank[source] + 1, rank[target])
        path = [f"\0{number}.{r}" for r in between]  # not a name of a node
        room |= dict.fromkeys(path, (0.0, VIRTUAL))
        level |= dict(zip(path, between, strict=True))
        # the label's rank is an odd one; the last, so that labels come before their target
        at = path[-1] if label is not None and path else None
        if at is not None and label is not None:
            room[at] = label
        label_at.append(at)
        paths.append([source, *path, target] if between else [])
    links = [pair for path in paths for pair in pairwise(path)]
    rows = _ordered(level, links)
    virtual = set(room) - set(sizes)
    across = _coordinates(rows, links, {n: s[1] for n, s in room.items()}, gap[1], virtual)
    depth = [max((room[n][0] for n in row), default=0.0) for row in rows]
    along: list[float] = []
    edge = 0.0
    for thick in depth:
        along.append(edge + thick / 2)
        edge += thick + gap[0] / 2
    low = min((across[n] - room[n][1] / 2 for n in room), default=0.0)
    high = max((across[n] + room[n][1] / 2 for n in room), default=0.0)
    place = {n: Place(along[level[n]], across[n] - low, room[n]) for n in room}
    return Layout(
        nodes={n: place[n] for n in sizes},
        labels=[place[at] if at is not None else None for at in label_at],
        routes=[_route([(place[n], depth[level[n]]) for n in path]) for path in paths],
        size=(max(0.0, edge - gap[0] / 2), high - low),
    )


def _route(path: list[tuple[Place, float]]) -> list[tuple[float, float]]:
    """From the border of the first box to that of the last, and straight past each rank between,
    as deep as that rank is: so what is drawn next to a box keeps clear of it."""
    if not path:
        return []
    (first, _), (last, _) = path[0], path[-1]
    points = [(first.along + first.size[0] / 2, first.across)]
    for place, depth in path[1:-1]:
        ends = (-depth / 2, depth / 2) if depth else (0.0,)
        points += [(place.along + by, place.across) for by in ends]
    return [*points, (last.along - last.size[0] / 2, last.across)]


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], ...]:
    above: dict[str, list[str]] = defaultdict(list)
    below: dict[str, list[str]] = defaultdict(list)
    for source, target in links:
        above[target].append(source)
        below[source].append(target)
    return above, below


def _crossings(rows: Sequence[Sequence[str]], above: Mapping[str, list[str]]) -> int:
    """Pairs of edges between neighbouring ranks that cross."""
    count = 0
    for upper, lower in pairwise(rows):
        at = {node: i for i, node in enumerate(upper)}
        ends = [at[s] for node in lower for s in sorted(above.get(node, []), key=at.__getitem__)]
        count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
    return count


def _ordered(level: Mapping[str, int], links: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The nodes of each rank, in an order with few crossings."""
    rows: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for node, r in level.items():
        rows[r].append(node)
    above, below = _neighbours(links)
    best, fewest = [list(row) for row in rows], _crossings(rows, above)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        towards = above if down else below
        order = range(1, len(rows)) if down else range(len(rows) - 2, -1, -1)
        for r in order:
            fixed = {node: i for i, node in enumerate(rows[r - 1 if down else r + 1])}
            here = {node: float(i) for i, node in enumerate(rows[r])}
            for node in rows[r]:
                near = [fixed[n] for n in towards.get(node, [])]
                if near:
                    here[node] = sum(near) / len(near)
            rows[r].sort(key=here.__getitem__)
        crossings = _crossings(rows, above)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _coordinates(
    rows: Sequence[Sequence[str]],
    links: Sequence[tuple[str, str]],
    widths: Mapping[str, float],
    gap: float,
    virtual: Set[str],
) -> dict[str, float]:
    """Middles across: near the neighbours' mean, in order, and never overlapping.

    The nearer two ends are to being virtual both, the more their edge pulls, which keeps long
    edges straight (Gansner et al. 1993, section 4: 1, 2 and 8).
    """
    at: dict[str, float] = {}
    offsets: list[list[float]] = []  # of each node from its rank's first, at the closest
    for row in rows:
        offset, here = 0.0, []
        for before, node in zip([None, *row], row, strict=False):
            if before is not None:
                offset += (widths[before] + widths[node]) / 2 + gap
            here.append(offset)
        offsets.append(here)
        at |= {n: o - offset / 2 for n, o in zip(row, here, strict=True)}
    above, below = _neighbours(links)
    for sweep in range(2 * SWEEPS):
        last = sweep >= 2 * SWEEPS - 2  # at the end use both sides, which evens the layout
        order = list(enumerate(rows))
        for r, row in order if sweep % 2 == 0 else reversed(order):
            wanted, force = [], []
            for node in row:
                near = [*above.get(node, ())] if sweep % 2 == 0 or last else []
                near += [*below.get(node, ())] if sweep % 2 or last else []
                pull = [(1, 2, 8)[(n in virtual) + (node in virtual)] for n in near]
                force.append(sum(pull) or 0.1)  # what nothing pulls gives way
                middle = sum(p * at[n] for p, n in zip(pull, near, strict=True))
                wanted.append(middle / sum(pull) if pull else at[node])
            free = _increasing([w - o for w, o in zip(wanted, offsets[r], strict=True)], force)
            at |= {n: f + o for n, f, o in zip(row, free, offsets[r], strict=True)}
    return at


def _increasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to the values in weighted squares: pool adjacent
    violators (Barlow et al. 1972)."""
    pools: list[tuple[float, float, int]] = []  # (mean, weight, members)
    for value, weight in zip(values, weights, strict=True):
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, heavy, many = pools.pop()
            mean = (mean * weight + before * heavy) / (weight + heavy)
            weight, count = weight + heavy, count + many
        pools.append((mean, weight, count))
    return [mean for mean, _, count in pools for _ in range(count)]

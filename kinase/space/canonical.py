"""A canonical form of small labelled directed acyclic graphs.

Two graphs have the same form if and only if they are isomorphic, including labels and edges (with
multiplicity). Colours are refined from both directions as Weisfeiler and Lehman (1968) do;
remaining ties are broken by trying each member of the first tied class, so the form is exact and
not only a good hash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

Edge = tuple[int, int]
"""(from, to); several equal ones are parallel edges."""


def canonical_form(labels: Sequence[Hashable], edges: Sequence[Edge]) -> tuple[object, ...]:
    """Labels and edges of the graph, its nodes in a canonical order.

    Args:
        labels: labels of the nodes, compared by `repr`.
        edges: edges in any order.
    """
    parents: list[list[int]] = [[] for _ in labels]
    children: list[list[int]] = [[] for _ in labels]
    for a, b in edges:
        parents[b].append(a)
        children[a].append(b)
    start = _rank([repr(label) for label in labels])
    return _search(_refine(start, parents, children), parents, children, labels, edges)


def outline(labels: Sequence[str], edges: Sequence[Edge]) -> tuple[object, ...]:
    """Labels of the nodes, and of the ends of each edge, sorted: the same for isomorphic graphs,
    and found much sooner than their form."""
    return sorted(labels), sorted((labels[a], labels[b]) for a, b in edges)


def _rank(keys: Sequence[object]) -> list[int]:
    """Replace keys by their rank among the distinct ones."""
    rank = {key: i for i, key in enumerate(sorted(set(keys)))}  # type: ignore[type-var]
    return [rank[key] for key in keys]


def _refine(colours: list[int], parents: list[list[int]], children: list[list[int]]) -> list[int]:
    """Split colours by the colours of parents and children until nothing changes."""
    classes = len(set(colours))
    while True:
        colours = _rank(
            [
                (
                    colours[i],
                    tuple(sorted([colours[p] for p in parents[i]])),
                    tuple(sorted([colours[c] for c in children[i]])),
                )
                for i in range(len(colours))
            ]
        )
        now = len(set(colours))
        if now in (classes, len(colours)):
            return colours
        classes = now


def _search(
    colours: list[int],
    parents: list[list[int]],
    children: list[list[int]],
    labels: Sequence[Hashable],
    edges: Sequence[Edge],
) -> tuple[object, ...]:
    """The smallest form over all ways to break the remaining ties."""
    members: dict[int, list[int]] = defaultdict(list)
    for node, colour in enumerate(colours):
        members[colour].append(node)
    tied = next((members[c] for c in sorted(members) if len(members[c]) > 1), None)
    if tied is None:
        order = sorted(range(len(colours)), key=lambda i: colours[i])
        place = {node: i for i, node in enumerate(order)}
        return (
            tuple(labels[node] for node in order),
            tuple(sorted((place[a], place[b]) for a, b in edges)),
        )
    # twins (same parents and children) are interchangeable: one of them represents all
    signatures = {(tuple(sorted(parents[n])), tuple(sorted(children[n]))) for n in tied}
    candidates = tied[:1] if len(signatures) == 1 else _one_of_each(tied, colours, members, edges)
    forms = []
    for chosen in candidates:
        split = [2 * c + 1 for c in colours]
        split[chosen] -= 1
        forms.append(
            _search(_refine(_rank(split), parents, children), parents, children, labels, edges)
        )
    return min(forms, key=repr)


def _one_of_each(
    tied: list[int], colours: list[int], members: dict[int, list[int]], edges: Sequence[Edge]
) -> list[int]:
    """The tied nodes, with one representative of those that are certainly interchangeable.

    Ties form parts that are only connected by nodes without ties. If two nodes have the same
    position in equal parts, the parts can be exchanged, or a part mapped to itself.
    """
    part = {node: node for group in members.values() if len(group) > 1 for node in group}

    def root(node: int) -> int:
        while part[node] != node:
            node = part[node]
        return node

    for a, b in edges:
        if a in part and b in part:
            part[root(a)] = root(b)
    if len({root(node) for node in part}) == 1:
        return tied
    first: dict[tuple[object, ...], int] = {}
    for node in tied:
        touched = [e for e in edges if any(end in part and root(end) == root(node) for end in e)]
        inside = sorted({end for edge in touched for end in edge})
        place = {each: index for index, each in enumerate(inside)}
        labels = [(colours[each], each == node) for each in inside]
        form = canonical_form(labels, [(place[a], place[b]) for a, b in touched])
        first.setdefault(form, node)
    return list(first.values())

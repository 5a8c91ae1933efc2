"""A digest that is equal for graphs of the same network, and only for them."""

from __future__ import annotations

import hashlib
import json

from kinase.morphism.same import normal
from kinase.space.graph import Graph

ORDERLESS = "add"
"""The operation whose inputs are unordered."""


def identity(graph: Graph) -> list[str]:
    """Sorted digests of all nodes. They are equal for graphs that compute the same from the same
    tensors up to the order of sums, regardless of node names.

    Each node's digest is refined by those of its inputs and readers until no more nodes can be
    distinguished (Weisfeiler & Lehman 1968). Reading two copies of a layer and reading one layer
    twice are different networks, and are distinguished. Graphs that the refinement cannot
    distinguish, such as regular graphs with equal layers, count as the same.
    """
    ops, inputs, attrs, output = normal(graph)
    order = list(ops)
    readers: dict[str, list[tuple[str, int]]] = {name: [] for name in order}
    for name in order:
        for place, each in enumerate(inputs[name]):
            readers[each].append((name, 0 if ops[name] == ORDERLESS else place))
    digests = {
        name: _digest(json.dumps([ops[name], attrs[name], name == output], separators=(",", ":")))
        for name in order
    }
    told = 0
    while told < (told := len(set(digests.values()))):
        for name in order:  # inputs come first, so one pass covers everything before a node
            below = [digests[each] for each in inputs[name]]
            digests[name] = _refined(
                digests[name], sorted(below) if ops[name] == ORDERLESS else below
            )
        for name in reversed(order):
            above = sorted(f"{digests[each]}/{place}" for each, place in readers[name])
            digests[name] = _refined(digests[name], above)
    return sorted(digests.values())


def _refined(digest: str, others: list[str]) -> str:
    """Digest of both as JSON; no characters need to be escaped."""
    listed = ",".join([f'"{each}"' for each in others])
    return _digest(f'["{digest}",[{listed}]]')


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

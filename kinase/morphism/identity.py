"""What is the same for two graphs that are one network, and for no others."""

from __future__ import annotations

import hashlib
import json

from kinase.morphism.same import normal
from kinase.space.graph import Graph

ORDERLESS = "add"
"""The operation whose inputs have no order."""


def identity(graph: Graph) -> list[str]:
    """A digest of each node, sorted: equal for graphs that compute the same from the same tensors
    up to the order of sums, whatever their nodes are called.

    Each node's digest is refined by those of what it reads and of what reads it until no more
    nodes are told apart (Weisfeiler & Lehman 1968). That two copies of a layer are read is another
    network than that one is read twice, and is told apart. Graphs that this refinement cannot tell
    apart, regular ones with equal layers everywhere, count as one.
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
        for name in order:  # inputs come first, so one pass looks at all that is before a node
            below = [digests[each] for each in inputs[name]]
            digests[name] = _refined(
                digests[name], sorted(below) if ops[name] == ORDERLESS else below
            )
        for name in reversed(order):
            above = sorted(f"{digests[each]}/{place}" for each, place in readers[name])
            digests[name] = _refined(digests[name], above)
    return sorted(digests.values())


def _refined(digest: str, others: list[str]) -> str:
    """Of the text that JSON makes of both; none of their letters needs to be escaped."""
    listed = ",".join([f'"{each}"' for each in others])
    return _digest(f'["{digest}",[{listed}]]')


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

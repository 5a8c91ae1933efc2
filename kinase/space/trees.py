"""Trees of branches as plain data."""

from __future__ import annotations

import json
from typing import Any

Node = dict[str, Any]
"""`merge`, and `branches`."""
Branch = dict[str, Any]
"""`op`, and perhaps a `node` behind it."""

LAYER = "layer"
"""The cell's convolution, the operation of the first node's branches."""
IDENTITY = "identity"
CONVS = {"conv_1x1": 1, "sep_conv_3x3": 3, "sep_conv_5x5": 5, "sep_conv_7x7": 7}
"""Operations that are convolutions, with their windows."""


def is_empty(branch: Branch) -> bool:
    """Whether a branch only passes its map on."""
    return branch["op"] == IDENTITY and "node" not in branch


def simplified(tree: Node) -> Node:
    """An equivalent tree without redundant nodes: a node that only passes on its map, or only
    divides and concatenates it, is removed, and a node with a single branch after an identity is
    replaced by the branch."""
    branches = [_simplified(branch) for branch in tree["branches"]]
    if tree["merge"] == "concat" and all(each == {"op": LAYER} for each in branches):
        return {"merge": "none", "branches": branches[:1]}
    return {"merge": tree["merge"], "branches": branches}


def _simplified(branch: Branch) -> Branch:
    if "node" not in branch:
        return branch
    node = simplified(branch["node"])
    merge, branches = node["merge"], node["branches"]
    if merge != "add" and all(map(is_empty, branches)):
        return {"op": branch["op"]}
    if branch["op"] == IDENTITY and merge == "none":
        only: Branch = branches[0]
        return only
    if merge == "none" and branches[0]["op"] == IDENTITY:
        return {"op": branch["op"], "node": branches[0]["node"]}
    return {"op": branch["op"], "node": node}


def plain(node: Node) -> list[Any]:
    """A node as lists, which are equal if nodes differ only in the order or nesting of sums."""
    branches: list[Any] = []
    for branch in node["branches"]:
        below = plain(branch["node"]) if "node" in branch else None
        if node["merge"] == "add" and branch["op"] == IDENTITY and below and below[0] == "add":
            branches += below[1]  # a sum of sums
        else:
            branches.append([branch["op"], below])
    if node["merge"] == "add":
        branches.sort(key=json.dumps)
    return [node["merge"], branches]

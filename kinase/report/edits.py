"""Changes from a parent to its child, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from kinase.report.theme import brief, shorten

LONGEST = 40
"""Maximum characters of a part of an architecture in an edit."""
LESS_SAID = ("op", "node", "seed", "noise", "rule", "relu", "norm", "activation", "keep", "mapping")
"""Fields of a morphism that are named first, or do not affect the network's shape."""


def morphism(edit: Mapping[str, Any]) -> str:
    """A morphism of the journal: `widen layer2 to 48`, `deepen layer1, kernel 3`."""
    plain = [
        (name, value)
        for name, value in edit.items()
        if name not in LESS_SAID and isinstance(value, str | int) and not isinstance(value, bool)
    ]
    text = f"{edit.get('op', '?')} {edit.get('node', '')}".rstrip()
    goal = next((f" to {value}" for name, value in plain if name == "to"), "")
    rest = [f"{name} {value}" for name, value in plain if name != "to"]
    return shorten(", ".join([text + goal, *rest]), 2 * LONGEST)


def changes(parent: Any, child: Any, path: str = "") -> list[str]:
    """Differences between two architectures: `layers[2] width 16 -> 32`, `layers[1]: added conv w8
    k3`.

    Args:
        parent: An architecture, or a part of one.
        child: The same part of the child.
        path: Path of the part in the architecture.
    """
    if parent == child:
        return []
    if isinstance(parent, dict) and isinstance(child, dict):
        return [
            line
            for key in dict.fromkeys([*parent, *child])
            for line in changes(parent.get(key), child.get(key), f"{path} {key}".strip())
        ]
    if isinstance(parent, list) and isinstance(child, list):
        return _of_lists(parent, child, path)
    return [f"{path} {_part(parent)} -> {_part(child)}".strip()]


def _of_lists(parent: list[Any], child: list[Any], path: str) -> list[str]:
    if len(parent) == len(child):
        pairs = enumerate(zip(parent, child, strict=True))
        return [line for i, (a, b) in pairs for line in changes(a, b, f"{path}[{i}]")]
    before, after = (
        [json.dumps(x, sort_keys=True, default=str) for x in s] for s in (parent, child)
    )
    found: list[str] = []
    for word, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if word == "equal":
            continue
        both = min(b - a, d - c)  # a replaced part is shown as a change
        for i in range(both):
            found += changes(parent[a + i], child[c + i], f"{path}[{c + i}]")
        found += [f"{path}[{i}]: removed {_part(parent[i])}" for i in range(a + both, b)]
        found += [f"{path}[{i}]: added {_part(child[i])}" for i in range(c + both, d)]
    return found


def _part(value: Any) -> str:
    return "none" if value is None else shorten(brief(value), LONGEST)

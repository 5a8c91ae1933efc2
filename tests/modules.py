"""Refuse import circles between the packages' modules, and modules that are too long to read in one
sitting: `python -m tests.modules`, a part of `make lint`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "kinase": "kinase",
    "kinase_trainer": "trainer/kinase_trainer",
    "kinase_operator": "operator/kinase_operator",
    "kinase_controller": "operator/kinase_controller",
    "kinase_kube": "operator/kinase_kube",
    "kinase_kubectl": "operator/kinase_kubectl",
}
MOST_LINES = 500
LONGER = {
    "kinase/experiment/loop.py": 860,
}
"""Modules that may be longer, and how long."""


def imports() -> Iterator[tuple[str, str]]:
    """Each module of the packages with each that it imports, also within a function. Imports for
    type checkers alone are left out: no interpreter runs into them."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    for module in sorted(graph.modules):
        for other in sorted(graph.find_modules_directly_imported_by(module)):
            yield module, other


def circles(pairs: Iterable[tuple[str, str]]) -> Iterator[str]:
    """A message for each group of modules that import one another: its shortest circle."""
    graph = networkx.DiGraph(sorted(pairs))
    for group in networkx.strongly_connected_components(graph):
        if len(group) > 1:
            inside = graph.subgraph(group)
            circle = min(networkx.simple_cycles(inside), key=lambda found: (len(found), min(found)))
            first = circle.index(min(circle))
            path = " -> ".join([*circle[first:], *circle[: first + 1]])
            yield (
                f"import circle: {path}; move what both need to a module of its own (an import "
                "within a function counts, one under TYPE_CHECKING does not)"
            )


def too_long(lengths: Iterable[tuple[str, int]]) -> Iterator[str]:
    """A message for each file that has too many lines."""
    for file, lines in lengths:
        most = LONGER.get(file, MOST_LINES)
        if lines > most:
            yield f"{file} has {lines} lines; split it, a module has at most {most}"


def lengths() -> Iterator[tuple[str, int]]:
    """Each module's file, relative to the repository, with its number of lines."""
    for folder in PACKAGES.values():
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield str(file.relative_to(ROOT)), len(file.read_text(encoding="utf-8").splitlines())


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    found = [*circles(imports()), *too_long(lengths())]
    for message in found:
        print(message, file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())

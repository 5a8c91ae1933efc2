"""Tree-structured cells in a plain stack."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.fidelity import Scale
from kinase.api.space import TreeSpace
from kinase.api.trial import Architecture
from kinase.space import tree_morphisms
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.builder import GraphBuilder
from kinase.space.errors import ArchitectureError, InfeasibleError
from kinase.space.graph import Graph
from kinase.space.layers import scaled
from kinase.space.trees import CONVS, IDENTITY, LAYER, Branch, Node, plain, simplified

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENUMERABLE = 100_000
"""Maximum size of a space that is enumerated."""


class Tree(Space):
    """Tree-structured cells (Cai et al. 2018b, section 3.2).

    An architecture is ``{"cell": node}``. A node is ``{"merge": "none", "branches": [{"op":
    "layer"}]}``: the map goes through its branches, one with `none`, two or more with `add`, two
    with `concat`, between which the channels are divided. A branch is an operation, and perhaps
    another ``node`` behind it. The branches of the first node have the operation `layer`, the
    cell's own 3x3 convolution: a tree is what that layer unfolds into. The others pass the map on
    (`identity`) or have one of `ops`.

    A convolution is followed by batch normalization, and by a ReLU where a node follows; the next
    cell begins with one.
    """

    def __init__(self, options: TreeSpace) -> None:
        """The space described by `space.tree`."""
        self.options = options
        self.ops: tuple[str, ...] = tuple(dict.fromkeys((IDENTITY, *options.ops)))
        self.merges: tuple[str, ...] = tuple(dict.fromkeys(("none", *options.merges)))

    def scale(self, final: bool) -> Scale:
        """Number of cells of the networks of the search or of the finalists."""
        cells = self.options.evaluation_cells
        return Scale(cells=cells * len(self.options.widths)) if final and cells else Scale()

    # -- valid nodes -------------------------------------------------------------------

    def counts(self, merge: str) -> range:
        """Possible numbers of branches of a node."""
        most = {"none": 1, "add": self.options.max_branches, "concat": 2}[merge]
        return range(1 if merge == "none" else 2, most + 1)

    def divides(self, halvings: int) -> bool:
        """Whether the channels of every stage can be divided again after this number of
        divisions."""
        return min(self.options.widths) >> halvings >= 2

    def _divides_all(self, node: Node, halvings: int) -> bool:
        """The same for every concatenation in a tree."""
        joins = node["merge"] == "concat"
        return not (joins and not self.divides(halvings)) and all(
            self._divides_all(branch["node"], halvings + joins)
            for branch in node["branches"]
            if "node" in branch
        )

    def forms(self, halvings: int) -> list[tuple[str, int]]:
        """Possible merges and numbers of branches of a node below this number of concatenations."""
        return [
            (merge, count)
            for merge in self.merges
            if merge != "concat" or self.divides(halvings)
            for count in self.counts(merge)
        ]

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Starting with the first node, draw a merge, a number of branches, and for each branch an
        operation and whether a node follows, uniformly."""
        return {"cell": self._sample(1, 0, rng)}

    def _sample(self, depth: int, halvings: int, rng: Rng) -> Node:
        merges = [m for m in self.merges if m != "concat" or self.divides(halvings)]
        merge = merges[int(rng.integers(len(merges)))]
        counts = self.counts(merge)
        below = halvings + (merge == "concat")
        branches: list[Branch] = []
        for _ in range(counts[int(rng.integers(len(counts)))]):
            op = LAYER if depth == 1 else self.ops[int(rng.integers(len(self.ops)))]
            branch: Branch = {"op": op}
            if depth < self.options.max_depth and rng.random() < 0.5:
                branch["node"] = self._sample(depth + 1, below, rng)
            branches.append(branch)
        return {"merge": merge, "branches": branches}

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        if not isinstance(architecture, dict) or set(architecture) != {"cell"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; a tree is an object with the field cell"
            )
        self._validate(architecture["cell"], "cell", 1, 0)

    def _validate(self, node: Any, path: str, depth: int, halvings: int) -> None:
        if not isinstance(node, dict) or set(node) != {"merge", "branches"}:
            raise ArchitectureError(
                f"{path} is {node!r:.80}; a node is an object with the fields merge and branches"
            )
        if depth > self.options.max_depth:
            raise ArchitectureError(
                f"{path} is node {depth} from the first; maxDepth is {self.options.max_depth}"
            )
        merge, branches = node["merge"], node["branches"]
        if merge not in self.merges:
            raise ArchitectureError(
                f"{path}.merge is {merge!r:.80}; use one of {', '.join(self.merges)}"
            )
        counts = self.counts(merge)
        if not isinstance(branches, list) or len(branches) not in counts:
            found = len(branches) if isinstance(branches, list) else f"{branches!r:.80}"
            most = f" to {counts[-1]}" if len(counts) > 1 else ""
            raise ArchitectureError(
                f"{path}.branches is {found}; {merge} takes a list of {counts[0]}{most}"
            )
        if merge == "concat" and not self.divides(halvings):
            raise ArchitectureError(
                f"{path}.merge is concat, which divides the channels {halvings + 1} times: the "
                f"narrowest stage has {min(self.options.widths)}"
            )
        ops = (LAYER,) if depth == 1 else self.ops
        for index, branch in enumerate(branches):
            here = f"{path}.branches[{index}]"
            if not isinstance(branch, dict) or not {"op"} <= set(branch) <= {"op", "node"}:
                raise ArchitectureError(
                    f"{here} is {branch!r:.80}; a branch is an object with op and perhaps node"
                )
            if branch["op"] not in ops:
                raise ArchitectureError(
                    f"{here}.op is {branch['op']!r:.80}; use {'one of ' * (len(ops) > 1)}"
                    f"{', '.join(ops)}"
                )
            if "node" in branch:
                below = halvings + (merge == "concat")
                self._validate(branch["node"], f"{here}.node", depth + 1, below)

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change an operation; change a node's merge or number of branches, where new branches are
        empty; insert a node, or remove one with its subtree."""
        for node in self._edits(architecture["cell"], 1, 0):
            yield {"cell": node}

    def _edits(self, node: Node, depth: int, halvings: int) -> Iterator[Node]:
        merge, branches = node["merge"], node["branches"]
        new: Branch = {"op": LAYER if depth == 1 else IDENTITY}
        for other, count in self.forms(halvings):
            if (other, count) != (merge, len(branches)):
                padding = [new] * (count - len(branches))
                edit = {"merge": other, "branches": [*branches[:count], *padding]}
                if self._divides_all(edit, halvings):
                    yield edit
        for index in range(len(branches) if merge == "add" and len(branches) > 2 else 0):
            yield {"merge": merge, "branches": branches[:index] + branches[index + 1 :]}
        for index, branch in enumerate(branches):
            for changed in self._branches(branch, depth, halvings + (merge == "concat")):
                around = branches[:index], branches[index + 1 :]
                yield {"merge": merge, "branches": [*around[0], changed, *around[1]]}

    def _branches(self, branch: Branch, depth: int, halvings: int) -> Iterator[Branch]:
        """A branch with one edit."""
        for op in self.ops if depth > 1 else ():
            if op != branch["op"]:
                yield {**branch, "op": op}
        if "node" in branch:
            yield {"op": branch["op"]}
            for node in self._edits(branch["node"], depth + 1, halvings):
                yield {**branch, "node": node}
        elif depth < self.options.max_depth:
            for merge in dict.fromkeys(merge for merge, _ in self.forms(halvings)):
                empty: list[Branch] = [{"op": IDENTITY}] * (self.counts(merge)[0] - 1)
                for op in self.ops[1:]:
                    yield {**branch, "node": {"merge": merge, "branches": [*empty, {"op": op}]}}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One of the edits, uniformly."""
        key, edits = self.key(architecture), list(self.edits(architecture))
        for index in rng.permutation(len(edits)):
            edit: Architecture = edits[int(index)]
            if self.key(edit) != key:
                return edit
        return architecture

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The simplified tree, the branches of each sum in order."""
        return plain(simplified(architecture["cell"]))

    def size(self) -> Size:
        """Number of trees, by their depth."""
        return Size(self._count(1, 0), exact=True)

    def _count(self, depth: int, halvings: int) -> int:
        if depth > self.options.max_depth:
            return 0
        ops, total = 1 if depth == 1 else len(self.ops), 0
        for merge, count in self.forms(halvings):
            total += (ops * (1 + self._count(depth + 1, halvings + (merge == "concat")))) ** count
        return total

    def enumerate(self) -> Iterator[Architecture]:
        """Every tree of a small space, one for each key."""
        if self.size().count > ENUMERABLE:
            raise NotImplementedError(f"{self.size()} trees are too many to enumerate")
        seen: set[str] = set()
        for node in self._trees(1, 0):
            key = self.key({"cell": node})
            if key not in seen:
                seen.add(key)
                yield {"cell": node}

    def _trees(self, depth: int, halvings: int) -> Iterator[Node]:
        if depth > self.options.max_depth:
            return
        ops = (LAYER,) if depth == 1 else self.ops
        for merge, count in self.forms(halvings):
            below = list(self._trees(depth + 1, halvings + (merge == "concat")))
            branches: list[Branch] = [
                {"op": op, **({} if node is None else {"node": node})}
                for op in ops
                for node in (None, *below)
            ]
            for each in product(branches, repeat=count):
                yield {"merge": merge, "branches": list(each)}

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """The merge of the first node, then for every possible branch, in depth-first order:
        whether it exists, its one-hot operation, and the one-hot merge of the node behind it."""
        found: list[float] = []
        self._encode(simplified(architecture["cell"]), 1, found)
        return np.array(found)

    def _encode(self, node: Node | None, depth: int, found: list[float]) -> None:
        if depth > self.options.max_depth:
            return
        found += [float(node is not None and node["merge"] == each) for each in self.merges]
        branches = [] if node is None else node["branches"]
        for index in range(max(self.options.max_branches, 2)):
            branch: Branch = branches[index] if index < len(branches) else {}
            found.append(float(bool(branch)))
            found += [float(branch.get("op") == op) for op in self.ops]
            self._encode(branch.get("node"), depth + 1, found)

    @property
    def encoding(self) -> tuple[Part, ...]:
        """The merge of each node, and of each branch whether it is there and its operation."""
        return self._encoding(1)

    def _encoding(self, depth: int) -> tuple[Part, ...]:
        if depth > self.options.max_depth:
            return ()
        branch = (
            Part(1, choice=True),
            Part(len(self.ops), choice=True),
            *self._encoding(depth + 1),
        )
        merges = (Part(len(self.merges), choice=True),)
        return merges + branch * max(self.options.max_branches, 2)

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from the input to the output; `split` is a part of the channels."""
        return frozenset(self._paths(simplified(architecture["cell"]), "in"))

    def _paths(self, node: Node, path: str) -> Iterator[str]:
        for branch in node["branches"]:
            here = path + (">split" if node["merge"] == "concat" else "")
            here += "" if branch["op"] == IDENTITY else f">{branch['op']}"
            if "node" in branch:
                yield from self._paths(branch["node"], here)
            else:
                yield here

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """A 3x3 convolution, stages of cells, global average pooling, and a linear layer."""
        o, scale = self.options, frame.scale
        tree, stages = simplified(architecture["cell"]), len(o.widths)
        widths = [scaled(width, scale.filter_fraction) for width in o.widths]
        stem = scaled(o.stem or o.widths[0], scale.filter_fraction)
        g = GraphBuilder(frame.input)
        x = g.batch_norm("stem_bn", g.conv("stem_conv", g.input, stem, 3))
        number = 0
        for stage, width in enumerate(widths):
            # earlier stages get one more, as in the other cell spaces
            cells = o.cells if scale.cells is None else (scale.cells + stages - 1 - stage) // stages
            for index in range(cells):
                stride = 2 if stage and not index else 1
                if stride > min(g.shape(x)[1:]):
                    _, high, wide = g.shape(x)
                    raise InfeasibleError(
                        f"cell{number}: stride 2 on a feature map of {high}x{wide} leaves nothing"
                    )
                x = _Cell(g, f"cell{number}", width, stride).build(tree, x)
                number += 1
        x = g.global_avg_pool("pool", g.relu("last_relu", x))
        return g.build(g.linear("classifier", x, frame.outputs))

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Copies of a layer, divided channels, and branches that start as an identity or as
        zero."""
        trees = simplified(parent["cell"]), simplified(child["cell"])
        return tree_morphisms.trees(*trees, self.graph(parent, frame))

    def sketch(self, architecture: Architecture) -> Sketch:
        """Divisions and merges as nodes, operations as labels of the edges."""
        nodes, edges = [("in", "input")], list[tuple[str, str, str]]()

        def draw(node: Node, name: str, source: str) -> str:
            """Build a node on a source; return its last node."""
            joined = node["merge"] != "none"
            ends = []
            for index, branch in enumerate(node["branches"]):
                here, label = f"{name}_{index}", branch["op"]
                if "node" in branch:
                    nodes.append((here, ""))
                    edges.append((source, here, label))
                    ends.append((draw(branch["node"], here, here), ""))
                else:
                    ends.append((source, label))
            end = f"{name}_end"
            nodes.append((end, node["merge"] if joined else ""))
            edges.extend((each, end, label) for each, label in ends)
            return end

        last = draw(simplified(architecture["cell"]), "n", "in")
        nodes.append(("out", "output"))
        edges.append((last, "out", ""))
        return Sketch(tuple(nodes), tuple(edges))


class _Cell:
    """Writes one cell into a graph. A branch is named by its path from the first node. It ends with
    an identity, so that a node can be inserted there."""

    def __init__(self, g: GraphBuilder, name: str, width: int, stride: int) -> None:
        self._g, self._name, self._width, self._stride = g, name, width, stride

    def build(self, tree: Node, x: str) -> str:
        x, name = self._g.relu(f"{self._name}_relu", x), self._name
        if (
            tree["merge"] == "concat"
        ):  # dividing the output of a layer equals layers with a part of the outputs
            whole = self._op(f"{name}_0", LAYER, x, True)
            branches = [{**branch, "op": IDENTITY} for branch in tree["branches"]]
            return self._node({**tree, "branches": branches}, name, whole)
        return self._node(tree, name, x)

    def _node(self, node: Node, name: str, x: str) -> str:
        g, branches = self._g, node["branches"]
        inputs = [x] * len(branches)
        if node["merge"] == "concat":
            inputs = []
            for index, (start, size) in enumerate(_halves(name, g.shape(x)[0])):
                part = f"{name}_{index}_slice"
                inputs.append(g.unary(part, "slice", x, start=start, size=size))
        ends = [
            self._branch(branch, f"{name}_{index}", each)
            for index, (branch, each) in enumerate(zip(branches, inputs, strict=True))
        ]
        match node["merge"]:
            case "none":
                return ends[0]
            case "add":
                return g.add(f"{name}_add", ends)
            case _:
                return g.concat(f"{name}_concat", ends)

    def _branch(self, branch: Branch, name: str, x: str) -> str:
        follows = "node" in branch
        x = self._op(name, branch["op"], x, follows or branch["op"] == LAYER)
        if follows:
            return self._node(branch["node"], name, x)
        return self._g.unary(f"{name}_end", "identity", x)

    def _op(self, name: str, op: str, x: str, relu: bool) -> str:
        g, channels = self._g, self._g.shape(x)[0]
        if op == IDENTITY:
            return x
        if op not in CONVS and op != LAYER:
            return g.pool(name, x, op[:3], 3, 1)
        if op == LAYER:
            x = g.conv(f"{name}_conv", x, self._width, 3, self._stride)
        elif op == "conv_1x1":
            x = g.conv(f"{name}_conv", x, channels, 1)
        else:
            x = g.conv(f"{name}_depthwise", x, channels, CONVS[op], groups=channels)
            x = g.conv(f"{name}_pointwise", x, channels, 1)
        x = g.batch_norm(f"{name}_bn", x)
        return g.relu(f"{name}_relu", x) if relu else x


def _halves(name: str, channels: int) -> list[tuple[int, int]]:
    """(start, size) of both parts; the first one is at least as large."""
    if channels < 2:
        raise InfeasibleError(f"{name}: {channels} channel cannot be divided")
    first = channels - channels // 2
    return [(0, first), (first, channels // 2)]

"""Multi-branch networks: a directed acyclic graph whose nodes merge their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.space import MultiBranchSpace
from kinase.api.trial import Architecture
from kinase.space import elastic_pools, exact_morphisms, layers
from kinase.space.base import Frame, Part, Rng, Size, Sketch, Space
from kinase.space.builder import GraphBuilder
from kinase.space.canonical import canonical_form
from kinase.space.elastic import Elastic, Layered, largest
from kinase.space.errors import ArchitectureError, InfeasibleError
from kinase.space.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray


class MultiBranch(Space):
    """Multi-branch networks (Elsken, Metzen & Hutter 2019, survey, section 2).

    An architecture is ``{"nodes": [{"op": "conv", "width": 16, "kernel": 3, "stride": 1, "inputs":
    [-1], "merge": "add"}, ...]}``. `inputs` are numbers of earlier nodes, -1 is the network's
    input; `merge` says how several inputs are merged before the operation. Outputs that no node
    uses are concatenated at the end; global average pooling and a linear layer follow.

    Before merging, maps are reduced to the smallest size by max pooling; for `add`, narrower maps
    are projected to the widest by a 1x1 convolution and batch normalization.
    """

    def __init__(self, options: MultiBranchSpace) -> None:
        """The space described by `space.multiBranch`."""
        self.options = options

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Draw a number of nodes, then each node's operation, inputs and merge, uniformly."""
        o = self.options
        count = int(rng.integers(o.min_nodes, o.max_nodes + 1))
        return {"nodes": [self._node(i, rng) for i in range(count)]}

    def _node(self, index: int, rng: Rng) -> dict[str, Any]:
        o = self.options
        most = min(o.max_inputs, index + 1)
        chosen = rng.choice(index + 1, size=int(rng.integers(1, most + 1)), replace=False) - 1
        merge = o.merges[int(rng.integers(len(o.merges)))]
        return {**layers.sample(o, rng), "inputs": sorted(int(i) for i in chosen), "merge": merge}

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data."""
        o = self.options
        if not isinstance(architecture, dict) or set(architecture) != {"nodes"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; it is an object with the field nodes"
            )
        nodes = architecture["nodes"]
        if not isinstance(nodes, list) or not o.min_nodes <= len(nodes) <= o.max_nodes:
            found = len(nodes) if isinstance(nodes, list) else f"{nodes!r:.80}"
            raise ArchitectureError(
                f"nodes is {found}; use a list of {o.min_nodes} to {o.max_nodes} nodes"
            )
        for index, node in enumerate(nodes):
            path = f"nodes[{index}]"
            layers.validate(o, node, path, ("inputs", "merge"))
            inputs, merge = node.get("inputs"), node.get("merge")
            if merge not in o.merges:
                raise ArchitectureError(
                    f"{path}.merge is {merge!r:.80}; use one of {', '.join(o.merges)}"
                )
            if (
                not isinstance(inputs, list)
                or not 1 <= len(inputs) <= o.max_inputs
                or any(type(i) is not int or not -1 <= i < index for i in inputs)
                or len(set(inputs)) < len(inputs)
            ):
                raise ArchitectureError(
                    f"{path}.inputs is {inputs!r:.80}; use 1 to {o.max_inputs} different nodes "
                    f"from -1 to {index - 1}"
                )

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """Change one choice of a node, rewire or remove it, or append a node at the end."""
        o, nodes = self.options, architecture["nodes"]
        for index, node in enumerate(nodes):
            for variant in layers.variants(o, node):
                yield self._replaced(nodes, index, variant)
            for merge in o.merges:
                if merge != node["merge"]:
                    yield self._replaced(nodes, index, {**node, "merge": merge})
            for inputs in self._rewired(index, node["inputs"]):
                yield self._replaced(nodes, index, {**node, "inputs": inputs})
        if len(nodes) > o.min_nodes:
            for index in range(len(nodes)):
                yield {"nodes": _without(nodes, index)}
        if len(nodes) < o.max_nodes:
            for source in range(-1, len(nodes)):
                for layer in layers.enumerate_layers(o):
                    new = {**layer, "inputs": [source], "merge": o.merges[0]}
                    yield {"nodes": [*nodes, new]}

    def _rewired(self, index: int, inputs: list[int]) -> Iterator[list[int]]:
        """Add, remove or move an input."""
        free = [i for i in range(-1, index) if i not in inputs]
        if len(inputs) < self.options.max_inputs:
            for new in free:
                yield sorted([*inputs, new])
        for old in inputs:
            rest = [i for i in inputs if i != old]
            if rest:
                yield rest
            for new in free:
                yield sorted([*rest, new])

    @staticmethod
    def _replaced(nodes: list[dict[str, Any]], index: int, node: dict[str, Any]) -> Architecture:
        return {"nodes": [*nodes[:index], node, *nodes[index + 1 :]]}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One random edit: change, rewire, insert or remove with equal probability."""
        o, nodes = self.options, architecture["nodes"]
        key = self.key(architecture)
        for _ in range(50):
            kinds = ["change", "rewire"]
            kinds += ["insert"] if len(nodes) < o.max_nodes else []
            kinds += ["remove"] if len(nodes) > o.min_nodes else []
            index = int(rng.integers(len(nodes)))
            node = nodes[index]
            choices: list[dict[str, Any]] = []
            match kinds[int(rng.integers(len(kinds)))]:
                case "insert":
                    edit = {"nodes": [*nodes, self._node(len(nodes), rng)]}
                case "remove":
                    edit = {"nodes": _without(nodes, index)}
                case "rewire":
                    choices = [{**node, "inputs": i} for i in self._rewired(index, node["inputs"])]
                    choices += [{**node, "merge": m} for m in o.merges if m != node["merge"]]
                case _:
                    choices = list(layers.variants(o, node))
            if choices:
                edit = self._replaced(nodes, index, choices[int(rng.integers(len(choices)))])
            elif len(kinds) <= 2:
                continue
            if self.key(edit) != key:
                return edit
        return self.any_neighbour(architecture, rng)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Inserted or removed nodes, a node's choices, and its inputs."""
        o = self.options
        inputs = ("add-input", "remove-input") if o.max_inputs > 1 else ()
        joins = (*inputs, "merge") if inputs and len(set(o.merges)) > 1 else inputs
        return (*layers.kinds(o, o.min_nodes, o.max_nodes), "move-input", *joins)

    def kind(self, one: Architecture, other: Architecture) -> str:
        """The kind of an edit."""
        a, b = one["nodes"], other["nodes"]
        if found := layers.kind(a, b):
            return found
        for old, new in zip(a, b, strict=True):
            if old["inputs"] != new["inputs"]:
                more = len(new["inputs"]) - len(old["inputs"])
                return "add-input" if more > 0 else "remove-input" if more < 0 else "move-input"
        return "merge"

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """The graph in canonical order. The merge of a node with one input is ignored.

        Inputs of a concatenation are unordered, because a permutation only permutes the weights of
        the next layer, which gives the same set of networks.
        """
        nodes = architecture["nodes"]
        labels: list[Any] = ["in"]
        edges: list[tuple[int, int]] = []
        used: set[int] = set()
        for index, node in enumerate(nodes):
            merge = node["merge"] if len(node["inputs"]) > 1 else ""
            labels.append((node["op"], node["kernel"], node["stride"], node.get("width", 0), merge))
            edges += [(source + 1, index + 1) for source in node["inputs"]]
            used.update(node["inputs"])
        labels.append("out")
        edges += [(i + 1, len(nodes) + 1) for i in range(len(nodes)) if i not in used]
        return canonical_form(labels, edges)

    def size(self) -> Size:
        """An upper bound: graphs that only differ in the order of nodes are counted separately."""
        o = self.options
        per_layer, total, product = layers.count(o), 0, 1
        for index in range(o.max_nodes):
            wirings = sum(
                comb(index + 1, k) * (len(o.merges) if k > 1 else 1)
                for k in range(1, min(o.max_inputs, index + 1) + 1)
            )
            product *= per_layer * wirings
            total += product if index + 1 >= o.min_nodes else 0
        return Size(total, exact=False)

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """For each of `maxNodes` places: one-hot operation, scaled width, kernel and stride,
        whether it concatenates, and its inputs. Unused places are zero."""
        o = self.options
        head = len(o.ops) + 4
        rows = np.zeros((o.max_nodes, head + o.max_nodes))
        for row, node in zip(rows, architecture["nodes"], strict=False):
            row[o.ops.index(node["op"])] = 1.0
            row[len(o.ops) : head] = (
                node.get("width", 0) / max(o.widths),
                node["kernel"] / max(o.kernels),
                node["stride"] / max(o.strides),
                float(node["merge"] == "concat" and len(node["inputs"]) > 1),
            )
            for source in node["inputs"]:
                row[head + source + 1] = 1.0
        return rows.ravel()

    @property
    def encoding(self) -> tuple[Part, ...]:
        """Of each place the operation, width, kernel, stride, the merge, and each input."""
        o = self.options
        flags = (Part(1, choice=True),) * (1 + o.max_nodes)
        return (Part(len(o.ops), choice=True), Part(), Part(), Part(), *flags) * o.max_nodes

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Operation sequences from the input to the output."""
        nodes = architecture["nodes"]
        at: dict[int, set[str]] = {-1: {"in"}}
        used: set[int] = set()
        for index, node in enumerate(nodes):
            step = layers.label(node)
            at[index] = {f"{path}>{step}" for i in node["inputs"] for path in at[i]}
            used.update(node["inputs"])
        return frozenset(p for i in range(len(nodes)) if i not in used for p in at[i])

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """The nodes, a concatenation of the unused outputs, and the head."""
        nodes = architecture["nodes"]
        g = GraphBuilder(frame.input)
        at = {-1: g.input}
        used: set[int] = set()
        for index, node in enumerate(nodes):
            name = f"node{index}"
            x = _join(g, name, [at[i] for i in node["inputs"]], node["merge"])
            at[index] = layers.build(g, name, x, node, frame.scale.filter_fraction)
            used.update(node["inputs"])
        ends = [at[i] for i in range(len(nodes)) if i not in used]
        x = g.global_avg_pool("pool", _join(g, "out", ends, "concat"))
        return g.build(g.linear("classifier", x, frame.outputs))

    def elastic(self, frame: Frame) -> Elastic:
        """Nodes of the greatest widths and kernels; each reads the channels of every earlier
        one."""
        fraction = frame.scale.filter_fraction
        nodes, sources, places = elastic_pools.branches(
            self.options, frame.input[0], frame.outputs, fraction
        )
        return Layered(largest(nodes), lambda each: self.graph(each, frame), sources, places)

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """Larger nodes, added inputs, and nodes appended at the end."""
        networks = self.graph(parent, frame), self.graph(child, frame)
        return exact_morphisms.multibranch(parent["nodes"], child["nodes"], *networks)

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per node; merges are labels of the edges."""
        nodes = architecture["nodes"]
        used = {i for node in nodes for i in node["inputs"]}
        boxes = [("in", "input"), *((str(i), layers.label(n)) for i, n in enumerate(nodes))]
        edges = [
            ("in" if i < 0 else str(i), str(index), n["merge"] if len(n["inputs"]) > 1 else "")
            for index, n in enumerate(nodes)
            for i in n["inputs"]
        ]
        ends = [i for i in range(len(nodes)) if i not in used]
        edges += [(str(i), "out", "concat" if len(ends) > 1 else "") for i in ends]
        return Sketch((*boxes, ("out", "pool, linear")), tuple(edges))


def _without(nodes: list[dict[str, Any]], gone: int) -> list[dict[str, Any]]:
    """The nodes without one; its readers use its first input instead."""
    instead = nodes[gone]["inputs"][0]

    def moved(source: int) -> int:
        source = instead if source == gone else source
        return source - 1 if source > gone else source

    return [
        {**node, "inputs": sorted({moved(i) for i in node["inputs"]})}
        for index, node in enumerate(nodes)
        if index != gone
    ]


def _join(g: GraphBuilder, name: str, maps: list[str], merge: str) -> str:
    """Reduce maps to one size and merge them."""
    if len(maps) == 1:
        return maps[0]
    height = min(g.shape(m)[1] for m in maps)
    width = min(g.shape(m)[2] for m in maps)
    channels = max(g.shape(m)[0] for m in maps)
    fitted = []
    for number, x in enumerate(maps):
        # the smallest stride for both sides; a small side determines the stride less precisely
        stride = max(-(-g.shape(x)[1] // height), -(-g.shape(x)[2] // width))
        if stride > 1:
            window = stride if stride % 2 else stride + 1
            x = g.pool(f"{name}_in{number}_pool", x, "max", window, stride)
        if g.shape(x)[1:] != (height, width):
            raise InfeasibleError(
                f"{name}: a map of {g.shape(x)[1]}x{g.shape(x)[2]} does not come to "
                f"{height}x{width} by a stride"
            )
        if merge == "add" and g.shape(x)[0] != channels:
            x = g.conv(f"{name}_in{number}_conv", x, channels, 1)
            x = g.batch_norm(f"{name}_in{number}_bn", x)
        fitted.append(x)
    joined = f"{name}_{merge}"
    return g.add(joined, fitted) if merge == "add" else g.concat(joined, fitted)

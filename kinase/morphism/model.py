"""The space of networks that morphisms can make from an existing network."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kinase.api.model_space import ModelSpace
from kinase.api.trial import Architecture
from kinase.morphism.base import Base, Place
from kinase.morphism.carry import strata
from kinase.morphism.chain import KINDS, Limits, apply, candidates, dump_chain, load_chain
from kinase.morphism.channels import Channels
from kinase.morphism.draft import Draft
from kinase.morphism.elastic import SHRINKING, SubNetworks
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import CLEAR
from kinase.morphism.identity import identity
from kinase.space.base import Frame, Rng, Size, Sketch, Space
from kinase.space.elastic import Elastic
from kinase.space.errors import ArchitectureError, InfeasibleError
from kinase.space.graph import Graph
from kinase.space.graph_json import load_graph
from kinase.space.nodes import ACTIVATIONS, Node
from kinase.space.retarget import retarget
from kinase.space.tensors import kernel, stride

if TYPE_CHECKING:
    from numpy.typing import NDArray

Edit = dict[str, Any]
"""A morphism, as plain data."""
OURS = frozenset({"seed", "noise", "keep"})
"""Fields of a morphism that do not belong to the architecture: they control how weights are drawn
or chosen."""
ROOM = 4
"""Default maximum size of an architecture, relative to the network."""
KEPT = 128
"""Number of cached graphs."""
ATTEMPTS = 64
"""Number of draws before it is assumed that no morphism fits."""
BUCKETS = 192
"""Number of features of a graph's nodes in `vector`."""
PATH = 4
"""Maximum length of a path in `paths`: a residual network has exponentially many complete paths."""


class Model(Space):
    """Networks that morphisms make of a first one, the root (Elsken et al. 2017, section 3).

    An architecture is ``{"morphisms": [{"op": "widen", "node": "conv1", "to": 96}, ...]}``, in the
    order in which they are applied; the root is the empty list. If the root comes from the trainer
    (`rooted`), only the form of an architecture can be checked before the root is known.
    """

    def __init__(self, options: ModelSpace) -> None:
        """The space described by `space.model`.

        Raises:
            GraphError, InfeasibleError: its graph is invalid.
        """
        self.options = options
        self._root: Graph | None = None
        self._narrower: dict[tuple[str, ...], Model] = {}
        self._known: OrderedDict[tuple[Any, ...], Graph] = OrderedDict()
        self._places: OrderedDict[tuple[str, ...], dict[str, list[Place]]] = OrderedDict()
        if options.graph is not None:
            self._begin(load_graph(options.graph.plain))

    def rooted(self, root: Graph) -> Model:
        """The same space with another root: the network adapted to the task."""
        space = Model(self.options.model_copy(update={"graph": None}))
        space.options = self.options
        space._begin(root)
        return space

    def _begin(self, root: Graph) -> None:
        shapes = root.shapes()
        first = root.nodes[0].attrs
        self._root = root.needed()
        self._shape = (int(first["channels"]), int(first["height"]), int(first["width"]))
        self._outputs = shapes[root.output][-1]
        o = self.options
        params, macs = root.params(), root.macs()
        self._most_params = max(o.max_params or ROOM * params, params)
        self._most_macs = max(o.max_macs or ROOM * macs, macs)
        nodes = max(o.max_nodes, len(root.nodes))
        self._limits = Limits(params=self._most_params, nodes=nodes)

    @property
    def begins_with(self) -> Graph | None:
        """The root, or None if it is not known yet."""
        return self._root

    @property
    def root(self) -> Graph:
        """The network from which all others are made.

        Raises:
            ArchitectureError: the root is not known yet.
        """
        if self._root is None:
            raise ArchitectureError("the network that the search starts from is not known yet")
        return self._root

    # -- sampling and validation -------------------------------------------------------

    def sample(self, rng: Rng) -> Architecture:
        """Up to `steps` random morphisms in sequence."""
        architecture: Architecture = {"morphisms": []}
        for _ in range(int(rng.integers(self.options.steps + 1))):
            grown = self._extended(architecture, rng)
            if grown is None:
                break
            architecture = grown
        return architecture

    def validate(self, architecture: Architecture) -> None:
        """Check untrusted data. If the root is not known yet, only its form is checked."""
        if not isinstance(architecture, dict) or set(architecture) != {"morphisms"}:
            raise ArchitectureError(
                f"architecture is {architecture!r:.80}; use an object with the field morphisms"
            )
        data = architecture["morphisms"]
        most = self.options.max_morphisms
        if not isinstance(data, list) or len(data) > most:
            found = len(data) if isinstance(data, list) else f"{data!r:.80}"
            raise ArchitectureError(f"morphisms is {found}; use a list of at most {most}")
        try:
            chain = load_chain(data)
        except MorphismError as error:
            raise ArchitectureError(f"{error!s:.400}") from error
        for index, (given, morphism) in enumerate(zip(data, chain, strict=True)):
            self._check_form(f"morphisms[{index}]", given, morphism)
        if self._root is None:
            return
        try:
            graph = self._grown(chain)
        except (MorphismError, InfeasibleError) as error:
            raise ArchitectureError(f"{error!s:.400}") from error
        if (macs := graph.macs()) > self._most_macs:
            raise ArchitectureError(f"it takes {macs:,} multiply-adds; at most {self._most_macs:,}")

    def _check_form(self, path: str, given: Edit, morphism: Base) -> None:
        op = given["op"]
        if op not in self.options.operations:
            raise ArchitectureError(
                f"{path}.op is {op}; this space has {', '.join(self.options.operations)}"
            )
        written = morphism.model_dump(mode="json", by_alias=True)
        for field, value in given.items():
            if field in OURS:
                raise ArchitectureError(f"{path}.{field} is set by the trial; leave it out")
            if value is None or json.dumps(written.get(field)) != json.dumps(value):
                raise ArchitectureError(
                    f"{path}.{field:.40} is {value!r:.80}; write it as "
                    f"{written.get(field)!r:.80}, or leave it out if that is null"
                )

    # -- networks ----------------------------------------------------------------------

    def graph(self, architecture: Architecture, frame: Frame) -> Graph:
        """The root, adapted to the frame's images and outputs, after all morphisms.

        The frame's scale is ignored, because a root cannot be built narrower.
        """
        try:
            chain = load_chain(architecture["morphisms"])
            return self._grown(chain, frame.input, frame.outputs)
        except MorphismError as error:
            raise InfeasibleError(str(error)) from error

    def _grown(
        self, chain: tuple[Base, ...], shape: tuple[int, ...] | None = None, outputs: int = 0
    ) -> Graph:
        """The graph at the end of a chain, computed from its longest cached prefix."""
        own = shape is None or (shape, outputs) == (self._shape, self._outputs)
        where = None if own else (shape, outputs)
        texts = tuple(each.model_dump_json() for each in chain)
        length = len(chain)
        while length and (where, texts[:length]) not in self._known:
            length -= 1
        if (where, texts[:length]) not in self._known:
            first = self.root if own else retarget(self.root, shape or self._shape, outputs)
            self._keep(where, (), first)
        graph = self._known[where, texts[:length]]
        self._known.move_to_end((where, texts[:length]))
        for index in range(length, len(chain)):
            try:
                graph = apply(graph, chain[index], limits=self._limits if own else None).graph
            except MorphismError as error:
                raise MorphismError(f"morphisms[{index}]: {error}") from error
            self._keep(where, texts[: index + 1], graph)
        return graph

    def _keep(self, where: Any, texts: tuple[str, ...], graph: Graph) -> None:
        self._known[where, texts] = graph
        while len(self._known) > KEPT:
            self._known.popitem(last=False)

    def elastic(self, frame: Frame) -> Elastic | None:
        """The root's tensors, if all operations make networks that are parts of it."""
        if self.unshared:
            return None
        first = self.graph({"morphisms": []}, frame)
        return SubNetworks(first, lambda each: load_chain(each["morphisms"]))

    @property
    def largest(self) -> Architecture | None:
        """The root, if all others are parts of it."""
        return None if self.unshared else {"morphisms": []}

    def nested(self, rng: Rng, free: Mapping[str, int]) -> Architecture:
        """See `Space`: kernels are cropped, layers and connections removed, widths pruned."""
        if self.unshared:
            return super().nested(rng, free)
        by_axis = {"kernel": ("crop",), "depth": ("remove", "cut"), "width": ("prune",)}
        allowed = [op for axis, ops in by_axis.items() if free.get(axis, 1) > 1 for op in ops]
        operations = tuple(op for op in self.options.operations if op in allowed)
        if operations == self.options.operations:
            return self.sample(rng)
        if not operations:
            return {"morphisms": []}
        if operations not in self._narrower:
            options = self.options.model_copy(update={"operations": operations, "graph": None})
            self._narrower[operations] = Model(options).rooted(self.root)
        return self._narrower[operations].sample(rng)

    @property
    def unshared(self) -> str:
        """See `Space`."""
        others = [op for op in self.options.operations if op not in SHRINKING]
        if not others:
            return ""
        return (
            f"space.model.operations has {', '.join(others)}; networks share the weights of the "
            f"first one if there are only {', '.join(SHRINKING)}"
        )

    def exact_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """The child's additional morphisms, if its list starts with the parent's and all additions
        are exact."""
        rest = self.approximate_morphisms(parent, child, frame)
        return rest if rest is not None and all(KINDS[m["op"]].exact for m in rest) else None

    def approximate_morphisms(
        self, parent: Architecture, child: Architecture, frame: Frame
    ) -> list[dict[str, Any]] | None:
        """The child's additional morphisms, if its list starts with the parent's."""
        before, after = parent["morphisms"], child["morphisms"]
        if after[: len(before)] != before:
            return None
        # with their defaults, so that an omitted field is not taken for a free choice
        rest = load_chain(after[len(before) :])
        return [morphism.model_dump(mode="json", by_alias=True) for morphism in rest]

    # -- neighbours and mutation -------------------------------------------------------

    def edits(self, architecture: Architecture) -> Iterator[Architecture]:
        """One more morphism, at any place where it fits, or one less (the last)."""
        for op in self.options.operations:
            for edit in self._options(architecture, op):
                if (grown := self._with(architecture, edit)) is not None:
                    yield grown
        if architecture["morphisms"]:
            yield {"morphisms": architecture["morphisms"][:-1]}

    def moves(self, architecture: Architecture) -> dict[str, list[Architecture]]:
        """See `Space`; some of these may be too large."""
        chain = architecture["morphisms"]
        if len(chain) >= self.options.max_morphisms:
            return {}
        found = {
            op: [{"morphisms": [*chain, edit]} for edit in self._options(architecture, op)]
            for op in self.options.operations
        }
        return {op: children for op, children in found.items() if children}

    def mutate(self, architecture: Architecture, rng: Rng) -> Architecture:
        """One more morphism: an operation drawn from those that fit anywhere, then a place. If none
        fits, because the network has its maximum size, the last one is removed."""
        grown = self._extended(architecture, rng)
        if grown is not None:
            return grown
        key, chain = self.key(architecture), architecture["morphisms"]
        while chain:
            chain = chain[:-1]
            if self.key({"morphisms": chain}) != key:
                return {"morphisms": chain}
        return self.any_neighbour(architecture, rng)

    def _extended(self, architecture: Architecture, rng: Rng) -> Architecture | None:
        """Add a random morphism that leads to another network."""
        key = self.key(architecture)
        if len(architecture["morphisms"]) >= self.options.max_morphisms:
            return None
        places = self._candidates(architecture)
        ops = [op for op in self.options.operations if places[op]]
        for _ in range(ATTEMPTS if ops else 0):
            op = ops[int(rng.integers(len(ops)))]
            place = places[op][int(rng.integers(len(places[op])))]
            filled = self._filled(architecture, op, place)
            if not filled:
                continue
            grown = self._with(architecture, filled[int(rng.integers(len(filled)))])
            if grown is not None and self.key(grown) != key:
                return grown
        return None

    def _with(self, architecture: Architecture, edit: Edit) -> Architecture | None:
        """Add a morphism, if it fits and the network is not too large."""
        grown = {"morphisms": [*architecture["morphisms"], edit]}
        if len(grown["morphisms"]) > self.options.max_morphisms:
            return None
        try:
            graph = self._grown(load_chain(grown["morphisms"]))
        except (MorphismError, InfeasibleError):
            return None
        return grown if graph.macs() <= self._most_macs else None

    def _options(self, architecture: Architecture, op: str) -> Iterator[Edit]:
        for place in self._candidates(architecture)[op]:
            yield from self._filled(architecture, op, place)

    def _candidates(self, architecture: Architecture) -> dict[str, list[Place]]:
        chain = load_chain(architecture["morphisms"])
        texts = tuple(each.model_dump_json() for each in chain)
        if texts not in self._places:
            graph = self._grown(chain)
            self._places[texts] = {op: candidates(graph, op) for op in self.options.operations}
            while len(self._places) > KEPT // 8:
                self._places.popitem(last=False)
        return self._places[texts]

    def _filled(self, architecture: Architecture, op: str, place: Place) -> list[Edit]:
        """A place with each choice of the morphism's numbers, in the shortest form."""
        graph = self._grown(load_chain(architecture["morphisms"]))
        more: list[Edit] = [{}]
        if op in ("widen", "prune", "heads", "kernel", "crop"):
            node = next(each for each in graph if each.name == place["node"])
            more = [{"to": to} for to in self._sizes(graph, node, op)]
        rule = {"rule": self.options.rule} if op in ("widen", "heads") else {}
        try:
            return [
                dump_chain(load_chain([{"op": op, **place, **each, **rule}]))[0] for each in more
            ]
        except MorphismError:  # a number is out of bounds, such as a window of 65 pixels
            return []

    def _sizes(self, graph: Graph, node: Node, op: str) -> list[int]:
        if op in ("kernel", "crop"):
            high, wide = kernel(node)
            return [max(high, wide) + (2 if op == "kernel" else -2)]
        if op == "heads":
            now, parts = int(node.attrs["heads"]), 1
        else:  # widths shared by groups change by multiples of their number
            now = int(node.attrs["out"])
            parts = strata(Draft(graph), Channels(graph), node.name)
        sizes = set()
        for factor in self.options.factors:
            ideal = now / factor if op == "prune" else now * factor
            size = max(1, round(ideal / parts)) * parts
            if (size < now) if op == "prune" else (size > now):
                sizes.add(size)
        return sorted(sizes)

    # -- identity and size -------------------------------------------------------------

    def canonical(self, architecture: Architecture) -> Any:
        """Depends only on the network, not on its morphisms or node names."""
        return identity(self._grown(load_chain(architecture["morphisms"])))

    def size(self) -> Size:
        """An upper bound: each morphism has at most one place per pair of nodes."""
        o = self.options
        choices = len(o.factors) * o.max_nodes**2 * len(o.operations)
        return Size(sum(choices**n for n in range(o.max_morphisms + 1)), exact=False)

    # -- encodings ---------------------------------------------------------------------

    def vector(self, architecture: Architecture) -> NDArray[np.float64]:
        """Number of times each operation was applied, parameters and multiply-adds relative to the
        maximum, and hashed counts of the network's nodes: alone, with their inputs (Weisfeiler &
        Lehman 1968; as features Shervashidze et al. 2011), and with their depth."""
        graph = self._grown(load_chain(architecture["morphisms"]))
        ops = Counter(each["op"] for each in architecture["morphisms"])
        features = np.zeros(BUCKETS)
        labels, depths = dict[str, str](), dict[str, int]()
        for node in graph:
            labels[node.name] = label = f"{node.op}{sorted(node.attrs.items())}"
            depths[node.name] = 1 + max((depths[each] for each in node.inputs), default=0)
            reads = f"{label}<{sorted(labels[each] for each in node.inputs)}"
            for text in (label, reads, f"{reads}@{depths[node.name]}"):
                digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
                features[int.from_bytes(digest, "big") % BUCKETS] += 1
        most = self.options.max_morphisms
        return np.concatenate(
            [
                [ops[op] / most for op in KINDS],
                [
                    min(1.0, graph.params() / self._most_params),
                    min(1.0, graph.macs() / max(1, self._most_macs)),
                ],
                features / (1 + features),
            ]
        )

    def paths(self, architecture: Architecture) -> frozenset[str]:
        """Sequences of up to `PATH` operations along edges."""
        graph = self._grown(load_chain(architecture["morphisms"]))
        ends: dict[str, frozenset[tuple[str, ...]]] = {}
        found: set[tuple[str, ...]] = set()
        for node in graph:
            if node.op in CLEAR:
                ends[node.name] = ends[node.inputs[0]]
                continue
            before = frozenset().union(*(ends[each] for each in node.inputs))
            own = {(*path, _label(node))[-PATH:] for path in before} or {(_label(node),)}
            found |= own
            ends[node.name] = frozenset(own)
        return frozenset(">".join(path) for path in found)

    def sketch(self, architecture: Architecture) -> Sketch:
        """One node per layer, merged with a normalization or activation that is its only reader."""
        graph = self._grown(load_chain(architecture["morphisms"]))
        readers = Counter(each for node in graph for each in node.inputs)
        into: dict[str, str] = {}
        nodes, edges = list[tuple[str, str]](), dict[tuple[str, str, str], None]()
        follows = ACTIVATIONS | CLEAR | {"batch_norm", "group_norm", "layer_norm", "layer_scale"}
        for node in graph:
            if node.op in follows and readers[node.inputs[0]] == 1:
                into[node.name] = into[node.inputs[0]]
                continue
            into[node.name] = node.name
            nodes.append((node.name, _label(node)))
            edges.update(dict.fromkeys((into[each], node.name, "") for each in node.inputs))
        return Sketch(tuple(nodes), tuple(edges))


def _label(node: Node) -> str:
    a = node.attrs
    match node.op:
        case "conv":
            high, wide = kernel(node)
            down, across = stride(node)
            step = f"/{down}x{across}" if down != across else f"/{down}" if down > 1 else ""
            groups = f" in {a['groups']:g}" if a["groups"] > 1 else ""
            return f"conv {high}x{wide}{step} {a['out']:g}{groups}"
        case "linear":
            return f"linear {a['out']:g}"
        case "attention":
            return f"attention {a['heads']:g}x{a['head_dim']:g}"
        case "max_pool" | "avg_pool":
            return f"{node.op} {a['kernel']:g}/{a['stride']:g}"
        case op:
            return op

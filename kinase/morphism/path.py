"""Replace a layer by several equivalent paths (Cai et al. 2018b, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kinase.morphism.base import Base, Change, NodeName, Place
from kinase.morphism.channels import is_depthwise
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.facts import CLEAR
from kinase.morphism.plan import Noise, Norms, Parent, Scale, Step, Take, seed_for
from kinase.space.graph import Graph
from kinase.space.nodes import Node, channels_of
from kinase.space.tensors import tensors

Scheme = Literal["replicate_add", "replicate_concat", "split_add", "split_concat"]
_CHANNELWISE = CLEAR | {"max_pool", "avg_pool"}


class Path(Base):
    """Split a layer into several paths. The first one keeps the layer's name."""

    op: Literal["path"] = "path"
    node: NodeName
    scheme: Scheme = "replicate_add"
    """`replicate_add`: copies of the layer whose outputs are averaged. `replicate_concat`: each
    path returns some of the output channels. `split_add`: each path takes some of the input
    channels. `split_concat`: both, for a layer on separate channels (pool, depthwise, identity)."""
    branches: Annotated[int, Field(ge=2, le=64)] = 2
    segment: bool = False
    """`replicate_add`: also copy the normalization, ReLU and identity after the layer."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.inner(self.node)
        if not _fits(node, self.scheme):
            raise MorphismError(f"{self.node} is {_kind(node)}, which {self.scheme} does not fit")
        match self.scheme:
            case "replicate_add":
                self._replicate_add(draft, node, graph)
            case "replicate_concat":
                self._replicate_concat(draft, node)
            case "split_add":
                self._split_add(draft, node)
            case "split_concat":
                self._split_concat(draft, node)
        return Change(draft.build(), draft.plan)

    def _parts(self, width: int) -> list[tuple[int, int]]:
        """(start, size) of each branch's channels."""
        if width < self.branches:
            raise MorphismError(
                f"{self.node} has {width} channels; branches is {self.branches}, use at most that"
            )
        sizes = [len(part) for part in np.array_split(np.arange(width), self.branches)]
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return list(zip(starts, sizes, strict=True))

    def _copy(self, draft: Draft, node: Node, x: str, branch: int, **attrs: int) -> str:
        """The node itself for the first branch, otherwise a copy."""
        if branch == 0:
            draft.feed(node.name, (x,))
            draft.change(node.name, **attrs)
            return node.name
        return draft.add(f"{node.op}{branch}", node.op, (x,), {**node.attrs, **attrs})

    def _noise(self, tensor: str, branch: int) -> list[Step]:
        if not self.noise or not branch or not tensor.endswith(".weight"):
            return []
        return [Noise(self.noise, True, seed_for(self.seed, tensor))]

    def _replicate_add(self, draft: Draft, node: Node, graph: Graph) -> None:
        chain = self._chain(draft, node)
        end, share = chain[-1].name, 1 / self.branches
        readers = draft.readers(end)
        scaled = next(n for n in reversed(chain) if n.op in ("conv", "linear", "batch_norm"))
        if scaled.op == "batch_norm" and not scaled.attrs["affine"]:
            raise MorphismError(f"{scaled.name} has no scale to divide; use segment false")
        before = chain.index(scaled)
        shapes = tensors(graph)
        ends = []
        for branch in range(self.branches):
            x = node.inputs[0]
            for place, each in enumerate(chain):
                x = self._copy(draft, each, x, branch)
                for tensor, shape in shapes.items():
                    owner, _, part = tensor.partition(".")
                    if owner != each.name:
                        continue
                    steps: list[Step] = []
                    divided = place == before and part in ("weight", "bias")
                    if shape and (divided or place < before):
                        whole, shared = np.ones(shape[0]), np.full(shape[0], share)
                        steps = [Scale(0, shared, whole) if divided else Scale(0, whole, shared)]
                    name = f"{x}.{part}"
                    draft.tensor(name, Parent(tensor), *steps, *self._noise(name, branch))
            ends.append(x)
        draft.redirect(end, draft.add("add", "add", tuple(ends)), readers)

    def _chain(self, draft: Draft, node: Node) -> list[Node]:
        """The nodes that each branch copies."""
        chain = [node]
        wanted = ["batch_norm", "relu", "identity"] if self.segment else []
        for op in wanted:
            follower = draft.only_reader(chain[-1].name)
            ends = (draft.output, draft.auxiliary)
            if follower is not None and follower.op == op and follower.name not in ends:
                chain.append(follower)
        return chain

    def _replicate_concat(self, draft: Draft, node: Node) -> None:
        readers = draft.readers(node.name)
        ends = []
        for branch, (start, size) in enumerate(self._parts(int(node.attrs["out"]))):
            x = self._copy(draft, node, node.inputs[0], branch, out=size)
            rows = np.arange(start, start + size)
            for part in _weights(node):
                name = f"{x}.{part}"
                noise = self._noise(name, branch)
                draft.tensor(name, Parent(f"{node.name}.{part}"), Take(0, rows), *noise)
            ends.append(x)
        draft.redirect(node.name, draft.add("concat", "concat", tuple(ends)), readers)

    def _split_add(self, draft: Draft, node: Node) -> None:
        readers = draft.readers(node.name)
        ends = []
        for branch, (start, size) in enumerate(self._parts(int(node.attrs["in"]))):
            part = draft.add("slice", "slice", node.inputs, {"start": start, "size": size})
            x = self._copy(draft, node, part, branch, **{"in": size})
            columns = Take(1, np.arange(start, start + size))
            name = f"{x}.weight"
            noise = self._noise(name, branch)
            draft.tensor(name, Parent(f"{node.name}.weight"), columns, *noise)
            if branch and "bias" in _weights(node):  # add it only once
                draft.zero(f"{x}.bias", (int(node.attrs["out"]),))
            ends.append(x)
        draft.redirect(node.name, draft.add("add", "add", tuple(ends)), readers)

    def _split_concat(self, draft: Draft, node: Node) -> None:
        readers = draft.readers(node.name)
        width = channels_of(draft.shapes[node.inputs[0]])
        ends = []
        for branch, (start, size) in enumerate(self._parts(width)):
            part = draft.add("slice", "slice", node.inputs, {"start": start, "size": size})
            if node.op != "conv":
                ends.append(self._copy(draft, node, part, branch))
                continue
            each = int(node.attrs["out"]) // width
            attrs = {"in": size, "out": size * each, "groups": size}
            x = self._copy(draft, node, part, branch, **attrs)
            rows = np.arange(start * each, (start + size) * each)
            for tensor in _weights(node):
                name = f"{x}.{tensor}"
                noise = self._noise(name, branch)
                draft.tensor(name, Parent(f"{node.name}.{tensor}"), Take(0, rows), *noise)
            ends.append(x)
        draft.redirect(node.name, draft.add("concat", "concat", tuple(ends)), readers)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        shapes = graph.shapes()
        schemes: tuple[Scheme, ...] = (
            "replicate_add",
            "replicate_concat",
            "split_add",
            "split_concat",
        )
        for node in graph:
            for scheme in schemes:
                if node.name in (graph.output, graph.auxiliary) or not _fits(node, scheme):
                    continue
                inside = channels_of(shapes[node.inputs[0]])
                outside = channels_of(shapes[node.name])
                cut = outside if scheme == "replicate_concat" else inside
                if scheme == "replicate_add" or cut >= 2:
                    yield {"node": node.name, "scheme": scheme}


def _weights(node: Node) -> tuple[str, ...]:
    bias = node.attrs["bias"] if node.op == "conv" else node.attrs.get("bias", 1)
    return ("weight", "bias") if bias else ("weight",)


def _kind(node: Node) -> str:
    groups = node.attrs.get("groups", 1)
    return f"a {node.op} of {groups} groups" if groups != 1 else f"a {node.op}"


def _fits(node: Node, scheme: Scheme) -> bool:
    layer = node.op in ("conv", "linear")
    match scheme:
        case "replicate_add":
            return layer
        case "replicate_concat" | "split_add":
            return layer and node.attrs.get("groups", 1) == 1
        case "split_concat":
            return is_depthwise(node) or node.op in _CHANNELWISE

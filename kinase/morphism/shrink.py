"""Approximate morphisms to smaller networks (Elsken et al. 2019, section 4.2): fewer channels, a
smaller window, a removed layer or connection, a separable convolution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from kinase.morphism.base import Approximate, Change, Count, NodeName, Place
from kinase.morphism.carry import carry, strata
from kinase.morphism.channels import Channels, is_depthwise
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.join import may_rejoin, rejoin
from kinase.morphism.plan import Ints, Norms, Parent, Reals, Separable, Step, Take
from kinase.morphism.widen import check_source, check_step, sources
from kinase.space.graph import Graph
from kinase.space.nodes import ACTIVATIONS, Node
from kinase.space.tensors import kernel, padding

DIGITS = 9
"""Digits in which magnitudes are compared: the last digits of floating-point sums can differ
between machines, and a replay must choose the same channels."""


class Prune(Approximate):
    """Reduce the output channels of a convolution or linear layer and of all nodes that share them:
    those with the smallest absolute weights are removed (Li et al. 2017)."""

    op: Literal["prune"] = "prune"
    node: NodeName
    to: Count
    """New width."""
    keep: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(max_length=2**20)] | None = None
    """The channels to keep. Default: chosen by the parent's weights."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        channels = Channels(graph)
        width = check_source(draft, channels, self.node)
        if self.to >= width:
            raise MorphismError(f"{self.node} has {width} channels; to is {self.to}, use fewer")
        parts = strata(draft, channels, self.node)
        check_step(self.node, width, self.to, parts)
        classes = channels.of(self.node).classes
        keep = self.keep
        if keep is None and norms is not None:
            sums = _magnitudes(draft, channels, classes, norms)
            keep = tuple(_largest(sums, parts, self.to // parts).tolist())
        known = keep is not None
        chosen = np.array(sorted(set(keep)) if keep is not None else _first(width, parts, self.to))
        if len(chosen) != self.to or chosen[-1] >= width:
            raise MorphismError(
                f"{self.node}: keep has {len(chosen)} channels up to {chosen[-1]}; use "
                f"{self.to} below {width}"
            )
        counts = np.ones(channels.number, np.int64)
        counts[classes] = 0
        counts[classes[chosen]] = 1
        carry(draft, channels, counts, "prune")
        resolved = self.model_copy(update={"keep": keep})
        return Change(draft.build(), draft.plan if known else None, morphism=resolved)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in sources(graph):
            if node.attrs["out"] > 1:
                yield {"node": node.name}


def _first(width: int, parts: int, to: int) -> Ints:
    chosen: Ints = np.arange(width).reshape(parts, -1)[:, : to // parts].ravel()
    return chosen


def _magnitudes(draft: Draft, channels: Channels, classes: Ints, norms: Norms) -> Reals:
    """For each class, the absolute weights of all filters of its channels."""
    sums = np.zeros(channels.number)
    for node in draft.nodes.values():
        own = channels.of(node.name).classes
        source = node.op in ("conv", "linear", "attention") and not is_depthwise(node)
        if source and np.isin(own, classes).any():
            weight = "output.weight" if node.op == "attention" else "weight"
            np.add.at(sums, own, norms(f"{node.name}.{weight}", 0))
    return sums[classes]


def _largest(sums: Reals, parts: int, each: int) -> Ints:
    """The largest of each part, in order; the first ones if equal."""
    scale = float(sums.max()) or 1.0
    rounded = np.round(sums / scale, DIGITS).reshape(parts, -1)
    order = np.sort(np.argsort(-rounded, axis=1, kind="stable")[:, :each], axis=1)
    chosen: Ints = (order + np.arange(parts)[:, None] * rounded.shape[1]).ravel()
    return chosen


class Crop(Approximate):
    """Reduce the window and padding of a convolution by removing the outer taps."""

    op: Literal["crop"] = "crop"
    node: NodeName
    to: Annotated[int, Field(ge=1, le=63)]
    """New height and width, at most the old ones, with the same parity."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        if node.op != "conv":
            raise MorphismError(f"{self.node} is {node.op}; only a convolution's window shrinks")
        dilation, old = int(node.attrs["dilation"]), kernel(node)
        sizes, padded, steps = [], [], list[Step]()
        for axis, (size, pad) in enumerate(zip(old, padding(node), strict=True), start=2):
            new = min(size, self.to)
            gone, odd = divmod(size - new, 2)
            if odd:
                raise MorphismError(
                    f"{self.node} has a window of {size}; to is {self.to}, which must differ "
                    "by an even number so that the middle stays"
                )
            if pad < gone * dilation:
                raise MorphismError(
                    f"{self.node} has a padding of {pad}; a window of {new} instead of {size} "
                    "would move the map"
                )
            sizes.append(new)
            padded.append(pad - gone * dilation)
            if gone:
                steps.append(Take(axis, np.arange(gone, gone + new)))
        if not steps:
            raise MorphismError(
                f"{self.node} has a window of {old[0]}x{old[1]}; to is {self.to}, use less"
            )
        draft.window(self.node, sizes, padded)
        draft.tensor(f"{self.node}.weight", Parent(f"{self.node}.weight"), *steps)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in graph:
            if node.op != "conv":
                continue
            wide = [pad for size, pad in zip(kernel(node), padding(node), strict=True) if size > 2]
            if wide and min(wide) >= node.attrs["dilation"]:
                yield {"node": node.name}


class Remove(Approximate):
    """Remove a layer with its normalization and activation, if its input and output have the same
    shape."""

    op: Literal["remove"] = "remove"
    node: NodeName

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        if len(node.inputs) != 1:
            raise MorphismError(f"{self.node} is {node.op}; use a node with one input")
        end, before = _segment_end(draft, node), node.inputs[0]
        if draft.shapes[before] != draft.shapes[end]:
            raise MorphismError(
                f"{self.node} takes shape {draft.shapes[before]} to {draft.shapes[end]}; only a "
                "layer that keeps the shape can be taken out"
            )
        draft.inner(self.node)
        draft.inner(end)
        draft.redirect(end, before, draft.readers(end))
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        draft = Draft(graph)
        for node in graph:
            if node.op not in ("conv", "linear", "attention", "max_pool", "avg_pool"):
                continue
            end = _segment_end(draft, node)
            ends = {end, node.name} & {graph.output, graph.auxiliary}
            if not ends and draft.shapes[node.inputs[0]] == draft.shapes[end]:
                yield {"node": node.name}


def _segment_end(draft: Draft, node: Node) -> str:
    """The last node of the layer that starts with a weighted node."""
    end = node.name
    if node.op in ("conv", "linear"):
        for ops in (frozenset({"batch_norm", "group_norm"}), ACTIVATIONS):
            follower = draft.only_reader(end)
            if follower is not None and follower.op in ops:
                end = follower.name
    return end


class Cut(Approximate):
    """Remove an input of an addition, a mix or a concatenation: a skip or a branch."""

    op: Literal["cut"] = "cut"
    node: NodeName
    input: NodeName
    """The input to remove."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        rest = tuple(each for each in node.inputs if each != self.input)
        if node.op not in ("add", "mix", "concat"):
            raise MorphismError(
                f"{self.node} is {node.op}; use an addition, a mix or a concatenation"
            )
        if len(rest) == len(node.inputs):
            raise MorphismError(
                f"{self.input} is not an input of {self.node}; use one of {', '.join(node.inputs)}"
            )
        if not rest:
            raise MorphismError(f"{self.node} has no other input than {self.input}")
        if node.op == "concat":
            kept = [i for i, each in enumerate(node.inputs) if each != self.input]
            rejoin(draft, draft.inner(self.node), kept, "prune")
        elif len(rest) == 1:
            draft.redirect(self.node, rest[0], draft.readers(self.node))
            draft.output = rest[0] if draft.output == self.node else draft.output
            draft.auxiliary = rest[0] if draft.auxiliary == self.node else draft.auxiliary
        else:
            draft.feed(self.node, rest)
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        draft = Draft(graph)
        for node in graph:
            joins = node.op == "concat" and may_rejoin(draft, node)
            if (joins or node.op in ("add", "mix")) and len(set(node.inputs)) > 1:
                for each in dict.fromkeys(node.inputs):
                    yield {"node": node.name, "input": each}


class Separate(Approximate):
    """Replace a dense convolution by a depthwise and a pointwise one, initialized as its best
    approximation in the least-squares sense."""

    op: Literal["separate"] = "separate"
    node: NodeName
    """It becomes the pointwise one."""

    def apply(self, graph: Graph, norms: Norms | None = None) -> Change:
        """See `Base`."""
        draft = Draft(graph, self.seed, self.noise)
        node = draft.node(self.node)
        if not _separable(node):
            raise MorphismError(
                f"{self.node} is not a dense convolution with a window of more than one pixel and "
                "more than one input channel"
            )
        width = int(node.attrs["in"])
        attrs = {**node.attrs, "out": width, "groups": width, "bias": 0}
        depthwise = draft.add("depthwise", "conv", node.inputs, attrs)
        point = {"in": width, "out": node.attrs["out"], "kernel": 1, "stride": 1, "padding": 0}
        draft.nodes[self.node] = Node(
            self.node,
            "conv",
            (depthwise,),
            {**point, "dilation": 1, "groups": 1, "bias": node.attrs["bias"]},
        )
        weight = f"{self.node}.weight"
        draft.tensor(f"{depthwise}.weight", Separable("depthwise", weight))
        draft.tensor(weight, Separable("pointwise", weight))
        if node.attrs["bias"]:
            draft.tensor(f"{self.node}.bias", Parent(f"{self.node}.bias"))
        return Change(draft.build(), draft.plan)

    @classmethod
    def places(cls, graph: Graph) -> Iterator[Place]:
        """See `Base`."""
        for node in graph:
            if _separable(node):
                yield {"node": node.name}


def _separable(node: Node) -> bool:
    a = node.attrs
    if node.op != "conv" or a["groups"] != 1 or a["in"] == 1:
        return False
    return bool(a["kernel"] > 1 or a.get("kernel_w", 1) > 1)

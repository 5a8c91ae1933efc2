"""Propagate a change of widths through a graph, to all affected tensors and numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinase.morphism.channels import Channels, Layout, is_depthwise, is_grouped
from kinase.morphism.draft import Draft
from kinase.morphism.errors import MorphismError
from kinase.morphism.plan import Ints, Noise, Pairs, Parent, Put, Scale, Step, Take, seed_for
from kinase.space.nodes import Node
from kinase.space.tensors import kernel

Rule = Literal["replicate", "zero", "prune"]
"""How channels change. `replicate`: new channels are copies, whose outgoing weights are divided
(Chen et al. 2016). `zero`: new channels are random, with outgoing weights of zero (Elsken et al.
2017). `prune`: some channels are removed."""


def carry(draft: Draft, channels: Channels, counts: Ints, rule: Rule) -> None:
    """Change the graph and the plan so that each class of channels occurs `counts` times.

    Raises:
        MorphismError: the groups of a grouped convolution would differ in width.
    """
    rewrite(draft, {name: channels.layout(name, counts) for name in draft.nodes}, rule)


def rewrite(draft: Draft, layouts: Mapping[str, Layout], rule: Rule) -> None:
    """Change the numbers and tensors of all nodes whose channels or inputs' channels change.

    Args:
        draft: the graph, its nodes in topological order.
        layouts: layout of every node.
        rule: rule for new channels.

    Raises:
        MorphismError: the groups of a grouped convolution would differ in width.
    """
    moved = _Carry(draft, rule)
    for node in list(draft.nodes.values()):
        if any(layouts[each].changed for each in (*node.inputs, node.name)):
            inside = layouts[node.inputs[0]] if node.inputs else None
            moved.node(node, layouts[node.name], inside)


@dataclass
class _Carry:
    draft: Draft
    rule: Rule

    def node(self, node: Node, out: Layout, inside: Layout | None) -> None:
        """Change one node."""
        name, change = node.name, self.draft.change
        match node.op:
            case "conv" if is_depthwise(node):
                assert inside is not None
                change(name, **{"in": inside.width, "out": out.width, "groups": inside.width})
                self._rows(f"{name}.weight", out, fan_in=math.prod(kernel(node)))
                self._vector(node, "bias", out, bool(node.attrs["bias"]))
            case "conv" if is_grouped(node):
                assert inside is not None
                change(name, **{"in": inside.width, "out": out.width})
                self._grouped(node, out, inside)
                self._vector(node, "bias", out, bool(node.attrs["bias"]))
            case "conv" | "linear":
                assert inside is not None
                change(name, **{"in": inside.width, "out": out.width})
                taps = math.prod(kernel(node)) if node.op == "conv" else 1
                fan_in = int(node.attrs["in"]) * taps
                self._rows(f"{name}.weight", out, fan_in, self._columns(inside))
                self._vector(node, "bias", out, bool(node.attrs.get("bias", 1)))
            case "attention":
                assert inside is not None
                change(name, dim=out.width)
                for part in ("query", "key", "value"):
                    self._tensor(f"{name}.{part}.weight", self._columns(inside))
                inner = int(node.attrs["heads"]) * int(node.attrs["head_dim"])
                self._rows(f"{name}.output.weight", out, inner)
                self._vector(node, "output.bias", out, True)
            case "batch_norm":
                change(name, channels=out.width)
                affine = bool(node.attrs["affine"])
                self._vector(node, "weight", out, affine, fresh=1.0)
                self._vector(node, "bias", out, affine)
                self._vector(node, "running_mean", out, True)
                self._vector(node, "running_var", out, True, fresh=1.0)
            case "layer_scale":
                change(name, channels=out.width)
                self._vector(node, "scale", out, True, fresh=1.0)
            case "class_token":
                change(name, dim=out.width)
                self._tensor(f"{name}.token", self._copies(2, out))
            case "position":
                change(name, dim=out.width)
                self._tensor(f"{name}.embedding", self._copies(2, out))
            case "slice":
                assert inside is not None
                start = int((inside.indices < int(node.attrs["start"])).sum())
                change(name, start=start, size=out.width)

    # -- tensors -----------------------------------------------------------------------------

    def _tensor(self, name: str, steps: list[Step]) -> None:
        if steps:
            self.draft.tensor(name, Parent(name), *steps)

    def _rows(self, name: str, out: Layout, fan_in: int, columns: list[Step] | None = None) -> None:
        """A tensor whose first axis is the node's output."""
        steps = self._copies(0, out)
        at = np.flatnonzero(out.new)
        if len(at) and self.rule == "zero":
            steps.append(Noise(math.sqrt(2 / fan_in), False, self._seed(name), 0, at))
        elif len(at) and self.draft.noise:
            steps.append(Noise(self.draft.noise, True, self._seed(name), 0, at))
        self._tensor(name, steps + (columns or []))

    def _vector(
        self, node: Node, tensor: str, out: Layout, there: bool, fresh: float = 0.0
    ) -> None:
        if not there:
            return
        steps = self._copies(0, out)
        at = np.flatnonzero(out.new)
        if self.rule == "zero" and fresh and len(at):
            steps.append(Put(0, at, fresh))
        self._tensor(f"{node.name}.{tensor}", steps)

    def _copies(self, axis: int, out: Layout) -> list[Step]:
        """Steps along an axis that is the node's output."""
        if not out.changed:
            return []
        if self.rule == "zero":
            return [Take(axis, np.where(out.new, -1, out.indices))]
        steps: list[Step] = [Take(axis, out.indices)]
        if self.rule == "replicate":  # each of m copies gets an m-th of the gradient
            steps.append(Scale(axis, np.ones(out.width), 1 / out.counts))
        return steps

    def _columns(self, inside: Layout) -> list[Step]:
        """Steps along the second axis, the node's input."""
        if not inside.changed:
            return []
        if self.rule == "zero":
            return [Take(1, np.where(inside.new, -1, inside.indices))]
        steps: list[Step] = [Take(1, inside.indices)]
        if self.rule == "replicate":
            steps.append(Scale(1, 1 / inside.counts, np.ones(inside.width)))
        return steps

    def _grouped(self, node: Node, out: Layout, inside: Layout) -> None:
        """A grouped convolution, whose columns are a different input in each group."""
        groups = int(node.attrs["groups"])
        before_in, before_out = int(node.attrs["in"]) // groups, int(node.attrs["out"]) // groups
        self._equal(node.name, inside.indices // before_in, groups)
        self._equal(node.name, out.indices // before_out, groups)
        wide = inside.width // groups
        group = np.arange(out.width) // (out.width // groups)
        columns = (inside.indices % before_in).reshape(groups, wide)[group]
        counts = inside.counts.reshape(groups, wide)[group]
        new = inside.new.reshape(groups, wide)[group]
        ones = np.ones_like(counts)
        match self.rule:
            case "replicate":
                factors, slots = 1 / counts, ones / out.counts[:, None]
            case "zero":
                factors = np.where(new | out.new[:, None], 0.0, 1.0)
                slots = factors
            case "prune":
                factors = slots = ones
        name = f"{node.name}.weight"
        steps: list[Step] = [Pairs(out.indices, columns, factors, slots)]
        at = np.flatnonzero(out.new)
        if len(at) and self.rule == "zero":
            std = math.sqrt(2 / (before_in * math.prod(kernel(node))))
            steps.append(Noise(std, False, self._seed(name), 0, at))
        elif len(at) and self.draft.noise:
            steps.append(Noise(self.draft.noise, True, self._seed(name), 0, at))
        self._tensor(name, steps)

    def _equal(self, name: str, group: Ints, groups: int) -> None:
        sizes = np.bincount(group, minlength=groups)
        if len(set(sizes.tolist())) > 1 or not sizes.all():
            raise MorphismError(
                f"{name}: its {groups} groups would have {min(sizes)} to {max(sizes)} channels; "
                f"change the width by a multiple of {groups}, equally in each group"
            )

    def _seed(self, name: str) -> int:
        return seed_for(self.draft.seed, name)


def strata(draft: Draft, channels: Channels, name: str) -> int:
    """Number of equal parts of a node's channels that must change alike: the groups of all grouped
    convolutions that share its channels."""
    shared = set(channels.of(name).classes.tolist())
    parts = 1
    for node in draft.nodes.values():
        if not is_grouped(node):
            continue
        ends = (node.name, node.inputs[0])
        if any(not shared.isdisjoint(channels.of(end).classes.tolist()) for end in ends):
            parts = math.lcm(parts, int(node.attrs["groups"]))
    return parts

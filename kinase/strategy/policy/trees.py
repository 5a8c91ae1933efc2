"""The policy of path-level transformation: choices that unfold a tree, and their probabilities."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import autograd.numpy as np
import numpy

from kinase.api.trial import Architecture
from kinase.space import trees
from kinase.space.tree import Tree
from kinase.space.trees import IDENTITY, LAYER
from kinase.strategy.policy import layers as nn
from kinase.strategy.policy import parameters as begin
from kinase.strategy.policy import tree_lstm
from kinase.strategy.policy.layers import Traced, draw
from kinase.strategy.policy.parameters import Array, Parameters
from kinase.strategy.policy.tree_lstm import Focus, Node, Path

Rng = numpy.random.Generator
HIDDEN = 5
"""Units of an actor's hidden layer per unit of the LSTM; the authors use 500 for 100."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of an actor."""

    actor: str
    """`merge` of a node, `count` of an add's branches, `op` of a branch, `insert` a node behind
    it."""
    focus: Focus
    """The tree before the choice, and its branch."""
    allowed: tuple[bool, ...]
    chosen: int


@dataclass(frozen=True, slots=True)
class Episode:
    """A sequence of choices, and the resulting cell."""

    steps: tuple[Choice, ...]
    cell: trees.Node

    @property
    def architecture(self) -> Architecture:
        """The final architecture."""
        return {"cell": self.cell}


class TreePolicy:
    """The meta-controller of Cai et al. (2018b, section 3.3): a bidirectional tree LSTM reads the
    tree, and actors of two layers choose from its output for a branch."""

    def __init__(self, space: Tree, embedding: int, units: int) -> None:
        """A policy for the trees of a space."""
        self.space = space
        self.ops = (LAYER, *space.ops)
        self._embedding, self._units = embedding, units
        self.actors = {
            "merge": len(space.merges),
            "count": len(space.counts("add")),
            "op": len(space.ops),
            "insert": 2,
        }
        """Number of choices of each actor."""

    def parameters(self, rng: Rng) -> Parameters:
        """Initial parameters."""
        p = tree_lstm.parameters(rng, self.ops, self._embedding, self._units)
        hidden = HIDDEN * self._units
        for name, count in self.actors.items():
            p |= begin.linear(rng, f"{name}.hidden", 2 * self._units, hidden)
            p |= begin.linear(rng, name, hidden, count)
        return p

    def decide(self, p: Parameters, actor: str, states: Traced, allowed: Array) -> Traced:
        """An actor's log probabilities, by row."""
        hidden = np.maximum(nn.linear(p, f"{actor}.hidden", states), 0)
        return nn.log_softmax(nn.linear(p, actor, hidden), allowed)

    def score(self, p: Parameters, episodes: Sequence[Episode]) -> tuple[Traced, Traced]:
        """The log probability of each episode, and the mean over the episodes of the sum of their
        choices' entropies, as in the authors' code."""
        steps = [(index, step) for index, each in enumerate(episodes) for step in each.steps]
        distinct = list(dict.fromkeys(step.focus for _, step in steps))
        row = {focus: index for index, focus in enumerate(distinct)}
        states = tree_lstm.encode(p, self.ops, distinct)
        logs: Traced = numpy.zeros(len(episodes))
        entropy: Traced = 0.0
        for actor, count in self.actors.items():
            own = [(index, step) for index, step in steps if step.actor == actor]
            if not own:
                continue
            allowed = numpy.array([step.allowed for _, step in own], dtype=numpy.float64)
            each = self.decide(p, actor, states[[row[step.focus] for _, step in own]], allowed)
            taken = numpy.zeros((len(own), count))
            taken[range(len(own)), [step.chosen for _, step in own]] = 1
            owners = numpy.zeros((len(episodes), len(own)))
            owners[[index for index, _ in own], range(len(own))] = 1
            logs = logs + np.dot(owners, np.sum(taken * each, axis=1))
            entropy = entropy + np.sum(nn.softmax_entropy(each))
        return logs, entropy / len(episodes)


class Player:
    """Plays episodes by a policy with these parameters. What was read once is known."""

    def __init__(self, policy: TreePolicy, parameters: Parameters) -> None:
        """Start with an empty cache."""
        self._policy, self._p = policy, parameters
        self._states: dict[Focus, Array] = {}
        self._known: dict[tuple[str, Focus, tuple[bool, ...]], Array] = {}

    def play(self, start: trees.Node, rng: Rng) -> Episode:
        """Unfold a cell, depth first. Existing nodes are kept."""
        return _Walk(self, self._policy.space, start, rng).episode()

    def probabilities(self, actor: str, focus: Focus, allowed: tuple[bool, ...]) -> Array:
        """Probabilities of each choice."""
        known = (actor, focus, allowed)
        if known not in self._known:
            if focus not in self._states:
                self._states[focus] = tree_lstm.encode(self._p, self._policy.ops, [focus])
            mask = numpy.array([allowed], dtype=numpy.float64)
            logs = self._policy.decide(self._p, actor, self._states[focus], mask)
            self._known[known] = numpy.exp(logs[0])
        return self._known[known]


class _Walk:
    """An episode in progress."""

    def __init__(self, player: Player, space: Tree, start: trees.Node, rng: Rng) -> None:
        self._player, self._space, self._rng = player, space, rng
        self._tree = copy.deepcopy(start)
        self._steps: list[Choice] = []

    def episode(self) -> Episode:
        self._node(self._tree, (), 1, 0)
        return Episode(tuple(self._steps), self._tree)

    def _choose(self, actor: str, path: Path, allowed: Sequence[bool]) -> int:
        focus, mask = (_frozen(self._tree), path), tuple(allowed)
        chosen = draw(self._player.probabilities(actor, focus, mask), self._rng)
        self._steps.append(Choice(actor, focus, mask, chosen))
        return chosen

    def _node(self, node: trees.Node, path: Path, depth: int, halvings: int) -> None:
        """A node: its merge, if it has a single empty branch; the operations of empty branches;
        then for each branch whether a node follows, and that node."""
        space, branches = self._space, node["branches"]
        if node["merge"] == "none" and branches[0] in ({"op": LAYER}, {"op": IDENTITY}):
            self._merge(node, path, halvings)
            branches = node["branches"]
        for index, branch in enumerate(branches):
            if branch == {"op": IDENTITY}:
                chosen = self._choose("op", (*path, index), [True] * len(space.ops))
                branch["op"] = space.ops[chosen]
        below = halvings + (node["merge"] == "concat")
        for index, branch in enumerate(branches):
            here = (*path, index)
            if "node" not in branch:
                if depth == space.options.max_depth:
                    continue
                if not self._choose("insert", here, (True, True)):
                    continue
                branch["node"] = {"merge": "none", "branches": [{"op": IDENTITY}]}
            self._node(branch["node"], here, depth + 1, below)

    def _merge(self, node: trees.Node, path: Path, halvings: int) -> None:
        space, here = self._space, (*path, 0)
        allowed = [merge != "concat" or space.divides(halvings) for merge in space.merges]
        merge = space.merges[self._choose("merge", here, allowed)]
        counts, number = space.counts(merge), 0
        if len(counts) > 1:
            number = self._choose("count", here, [True] * len(counts))
        op = node["branches"][0]["op"]
        node |= {"merge": merge, "branches": [{"op": op} for _ in range(counts[number])]}


def _frozen(node: trees.Node) -> Node:
    branches = [
        (each["op"], _frozen(each["node"]) if "node" in each else None) for each in node["branches"]
    ]
    return node["merge"], tuple(branches)

"""The torch module of a supernet: it runs one path, or a weighted sum of options at each choice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from kinase.space.supernet import Supernet
from kinase_trainer.network import Network, Plan, Weighted, Zero, plan_of

KEPT_PLANS = 1024
"""Plans of paths that are kept: to make one takes as long as some layers."""


class Supernetwork(Network):
    """A network of a supernet's graph. Before it is called, `follow` sets the path, or `mix` the
    weights of all options."""

    def __init__(
        self,
        supernet: Supernet,
        mean: tuple[float, ...] = (0.0,),
        deviation: tuple[float, ...] = (1.0,),
    ) -> None:
        """Build all options, with weights from torch's generator. See `Network`."""
        super().__init__(supernet.graph, mean, deviation)
        self.supernet = supernet
        for module in self.nodes.values():
            if isinstance(module, Zero):
                module.cut = True
        self._whole = self._train_plan, self._eval_plan, self._output
        self._plans: dict[tuple[int, ...], tuple[Plan, Plan, str]] = {}
        self._choices = [(choice.group, self._weighted(choice.node)) for choice in supernet.choices]
        self._fixed: dict[str, int] = {}
        self._kept: dict[str, list[int]] = {}
        self._edges = [(sum_.groups, self._weighted(sum_.node)) for sum_ in supernet.edges]

    def _weighted(self, node: str) -> Weighted:
        module = self.nodes[node]
        assert isinstance(module, Weighted)
        return module

    def fix(self, options: Mapping[str, int]) -> None:
        """Decide groups of choices: whatever `follow` and `mix` are given for them from now on,
        they have these options."""
        self._fixed = dict(options)

    def keep(self, options: Mapping[str, Sequence[int]]) -> None:
        """Let `mix` run these options of each group only from now on, with weights that are scaled
        to a sum of 1; none lets it run all."""
        kept = {group: list(numbers) for group, numbers in options.items()}
        if kept == self._kept:
            return
        graph = self.supernet.narrowed(kept) if kept else self.supernet.graph.needed()
        self._whole = plan_of(graph), plan_of(graph.without_auxiliary()), graph.output
        self._kept = kept

    def fixed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of options with 1 and 0 where a group is decided."""
        found = dict(weights)
        for group, option in self._fixed.items():
            found[group] = torch.zeros_like(weights[group].detach())
            found[group][option] = 1.0
        return found

    def follow(self, path: Mapping[str, int], weights: Mapping[str, Tensor] | None = None) -> None:
        """Run one option of each choice from now on; no other node is computed.

        Args:
            path: the option of each group of choices.
            weights: of each group, (options,), by which the option's map is multiplied; that of the
                others is zero. By default maps are taken as they are.

        Raises:
            ValueError: it is not a path of the supernet.
        """
        path = {**path, **self._fixed}
        weights = None if weights is None else self.fixed(weights)
        weighted = weights is not None
        key = (weighted, *(path[group] for group in self.supernet.groups if group in path))
        if len(key) <= len(path) or key not in self._plans:
            graph = self.supernet.slice(path, choices=weighted)
            while len(self._plans) >= KEPT_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan_of(graph), plan_of(graph.without_auxiliary()), graph.output
        self._train_plan, self._eval_plan, self._output = self._plans[key]
        if weights is not None:
            for group, choice in self._choices:
                choice.weights, choice.only = weights[group], path[group]

    def run_some(
        self, options: Mapping[str, Sequence[int]], weights: Mapping[str, Tensor] | None = None
    ) -> None:
        """Run some options of each choice from now on, each times its weight; no other is computed.

        Args:
            options: of each group of choices, at least one.
            weights: of each group, (its options that run,). By default 1.
        """
        options = {**options, **{group: (option,) for group, option in self._fixed.items()}}
        graph = self.supernet.narrowed(options)
        self._train_plan, self._eval_plan = plan_of(graph), plan_of(graph.without_auxiliary())
        self._output = graph.output
        for group, choice in self._choices:
            choice.weights, choice.only = torch.ones(len(options[group])), None
            if weights is not None and group not in self._fixed:
                choice.weights = weights[group]
            choice.weights = choice.weights.to(self.mean.device)

    def mix(
        self,
        weights: Mapping[str, Tensor],
        edges: Mapping[tuple[str, ...], Tensor] | None = None,
    ) -> None:
        """Run all options from now on, each times its weight.

        Args:
            weights: of each group of choices, (options,).
            edges: of each node whose edges have weights, by their groups, (edges,). By default 1.
        """
        for groups, sum_ in self._edges:
            sum_.weights = torch.ones(len(groups), device=self.mean.device)
            if edges is not None:
                sum_.weights = edges[groups]
        weights = self.fixed(weights)
        for group, choice in self._choices:
            row = weights[group]
            if self._kept:
                row = row[self._kept[group]]
                row = row / row.sum()
            choice.weights, choice.only = row, None
        self._train_plan, self._eval_plan, self._output = self._whole


def slice_names(tensors: Iterable[str], names: Mapping[str, str]) -> dict[str, str]:
    """The tensors of a slice: for each name in the network that the space builds the supernet's.

    Args:
        tensors: names in the supernet's `state_dict`.
        names: for each node of the network its counterpart (`kinase.space.supernet.match`).
    """
    theirs = {counterpart: name for name, counterpart in names.items()}
    found: dict[str, str] = {}
    for key in tensors:
        if not key.startswith("nodes."):
            found[key] = key  # what all networks have, as the images' mean
            continue
        _, node, rest = key.split(".", 2)
        if node in theirs:
            found[f"nodes.{theirs[node]}.{rest}"] = key
    return found


def slice_weights(weights: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """The same with the tensors."""
    return {own: weights[theirs] for own, theirs in slice_names(weights, names).items()}

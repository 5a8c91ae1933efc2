"""DARTS-PT: options are kept by what their removal costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinase.api import supernet_options as api
from kinase.space.supernet import NONE, Supernet
from kinase_trainer.data import steps_of
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.train import learning_rate, seed_of

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun

Worth = tuple[float, float]
"""Accuracy, and minus the loss where that is equal."""


def decisions(supernet: Supernet) -> list[tuple[str, ...]]:
    """What is decided: the option of each group of choices, one group each; then which edges a node
    takes, all its groups each."""
    nodes = [node.groups for node in supernet.inputs if len(node.groups) > node.count]
    return [(group,) for group in supernet.groups] + nodes


def due(count: int, first: int, epoch: int, epochs: int) -> int:
    """How many of `count` decisions are made before an epoch: they are spread evenly over those
    from `first` on."""
    return -(-max(epoch - first + 1, 0) * count // (epochs - first))


class Perturbation(Extra):
    """Decides edge by edge while the supernet trains on (Wang et al. 2021, section 4.2): of an edge
    in random order each option is left out in turn, and the one without which the held-out accuracy
    is lowest is kept. Then, where a node takes some of its edges, those go without which it is
    highest.

    It needs no learned choices, so it also selects from a supernet of random paths.
    """

    name = "perturbation"

    def __init__(self, plan: api.Perturbation) -> None:
        """Nothing is decided."""
        self.plan = plan
        self.decided: dict[str, int] = {}
        """The option of each group that is decided."""
        self.done = 0
        """Decisions made."""

    def first(self, run: SupernetRun) -> int:
        """The epoch before which the first decision is made."""
        return min(max(1, round(run.epochs * self.plan.search)), run.epochs - 1)

    def _order(self, run: SupernetRun) -> list[tuple[str, ...]]:
        """The decisions in random order, edges' options first."""
        generator = torch.Generator().manual_seed(seed_of(run.seed, 7))
        every = decisions(run.network.supernet)
        options = [each for each in every if len(each) == 1]
        rest = every[len(options) :]
        return [
            part[int(i)]
            for part in (options, rest)
            for i in torch.randperm(len(part), generator=generator)
        ]

    def _due(self, run: SupernetRun) -> list[tuple[str, ...]]:
        order = self._order(run)
        number = due(len(order), self.first(run), run.epoch, run.epochs)
        return order[self.done : number]

    def passes(self, run: SupernetRun) -> int:
        """The held-out part for each option that is left out."""
        supernet = run.network.supernet
        tried = 0
        for groups in self._due(run):
            n = len(groups)
            count = next((i.count for i in supernet.inputs if i.groups == groups), 0)
            tried += len(supernet.groups[groups[0]]) if n == 1 else sum(range(count + 1, n + 1))
        return tried * len(run.held)

    def begin(self, run: SupernetRun) -> None:
        """Decide what is due."""
        if run.epoch == self.first(run):
            run.optimizer.state.clear()  # the weights begin again, with another learning rate
        for groups in self._due(run):
            if len(groups) == 1:
                self.decided[groups[0]] = self._option(run, groups[0])
            else:
                self._edges(run, groups)
            self.done += 1
        run.network.fix(self.decided)

    def rate(self, run: SupernetRun, rate: float) -> float:
        """The search's schedule is as long as the search; then it begins again at a part of the
        rate."""
        first, t = self.first(run), run.training
        steps = steps_of(len(run.train), t.batch_size)
        if run.epoch < first:
            return learning_rate(t, run.epoch * steps + run.step, steps, first)
        step = (run.epoch - first) * steps + run.step
        return self.plan.rate * learning_rate(t, step, steps, run.epochs - first)

    def _option(self, run: SupernetRun, group: str) -> int:
        options = run.network.supernet.groups[group]
        inputs = run.network.supernet.inputs
        limited = any(group in node.groups and node.least is None for node in inputs)
        tried = [n for n, option in enumerate(options) if option != NONE or not limited]
        if len(tried) == 1:
            return tried[0]
        worth = {number: self._without(run, group, number) for number in tried}
        return min(tried, key=lambda number: worth[number])

    def _edges(self, run: SupernetRun, groups: tuple[str, ...]) -> None:
        supernet = run.network.supernet
        count = next(node.count for node in supernet.inputs if node.groups == groups)
        left = list(groups)
        while len(left) > count:
            worth = {group: self._without(run, group, None) for group in left}
            least = max(left, key=lambda group: worth[group])
            left.remove(least)
            self.decided[least] = supernet.groups[least].index(NONE)

    def _without(self, run: SupernetRun, group: str, option: int | None) -> Worth:
        """What the network is worth on the held-out part without one option of a group, or without
        all of them."""
        run.network.fix(self.decided)
        weights = run.network.fixed(run.relaxation.probabilities())
        row = weights[group].clone()
        row[slice(None) if option is None else option] = 0.0
        run.network.fix({})
        run.relaxation.mix(run.network, {**weights, group: row})
        return run.quality(run.held_out())

    def derived(self, run: SupernetRun) -> list[tuple[dict[str, int], float]] | None:
        """What is decided, and elsewhere what the relaxation has."""
        if not self.decided:
            return None
        rows = {group: row.tolist() for group, row in run.relaxation.scores().items()}
        for group, option in self.decided.items():
            count = len(run.network.supernet.groups[group])
            rows[group] = [2.0 if number == option else -1.0 for number in range(count)]
        path = run.network.supernet.best(rows)
        sure = sum(group in self.decided for group in path) / len(path)
        return [(path, sure)]

    def pack(self) -> tuple[dict[str, Tensor], Any]:
        """What is decided."""
        return {}, {"decided": dict(self.decided), "done": self.done}

    def unpack(self, tensors: dict[str, Tensor], rest: Any) -> None:
        """See `Extra`."""
        given = rest or {"decided": {}, "done": 0}
        try:
            decided, done = dict(given["decided"]), given["done"]
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"its decisions are {rest!r:.80}; use decided and done") from None
        if type(done) is not int or not all(type(o) is int for o in decided.values()):
            raise ValueError(f"its decisions are {rest!r:.80}; use numbers of options")
        self.decided, self.done = decided, done

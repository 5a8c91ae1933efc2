"""The expected cost of an architecture as a part of the choices' loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinase.api import supernet_options as api
from kinase.space.supernet_costs import Costs
from kinase_trainer.supernet.extra import Extra
from kinase_trainer.supernet.policy import Policy
from kinase_trainer.supernet.relaxation import Learned, Relaxation

if TYPE_CHECKING:
    from kinase_trainer.supernet.run import SupernetRun


class Cost(Extra):
    """The expected cost E = sum of p_j F_j over the options of all choices, by which the choices
    learn also (Cai et al. 2019, section 3.3): loss * weight * (log E / log R)^power, or loss +
    weight * (E - R) / R, with a reference R. A reward is multiplied by (R / E)^power."""

    name = "cost"

    def __init__(self, plan: api.Cost, relaxation: Relaxation, costs: Costs) -> None:
        """With the costs of options, in any unit: multiply-adds, or a predicted latency.

        Raises:
            ValueError: no choice has a cost, or nothing of the choices is learned.
        """
        if not isinstance(relaxation, Learned | Policy):
            raise ValueError("cost is for relaxations that learn the choices, such as DARTS")
        self.plan, self.costs = plan, costs
        average = costs.fixed + sum(math.fsum(row) / len(row) for row in costs.options.values())
        self.reference = plan.reference or plan.share * average
        if self.reference <= 0 or (plan.form == "Logarithm" and self.reference <= 1):
            raise ValueError(
                f"cost: the reference is {self.reference:g}; use one above "
                f"{1 if plan.form == 'Logarithm' else 0}"
            )
        self._expected = 0.0

    def expected(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Of probabilities (options,) of each group."""
        total = torch.tensor(self.costs.fixed)
        for group, row in weights.items():
            total = total.to(row) + row @ torch.tensor(self.costs.options[group]).to(row)
        return total

    def penalize(self, run: SupernetRun, loss: Tensor) -> Tensor:
        """See `Cost`."""
        if not isinstance(run.relaxation, Learned):
            return loss
        expected = self.expected(run.relaxation.weights())
        plan, reference = self.plan, self.reference
        if plan.form == "Linear":
            return loss + plan.weight * (expected - reference) / reference
        return loss * plan.weight * (expected.log() / math.log(reference)) ** plan.power

    def rewarded(self, reward: float, path: Mapping[str, int]) -> float:
        """The reward of a path with its cost."""
        cost = max(self.costs.of(dict(path)), 1e-9)
        return float(reward * (self.reference / cost) ** self.plan.reward)

    def after(self, run: SupernetRun) -> None:
        """Note the expected cost."""
        self._expected = float(self.expected(run.relaxation.probabilities()))

    def metrics(self) -> dict[str, float]:
        """`supernet_cost`: the expected cost."""
        return {"supernet_cost": self._expected}

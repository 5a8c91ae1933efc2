"""Path-level transformation: a policy unfolds the layer of a cell into a tree of branches."""

from __future__ import annotations

from typing import Any

from kinase.api.strategy import PathLevelStrategy
from kinase.api.trial import Architecture
from kinase.space import Rng
from kinase.space.tree import Tree
from kinase.space.trees import LAYER
from kinase.strategy._episodic import Episodic
from kinase.strategy.policy.trees import Episode, Player, TreePolicy


class PathLevel(Episodic[Episode]):
    """Path-level network transformation (Cai, Yang, Zhang, Han & Yu 2018b, section 3).

    An episode walks through the cell's tree, depth first: a node's merge and number of branches,
    the operation of each branch that has none, whether a node follows it; see `Episodic`.
    """

    options: PathLevelStrategy
    _leaves = False  # the cell starts as a single layer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `Strategy`.

        Raises:
            ValueError: the space is not a tree space, or does not contain the start network.
        """
        super().__init__(*args, **kwargs)
        o, space = self.options, self.space
        if not isinstance(space, Tree):
            raise ValueError(
                f"PathLevel unfolds the layer of a cell into a tree; the space is "
                f"{type(space).__name__}, use space.type: Tree"
            )
        if o.architecture is not None:
            space.validate(o.architecture)
        self._policy = TreePolicy(space, o.embedding, o.units)
        self._learn_with(self._policy.score, self._policy.parameters(self.rng(0)))

    def _renew(self) -> None:
        self._player = Player(self._policy, self._learner.parameters)

    def _play(self, start: Architecture, rng: Rng) -> Episode:
        return self._player.play(start["cell"], rng)

    def _first(self) -> Architecture | None:
        return {"cell": {"merge": "none", "branches": [{"op": LAYER}]}}

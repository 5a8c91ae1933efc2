"""Architectures within the limits of the objective, while a supernet trains and after it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import torch

from kinase.api.trial import Architecture
from kinase.api.within import Limit, excess
from kinase.space import ArchitectureError, Frame, InfeasibleError, Space
from kinase_trainer.supernet.relaxation import Relaxation

TRIES = 100
"""Draws for one step before the path that is closest to the limits is taken."""
DRAWS = 1000
"""Paths that are drawn by the probabilities of the choices."""
KNOWN = 20_000
"""Architectures whose counts are remembered."""
LEAST = 1e-6
"""A probability that is smaller counts as this."""


class Within:
    """How far networks are above the limits. They are counted at full fidelity, as the search
    counts them."""

    def __init__(self, limits: Sequence[Limit], space: Space, frame: Frame) -> None:
        """Nothing is counted yet.

        Args:
            limits: of the objective.
            space: of the architectures.
            frame: what surrounds a network in the search; its size is that of a finalist here.
        """
        self._limits, self._space = limits, space
        self._frame = Frame(frame.input, frame.outputs, space.scale(final=True))
        self._known: OrderedDict[str, float] = OrderedDict()

    def excess(self, architecture: Architecture) -> float:
        """The largest ratio of a count to its limit: at most 1 within the limits.

        Raises:
            InfeasibleError: the network does not exist.
        """
        # not the canonical hash: networks of one function can have parameters that others lack
        key = json.dumps(architecture, sort_keys=True)
        if key not in self._known:
            graph = self._space.graph(architecture, self._frame)
            counts = {"params": float(graph.params()), "macs": float(graph.macs())}
            self._known[key] = excess(self._limits, counts)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return self._known[key]

    def draw(self, sample: Callable[[], Architecture]) -> Architecture:
        """The first of `TRIES` draws that is within the limits, else the closest to them.

        Raises:
            InfeasibleError: the network of none exists.
        """
        closest: tuple[float, Architecture] | None = None
        for _ in range(TRIES):
            architecture = sample()
            with suppress(InfeasibleError):
                above = self.excess(architecture)
                if above <= 1:
                    return architecture
                if closest is None or above < closest[0]:
                    closest = above, architecture
        if closest is None:
            raise InfeasibleError(f"none of {TRIES} random architectures has a network")
        return closest[1]

    def likely(self, relaxation: Relaxation, seed: int, count: int) -> list[tuple[Path, float]]:
        """Paths within the limits that the choices of a supernet make likely, best first.

        `DRAWS` paths are drawn: the derived one by scores to which Gumbel noise is added, from none
        to as much as draws by the probabilities take. The best by the mean score of their options
        are left.

        Args:
            relaxation: the choices.
            seed: of the draws.
            count: how many paths to leave at most.
        """
        generator = torch.Generator().manual_seed(seed)
        scores = {group: row.cpu().double() for group, row in relaxation.scores().items()}
        logs = {group: row.clamp_min(LEAST).log() for group, row in scores.items()}
        found: dict[str, tuple[Path, float]] = {}
        for number in range(1, DRAWS + 1):
            noisy = {}
            for group, row in logs.items():
                uniform = torch.rand(row.shape, generator=generator, dtype=row.dtype)
                noise = -(-uniform.clamp_min(1e-12).log()).log()
                noisy[group] = (row + number / DRAWS * noise).tolist()
            path = relaxation.supernet.best(noisy)
            with suppress(ArchitectureError, InfeasibleError):
                architecture = self._space.architecture(path)
                if self.excess(architecture) > 1:
                    continue
                taken = [float(scores[group][option]) for group, option in path.items()]
                key, mean = self._space.key(architecture), sum(taken) / len(taken)
                if key not in found or mean > found[key][1]:  # of equal networks, the best path
                    found[key] = path, mean
        return sorted(found.values(), key=lambda each: -each[1])[:count]


Path = Mapping[str, int]
"""The option of each group of choices."""

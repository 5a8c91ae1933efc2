"""EAS: a policy chooses network morphisms, and learns by reinforcement."""

from __future__ import annotations

from typing import Any

from kinase.api.strategy import EASStrategy
from kinase.api.trial import Architecture
from kinase.space import InfeasibleError, Rng
from kinase.space.chain import Chain
from kinase.space.layers import WEIGHTED, Layer
from kinase.strategy._episodic import Episodic
from kinase.strategy.policy.chains import ChainPolicy, Episode, Player

BLOCKS = 4
"""Number of convolutions in the authors' start network, with pools between them."""


class EAS(Episodic[Episode]):
    """Efficient architecture search (Cai, Chen, Zhang, Yu & Wang 2018a, section 3).

    An episode makes layers wider in `wider_steps` steps and the network deeper in `deeper_steps`
    more; see `Episodic`.
    """

    options: EASStrategy

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `Strategy`.

        Raises:
            ValueError: the space is not a chain space with layers that can be widened or inserted,
                or does not contain the start network.
        """
        super().__init__(*args, **kwargs)
        o, space = self.options, self.space
        if not isinstance(space, Chain):
            raise ValueError(
                f"EAS makes the layers of a chain wider and a chain deeper; the space is "
                f"{type(space).__name__}, use space.type: Chain"
            )
        if not any(op in WEIGHTED for op in space.options.ops):
            raise ValueError(
                f"EAS makes convolutions wider; ops is {', '.join(space.options.ops)}: "
                f"add {' or '.join(WEIGHTED)}"
            )
        if o.architecture is not None:
            space.validate(o.architecture)
        self._chains, self._restart = space, o.restart
        self._policy = ChainPolicy(space, o.embedding, o.units)
        self._learn_with(self._policy.score, self._policy.parameters(self.rng(0)))

    def _renew(self) -> None:
        self._player = Player(self._policy, self._learner.parameters)

    def _play(self, start: Architecture, rng: Rng) -> Episode:
        o = self.options
        return self._player.play(start["layers"], o.wider_steps, o.deeper_steps, rng)

    # -- the start network -------------------------------------------------------------

    def _first(self) -> Architecture | None:
        return self._small() if self.options.initial == "small" else None

    def _small(self) -> Architecture:
        """A start network like the authors': convolutions of the smallest width with pools between
        them, or strides if the space has no pools. There are four, or fewer if the deeper steps or
        the size of the images require it."""
        o = self._chains.options
        conv: Layer = {"op": next(op for op in WEIGHTED if op in o.ops), "width": min(o.widths)}
        conv |= {"kernel": 3 if 3 in o.kernels else min(o.kernels), "stride": min(o.strides)}
        stride = min((s for s in o.strides if s > 1), default=None)
        window = min((k for k in o.kernels if k >= (stride or 1)), default=max(o.kernels))
        pool = next((op for op in ("maxpool", "avgpool") if op in o.ops), None)
        room = max(o.min_depth, o.max_depth - self.options.deeper_steps)
        for blocks in range(BLOCKS, 1, -1) if stride is not None else ():
            if pool is not None:
                chain = [conv, {"op": pool, "kernel": window, "stride": stride}] * blocks
                chain.pop()
            else:
                chain = [conv, *[{**conv, "stride": stride}] * (blocks - 1)]
            architecture = self._filled(chain, conv)
            if len(architecture["layers"]) <= room and self._exists(architecture):
                return architecture
        return self._filled([conv], conv)

    def _filled(self, chain: list[Layer], conv: Layer) -> Architecture:
        """A chain of at least the minimum depth."""
        own = {"skip": None} if self._chains.options.skips else {}
        missing = self._chains.options.min_depth - len(chain)
        return {"layers": [{**layer, **own} for layer in [*chain, *[conv] * missing]]}

    def _exists(self, architecture: Architecture) -> bool:
        try:
            self.space.graph(architecture, self.frame)
        except InfeasibleError:
            return False
        return True

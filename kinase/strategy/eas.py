"""EAS: a policy chooses network morphisms, and learns by reinforcement."""

from __future__ import annotations

from kinase.api.strategy import EASStrategy
from kinase.api.trial import Architecture, Outcome
from kinase.space import InfeasibleError, Rng
from kinase.space.chain import Chain
from kinase.space.layers import WEIGHTED, Layer
from kinase.strategy._fresh import mutate_fresh, sample_fresh
from kinase.strategy.base import History, Proposal, Strategy, Trial
from kinase.strategy.policy import Adam, Reinforce, reward
from kinase.strategy.policy.chains import ChainPolicy, Episode, Player

ATTEMPTS = 8
"""Episodes drawn for a network that is new, before its neighbours are looked at."""
BLOCKS = 4
"""Of the authors' start network: convolutions with a pool between each."""


class EAS(Strategy):
    """Efficient architecture search (Cai, Chen, Zhang, Yu & Wang 2018a, section 3).

    The start network is trained first. An episode begins with it and its weights, makes layers
    wider in `wider_steps` steps and the network deeper in `deeper_steps` more; where that ends is
    the next network to train. When `batch` episodes have ended the policy learns from their
    rewards (REINFORCE).

    An episode that ends at a network that was tried already counts with what came of it, without
    another training. Episodes are drawn in `propose` and drawn again in `asked`, by a generator
    that follows from the number of the strategy's trials; so what led to a network is known also
    after a restart.
    """

    options: EASStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`.

        Raises:
            ValueError: the space is not one of chains that can be made wider or deeper, or the
                start network is not of it.
        """
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
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
        self._chains = space
        self._policy = ChainPolicy(space, o.embedding, o.units)
        self._learner: Reinforce[Episode] = Reinforce(
            self._policy.score,
            self._policy.parameters(self.rng(0)),
            Adam(o.learning_rate),
            o.decay,
            o.entropy,
        )
        self._player = Player(self._policy, self._learner.parameters)
        self._start: Trial | None = None
        """The network that episodes begin with; it may be under way."""
        self._best: Trial | None = None
        self._worst: float | None = None
        """The lowest reward so far."""
        self._ended = 0
        """Networks that have ended since the start network is what it is."""
        self._batch: list[tuple[str, Episode]] = []
        """The episodes of the batch that is not full, with the keys of their networks."""
        self._full: list[list[tuple[str, Episode]]] = []
        """Batches that wait for trials to end."""
        self._drawn: tuple[tuple[int, ...], list[tuple[str, Episode]]] | None = None
        """What was drawn last, and for which state; only saves time."""

    # -- proposing ---------------------------------------------------------------------

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """The start network, then where an episode ends."""
        if self._start is None:
            return self._begin(history, rng)
        key, episode = self._draw(history, len(history.asked))[-1]
        parents = (self._start.number,) if self._start.usable else ()
        if key not in history.by_key:
            return Proposal({"layers": episode.chain}, parents, "episode")
        near = mutate_fresh(self.space, {"layers": episode.chain}, history, rng)
        if near is not None:
            return Proposal(near, parents, "mutate")
        return self._random(history, rng)

    def _begin(self, history: History, rng: Rng) -> Proposal | None:
        o = self.options
        if not history.asked:
            if o.architecture is not None:
                return Proposal(o.architecture, (), "start")
            if o.initial == "small":
                return Proposal(self._small(), (), "start")
        return self._random(history, rng)

    def _random(self, history: History, rng: Rng) -> Proposal | None:
        architecture = sample_fresh(self.space, history, rng)
        return None if architecture is None else Proposal(architecture)

    def _draw(self, history: History, number: int) -> list[tuple[str, Episode]]:
        """The episodes behind the trial of this number among the strategy's own: each but the last
        ended at a network of an earlier trial, and the last, too, if there are `ATTEMPTS`."""
        assert self._start is not None
        state = (number, self._start.number, self._learner.updates)
        if self._drawn is None or self._drawn[0] != state:
            rng, found = self.rng(1, number), list[tuple[str, Episode]]()
            own = history.asked[number : number + 1]

            def tried(key: str) -> bool:
                return key in history.by_key and history.by_key[key] not in own

            while len(found) < ATTEMPTS and (not found or tried(found[-1][0])):
                episode = self._player.play(
                    self._start.architecture["layers"],
                    self.options.wider_steps,
                    self.options.deeper_steps,
                    rng,
                )
                found.append((self.space.key({"layers": episode.chain}), episode))
            self._drawn = state, found
        return self._drawn[1]

    def _small(self) -> Architecture:
        """A start network as the authors': convolutions of the least width with a pool between, or
        a stride where the space has no pool. Four, or as many as leave room for the deeper steps
        and as the images are large enough for."""
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
        """A chain of at least the least depth."""
        own = {"skip": None} if self._chains.options.skips else {}
        missing = self._chains.options.min_depth - len(chain)
        return {"layers": [{**layer, **own} for layer in [*chain, *[conv] * missing]]}

    def _exists(self, architecture: Architecture) -> bool:
        try:
            self.space.graph(architecture, self.frame)
        except InfeasibleError:
            return False
        return True

    def parents_to_come(self, history: History) -> set[int]:
        """The start network, and the best one where that may be the next."""
        usable = self._start is not None and self._start.usable
        found = [self._start] if usable else []
        if self.options.restart is not None or not usable:
            found.append(self._best)
        return {trial.number for trial in found if trial is not None}

    # -- learning ----------------------------------------------------------------------

    def asked(self, trial: Trial, history: History) -> None:
        """The trial is the start network, or its episodes join the batch."""
        if self._start is None:
            self._start, self._ended = trial, 0
            return
        drawn = self._draw(history, len(history.asked) - 1)
        key, _ = drawn[-1]
        tried = history.by_key.get(key)
        if tried is None:
            return  # not what this policy drew: the journal is of another version's
        self._batch += drawn
        if len(self._batch) >= self.options.batch:
            self._full.append(self._batch)
            self._batch = []

    def observe(self, trial: Trial, history: History) -> None:
        """The policy learns from the batches that have ended; the start network may change."""
        if trial.usable:
            value = reward(trial.losses[0], self.options.reward)
            self._worst = value if self._worst is None else min(self._worst, value)
            if self._best is None or trial.losses[0] < self._best.losses[0]:
                self._best = trial
        elif trial is self._start:
            self._start = self._best
        waiting = []
        for batch in self._full:
            if all(history.by_key[key].outcome is not None for key, _ in batch):
                self._learn(batch, history)
            else:
                waiting.append(batch)
        self._full = waiting
        self._ended += trial is not self._start
        restart = self.options.restart
        if restart is not None and self._ended >= restart and self._best is not None:
            self._start, self._ended = self._best, 0

    def _learn(self, batch: list[tuple[str, Episode]], history: History) -> None:
        found = [(e, self._reward(history.by_key[key])) for key, e in batch if e.steps]
        rewarded = [(episode, value) for episode, value in found if value is not None]
        if rewarded:
            episodes, rewards = zip(*rewarded, strict=True)
            self._learner.update(episodes, rewards)
            self._player = Player(self._policy, self._learner.parameters)

    def _reward(self, trial: Trial) -> float | None:
        """A network that cannot work counts as the worst so far; a trial that failed for another
        reason says nothing of its network."""
        if trial.usable:
            return reward(trial.losses[0], self.options.reward)
        return self._worst if trial.outcome is Outcome.INFEASIBLE else None

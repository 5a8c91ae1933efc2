"""Base of strategies whose policy plays episodes and learns by reinforcement."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar

from kinase.api.strategy import EASStrategy, PathLevelStrategy
from kinase.api.trial import Architecture, Outcome
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import mutate_fresh, random_fresh
from kinase.strategy.base import Proposal, Strategy
from kinase.strategy.policy import Adam, Parameters, Reinforce, reward
from kinase.strategy.policy.reinforce import Score

ATTEMPTS = 8
"""Number of episodes drawn to find a new network, before neighbours are used."""


class Played(Protocol):
    """An episode."""

    @property
    def steps(self) -> tuple[Any, ...]:
        """The choices."""

    @property
    def architecture(self) -> Architecture:
        """The final architecture."""


E = TypeVar("E", bound=Played)


class Episodic(Strategy, Generic[E]):
    """The start network is trained first. An episode starts from it and its weights, and ends with
    the next network to train. After `batch` episodes the policy learns from their rewards
    (REINFORCE).

    If an episode ends with a network that was already trained, its known value is used. Episodes
    are drawn in `propose` and again in `asked`, with a generator derived from the number of the
    strategy's trials, so the episode of a network is also known after a restart.
    """

    options: EASStrategy | PathLevelStrategy
    _learner: Reinforce[E]
    _restart: int | None = None
    """Number of networks after which the best one so far becomes the start network, or None."""
    _leaves = True
    """Whether to use another start network if the first one does not work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)
        self._start: Trial | None = None
        """The network from which episodes start; its trial can be unfinished."""
        self._best: Trial | None = None
        self._worst: float | None = None
        """The lowest reward so far."""
        self._ended = 0
        """Number of finished networks since the last change of the start network."""
        self._batch: list[tuple[str, E]] = []
        """The episodes of the current batch, with the keys of their networks."""
        self._full: list[list[tuple[str, E]]] = []
        """Batches with unfinished trials."""
        self._drawn: tuple[tuple[int, ...], list[tuple[str, E]]] | None = None
        """Cache: the last draw, and its state."""

    def _learn_with(self, score: Score[E], parameters: Parameters) -> None:
        """Create the learner and a first player."""
        o = self.options
        self._learner = Reinforce(score, parameters, Adam(o.learning_rate), o.decay, o.entropy)
        self._renew()

    @abstractmethod
    def _renew(self) -> None:
        """The policy has learned: clear the caches."""

    @abstractmethod
    def _play(self, start: Architecture, rng: Rng) -> E:
        """An episode."""

    @abstractmethod
    def _first(self) -> Architecture | None:
        """The start network if none is given; None for a random one."""

    # -- proposals ---------------------------------------------------------------------

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """The start network, then the final network of an episode."""
        if self._start is None:
            return self._begin(history, rng)
        key, episode = self._draw(history, len(history.asked))[-1]
        parents = (self._start.number,) if self._start.usable else ()
        if key not in history.by_key:
            return Proposal(episode.architecture, parents, "episode")
        near = mutate_fresh(self.space, episode.architecture, history, rng)
        if near is not None:
            return Proposal(near, parents, "mutate")
        return random_fresh(self.space, history, rng)

    def _begin(self, history: History, rng: Rng) -> Proposal | None:
        start = None if history.asked else self.options.architecture or self._first()
        return (
            random_fresh(self.space, history, rng)
            if start is None
            else Proposal(start, (), "start")
        )

    def _draw(self, history: History, number: int) -> list[tuple[str, E]]:
        """The episodes of the strategy's trial with this number. All except the last one ended with
        a network of an earlier trial, and so did the last one if there are `ATTEMPTS`."""
        assert self._start is not None
        state = (number, self._start.number, self._learner.updates)
        if self._drawn is None or self._drawn[0] != state:
            rng, found = self.rng(1, number), list[tuple[str, E]]()
            own = history.asked[number : number + 1]

            def tried(key: str) -> bool:
                return key in history.by_key and history.by_key[key] not in own

            while len(found) < ATTEMPTS and (not found or tried(found[-1][0])):
                episode = self._play(self._start.architecture, rng)
                found.append((self.space.key(episode.architecture), episode))
            self._drawn = state, found
        return self._drawn[1]

    def parents_to_come(self, history: History) -> set[int]:
        """The start network, and the best one if it can become the next start network."""
        usable = self._start is not None and self._start.usable
        found = [self._start] if usable else []
        if self._restart is not None or (self._leaves and not usable):
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
            return  # not this policy's draw: the journal is from another version
        self._batch += drawn
        if len(self._batch) >= self.options.batch:
            self._full.append(self._batch)
            self._batch = []

    def observe(self, trial: Trial, history: History) -> None:
        """Learn from the finished batches. The start network can change."""
        if trial.usable:
            value = reward(trial.losses[0], self.options.reward)
            self._worst = value if self._worst is None else min(self._worst, value)
            if self._best is None or trial.losses[0] < self._best.losses[0]:
                self._best = trial
        elif trial is self._start and self._leaves:
            self._start = self._best
        waiting = []
        for batch in self._full:
            if all(history.by_key[key].losses for key, _ in batch):
                self._learn(batch, history)
            else:
                waiting.append(batch)
        self._full = waiting
        self._ended += trial is not self._start
        due = self._restart is not None and self._ended >= self._restart
        if due and self._best is not None:
            self._start, self._ended = self._best, 0

    def _learn(self, batch: list[tuple[str, E]], history: History) -> None:
        found = [(e, self._reward(history.by_key[key])) for key, e in batch if e.steps]
        rewarded = [(episode, value) for episode, value in found if value is not None]
        if rewarded:
            episodes, rewards = zip(*rewarded, strict=True)
            self._learner.update(episodes, rewards)
            self._renew()

    def _reward(self, trial: Trial) -> float | None:
        """An infeasible network gets the worst reward so far; a trial that failed for another
        reason is ignored."""
        if trial.usable:
            return reward(trial.losses[0], self.options.reward)
        return self._worst if trial.outcome is Outcome.INFEASIBLE else None

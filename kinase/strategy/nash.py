"""NASH: hill climbing by network morphisms."""

from __future__ import annotations

from kinase.api.strategy import NASHStrategy
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import mutate_fresh, random_fresh
from kinase.strategy._grow import grow_fresh, sample_small
from kinase.strategy.base import Proposal, Strategy
from kinase.words import are, counted


class NASH(Strategy):
    """Neural architecture search by hill climbing (Elsken, Metzen & Hutter 2017, algorithm 1).

    `initial` networks come first; the best is the first parent. A generation has `neighbours`
    children of one parent, each of `morphisms` edits to which network morphisms lead; the last of
    them is the parent as it is, trained on. The best of them is the next parent.

    It does not wait: while the last children of a generation are under way, further ones of the
    same parent are made. A generation ends when `neighbours` of its children have ended, the parent
    trained on among them. A child that ends later competes with those of the generation in which it
    ends.

    Several objectives are compared in their order (lexicographically); of equals the one asked
    first is the better one.
    """

    options: NASHStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._generation = 0
        """0 are the networks to begin with."""
        self._parent: Trial | None = None
        self._best: Trial | None = None
        """Of those that ended in this generation, and have a value."""
        self._children: set[int] = set()
        """All that were asked in this generation."""
        self._continued: Trial | None = None
        """The parent trained on, if that was asked."""
        self._ended = 0
        """Children of this generation that have ended."""

    @property
    def why_none(self) -> str:
        """All steps are done, or there is nothing left in the space."""
        steps = self.options.steps
        if not self._done or steps is None:
            return super().why_none
        return f"{counted(steps, 'step')} {are(steps)} done"

    @property
    def _done(self) -> bool:
        return self.options.steps is not None and self._generation > self.options.steps

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """A network to begin with, a child of the parent, or the parent itself."""
        if self._done:
            return None
        parent = self._parent
        if parent is None:
            small = self.options.start == "small"
            first = sample_small(self.space, self.frame, history, rng) if small else None
            return random_fresh(self.space, history, rng) if first is None else Proposal(first)
        if self.options.include_parent and len(self._children) == self.options.neighbours - 1:
            return Proposal(parent.architecture, (parent.number,), "continue")
        edits = self.options.morphisms
        child = grow_fresh(self.space, parent.architecture, self.frame, history, rng, edits)
        if child is not None:
            return Proposal(child, (parent.number,), "morphism")
        child = mutate_fresh(self.space, parent.architecture, history, rng)
        if child is not None:
            return Proposal(child, (parent.number,), "mutate")
        return random_fresh(self.space, history, rng)

    def parents_to_come(self, history: History) -> set[int]:
        """The parent, and the best of this generation so far."""
        if self._done:
            return set()
        return {each.number for each in (self._parent, self._best) if each is not None}

    def asked(self, trial: Trial, history: History) -> None:
        """The trial is of this generation."""
        self._children.add(trial.number)
        if self._parent is not None and trial.key == self._parent.key:
            self._continued = trial

    def observe(self, trial: Trial, history: History) -> None:
        """The trial competes; the generation may be over."""
        self._ended += trial.number in self._children
        if trial.usable and (self._best is None or _rank(trial) < _rank(self._best)):
            self._best = trial
        wanted = self.options.neighbours if self._parent is not None else self.options.initial
        waits = self._continued is not None and self._continued.outcome is None
        if self._ended >= wanted and not waits:
            self._climb()

    def _climb(self) -> None:
        """The best is the next parent.

        Where the parent was not trained on it competes by the value that it has.
        """
        parent, best = self._parent, self._best
        stands_in = self._continued is not None and self._continued.usable
        if best is None or (parent is not None and not stands_in and parent.losses < best.losses):
            best = parent
        self._parent, self._best, self._continued = best, None, None
        self._children, self._ended = set(), 0
        self._generation += best is not None


def _rank(trial: Trial) -> tuple[object, ...]:
    return trial.losses, trial.number

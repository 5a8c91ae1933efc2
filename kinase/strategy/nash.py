"""NASH: hill climbing with network morphisms."""

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
    children of one parent, each made by `morphisms` edits that network morphisms can make; the last
    child is the unchanged parent, trained further. The best of them is the next parent.

    It does not wait: while the last children of a generation are running, more children of the same
    parent are made. A generation ends when `neighbours` of its children have ended, including the
    parent trained further. A child that ends later competes in the generation in which it ends.

    Several objectives are compared in their order (lexicographically); of equals, the one asked
    first wins.
    """

    options: NASHStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._generation = 0
        """0: the initial networks."""
        self._parent: Trial | None = None
        self._best: Trial | None = None
        """Best trial that ended in this generation with a value."""
        self._children: set[int] = set()
        """All trials asked in this generation."""
        self._continued: Trial | None = None
        """The trial of the parent trained further, if it was asked."""
        self._ended = 0
        """Number of finished children of this generation."""

    @property
    def why_none(self) -> str:
        """Whether all steps are done, or the space is exhausted."""
        steps = self.options.steps
        if not self._done or steps is None:
            return super().why_none
        return f"{counted(steps, 'step')} {are(steps)} done"

    @property
    def _done(self) -> bool:
        return self.options.steps is not None and self._generation > self.options.steps

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """An initial network, a child of the parent, or the parent itself."""
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
        """Record the trial in this generation."""
        self._children.add(trial.number)
        if self._parent is not None and trial.key == self._parent.key:
            self._continued = trial

    def observe(self, trial: Trial, history: History) -> None:
        """Compare the trial; the generation can end."""
        self._ended += trial.number in self._children
        if trial.usable and (self._best is None or _rank(trial) < _rank(self._best)):
            self._best = trial
        wanted = self.options.neighbours if self._parent is not None else self.options.initial
        waits = self._continued is not None and self._continued.outcome is None
        if self._ended >= wanted and not waits:
            self._climb()

    def _climb(self) -> None:
        """The best becomes the next parent.

        A parent that was not trained further competes with its known value.
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

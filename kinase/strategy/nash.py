"""NASH: hill climbing with network morphisms."""

from __future__ import annotations

from kinase.api.strategy import NASHStrategy
from kinase.api.trial import Architecture
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import mutate_fresh, random_fresh
from kinase.strategy._grow import Bridges, grow_fresh, sample_small
from kinase.strategy.base import Proposal, Strategy
from kinase.words import are, counted

LINE = 8
"""Number of former parents that are kept."""
ATTEMPTS = 16
"""Number of mutations drawn before one whose network cannot be built is proposed."""


class NASH(Strategy):
    """Neural architecture search by hill climbing (Elsken, Metzen & Hutter 2017, algorithm 1).

    `initial` networks come first; the best is the first parent. A generation has `neighbours`
    children of one parent, each made by `morphisms` edits that network morphisms can make; the last
    child is the unchanged parent, trained further. The best of them is the next parent. Where a
    parent cannot grow, a former parent has the child.

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
        self._first: list[Trial] = []
        """The initial networks that have a value."""
        self._line: list[Trial] = []
        """Former parents, the last one first, then the other initial networks: for when the parent
        cannot grow."""
        self._bridges = Bridges(self.space, self.frame)
        """Cache."""

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
        for each in [parent, *self._line]:
            edits = self.options.morphisms
            if self.options.edits == "drawn":
                edits = int(rng.integers(edits)) + 1
            child = grow_fresh(self._bridges, each.architecture, history, rng, edits)
            if child is not None:
                return Proposal(child, (each.number,), "morphism")
        child = self._mutated(parent, history, rng)
        if child is not None:
            return Proposal(child, (parent.number,), "mutate")
        return random_fresh(self.space, history, rng)

    def _mutated(self, parent: Trial, history: History, rng: Rng) -> Architecture | None:
        """A new architecture by plain mutation, one whose network exists if some draws find one."""
        child = None
        for _ in range(ATTEMPTS):
            child = mutate_fresh(self.space, parent.architecture, history, rng)
            if child is None or self._bridges.exists(child):
                break
        return child

    @property
    def _backtracks(self) -> bool:
        return self.options.saturated == "backtrack"

    def parents_to_come(self, history: History) -> set[int]:
        """The parent, the best of this generation so far, and the former parents that can have a
        child where the parent cannot grow."""
        if self._done:
            return set()
        known = (self._parent, self._best, *self._line)
        if self._parent is None and self._backtracks:
            known = (*known, *sorted(self._first, key=_rank)[: LINE + 1])
        return {each.number for each in known if each is not None}

    def asked(self, trial: Trial, history: History) -> None:
        """Record the trial in this generation."""
        self._children.add(trial.number)
        if self._parent is not None and trial.key == self._parent.key:
            self._continued = trial

    def observe(self, trial: Trial, history: History) -> None:
        """Compare the trial; the generation can end."""
        self._ended += trial.number in self._children
        if trial.usable and self._parent is None:
            self._first.append(trial)
        if trial.usable and (self._best is None or _rank(trial) < _rank(self._best)):
            self._best = trial
        wanted = self.options.neighbours if self._parent is not None else self.options.initial
        waits = self._continued is not None and not self._continued.losses
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
        if best is not None and self._backtracks:
            before = [parent, *self._line] if parent is not None else sorted(self._first, key=_rank)
            self._line = [each for each in before if each.key != best.key][:LINE]
        self._parent, self._best, self._continued = best, None, None
        self._children, self._ended = set(), 0
        self._generation += best is not None


def _rank(trial: Trial) -> tuple[object, ...]:
    return trial.losses, trial.number

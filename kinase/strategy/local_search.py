"""Local search: try the neighbours of the incumbent, move to a better one, restart."""

from __future__ import annotations

from kinase.api.strategy import LocalSearchStrategy
from kinase.api.trial import Architecture
from kinase.history import History, Trial
from kinase.space import Rng
from kinase.strategy._fresh import check_start, start_fresh
from kinase.strategy.base import Proposal, Strategy


class LocalSearch(Strategy):
    """Local search (White, Nolen & Savani 2021, "Exploring the Loss Landscape in Neural
    Architecture Search", algorithm 1; iterated with restarts).

    `initial` architectures are tried first (those of `start`, then random ones); the best of them
    is the first centre. Its neighbours are tried in random order. With `move: first` the search
    moves as soon as a neighbour is better; with `move: best` once all neighbours are known. A
    centre with no better neighbour is a local optimum: the search restarts from `initial` new
    random architectures.

    The paper's search is sequential. Here it does not wait for outstanding trials: when all
    neighbours have been asked, the next restart begins. So results can also come from neighbours of
    an older centre or from the next start; if one is better than the centre, the search moves there
    as to a neighbour.

    Several objectives are compared in their order (lexicographically).
    """

    options: LocalSearchStrategy

    def __init__(self, *args: object, **kwargs: object) -> None:
        """See `Strategy`."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        check_start(self.space, self.options.start)
        self._centre: Trial | None = None
        self._queue: list[Architecture] = []
        self._around: set[int] = set()
        """Outstanding neighbours of the centre."""
        self._better: Trial | None = None
        """Best result so far that is better than the centre (`move: best`)."""
        self._fresh: set[int] = set()
        """Outstanding random architectures of this start."""
        self._start: list[Trial] = []
        """Finished random architectures of this start."""

    def propose(self, history: History, rng: Rng) -> Proposal | None:
        """The next neighbour of the centre, or a random architecture for a start."""
        if self._centre is not None and self._untried(history):
            return Proposal(self._queue[-1], (self._centre.number,), "neighbour")
        return start_fresh(self.space, self.options.start, history, rng)

    def parents_to_come(self, history: History) -> set[int]:
        """The centre, the best result around it, and the finished trials of the next start."""
        trials = [self._centre, self._better, *self._start]
        return {trial.number for trial in trials if trial is not None and trial.usable}

    def asked(self, trial: Trial, history: History) -> None:
        """Record whether the trial belongs to the neighbourhood or to a start."""
        if self._centre is not None and trial.parents == (self._centre.number,):
            self._around.add(trial.number)
            while self._queue and self.space.key(self._queue.pop()) != trial.key:
                pass
        elif not trial.parents:
            self._fresh.add(trial.number)

    def observe(self, trial: Trial, history: History) -> None:
        """Move, restart, or continue."""
        if trial.number in self._fresh:
            self._fresh.discard(trial.number)
            if not trial.passed_over:
                self._start.append(trial)
        self._around.discard(trial.number)
        centre = self._centre
        if centre is None:
            if len(self._start) >= self.options.initial:
                self._begin()
            return
        if trial.usable and trial.losses < centre.losses:
            if self.options.move == "first":
                self._move(trial)
                return
            if self._better is None or trial.losses < self._better.losses:
                self._better = trial
        exhausted = not any(self.space.key(a) not in history.by_key for a in reversed(self._queue))
        if exhausted and not self._around:
            if self._better is not None:
                self._move(self._better)
            else:
                self._centre = None
                if len(self._start) >= self.options.initial:
                    self._begin()

    def _untried(self, history: History) -> bool:
        """Drop neighbours that were already asked from the end of the queue; return whether any is
        left."""
        while self._queue and self.space.key(self._queue[-1]) in history.by_key:
            self._queue.pop()
        return bool(self._queue)

    def _begin(self) -> None:
        """Make the best of a start the centre."""
        usable = [t for t in self._start if t.usable]
        self._start = []
        if usable:
            self._move(min(usable, key=lambda t: (t.losses, t.number)))

    def _move(self, trial: Trial) -> None:
        self._centre = trial
        self._start = [other for other in self._start if other is not trial]
        self._better = None
        self._around = set()
        self._queue = list(self.space.neighbours(trial.architecture))
        self.rng(trial.number).shuffle(self._queue)

"""Screening by zero-cost proxies, around any other estimator."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kinase.api.fidelity import Grant
from kinase.api.screen import Screen as ScreenModel
from kinase.api.trial import Outcome
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop, Wait
from kinase.history import History, Trial

POOL = -1
"""The rung of candidates that are not trained yet."""


class Screen(Estimator):
    """Where the estimator within samples a candidate, draws a pool of them, measures proxies on
    each, and trains the best by the mean of its ranks (Abdelfattah et al. 2021, section 4). A proxy
    without a value ranks last. The others of the pool are stopped, and have cost no epochs.

    With `first`, so many pools warm the search up; after them candidates are not measured.

    A strategy learns of a candidate when it has trained, or when it is stopped without a value.
    """

    options: ScreenModel

    def __init__(self, options: ScreenModel, setting: Setting, inner: Estimator) -> None:
        """`options` is the manifest's `estimation.screen`."""
        super().__init__(options, setting)
        self.inner = inner
        self.inheritance = inner.inheritance
        self.slow = inner.slow
        self._seen: tuple[History | None, int, list[Trial]] = (None, 0, [])
        """Of which history the first so many trials can no longer join or leave a pool, and which
        of them are in one; it only saves time."""

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """That of the estimator within."""
        return self.inner.ladder

    @property
    def child(self) -> Grant | None:
        """That of the estimator within."""
        return self.inner.child

    @property
    def needs(self) -> frozenset[str]:
        """A trial that pauses before its first epoch, and its measures."""
        return self.inner.needs | {"until", "measure"}

    def bar(self, trial: Trial, history: History) -> float:
        """That of the estimator within."""
        return self.inner.bar(trial, history)

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """As the estimator within."""
        return self.inner.rank(trial)

    def next(self, history: History, left: Left) -> Decision:
        """Stop what a pool has left over; fill a pool and train its best where the estimator
        within would sample."""
        pool = self._pool(history, left)
        if not pool and self._warm(history):
            return self.inner.next(history, left)
        resting = [trial for trial in pool if trial.rests_at(POOL)]
        if resting and any(trial.grant.rung != POOL for trial in pool):
            return Stop(resting[-1].number, "another one of its pool ranks higher")
        whole = len(pool) == self.options.pool or left.trials == 0
        # the one that a pool trains is a trial already
        trials = left.trials if left.trials is None or not resting else max(1, left.trials)
        decision = self.inner.next(history, Left(left.epochs, trials))
        if not isinstance(decision, Sample):
            return decision
        if not whole or not any(_open(trial) for trial in pool):
            grant = decision.grant.model_copy(
                update={"until": 0, "rung": POOL, "bracket": 0, "every": 0, "final": False}
            )
            measure = tuple(dict.fromkeys((*decision.measure, *self.options.proxies)))
            return Sample(grant, None, measure)
        if len(resting) < len([trial for trial in pool if trial.outcome is None]):
            return Wait()
        best = min(resting, key=lambda trial: (self._mean_rank(trial, resting), trial.number))
        grant = decision.grant
        if best.inherits and decision.child is not None:
            grant = decision.child
        return Promote(best.number, grant)

    def _warm(self, history: History) -> bool:
        """Whether as many pools as are wanted have been decided."""
        known, latest = self._members(history)
        pools = (len(known) + len(latest)) // self.options.pool
        return self.options.first is not None and pools >= self.options.first

    def _pool(self, history: History, left: Left) -> Sequence[Trial]:
        """The pool that is being filled or looked at; empty where the next one is to begin. One
        that gets no further candidates is whole, too."""
        known, latest = self._members(history)
        size = self.options.pool
        begins = max(0, len(known) + len(latest) - 1) // size * size
        pool = [*known[begins:], *latest[max(0, begins - len(known)) :]]
        whole = len(pool) == size or left.trials == 0
        over = whole and not any(_open(trial) for trial in pool)
        return [] if over else pool

    def _members(self, history: History) -> tuple[list[Trial], list[Trial]]:
        """The trials of pools, by number: those that are sure, and the rest."""
        of, count, known = self._seen
        if of is not history:
            count, known = 0, []
        while count < len(history.asked) and not _open(trial := history.asked[count]):
            count += 1
            if _of_a_pool(trial):
                known.append(trial)
        self._seen = history, count, known
        return known, [trial for trial in history.asked[count:] if _of_a_pool(trial)]

    def _mean_rank(self, trial: Trial, pool: Sequence[Trial]) -> float:
        """Mean over the proxies of how many of a pool are better."""
        found = 0
        for name in self.options.proxies:
            values = [_value(other, name) for other in pool]
            found += sum(value > _value(trial, name) for value in values)
        return found / len(self.options.proxies)


def _of_a_pool(trial: Trial) -> bool:
    """Whether a trial was measured in a pool, or is to be. One that could not be built takes no
    place of it."""
    if trial.outcome is Outcome.INFEASIBLE and not trial.rungs:
        return False
    return trial.grant.rung == POOL or POOL in trial.rungs


def _open(trial: Trial) -> bool:
    """Whether a member of a pool is not decided about yet."""
    return trial.grant.rung == POOL and trial.outcome is None


def _value(trial: Trial, name: str) -> float:
    value = trial.metrics.get(f"proxy_{name}", -math.inf)
    return value if math.isfinite(value) else -math.inf

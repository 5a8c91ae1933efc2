"""Stopping by the learning curve, around any other estimator."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kinase.api.fidelity import Grant
from kinase.api.stopping import Stopping as StoppingModel
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, Left, Promote, Sample, Stop
from kinase.estimation.rules.base import Rule, Verdict, alike, reached
from kinase.history import History, Trial
from kinase.words import counted

_log = logging.getLogger(__name__)

_WITNESSES = 3
"""Other trials that must have a number where a trial has none before it counts as diverged."""


class Stopping(Estimator):
    """Lets each trial rest after every few epochs, and stops those whose curve promises too
    little. To the estimator within, a trial at a look is running.

    Of the trials that the rule would stop, a share is spared: it is trained on to the end of its
    grant without further looks, so that the report can say how many of the stopped would have
    become the best. Whether a trial is spared depends on the seed and its number alone.
    """

    options: StoppingModel

    def __init__(
        self, options: StoppingModel, setting: Setting, inner: Estimator, rule: Rule
    ) -> None:
        """`options` is the manifest's `estimation.stopping`."""
        super().__init__(options, setting)
        self.inner = inner
        self.rule = rule
        self.inheritance = inner.inheritance
        self.slow = inner.slow or rule.slow
        self.every = options.every or max(1, -(-setting.full.epochs // 10))
        self._warned = False

    @property
    def ladder(self) -> tuple[Grant, ...]:
        """That of the estimator within, with looks."""
        return tuple(looked_at(grant, self.every) for grant in self.inner.ladder)

    @property
    def child(self) -> Grant | None:
        """That of the estimator within, with looks."""
        grant = self.inner.child
        return grant and looked_at(grant, self.every)

    @property
    def needs(self) -> frozenset[str]:
        """Pauses, and what the estimator within needs."""
        return self.inner.needs | {"until"}

    def next(self, history: History, left: Left) -> Decision:
        """Judge a trial that rests at a look; else what the estimator within says, with looks."""
        for trial in history.resting():
            if trial.done < trial.grant.until:
                return self._judge(trial, history)
        decision = self.inner.next(history, left)
        if isinstance(decision, Promote) and is_spared(history.by_number[decision.trial]):
            return decision
        return with_looks(decision, self.every)

    def bar(self, trial: Trial, history: History) -> float:
        """That of the estimator within."""
        return self.inner.bar(trial, history)

    def rank(self, trial: Trial) -> tuple[float, ...]:
        """As the estimator within."""
        return self.inner.rank(trial)

    def spares(self, number: int) -> bool:
        """Whether a trial is trained on if the rule would stop it."""
        return bool(self.rng(3, number).random() < self.options.spare)

    def _judge(self, trial: Trial, history: History) -> Promote | Stop:
        found = self._verdict(trial, history)
        if found is None or not found.stop:
            return Promote(trial.number, trial.grant)
        if self.spares(trial.number):
            return Promote(trial.number, trial.grant.model_copy(update={"every": 0}))
        return Stop(trial.number, found.why, found.predicted, found.probability)

    def _verdict(self, trial: Trial, history: History) -> Verdict | None:
        if trial.done < (self.options.after or self.every):
            return None
        if not reached(trial.curve, trial.done):
            lost = diverged(trial, history)
            if lost is not None:
                return lost
        if not any(math.isfinite(loss) for loss in trial.curve):
            self._warn(trial)
            return None
        bar = self.inner.bar(trial, history)
        return self.rule.verdict(trial, history, bar) if math.isfinite(bar) else None

    def _warn(self, trial: Trial) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "estimation.stopping cannot judge trial %d: it has no finite value of the "
                "objective in its first %d epochs. If the trainer does not report the objective "
                "after every epoch, no trial is stopped",
                trial.number,
                trial.done,
            )


def looked_at(grant: Grant, every: int) -> Grant:
    """A grant with a look after every so many epochs."""
    return grant.model_copy(update={"every": every})


def with_looks(decision: Decision, every: int) -> Decision:
    """A decision whose grants have a look after every so many epochs."""
    match decision:
        case Sample(grant, child):
            child = child and looked_at(child, every)
            return replace(decision, grant=looked_at(grant, every), child=child)
        case Promote(_, grant):
            return replace(decision, grant=looked_at(grant, every))
    return decision


def diverged(trial: Trial, history: History) -> Verdict | None:
    """Stop a trial that has no number where most others have one. Where the others have none
    either, the trainer did not measure."""
    there = [o for o in alike(trial, history) if len(o.curve) >= trial.done]
    finite = sum(reached(other.curve, trial.done) for other in there)
    if finite < _WITNESSES or 2 * finite < len(there):
        return None
    after = counted(trial.done, "epoch")
    why = f"has no finite value after {after}, where {finite} other trials have one"
    return Verdict(True, why, None, 1.0)


def is_spared(trial: Trial) -> bool:
    """Whether a rule would have stopped a trial, and it was trained on to show what it becomes:
    under `Stopping` it alone has a grant without looks."""
    return trial.grant.every == 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a rule can be trusted, from the trials that it spared."""

    stopped: int
    """Trials that the rule stopped."""
    spared: int
    """Trials that it would have stopped, and that were trained on and have a result."""
    won: int
    """Those of the spared that became at least as good as the best before them."""

    @property
    def share(self) -> float | None:
        """Estimated share of the stopped trials that would have become the best; None if none was
        spared."""
        return self.won / self.spared if self.spared else None


def calibrate(trials: Iterable[tuple[bool, bool, float]]) -> Calibration:
    """Estimate how many of the stopped trials would have become the best.

    Args:
        trials: in the order of their results: whether the rule stopped it, whether it was spared,
            and its main loss.
    """
    stopped = spared = won = 0
    best = math.inf
    for was_stopped, was_spared, loss in trials:
        if was_stopped:
            stopped += 1
            continue
        if was_spared:
            spared += 1
            won += loss <= best < math.inf
        best = min(best, loss)
    return Calibration(stopped, spared, won)

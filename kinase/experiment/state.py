"""The state of an experiment as a fold over its journal: no I/O, no clock, no randomness."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kinase.api.trial import (
    Architecture,
    Cost,
    Fidelity,
    Inheritance,
    Inherited,
    Kind,
    Outcome,
)
from kinase.experiment.journal import AnyEntry, Asked, Attempt, Ended, Finished, Reopened, Told

SEARCHING = (Kind.SEARCH, Kind.CONTROL)
"""The kinds of trial that the search consists of."""


REASONS = {
    "trials": r"(\d+) trials? (?:was|were) run",
    "epochs": r"the (?:budget of )?(\d+) epochs? (?:is|are) spent\b.*",
    "deviceHours": r"the (?:budget of )?(\S+) device hours? (?:is|are) spent",
    "target": r"the target (\S+) is reached",
}
"""Texts of older journals, which do not record the limits, for the limit that ended a search."""
ROUNDED = 1e-5
"""Relative error of the numbers in these texts, which have six digits."""


def limits_of(reason: str, elapsed: float) -> dict[str, float]:
    """The limit that ended a search, from the text in an older journal.

    Args:
        reason: `Ended.reason`.
        elapsed: seconds that the experiment had run. A shorter duration would not resume it.
    """
    if reason == "the duration is over":
        return {"duration": elapsed}
    for name, pattern in REASONS.items():
        if found := re.fullmatch(pattern, reason):
            try:
                value = float(found[1])
            except ValueError:
                return {}
            return {name: value * (1 + ROUNDED) if name == "deviceHours" else value}
    return {}


@dataclass(slots=True)
class TrialRecord:
    """Everything known about a trial."""

    number: int
    kind: Kind
    architecture: Architecture
    key: str
    fidelity: Fidelity
    seed: int
    resources: dict[str, float]
    parents: tuple[int, ...]
    operation: str
    inherit: Inheritance | None = None
    """Weights that it inherits."""
    learning_rate: float = 1.0
    """Factor on the learning rate."""
    attempt: int = 1
    """The current or last attempt."""
    crashes: int = 0
    """Lost attempts that count against `maxRetries`."""
    begun: int = 0
    """Epochs started by lost attempts."""
    done: int = 0
    """Epochs in the checkpoint, which need not be run again."""
    outcome: Outcome | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    cost: Cost = Cost()
    curve: tuple[float | None, ...] = ()
    message: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    inherited: Inherited | None = None
    """What it has inherited."""
    kept_bytes: int = 0
    """Size of the weights that it stored for its children."""
    gone: bool = False
    """Whether they were deleted when the search ended, before it resumed."""
    order: int | None = None
    """Position among the trials in the order in which they ended."""
    asked: float = 0.0
    """Seconds that the experiment had run when it was decided on."""
    ended: float | None = None
    """Seconds that the experiment had run when it ended."""

    @property
    def committed(self) -> int:
        """Epochs charged to the budget: those spent, or for an outstanding trial, those started and
        those still needed."""
        if self.outcome is not None:
            return self.cost.epochs
        return self.begun + self.fidelity.epochs - self.done

    @property
    def values(self) -> dict[str, float]:
        """All measured or counted metrics."""
        return {**self.resources, **self.metrics}


@dataclass(slots=True)
class State:
    """The state recorded by the journal."""

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    told: list[TrialRecord] = field(default_factory=list)
    """Finished trials in the order in which they ended."""
    outstanding: dict[int, TrialRecord] = field(default_factory=dict)
    counts: Counter[Kind] = field(default_factory=Counter)
    """Trials asked, by kind."""
    spent: Cost = Cost()
    """Cost of the finished trials."""
    elapsed: float = 0.0
    """Seconds that the experiment had run when the last entry was written."""
    ended: str | None = None
    """Why the search ended, or None while it runs."""
    limits: dict[str, float] = field(default_factory=dict)
    """The limits under which the search ended. An older journal does not record them; then it is
    the limit that ended the search, or empty if none did, so that no limit can resume it."""
    finished: Finished | None = None
    before: list[Finished] = field(default_factory=list)
    """Earlier ends of a search that was resumed."""
    finalists_before: int = 0
    """Finalists that were asked before the search was last resumed."""
    slowest: float = 0.0
    """Maximum device seconds per sample, over the finished trials."""

    def apply(self, entry: AnyEntry) -> None:
        """Apply the next entry of the journal.

        Raises:
            ValueError: the entry contradicts the state.
        """
        self.elapsed = max(self.elapsed, entry.elapsed)
        match entry:
            case Asked():
                if entry.trial != len(self.trials):
                    raise ValueError(f"trial {entry.trial} was asked out of turn")
                record = TrialRecord(
                    number=entry.trial,
                    kind=entry.kind,
                    architecture=entry.architecture,
                    key=entry.key,
                    fidelity=entry.fidelity,
                    seed=entry.seed,
                    resources=entry.resources,
                    parents=entry.parents,
                    operation=entry.operation,
                    inherit=entry.inherit,
                    learning_rate=entry.learning_rate,
                    asked=entry.elapsed,
                )
                self.trials[entry.trial] = self.outstanding[entry.trial] = record
                self.counts[entry.kind] += 1
            case Attempt():
                record = self._open(entry.trial)
                record.attempt = entry.attempt
                record.crashes += entry.crash
                record.begun, record.done = entry.begun, entry.done
                record.message = entry.message
            case Told():
                record = self._open(entry.trial)
                record.outcome = entry.outcome
                record.metrics = entry.metrics
                record.cost = entry.cost
                record.curve = entry.curve
                record.message = entry.message
                record.facts = entry.facts
                record.inherited = entry.inherited
                record.kept_bytes = entry.kept_bytes
                record.order = len(self.told)
                record.ended = entry.elapsed
                self.told.append(record)
                del self.outstanding[entry.trial]
                self.spent = self.spent + entry.cost
                if entry.cost.samples:
                    rate = entry.cost.device_seconds / entry.cost.samples
                    self.slowest = max(self.slowest, rate)
            case Ended():
                self.ended = entry.reason
                self.limits = entry.limits or limits_of(entry.reason, entry.elapsed)
            case Finished():
                self.finished = entry
            case Reopened():
                self._reopen(entry)

    def _reopen(self, entry: Reopened) -> None:
        if self.ended is None:
            raise ValueError("a search that has not ended cannot be resumed")
        if self.finished is not None:
            self.before.append(self.finished)
        self.ended = self.finished = None
        self.finalists_before = self.counts[Kind.FINAL]
        there = set(entry.weights)
        for trial in self.told:
            trial.gone = trial.gone or trial.number not in there

    def _open(self, number: int) -> TrialRecord:
        try:
            return self.outstanding[number]
        except KeyError:
            raise ValueError(f"trial {number} is not outstanding") from None

    @property
    def tested(self) -> dict[int, dict[str, float]]:
        """Metrics on the test split by the winner's trial: one for each use of the test split."""
        return {winner: end.test for winner, end in self.tests.items()}

    @property
    def tests(self) -> dict[int, Finished]:
        """The uses of the test split, by the winner's trial."""
        ends = [*self.before, *([self.finished] if self.finished is not None else [])]
        return {end.winner: end for end in ends if end.winner is not None and end.test}

    @property
    def searched(self) -> int:
        """Trials of the search and its control, asked so far."""
        return sum(self.counts[kind] for kind in SEARCHING)

    @property
    def committed_epochs(self) -> int:
        """Epochs spent, and those that outstanding trials still need."""
        return self.spent.epochs + sum(t.committed for t in self.outstanding.values())

    def of_kind(self, *kinds: Kind) -> Iterable[TrialRecord]:
        """Trials of these kinds, by number."""
        return (t for t in self.trials.values() if t.kind in kinds)

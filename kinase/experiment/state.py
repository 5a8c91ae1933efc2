"""The state of an experiment as a fold over its journal: no I/O, no clock, no randomness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kinase.api.trial import Cost, Kind, Outcome
from kinase.experiment.entries import (
    AnyEntry,
    Asked,
    Attempt,
    Ended,
    Finished,
    Granted,
    Reopened,
    Rested,
    Told,
)
from kinase.experiment.older import limits_of
from kinase.experiment.rungs import OVER, Rungs
from kinase.experiment.trial_record import Look, TrialRecord

SEARCHING = (Kind.SEARCH, Kind.CONTROL)
"""The kinds of trial that the search consists of."""
FINALS = (Kind.FINAL, Kind.BASELINE)
"""The kinds of trial that follow it."""


class Contradiction(ValueError):
    """An entry does not follow from those before it."""


@dataclass(slots=True)
class State:
    """The state recorded by the journal."""

    trials: dict[int, TrialRecord] = field(default_factory=dict)
    told: list[TrialRecord] = field(default_factory=list)
    """Finished trials in the order in which they ended."""
    outstanding: dict[int, TrialRecord] = field(default_factory=dict)
    """Trials that have not ended, by number."""
    running: dict[int, TrialRecord] = field(default_factory=dict)
    """Those of them that do not rest, in the order in which they were asked or granted more."""
    counts: Counter[Kind] = field(default_factory=Counter)
    """Trials asked, by kind, without those that were excluded."""
    excluded: int = 0
    """Trials of the search and its control whose networks are above a limit of the objective."""
    excluded_in_row: Counter[Kind] = field(default_factory=Counter)
    """By kind, the proposals for which they stand, since the last other trial."""
    spent: Cost = Cost()
    """Cost of the finished trials, and of the resting ones up to their last rest."""
    committed_epochs: int = 0
    """Epochs spent, and those that the outstanding trials' grants still pay for."""
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
    checks: int = 0
    """Trials of the rank check asked so far."""
    finalists_before: int = 0
    """Finalists that were asked before the search was last resumed."""
    slowest: float = 0.0
    """Maximum device seconds per sample, over the finished trials."""
    rungs: Rungs = field(default_factory=Rungs)
    """How the search's trials stand on the ladder."""

    def apply(self, entry: AnyEntry) -> None:
        """Apply the next entry of the journal.

        Raises:
            Contradiction: the entry contradicts the state.
        """
        self.elapsed = max(self.elapsed, entry.elapsed)
        match entry:
            case Asked():
                self._ask(entry)
            case Attempt() | Rested() | Granted() | Told():
                record = self._open(entry.trial)
                committed = record.committed
                self._change(record, entry)
                self.committed_epochs += record.committed - committed
            case Ended():
                self.ended = entry.reason
                self.limits = entry.limits or limits_of(entry.reason, entry.elapsed)
            case Finished():
                winner = None if entry.winner is None else self.trials.get(entry.winner)
                if entry.winner is not None and (winner is None or not winner.parents):
                    raise Contradiction(f"the winner, trial {entry.winner}, is not a finalist")
                self.finished = entry
            case Reopened():
                self._reopen(entry)

    def _ask(self, entry: Asked) -> None:
        if entry.trial != len(self.trials):
            raise Contradiction(f"trial {entry.trial} was asked out of turn")
        unknown = [number for number in entry.parents if number not in self.trials]
        if unknown:
            raise Contradiction(
                f"trial {entry.trial} has the parent {unknown[0]}, which is unknown"
            )
        record = TrialRecord(
            number=entry.trial,
            kind=entry.kind,
            architecture=entry.architecture,
            key=entry.key,
            grant=entry.grant,
            seed=entry.seed,
            resources=entry.resources,
            parents=entry.parents,
            operation=entry.operation,
            inherit=entry.inherit,
            learning_rate=entry.learning_rate,
            measure=entry.measure,
            plan=entry.plan,
            slice=entry.slice,
            excluded=entry.excluded > 0,
            asked=entry.elapsed,
        )
        self.trials[entry.trial] = self.outstanding[entry.trial] = record
        self.running[entry.trial] = record
        self.rungs.entered(record)
        if entry.excluded:
            self.excluded += 1
            self.excluded_in_row[entry.kind] += entry.excluded
        else:
            self.counts[entry.kind] += 1
            self.checks += record.checks
            self.excluded_in_row[entry.kind] = 0
        self.committed_epochs += record.committed

    def _change(self, record: TrialRecord, entry: Attempt | Rested | Granted | Told) -> None:
        match entry:
            case Attempt():
                record.attempt = entry.attempt
                record.lost += 1
                record.crashes += entry.crash
                record.repeated += max(0, record.done - entry.done)
                record.begun, record.done = entry.begun, entry.done
                record.message = entry.message
            case Rested():
                if record.resting:
                    raise Contradiction(f"trial {record.number} rests already")
                self.rungs.take(record, entry)
                self._spend(record, entry.cost)
                record.resting, record.done, record.stretch = True, entry.done, entry.done
                record.begun = entry.cost.epochs - record.before.epochs
                record.metrics, record.curve = entry.metrics, entry.curve
                record.remark = entry.message or record.remark
                record.inherited = entry.inherited
                record.keep(entry.kept_bytes, entry.kept_in)
                if entry.done >= record.grant.until:
                    record.rung = record.grant.rung
                record.rests.append((record.grant, entry))
                del self.running[record.number]
            case Granted():
                if not record.resting:
                    raise Contradiction(f"trial {record.number} does not rest")
                self.rungs.take(record, entry)
                self._look(record, entry)
                record.spared = record.spared or entry.spared
                record.resumed.append(entry.elapsed)
                climbs = entry.grant.rung != record.grant.rung
                record.resting, record.grant, record.attempt = False, entry.grant, entry.attempt
                if climbs:
                    self.rungs.entered(record)
                if entry.restart:
                    record.restarts += 1
                    record.before, record.begun, record.done = record.cost, 0, 0
                    record.stretch = 0
                    record.keep(0, "")  # elsewhere
                self.running[record.number] = record
            case Told():
                self.rungs.take(record, entry)
                self._look(record, entry)
                self._spend(record, entry.cost)
                self._told(record, entry)

    def _look(self, record: TrialRecord, entry: Granted | Told) -> None:
        """Note what a rule expected of a trial at a look."""
        if entry.probability is None or entry.bar is None:
            return
        stops = isinstance(entry, Told)
        record.looks.append(
            Look(record.grant, record.done, entry.probability, entry.bar, entry.predicted, stops)
        )

    def _told(self, record: TrialRecord, entry: Told) -> None:
        at_look = record.resting and record.done < record.grant.until
        record.ruled = at_look and entry.message != OVER
        record.outcome, record.resting = entry.outcome, False
        record.metrics = entry.metrics
        # one that was stopped on its way to a higher rung stays at the one that it has reached
        if entry.metrics and (entry.outcome is Outcome.SUCCEEDED or record.rung < 0):
            record.rung = record.grant.rung
        record.curve = entry.curve or record.curve
        record.message = entry.message
        record.facts, record.derived = entry.facts, entry.derived
        record.inherited = entry.inherited
        record.keep(entry.kept_bytes, entry.kept_in)
        record.predicted, record.probability = entry.predicted, entry.probability
        record.order = len(self.told)
        record.ended = entry.elapsed
        self.told.append(record)
        del self.outstanding[record.number]
        self.running.pop(record.number, None)

    def _spend(self, record: TrialRecord, cost: Cost) -> None:
        """Take in the whole cost of a trial so far."""
        self.spent = self.spent + cost - record.cost
        record.cost = cost
        if cost.samples:
            self.slowest = max(self.slowest, cost.device_seconds / cost.samples)

    def _reopen(self, entry: Reopened) -> None:
        if self.ended is None:
            raise Contradiction("a search that has not ended cannot be resumed")
        if self.finished is not None:
            self.before.append(self.finished)
        self.ended = self.finished = None
        self.finalists_before = self.finalists
        there = set(entry.weights)
        for trial in self.told:
            trial.gone = trial.gone or trial.number not in there

    def _open(self, number: int) -> TrialRecord:
        try:
            return self.outstanding[number]
        except KeyError:
            raise Contradiction(f"trial {number} is not outstanding") from None

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
    def resting(self) -> int:
        """Trials that wait for a decision."""
        return len(self.outstanding) - len(self.running)

    @property
    def finalists(self) -> int:
        """Finalists asked so far, without those of the rank check."""
        return self.counts[Kind.FINAL] - self.checks

    @property
    def searched(self) -> int:
        """Trials of the search and its control, asked so far."""
        return sum(self.counts[kind] for kind in SEARCHING)

    def of_kind(self, *kinds: Kind) -> Iterable[TrialRecord]:
        """Trials of these kinds, by number."""
        return (t for t in self.trials.values() if t.kind in kinds)

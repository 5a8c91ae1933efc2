"""Slots and jobs: the only part of the loop that speaks to the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kinase.api.trial import MAX_ATTEMPTS, Kind, TrialJob, TrialResult
from kinase.engine import Engine, EngineError, Event, Finished, Lost, Progress
from kinase.experiment import artifacts, budget, outcome
from kinase.experiment.batches import Batch, batch_size, is_scored, slots_for
from kinase.experiment.entries import Told
from kinase.experiment.record import Record
from kinase.experiment.state import FINALS, SEARCHING
from kinase.experiment.trial_record import TrialRecord


def job_of(record: Record, trial: TrialRecord, *, test: bool = False) -> TrialJob:
    """The job of a trial's next stretch."""
    spec, rule = record.spec, record.inheritance
    passes_on = trial.kind is Kind.SEARCH and rule is not None
    root = record.info.root if spec.space.with_root is not None else None
    stop = trial.stop
    training, architecture = spec.training, trial.architecture
    if trial.kind is not Kind.SUPERNET:
        training = record.space.trained(architecture, training)
        architecture = record.space.network(architecture)
    trains = stop > 0 and not test
    return TrialJob(
        experiment=record.experiment.metadata.name,
        trial=trial.number,
        attempt=trial.attempt,
        kind=trial.kind,
        task=spec.task,
        training=training.at_rate(trial.learning_rate),
        space=spec.space.networks,
        architecture=architecture,
        fidelity=trial.fidelity,
        until=None if stop == trial.fidelity.epochs else stop,
        done=min(trial.done, stop),  # a checkpoint may hold more
        measure=trial.measure,
        supernet=trial.plan,
        slice=trial.slice,
        workers=spec.trial_template.workers if trains else 1,
        seed=trial.seed,
        prefix=trial.prefix,
        keep_weights=trial.kind not in SEARCHING or passes_on,
        keep_checkpoint=spec.storage.checkpoints == "all",
        keep_optimizer=passes_on and rule is not None and rule.optimizer,
        inherit=trial.inherit,
        root=None if root is None else root.files,
        test=test,
    )


class Dispatch:
    """What is about to be launched, what is to stop, and results that are held back."""

    def __init__(self, record: Record, engine: Engine) -> None:
        """Nothing is launched yet."""
        self._record = record
        self.engine = engine
        self.waiting: list[TrialRecord] = []
        """Trials whose next attempt waits for a slot."""
        self.due: list[Batch] = []
        """What is launched once this turn is committed."""
        self.held: dict[int, Event] = {}
        """Results that wait for those of trials granted before (`deterministic`)."""
        self._later: list[Event] = []
        """What happened while a decision was being made."""
        self.stopping: set[int] = set()
        """Trials that were asked to stop."""

    @property
    def slots(self) -> int:
        """How many jobs may run at once."""
        return min(self.engine.slots, self._record.spec.budget.parallelism)

    @property
    def batch(self) -> int:
        """How many candidates a job has at most."""
        return batch_size(self._record.spec, self._record.info, self.engine.batch, self.slots)

    @property
    def busy(self) -> int:
        """Slots that are taken, or will be once this turn is committed."""
        return self.engine.busy + len(self.due)

    @property
    def free(self) -> bool:
        """Whether something new can begin: a slot is free, or candidates begin together and there
        may be another one."""
        size = self.batch
        joins = bool(self.due) and self.due[-1].open and not self.due[-1].again
        if self._record.spec.deterministic:
            # a result that is held back keeps its place, and candidates are asked when there is
            # room for a whole batch: neither depends on which process serves which trial
            running = self._record.state.running.values()
            room = self.slots * size - sum(1 if is_scored(t) else size for t in running)
            return room >= size or (room > 0 and joins)
        taken = self.busy + slots_for(self.waiting, size)
        return taken < self.slots or (joins and not self.waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing runs, waits or is held back."""
        held = self.waiting or self.held or self._later
        return not held and not self.engine.running()

    def launch(self) -> None:
        """Begin what is due."""
        for each in self.due:
            self.engine.launch(each.job)
        self.due.clear()

    def begin(self, trial: TrialRecord) -> None:
        """Make a trial due that was asked, or granted more. Where its slot was that of candidates
        whom it cannot join, it waits for another."""
        if self._join(trial, again=False):
            return
        if self.due and self.due[-1].open and self.busy >= self.slots:
            self.waiting.append(trial)
        else:
            self._add(trial, again=False)

    def cancel(self, trial: TrialRecord) -> None:
        """Do not launch a trial that was due."""
        for each in self.due:
            each.drop(trial)
        self.due = [each for each in self.due if each.trials]
        self.waiting = [each for each in self.waiting if each is not trial]

    def _join(self, trial: TrialRecord, *, again: bool) -> bool:
        """Let a candidate join others that are due, if that is possible."""
        if not self.due or not is_scored(trial):
            return False
        last, job = self.due[-1], job_of(self._record, trial)
        if not last.takes(trial, job, again=again):
            return False
        last.add(trial, job)
        return True

    def _add(self, trial: TrialRecord, *, again: bool) -> None:
        self.due.append(Batch([trial], [job_of(self._record, trial)], self.batch, again))

    def resume(self) -> Iterator[Told]:
        """Make due the attempts that wait for a slot; yields the end of those that the epochs left
        do not pay for."""
        record = self._record
        while self.waiting and not record.stopping:
            trial = self.waiting[0]
            if self._join(trial, again=True):
                self.waiting.pop(0)
                continue
            if self.busy >= self.slots:
                break
            self.waiting.pop(0)
            left = budget.epochs_left(record.spec, record.state, record.final_fidelity)
            if left is None or left >= 0 or trial.kind is Kind.SUPERNET or is_scored(trial):
                self._add(trial, again=True)
                continue
            progress = artifacts.read_progress(record.store, trial.prefix)
            message = "the epochs left do not pay for another attempt"
            yield outcome.of_progress(record, trial, progress, message)

    def stop_overdue(self) -> None:
        """Ask trials to stop where the search was interrupted, or its hours are over: finalists
        are not stopped for those, nor candidates that are only scored."""
        record = self._record
        if record.stopping or budget.overdrawn(
            record.spec, record.state, record.elapsed, record.running_seconds
        ):
            for number in self.engine.running():
                trial = record.state.trials[number]
                if record.stopping or not (trial.kind in FINALS or is_scored(trial)):
                    self.stop(number)

    def stop(self, number: int) -> None:
        """Ask a trial, once, to stop at its next checkpoint."""
        if number not in self.stopping:
            self.stopping.add(number)
            self.engine.stop(number)

    def events(self, patience: float, *, undecided: bool = False) -> Iterator[Event]:
        """What has happened, waiting for it at most `patience` seconds. Where the order counts,
        one result a turn is given, so that each decision sees one result more. While a decision is
        made, `undecided`, results are kept for later."""
        now = undecided or bool(self._later) or self._next_held() is not None
        for event in self.engine.poll(0.0 if now else patience):
            if isinstance(event, Progress):
                yield event
            elif self._record.spec.deterministic:
                self.held[event.trial] = event
            else:
                self._later.append(event)
        if undecided:
            return
        while self._later:
            yield self._later.pop(0)
        if (number := self._next_held()) is not None:
            yield self.held.pop(number)

    def _next_held(self) -> int | None:
        """The running trial that was granted first, if its result is held back."""
        first = next(iter(self._record.state.running), None)
        return first if first in self.held else None

    def test(self, winner: TrialRecord, patience: Callable[[], float]) -> TrialResult | None:
        """Score the winner on the test part, or None: interrupted.

        Args:
            winner: the finalist.
            patience: how long to wait for events before it is asked again.

        Raises:
            EngineError: it cannot be scored.
        """
        attempt = winner.attempt
        while True:
            job = job_of(self._record, winner, test=True)
            self.engine.launch(job.model_copy(update={"attempt": attempt}))
            event = self._end_of_test(patience)
            if isinstance(event, Finished):
                return event.result
            if self._record.stopping:
                return None
            attempt += 1
            over = attempt > MAX_ATTEMPTS
            if event.permanent or event.crash or event.given_up or over:
                raise EngineError(f"the winner could not be tested: {event.message}")

    def _end_of_test(self, patience: Callable[[], float]) -> Finished | Lost:
        while True:
            for event in self.engine.poll(patience()):
                if not isinstance(event, Progress):
                    return event

"""The loop that joins the three pillars: decide, commit, launch, take in.

What must be kept is in the journal before it is acted on, so the loop may be killed between
any two lines: run again, it replays the journal, checks the trials that ran, and continues.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from kinase.api.experiment import NASExperiment
from kinase.api.trial import Kind, TaskInfo
from kinase.engine import Engine, Event, Finished, Lost, Progress
from kinase.experiment import checkpoints, ending, members, outcome, reopening
from kinase.experiment.aims import (
    refuse_unmeasured,
    refuse_unpaid,
    refuse_unsupported,
    refuse_workers,
)
from kinase.experiment.arm import arms_of
from kinase.experiment.dispatch import Dispatch
from kinase.experiment.entries import AnyEntry, Asked, Attempt, Granted, Reopened, Rested, Told
from kinase.experiment.given import refuse_above
from kinase.experiment.listener import Listener
from kinase.experiment.record import Appraise, Record
from kinase.experiment.recovery import lost, recover
from kinase.experiment.stage import Finals, Search, Stage
from kinase.experiment.state import State
from kinase.experiment.trial_record import TrialRecord
from kinase.experiment.weights import Weights
from kinase.space import Space
from kinase.store import Store


class Loop(Record):
    """One experiment, run from its manifest to the tested winner."""

    def __init__(
        self,
        experiment: NASExperiment,
        store: Store,
        engine: Engine,
        info: TaskInfo,
        *,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.monotonic,
        space: Space | None = None,
        appraise: Appraise | None = None,
        trainer_results: bool = True,
    ) -> None:
        """Join the members that the manifest names; nothing is read or written yet.

        Args:
            experiment: the manifest.
            store: the experiment's own place in the storage.
            engine: where trials run.
            info: what the trainer says of the task.
            listener: told of what happens.
            clock: seconds, rising.
            space: the search space; by default the manifest's is made.
            appraise: counts an architecture; by default on its graph.
            trainer_results: whether trials leave results in the store (a tabular engine
                does not).

        Raises:
            ManifestError: nothing says which way a metric of the objective is better.
        """
        super().__init__(experiment, store, info, clock=clock, space=space, appraise=appraise)
        self.engine, self.holds = engine, engine.holds
        self._listener = listener
        self._results = trainer_results
        self._dispatch = Dispatch(self, engine)
        self._weights: Weights | None = None
        self._pending: list[AnyEntry] = []
        self._told: list[TrialRecord] = []
        self._rested: list[TrialRecord] = []
        self.arms = arms_of(self)

    @property
    def kept(self) -> set[str]:
        """Where there are weights, as paths below the experiment's store."""
        return super().kept if self._weights is None else self._weights.there

    @property
    def running(self) -> dict[int, float]:
        """Attempts that run, with the seconds for which each has held its slot."""
        return self.engine.running()

    def interrupt(self) -> None:
        """Start nothing more. Running trials stop at their next checkpoint and stay outstanding."""
        self.stopping = True

    def update(self, experiment: NASExperiment) -> None:
        """Continue by a manifest that has changed in what may change: budget, parallelism,
        retention. To be called by a listener, between two steps. Settled defaults stay."""
        kept = {name: getattr(self.spec, name) for name in ("strategy", "task", "estimation")}
        self.experiment, self.spec = experiment, experiment.spec.model_copy(update=kept)

    def run(self) -> State:
        """Run until the experiment is finished or interrupted.

        Raises:
            ManifestError: no trial would measure a metric of the objective.
            EngineError: trials cannot run at all, or a member of another package failed.
        """
        try:
            return self._search()
        except Exception as error:
            method = members.method_of(error, self.space)
            if self.spec.space.type != "Custom" or method is None:
                raise
            raise members.space_failed(self, method, error) from error

    def _search(self) -> State:
        self.replay()
        if self.state.finished is not None and not reopening.goes_on(self):
            return self.state
        refuse_workers(self.spec, self.info)
        if not self.state.trials:
            refuse_unmeasured(self.aims, self.info)
            refuse_unsupported(self.spec, self.estimator.needs, self.info)
            refuse_unpaid(self.spec)
            refuse_above(self.spec, self.space, self.appraise)
        self._append(*recover(self, self._dispatch, results=self._results))
        if self.inheritance is not None and self._results:
            self._weights = Weights(self)
        self._reopen()
        self._commit()
        if self._weights is not None:  # what a process that was killed had decided and not done
            self._weights.free(self.arms[Kind.SEARCH])
        if self._listener is not None:
            self._listener.started(self)
        while self._run(Search(self, self.arms[Kind.SEARCH], self.arms[Kind.CONTROL])):
            if not self._run(Finals(self)):
                break
            if not self._reopen():  # a limit that was raised meanwhile leads on at once
                self._finish()
                break
            self._commit()
        return self.state

    def _run(self, stage: Stage) -> bool:
        """Run a stage to its end, turn by turn. False: interrupted."""
        while True:
            for ended in self._dispatch.resume():
                self._append(ended)
            while not self.stopping and (self._dispatch.free or stage.thinking):
                if not (entries := stage.next()):
                    break
                self._append(*entries)
            self._commit()
            if not stage.thinking:
                self.engine.release(self._dispatch.held)
            if not self.engine.running():
                if self.stopping:
                    return False
                if stage.over and self._dispatch.idle:
                    return True
            undecided = stage.thinking and not self.stopping
            for event in self._dispatch.events(self._patience(), undecided=undecided):
                self._take(event)

    def _append(self, *entries: AnyEntry) -> None:
        """Decide; nothing outside follows from it before `_commit`."""
        for entry in entries:
            self._pending.append(entry)
            self.apply(entry)
            match entry:
                case Asked() | Granted():
                    self._dispatch.begin(self.state.trials[entry.trial])
                case Rested():
                    self._dispatch.stopping.discard(entry.trial)
                    self._rested.append(self.state.trials[entry.trial])
                case Told():
                    trial = self.state.trials[entry.trial]
                    self._dispatch.cancel(trial)  # it may be one that cannot be built
                    self._dispatch.stopping.discard(entry.trial)
                    self._told.append(trial)

    def apply(self, entry: AnyEntry) -> None:
        """Take in an entry, new or replayed: the record, then the arms."""
        super().apply(entry)
        if isinstance(entry, Asked | Rested | Granted | Told):
            for arm in self.arms.values():
                arm.apply(entry, self.state.trials[entry.trial])
        elif isinstance(entry, Reopened):
            for arm in self.arms.values():
                arm.reopen()

    def _commit(self) -> None:
        """Keep what was decided, then act on it."""
        entries, self._pending = self._pending, []
        if entries:
            self.journal.append(*entries)
        self._dispatch.launch()
        if self._results:
            checkpoints.free(self, entries)
        if self._listener is not None:
            for trial in self._rested:
                self._listener.rested(self, trial)
            for trial in self._told:
                self._listener.told(self, trial)
        if self._weights is not None and (self._told or self._rested):
            self._weights.add([*self._told, *self._rested])
            self._weights.free(self.arms[Kind.SEARCH])
        self._told.clear()
        self._rested.clear()

    def _patience(self) -> float:
        """How long to wait for events before the limits are looked at again."""
        self._dispatch.stop_overdue()
        if self._listener is not None:
            self._listener.tick(self)
        return 0.25

    def _take(self, event: Event) -> None:
        trial = self.state.running.get(event.trial)
        if trial is None:
            return  # it has ended, or rests
        match event:
            case Progress(point=point) if self._listener is not None:
                self._listener.progressed(self, trial.number, point)
            case Finished(result=result):
                if self.stopping and not outcome.reached(trial, result):
                    return  # its checkpoint is kept; it stays outstanding
                stopped = trial.number in self._dispatch.stopping
                if stopped or not outcome.unheard(trial, result):
                    self._append(outcome.of_result(self, trial, result, stopped=stopped))
                else:
                    self._again(trial, outcome.missed(self, trial))
            case Lost():
                stopped = trial.number in self._dispatch.stopping and not self.stopping
                self._dispatch.stopping.discard(trial.number)
                entry = lost(self, trial, event, results=self._results, stopped=stopped)
                self._again(trial, entry)

    def _again(self, trial: TrialRecord, entry: Told | Rested | Attempt) -> None:
        """The end of a trial, or another attempt that waits for a slot."""
        self._append(entry)
        if isinstance(entry, Attempt):
            self._dispatch.waiting.append(trial)

    def _reopen(self) -> bool:
        """Continue a search that was over, if a limit was raised."""
        entries = reopening.reopened(self, self.kept if self._weights is not None else ())
        self._append(*entries)
        return bool(entries)

    def _finish(self) -> None:
        """Test the winner and finish; nothing if interrupted."""
        entry = ending.finished(self, self._dispatch, self._patience, results=self._results)
        if entry is None:
            return
        if self._weights is not None:  # what lost trainers have left, too
            self._weights = Weights(self)
            self._weights.free(self.arms[Kind.SEARCH])
        self._append(entry)
        self._commit()

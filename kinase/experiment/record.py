"""The record of an experiment: what its manifest and its journal say, read by reports, the console
and the status, and continued by the loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial

from kinase.api.experiment import NASExperiment
from kinase.api.fidelity import Fidelity
from kinase.api.trial import Architecture, Kind, Outcome, TaskInfo
from kinase.experiment import artifacts, budget
from kinase.experiment.aims import aims_of
from kinase.experiment.count import count
from kinase.experiment.entries import AnyEntry, Asked, Rested, Told
from kinase.experiment.journal import Journal, JournalError
from kinase.experiment.leaders import Leaders
from kinase.experiment.root import space_of
from kinase.experiment.setting import estimator_of, setting_of
from kinase.experiment.state import SEARCHING, Contradiction, State
from kinase.experiment.trial_record import TrialRecord
from kinase.space import ArchitectureError, Frame, Space
from kinase.store import Store
from kinase.strategy import losses

Appraise = Callable[[Architecture], dict[str, float]]
"""Gives an architecture's parameters and multiply-adds, or raises `InfeasibleError`."""


class Record:
    """One experiment as its manifest and its journal describe it. It runs nothing."""

    stopping = False
    """Whether it was interrupted and winds down."""
    unchecked: str | None = None
    """Why the data could not be compared with that of a run that is over."""

    def __init__(
        self,
        experiment: NASExperiment,
        store: Store,
        info: TaskInfo,
        *,
        clock: Callable[[], float] = time.monotonic,
        space: Space | None = None,
        appraise: Appraise | None = None,
    ) -> None:
        """Join what is known; nothing is read yet.

        Args:
            experiment: the manifest.
            store: the experiment's own place in the storage.
            info: what the trainer says of the task.
            clock: seconds, rising.
            space: the search space; by default the manifest's is made.
            appraise: counts an architecture; by default on its graph.

        Raises:
            ManifestError: nothing says which way a metric of the objective is better.
        """
        self.experiment = experiment
        self.spec = spec = experiment.spec.settled(info.supports).sized()
        self.aims = aims_of(spec, info)
        """The objectives with their directions; the first is the main one."""
        self.holds: Callable[[int], bool] = lambda trial: False
        """Whether the process of a trial that rests still waits."""
        self.store = store
        self.info = info
        self.journal = Journal(store)
        self.state = State()
        self.space = space or space_of(spec.space, info)
        self.appraise = appraise or partial(count, self)
        self._clock = clock
        self._began = clock()
        self._base = 0.0
        self.leaders = Leaders(self)
        """The best trials of the search."""
        self.setting = setting_of(spec, self.space, info.input, info.outputs)
        self.estimator = estimator_of(spec, self.setting)
        """That of the search; its control has another one."""
        self.inheritance = self.estimator.inheritance
        """How weights pass from parents to children; None where they do not."""
        child = self.estimator.child if self.inheritance else None
        self.fidelity = self.estimator.ladder[0].fidelity
        """At which candidates are scored first."""
        self.child_fidelity = child.fidelity if child is not None else self.fidelity
        self.final_fidelity = self.setting.full.model_copy(
            update={"epochs": spec.final_epochs, "scale": self.space.scale(final=True)}
        )

    # -- reading -----------------------------------------------------------------------

    def replay(self) -> State:
        """Read the journal."""
        for number, entry in enumerate(self.journal.replay(), 1):
            try:
                if isinstance(entry, Asked) and entry.kind is not Kind.SUPERNET:
                    self.space.validate(entry.architecture)
                self.apply(entry)
            except (ArchitectureError, Contradiction) as error:
                raise JournalError(
                    f"{self.store.uri}/journal is damaged: entry {number} ({entry.type}) does not "
                    f"fit those before it: {error}; restore it, or start from scratch under "
                    "another name"
                ) from error
        self._base, self._began = self.state.elapsed, self._clock()
        return self.state

    def apply(self, entry: AnyEntry) -> None:
        """Take in an entry, new or replayed."""
        self.state.apply(entry)
        if isinstance(entry, Told | Rested):
            trial = self.state.trials[entry.trial]
            if trial.kind in SEARCHING:
                self.leaders.take(trial)

    def usable(self, trial: TrialRecord) -> bool:
        """Whether a trial has a value in the main objective."""
        return math.isfinite(self.losses(trial)[0])

    def rank(self, trial: TrialRecord) -> tuple[float, ...]:
        """Sort key: a high rung before a good value at a low one."""
        return (-trial.rung, *self.losses(trial))

    def losses(self, trial: TrialRecord) -> tuple[float, ...]:
        """The trial's objectives, turned so that less is better. One that measured nothing is the
        worst in all of them, however small its network."""
        ended_well = trial.outcome in (Outcome.SUCCEEDED, Outcome.STOPPED) or trial.outcome is None
        if not ended_well or not trial.metrics:
            return (math.inf,) * len(self.aims)
        return losses(self.aims, trial.values)

    # -- what is known -----------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds that the experiment has run, over all its processes."""
        if self.state.finished is not None:
            return self.state.elapsed
        return self._base + self._clock() - self._began

    @property
    def limits(self) -> list[budget.Limit]:
        """The budget and how far it is used."""
        return budget.limits(self.spec, self.state, self.elapsed)

    @property
    def best(self) -> TrialRecord | None:
        """The search's best trial by the main objective, the control's included."""
        return self.leaders.best

    @property
    def laddered(self) -> bool:
        """Whether candidates are trained in several rungs."""
        return len(self.estimator.ladder) > 1

    @property
    def kept(self) -> set[str]:
        """Where there are weights, as paths below the experiment's store."""
        return artifacts.places_with_weights(self.store)

    @property
    def running(self) -> dict[int, float]:
        """Attempts that run, with the seconds for which each has held its slot."""
        return {}

    @property
    def running_seconds(self) -> float:
        """Device seconds of the attempts that run: each worker of a trial that is trained holds a
        device."""
        workers, trials = self.spec.trial_template.workers, self.state.trials
        return sum(
            seconds * (1 if number in trials and not trials[number].stop else workers)
            for number, seconds in self.running.items()
        )

    def reached(self) -> bool:
        """Whether a trial of the search has reached the target."""
        target = self.spec.objective.target
        if target is None or self.best is None:
            return False
        main = self.aims[0]
        value = self.best.values[main.metric]
        return value >= target if main.goal == "maximize" else value <= target

    def refusal(
        self,
        fidelity: Fidelity,
        epochs: int | None = None,
        *,
        new: bool = True,
        state: State | None = None,
    ) -> str | None:
        """Why so many epochs at a fidelity, by default all, cannot be paid for, if they cannot."""
        return budget.refusal(
            self.spec,
            state or self.state,
            fidelity,
            fidelity.epochs if epochs is None else epochs,
            self.final_fidelity,
            self.info.train,
            self.elapsed,
            self.running_seconds,
            new=new,
        )

    @property
    def cheapest(self) -> tuple[Fidelity, int]:
        """The least that a new candidate takes: its fidelity, and epochs of it."""
        first = [self.estimator.ladder[0]]
        if self.inheritance is not None and self.estimator.child is not None:
            first.append(self.estimator.child)
        grant = min(first, key=lambda g: g.until)
        return grant.fidelity, grant.until

    @property
    def reduced(self) -> tuple[int, int, int]:
        """Shape of a sample at the fidelity at which candidates are scored first."""
        shape, side = self.info.input, self.fidelity.resolution
        return shape if side is None else (shape[0], side, side)

    @property
    def frame(self) -> Frame:
        """What surrounds the networks at that fidelity."""
        return Frame(self.reduced, self.info.outputs, self.fidelity.scale)

    def why_end(self, state: State | None = None) -> str | None:
        """Why no new candidate can be tried, if none can."""
        if self.reached():
            return f"the target {self.spec.objective.target:g} is reached"
        return self.refusal(*self.cheapest, state=state)

"""The loop that connects the three pillars: ask, launch, report, tell.

Every decision is in the journal before it takes effect, so the loop can be killed at any point.
After a restart it replays the journal, checks the trials that were running, and continues.
`_commit` writes the decisions of one turn of the loop together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from kinase.api.experiment import NASExperiment
from kinase.api.trial import (
    MAX_ATTEMPTS,
    Architecture,
    Fidelity,
    Inheritance,
    Kind,
    Outcome,
    Point,
    TaskInfo,
    TrialJob,
    TrialResult,
)
from kinase.engine import Engine, EngineError, Event, Finished, Lost, Progress
from kinase.estimation import make_estimator
from kinase.experiment import artifacts, budget, finals, inheritance, members, nothing
from kinase.experiment.aims import aims_of, refuse_unmeasured
from kinase.experiment.journal import Asked, Attempt, Ended, Journal, Reopened, Told
from kinase.experiment.journal import Finished as FinishedEntry
from kinase.experiment.root import space_of
from kinase.experiment.seeds import Stream, derive
from kinase.experiment.state import SEARCHING, State, TrialRecord
from kinase.space import Frame, Graph, InfeasibleError, Space
from kinase.store import Store
from kinase.strategy import (
    History,
    Proposal,
    Strategy,
    Trial,
    derive_rng,
    losses,
    make_strategy,
)


class Listener(Protocol):
    """Receives events, for the terminal; the search does not depend on it."""

    def started(self, loop: Loop) -> None:
        """The journal has been replayed; trials start."""

    def progressed(self, loop: Loop, trial: int, point: Point) -> None:
        """A trial ended an epoch."""

    def told(self, loop: Loop, trial: TrialRecord) -> None:
        """A trial ended."""

    def tick(self, loop: Loop) -> None:
        """Time has passed."""


def is_control(number: int, share: float) -> bool:
    """Whether the trial with this number belongs to the control: an evenly spread share of all
    trials."""
    return math.floor((number + 1) * share) > math.floor(number * share)


class Loop:
    """An experiment, from its manifest to the tested winner."""

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
        appraise: Callable[[Architecture], dict[str, float]] | None = None,
        trainer_results: bool = True,
    ) -> None:
        """Create the members that the manifest names. Nothing is read or written yet.

        Args:
            experiment: the manifest.
            store: the experiment's part of the storage.
            engine: where trials run.
            info: the trainer's description of the task.
            listener: receives events.
            clock: monotonic clock in seconds.
            space: the search space. Default: made from the manifest.
            appraise: returns an architecture's parameters and multiply-adds, or raises
                `InfeasibleError`. Default: counted on its graph.
            trainer_results: whether trials write results to the store (those of a tabular engine do
                not).

        Raises:
            ManifestError: the direction of a metric is unknown.
        """
        self.experiment = experiment
        self.spec = spec = experiment.spec.sized()
        self.aims = aims_of(spec, info)
        """The objectives with their directions; the first is the main one."""
        self.store = store
        self.engine = engine
        self.info = info
        self.journal = Journal(store)
        self.state = State()
        self.space = space or space_of(spec.space, info)
        root = info.root if spec.space.with_root is not None else None
        self._root = None if root is None else root.files
        self._listener = listener
        self._clock = clock
        self._began = clock()
        self._base = 0.0
        self._interrupted = False
        self._stopping: set[int] = set()
        self._pending: list[Any] = []
        self._due: list[TrialJob] = []
        self._told: list[TrialRecord] = []
        self._held: dict[int, Event] = {}
        self._appraise = appraise or self._count
        self._results = trainer_results
        search = Fidelity(
            epochs=spec.training.epochs,
            resolution=spec.task.resolution,
            scale=self.space.scale(final=False),
        )
        estimator = make_estimator(spec.estimation)
        self.fidelity = estimator.fidelity(search)
        self.inheritance = estimator.inheritance
        """How children inherit weights, or None if they do not."""
        self.child_fidelity = estimator.child(search) if self.inheritance else self.fidelity
        self._weights: set[int] | None = None
        """Trials of the search whose weights exist, or None if not checked yet."""
        self.final_fidelity = search.model_copy(
            update={"epochs": spec.final_epochs, "scale": self.space.scale(final=True)}
        )
        objectives = len(self.aims)
        frame = Frame(self._reduced, info.outputs, self.fidelity.scale)
        control = spec.strategy.__class__.model_validate({"type": "Random"})
        self._members: dict[Kind, tuple[Strategy, History, int]] = {
            kind: (
                make_strategy(model, self.space, seed, objectives, frame, self._known),
                History(),
                seed,
            )
            for kind, model, seed in (
                (Kind.SEARCH, spec.strategy, derive(spec.seed, Stream.STRATEGY)),
                (Kind.CONTROL, control, derive(spec.seed, Stream.CONTROL)),
            )
        }

    # -- what is known -----------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds that the experiment has run, over all its processes."""
        if self.state.finished is not None:
            return self.state.elapsed
        return self._base + self._clock() - self._began

    @property
    def limits(self) -> list[budget.Limit]:
        """The limits of the budget and how much of them is used."""
        return budget.limits(self.spec, self.state, self.elapsed)

    @property
    def stopping(self) -> bool:
        """Whether the loop was interrupted and is stopping."""
        return self._interrupted

    def losses(self, trial: TrialRecord) -> tuple[float, ...]:
        """The trial's objectives as losses (less is better). A trial without metrics is the worst
        in all of them, however small its network."""
        if trial.outcome not in (Outcome.SUCCEEDED, Outcome.STOPPED) or not trial.metrics:
            return (math.inf,) * len(self.aims)
        return losses(self.aims, trial.values)

    def _known(self, architecture: Architecture) -> tuple[float, ...]:
        """Losses of an architecture that are known without training."""
        return losses(self.aims, self._appraise(architecture))

    def _losses_kept(self, finalist: TrialRecord) -> tuple[float, ...]:
        """Losses of a finalist. They are the worst if it did not finish, since it then stored no
        network."""
        if finalist.outcome is Outcome.SUCCEEDED:
            return self.losses(finalist)
        return (math.inf,) * len(self.aims)

    def weights(self) -> tuple[int, int]:
        """Bytes of weights that trials of the search have stored for children, in total and now."""
        sizes = {t.number: t.kept_bytes for t in self.state.told if inheritance.left_weights(t)}
        there = artifacts.with_weights(self.store) if self._weights is None else self._weights
        return sum(sizes.values()), sum(size for n, size in sizes.items() if n in there)

    def interrupt(self) -> None:
        """Start no more trials and stop running ones at their next checkpoint. They stay
        outstanding, and the same command resumes them."""
        self._interrupted = True

    def update(self, experiment: NASExperiment) -> None:
        """Continue with a manifest that has changed in fields that can change: budget, parallelism,
        retention. Call this from a listener, between two steps."""
        # their defaults were fixed at the start
        kept = {"strategy": self.spec.strategy, "task": self.spec.task}
        self.experiment, self.spec = experiment, experiment.spec.model_copy(update=kept)

    # -- the loop ----------------------------------------------------------------------

    def replay(self) -> State:
        """Read the journal, and restore the strategies' state from it."""
        for entry in self.journal.replay():
            self._apply(entry)
        self._base, self._began = self.state.elapsed, self._clock()
        return self.state

    def run(self) -> State:
        """Run until the experiment is finished or interrupted.

        Raises:
            ManifestError: no trial would measure one of the objective's metrics.
            EngineError: a space of another package failed; names it.
        """
        try:
            return self._run()
        except Exception as error:
            method = members.method_of(error, self.space)
            if self.spec.space.type != "Custom" or method is None:
                raise
            raise self._space_failed(method, error) from error

    def _run(self) -> State:
        self.replay()
        if self.state.finished is not None and not self.goes_on:
            return self.state
        if not self.state.trials:
            refuse_unmeasured(self.aims, self.info)
        waiting = self._recover()
        if self.inheritance is not None and self._results:
            self._weights = artifacts.with_weights(self.store)
        self._reopen()
        self._commit()
        self._free_weights()  # what a killed process had decided but not done
        self._tell_listener("started")
        while self._search(waiting) and self._finals(waiting):
            if not self._reopen():  # a raised limit resumes the search
                self._finish()
                break
            self._commit()
        return self.state

    @property
    def raised(self) -> list[str]:
        """Limits that were raised since the search ended; empty while it runs."""
        if self.state.ended is None:
            return []
        return budget.raised(self.state.limits, self.spec)

    @property
    def goes_on(self) -> bool:
        """Whether a finished search resumes: a raised limit pays for another trial."""
        return bool(self.raised) and self._why_stay() is None

    def _why_stay(self) -> str | None:
        """Why the search would end again directly if it resumed. Other finalists can follow
        then."""
        asked = self.state.counts[Kind.FINAL]
        return self._why_end(replace(self.state, finalists_before=asked))

    @property
    def stays(self) -> str | None:
        """Why a finished search does not resume although a limit was raised, for people."""
        if not self.raised or self.goes_on:
            return None
        places = {"target": "objective.target"}
        names = " and ".join(places.get(name, f"budget.{name}") for name in self.raised)
        advice = "raise or remove objective.target"
        if not self._reached():
            advice = "raise it further"
            least = (
                self.state.committed_epochs
                + self._cheapest.epochs
                + self.spec.finalists.count * self.final_fidelity.epochs
            )
            if self.spec.budget.epochs is not None and least > self.spec.budget.epochs:
                advice = f"raise budget.epochs to {least} or more"
        return f"{names} has changed, but the search does not resume: {self._why_stay()}; {advice}"

    @property
    def lowered(self) -> str | None:
        """The effect of a limit that was lowered below what is spent, for people."""
        if self.state.ended is None:
            over = budget.exceeded(self.spec, self.state)
            return f"{'; '.join(over)}: the search ends now, and finalists follow" if over else None
        if names := budget.lowered(self.state.limits, self.spec):
            fields = " and ".join(f"budget.{name}" for name in names)
            return f"{fields} was lowered after the search had ended; its results are kept"
        return None

    def _reopen(self) -> bool:
        """Resume a finished search if a limit was raised."""
        if not self.goes_on:
            return False
        there = tuple(sorted(self._weights or ())) if self.inheritance is not None else ()
        limits = budget.recorded(self.spec)
        self._append(Reopened(limits=limits, weights=there, elapsed=self.elapsed))
        return True

    def _search(self, waiting: list[TrialRecord]) -> bool:
        """Search until a limit or the target is reached or the space is exhausted. False if
        interrupted."""
        while True:
            self._launch(waiting)
            while self.state.ended is None and not self._interrupted and self._free(waiting):
                reason = self._why_end() or self._ask_next()
                if reason is not None:
                    if self.state.outstanding and not self._reached():
                        break  # a result can free unspent epochs
                    self._end(reason)
                    break
                self._launch_new()
            self._commit()
            if not self.engine.running():
                if self._interrupted:
                    return False
                over = self.state.ended is not None or not self.state.outstanding
                if over and not waiting and not self._held:
                    if self.state.ended is None:
                        self._end(self._why_end() or "nothing is left to try")
                        self._commit()
                    return True
            self._handle(waiting)

    def _finals(self, waiting: list[TrialRecord]) -> bool:
        """Train finalists and baselines at full fidelity. False if interrupted."""
        due = finals.due(self.spec, self.state, self.losses, self.space)
        while True:
            self._launch(waiting)
            while due and not self._interrupted and self._free(waiting):
                self._ask(*due.pop(0))
                self._launch_new()
            self._commit()
            if not self.engine.running():
                if self._interrupted:
                    return False
                if not due and not waiting and not self._held:
                    return True
            self._handle(waiting)

    def _finish(self) -> None:
        """Score the winner on the test split, unless this was already done when it won before, and
        finish. Do nothing if interrupted."""
        winner = finals.winner(self.state, self._losses_kept)
        if winner is None:
            message = nothing.why(self.state)
            self._append(FinishedEntry(winner=None, message=message, elapsed=self.elapsed))
        else:
            before = self.state.tests.get(winner.number)
            test, confusion = (before.test, before.confusion) if before else ({}, None)
            if before is None and self._results:
                result = self._test(winner)
                if result is None:
                    return
                test, confusion = result.metrics, result.confusion
            if self._results:  # left by a killed trainer, or a custom one
                artifacts.clean(self.store, self.spec.storage)
                if self._weights is not None:
                    self._weights = artifacts.with_weights(self.store)
                    self._free_weights()
            self._append(
                FinishedEntry(
                    winner=winner.number, test=test, confusion=confusion, elapsed=self.elapsed
                )
            )
        self._commit()

    def _test(self, winner: TrialRecord) -> TrialResult | None:
        """Score the winner on the test split; None if interrupted."""
        self.engine.launch(self._job(winner, test=True))
        while True:
            for event in self.engine.poll(self._patience()):
                if isinstance(event, Finished):
                    return event.result
                if isinstance(event, Lost):
                    if self._interrupted:
                        return None
                    winner.attempt += 1
                    over = winner.attempt > MAX_ATTEMPTS
                    if event.permanent or event.crash or event.given_up or over:
                        raise EngineError(f"the winner could not be tested: {event.message}")
                    self.engine.launch(self._job(winner, test=True))

    # -- asking ------------------------------------------------------------------------

    @property
    def _slots(self) -> int:
        return min(self.engine.slots, self.spec.budget.parallelism)

    def _free(self, waiting: list[TrialRecord]) -> bool:
        if self.spec.deterministic:  # a trial that has ended but is not told yet keeps its slot
            return len(self.state.outstanding) < self._slots
        return self._busy + len(waiting) < self._slots

    @property
    def _busy(self) -> int:
        """Number of slots that are in use, or will be once this turn is committed."""
        return len(self.engine.running()) + len(self._due)

    def _reached(self) -> bool:
        """Whether a trial of the search has reached the target."""
        target = self.spec.objective.target
        if target is None or self.best is None:
            return False
        main = self.aims[0]
        value = self.best.values[main.metric]
        return value >= target if main.goal == "maximize" else value <= target

    @property
    def best(self) -> TrialRecord | None:
        """The search's best trial by the main objective, including the control."""
        return self._best

    _best: TrialRecord | None = None
    unchecked: str | None = None
    """Why the data could not be compared with that of a finished run."""

    def _why_end(self, state: State | None = None) -> str | None:
        if self._reached():
            return f"the target {self.spec.objective.target:g} is reached"
        return self._refusal(self._cheapest, state)

    @property
    def _cheapest(self) -> Fidelity:
        return min(self.fidelity, self.child_fidelity, key=lambda f: f.epochs)

    def _refusal(self, fidelity: Fidelity, state: State | None = None) -> str | None:
        """Why the budget does not pay for a trial at this fidelity, or None if it does."""
        return budget.refusal(
            self.spec,
            state or self.state,
            fidelity,
            self.final_fidelity,
            self.info.train,
            self.elapsed,
            sum(self.engine.running().values()),
        )

    def _ask_next(self) -> str | None:
        """Ask the strategy, or the control if it is its turn, for a trial."""
        number, refusal = self.state.searched, None
        turn = is_control(number, self.spec.control.share)
        for kind in (Kind.CONTROL, Kind.SEARCH) if turn else (Kind.SEARCH,):
            strategy, history, seed = self._members[kind]
            proposal = self._propose(kind, strategy, history, derive_rng(seed, 0, number))
            if proposal is None:
                continue
            inherit = self._inheritance(proposal) if kind is Kind.SEARCH else None
            # the budget may pay for a child even if not for a training from scratch
            refusal = self._refusal(self._fidelity_of(inherit))
            if refusal is None:
                self._ask(kind, proposal, inherit)
                return None
        return refusal or self._members[Kind.SEARCH][0].why_none

    def _propose(
        self, kind: Kind, strategy: Strategy, history: History, rng: Any
    ) -> Proposal | None:
        """Get a proposal from a strategy and check it, since another package may provide the
        strategy.

        Raises:
            EngineError: the strategy failed, or returned something other than a proposal; the
                message names the log.
        """
        name = self.spec.strategy.shown if kind is Kind.SEARCH else "Random"
        try:
            found: Any = strategy.propose(history, rng)
            if found is None:
                return None
            if not isinstance(found, Proposal):
                raise TypeError(f"it proposed {found!r:.200}; it must propose a Proposal or None")
            self.space.validate(found.architecture)
            members.plain(found.architecture)
            strange = [p for p in found.parents if p not in self.state.trials]
            if strange:
                raise ValueError(f"it names the parent {strange[0]!r}, which is not a trial")
            return found
        except Exception as error:
            method = members.method_of(error, self.space)
            theirs = self.spec.space.type == "Custom"
            if kind is Kind.SEARCH and self.spec.strategy.type == "Custom":
                # what the space refuses may be the strategy's own
                theirs = theirs and method not in (None, "validate")
            if theirs:
                raise self._space_failed(method, error) from error
            asked = self.state.searched
            key = f"errors/strategy-{asked:05d}.txt"
            raise members.failed(f"the strategy {name}", asked, error, self.store, key) from error

    def _space_failed(self, method: str | None, error: Exception) -> EngineError:
        """What ends the search where a space of another package failed."""
        who = f"the space {self.spec.space.shown}" + (f" ({method})" if method else "")
        asked = self.state.searched
        key = f"errors/space-{asked:05d}.txt"
        return members.failed(who, asked, error, self.store, key)

    def _inheritance(self, proposal: Proposal) -> Inheritance | None:
        """What the next trial can inherit, if children inherit."""
        if self.inheritance is None or not proposal.parents or not proposal.inherits:
            return None
        frame = Frame(self._reduced, self.info.outputs, self.fidelity.scale)
        seed = derive(self.spec.seed, Stream.TRAINING, self.state.searched)
        return inheritance.plan(
            self.inheritance,
            self.space,
            frame,
            self.state.trials,
            proposal.parents,
            proposal.architecture,
            seed,
        )

    def _fidelity_of(self, inherit: Inheritance | None) -> Fidelity:
        if inherit is None:
            return self.fidelity
        child = self.child_fidelity  # distillation comes first, and is charged
        return child.model_copy(update={"epochs": child.epochs + inherit.distil})

    @property
    def _reduced(self) -> tuple[int, int, int]:
        """Shape of a sample at the search's fidelity."""
        shape, side = self.info.input, self.fidelity.resolution
        return shape if side is None else (shape[0], side, side)

    def _ask(self, kind: Kind, proposal: Proposal, inherit: Inheritance | None = None) -> None:
        """Add a trial to the journal; one that cannot be built is told immediately."""
        number = len(self.state.trials)
        final = kind in (Kind.FINAL, Kind.BASELINE)
        resources: dict[str, float] = {}
        infeasible = ""
        try:
            resources = self._appraise(proposal.architecture)
        except InfeasibleError as error:
            infeasible = str(error)
        self._append(
            Asked(
                trial=number,
                kind=kind,
                architecture=proposal.architecture,
                key=self.space.key(proposal.architecture),
                fidelity=self.final_fidelity if final else self._fidelity_of(inherit),
                # as if finalists of an earlier end had no numbers
                seed=derive(self.spec.seed, Stream.FINAL, number)
                if final
                else derive(self.spec.seed, Stream.TRAINING, self.state.searched),
                resources=resources,
                parents=proposal.parents,
                operation=proposal.operation,
                inherit=inherit,
                learning_rate=proposal.learning_rate,
                elapsed=self.elapsed,
            )
        )
        if infeasible:
            self._tell(self.state.trials[number], Outcome.INFEASIBLE, message=infeasible)

    def _count(self, architecture: Architecture) -> dict[str, float]:
        """Parameters and multiply-adds at full fidelity. The network must also be valid at the
        search's fidelity."""
        shape = self.info.input
        graph: Any = self.space.graph(  # of another package's space: anything
            architecture, Frame(shape, self.info.outputs, self.space.scale(final=True))
        )
        if not isinstance(graph, Graph):
            found = TypeError(f"it gave {graph!r:.200}; wanted is a kinase.space.Graph")
            raise self._space_failed("graph", found)
        counts = {"params": float(graph.params()), "macs": float(graph.macs())}
        reduced = self._reduced
        if (reduced, self.fidelity.scale) != (shape, self.space.scale(final=True)):
            self.space.graph(architecture, Frame(reduced, self.info.outputs, self.fidelity.scale))
        return counts

    # -- launching ---------------------------------------------------------------------

    def _launch_new(self) -> None:
        trial = self.state.trials[len(self.state.trials) - 1]
        if trial.outcome is None:
            self._due.append(self._job(trial))

    def _launch(self, waiting: list[TrialRecord]) -> None:
        """Start the attempts that wait for a slot."""
        while waiting and not self._interrupted:
            if self._busy >= self._slots:
                return
            trial = waiting.pop(0)
            total = self.spec.budget.epochs
            due = budget.final_networks(self.spec, self.state) * self.final_fidelity.epochs
            if total is not None and self.state.committed_epochs + due > total:
                self._tell_partial(trial, "the epochs left do not pay for another attempt")
                continue
            self._due.append(self._job(trial))

    def _job(self, trial: TrialRecord, *, test: bool = False) -> TrialJob:
        passes_on = trial.kind is Kind.SEARCH and self.inheritance is not None
        return TrialJob(
            experiment=self.experiment.metadata.name,
            trial=trial.number,
            attempt=trial.attempt,
            kind=trial.kind,
            task=self.spec.task,
            training=self.spec.training.at_rate(trial.learning_rate),
            space=self.spec.space,
            architecture=trial.architecture,
            fidelity=trial.fidelity,
            seed=trial.seed,
            prefix=artifacts.prefix(trial.number),
            keep_weights=trial.kind in (Kind.FINAL, Kind.BASELINE) or passes_on,
            keep_checkpoint=self.spec.storage.checkpoints == "all",
            keep_optimizer=passes_on
            and self.inheritance is not None
            and self.inheritance.optimizer,
            inherit=trial.inherit,
            root=self._root,
            test=test,
        )

    # -- telling -----------------------------------------------------------------------

    def _patience(self) -> float:
        """How long to wait for events before the limits are checked again."""
        if self._interrupted or budget.overdrawn(
            self.spec, self.state, self.elapsed, sum(self.engine.running().values())
        ):
            for number in self.engine.running():
                self._stop(number)
        self._tell_listener("tick")
        return 0.25

    def _stop(self, number: int) -> None:
        finalist = self.state.trials[number].kind not in SEARCHING
        if number not in self._stopping and (self._interrupted or not finalist):
            self._stopping.add(number)
            self.engine.stop(number)

    def _handle(self, waiting: list[TrialRecord]) -> None:
        patience = self._patience() if self._due_next() is None else 0.0
        for event in self.engine.poll(patience):
            if self.spec.deterministic and not isinstance(event, Progress):
                self._held[event.trial] = event
            else:
                self._handle_one(event, waiting)
        if (number := self._due_next()) is not None:  # so that each ask sees one more result
            self._handle_one(self._held.pop(number), waiting)

    def _due_next(self) -> int | None:
        """The oldest outstanding trial, if it has ended and its result was held back."""
        oldest = min(self.state.outstanding, default=None)
        return oldest if oldest in self._held else None

    def _handle_one(self, event: Event, waiting: list[TrialRecord]) -> None:
        trial = self.state.outstanding.get(event.trial)
        if trial is None:
            return  # told already
        match event:
            case Progress(point=point):
                if self._listener is not None:
                    self._listener.progressed(self, trial.number, point)
            case Finished(result=result):
                if result.outcome is Outcome.STOPPED and self._interrupted:
                    return  # its checkpoint is kept; it stays outstanding
                self._tell_result(trial, result)
            case Lost():
                self._retry_or_tell(trial, event, waiting)

    def _retry_or_tell(self, trial: TrialRecord, lost: Lost, waiting: list[TrialRecord]) -> None:
        crashes = trial.crashes + lost.crash
        stopped = trial.number in self._stopping and not self._interrupted
        self._stopping.discard(trial.number)
        if stopped and not lost.crash:
            self._tell_partial(trial, lost.message)
        elif lost.permanent or (lost.out_of_memory and crashes > 1):
            self._tell_partial(trial, lost.message, Outcome.INFEASIBLE)
        elif lost.given_up:
            self._tell_partial(trial, lost.message, Outcome.FAILED)
        elif crashes > self.spec.trial_template.max_retries or trial.attempt >= MAX_ATTEMPTS:
            times = f" ({crashes} attempts)" if crashes > 1 else ""
            self._tell_partial(trial, f"{lost.message}{times}", Outcome.FAILED)
        else:
            self._begin_again(trial, lost.crash, lost.message)
            waiting.append(trial)

    def _begin_again(self, trial: TrialRecord, crash: bool, message: str) -> None:
        progress = artifacts.read_progress(self.store, trial.number)
        self._append(
            Attempt(
                trial=trial.number,
                attempt=trial.attempt + 1,
                begun=progress.epochs_begun,
                done=min(progress.epochs_done, trial.fidelity.epochs),
                crash=crash,
                message=message[:2000],
                elapsed=self.elapsed,
            )
        )

    def _recover(self) -> list[TrialRecord]:
        """Check the trials that were running, and queue the rest."""
        waiting = []
        for trial in list(self.state.outstanding.values()):
            result = artifacts.read_result(self.store, trial.number) if self._results else None
            if result is not None and result.outcome is not Outcome.STOPPED:
                if self.spec.deterministic:
                    self._held[trial.number] = Finished(trial.number, result)
                else:
                    self._tell_result(trial, result)
                continue
            # an attempt that was stopped for an interruption has ended; another one continues
            stopped = result is not None and result.attempt >= trial.attempt
            if not self._buildable(trial):
                continue
            if stopped or not self.engine.adopt(self._job(trial)):
                progress = artifacts.read_progress(self.store, trial.number)
                if self._results and progress.attempt >= trial.attempt:  # else it never started
                    self._begin_again(trial, False, "the controller was restarted")
                waiting.append(trial)
        return waiting

    def _buildable(self, trial: TrialRecord) -> bool:
        """Tell a trial that was asked, but not reported as infeasible before a crash."""
        try:
            self._appraise(trial.architecture)
        except InfeasibleError as error:
            self._tell(trial, Outcome.INFEASIBLE, message=str(error))
            return False
        return True

    def _tell_result(self, trial: TrialRecord, result: TrialResult) -> None:
        metric = self.spec.objective.metric
        self._tell(
            trial,
            result.outcome,
            metrics=result.metrics,
            cost=result.cost,
            curve=tuple(point.metrics.get(metric) for point in result.curve),
            message=result.message,
            facts=result.facts if trial.kind not in SEARCHING else {},
            inherited=result.inherited,
            kept_bytes=result.kept_bytes if trial.kind is Kind.SEARCH else 0,
        )

    def _tell_partial(
        self, trial: TrialRecord, message: str, outcome: Outcome = Outcome.STOPPED
    ) -> None:
        """Tell a trial that left no result. Its cost is charged, and its metrics count."""
        progress = artifacts.read_progress(self.store, trial.number)
        self._tell(trial, outcome, metrics=progress.metrics, cost=progress.cost, message=message)

    def _tell(self, trial: TrialRecord, outcome: Outcome, **details: Any) -> None:
        entry = Told(trial=trial.number, outcome=outcome, elapsed=self.elapsed, **details)
        self._append(entry)
        self._stopping.discard(trial.number)
        self._told.append(trial)

    def _end(self, reason: str) -> None:
        limits = budget.recorded(self.spec)
        self._append(Ended(reason=reason, limits=limits, elapsed=self.elapsed))

    def _append(self, entry: Any) -> None:
        """Add a decision. It has no effect outside before `_commit`."""
        self._pending.append(entry)
        self._apply(entry)

    def _commit(self) -> None:
        """Write the decisions to the journal, then act on them."""
        if self._pending:
            self.journal.append(*self._pending)
            self._pending.clear()
        for job in self._due:
            self.engine.launch(job)
        self._due.clear()
        for trial in self._told:
            if self._results and trial.outcome not in (Outcome.SUCCEEDED, Outcome.INFEASIBLE):
                # a trial that succeeded has removed its checkpoint itself
                artifacts.clean(self.store, self.spec.storage, artifacts.prefix(trial.number))
            if self._listener is not None:
                self._listener.told(self, trial)
        if self._told:
            self._free_weights()
        self._told.clear()

    def _free_weights(self) -> None:
        """Delete the weights that no unfinished or future child can need."""
        if self._weights is None:
            return
        # a trial whose result was lost can have left weights, too
        self._weights |= {
            t.number for t in self._told if t.kept_bytes or t.outcome is not Outcome.SUCCEEDED
        }
        strategy, history, _ = self._members[Kind.SEARCH]
        to_come = strategy.parents_to_come(history)
        if self.state.ended is not None:
            to_come = set()
        if self.spec.storage.weights == "all" or to_come is None:
            return
        trials = self.state.trials
        searched = {n for n in self._weights if n in trials and trials[n].kind is Kind.SEARCH}
        ended = searched - set(self.state.outstanding)
        for number in sorted(ended - inheritance.needed(self.state, to_come)):
            artifacts.drop_weights(self.store, number)
            self._weights.discard(number)

    def _apply(self, entry: Any) -> None:
        """Apply an entry, new or replayed, to the state, then to the strategies."""
        self.state.apply(entry)
        if isinstance(entry, Asked) and entry.kind in self._members:
            strategy, history, _ = self._members[entry.kind]
            trial = Trial(
                entry.trial,
                entry.architecture,
                entry.key,
                entry.parents,
                learning_rate=entry.learning_rate,
            )
            history.ask(trial)
            strategy.asked(trial, history)
        elif isinstance(entry, Told):
            record = self.state.trials[entry.trial]
            if record.kind not in self._members:
                return
            values = self.losses(record)
            if math.isfinite(values[0]) and (
                self._best is None or values < self.losses(self._best)
            ):
                self._best = record
            strategy, history, _ = self._members[record.kind]
            strategy.observe(history.tell(entry.trial, entry.outcome, values), history)

    def _tell_listener(self, what: str) -> None:
        if self._listener is not None:
            getattr(self._listener, what)(self)

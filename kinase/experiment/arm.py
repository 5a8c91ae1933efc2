"""One side of a search: a strategy, an estimator, and the history that both see."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Kind
from kinase.estimation import (
    Decision,
    Estimator,
    Left,
    Promote,
    Sample,
    Stop,
    Train,
    Wait,
    make_estimator,
)
from kinase.estimation.decision import check
from kinase.experiment import members
from kinase.experiment.entries import AnyEntry, Asked, Granted, Rested, Told
from kinase.experiment.record import Record
from kinase.experiment.seeds import Stream, derive
from kinase.experiment.thinking import Thinking
from kinase.experiment.trial_record import TrialRecord
from kinase.history import History, Supernet, Trial
from kinase.space import Space, derive_rng
from kinase.strategy import Proposal, loss, losses, make_strategy


class Arm:
    """The search, or its random control. Its members may be another package's: what they say is
    checked before it counts."""

    def __init__(
        self,
        record: Record,
        kind: Kind,
        estimator: Estimator,
        strategy: StrategyModel,
        seed: int,
        shown: str,
    ) -> None:
        """Nothing is asked yet.

        Args:
            record: of the experiment.
            kind: of the arm's trials.
            estimator: says whether to sample, to train on, or to stop.
            strategy: the manifest's; says what to sample.
            seed: of the proposals.
            shown: name of the strategy, for errors.
        """
        self.kind = kind
        self.estimator = estimator
        self.history = History(latest=estimator.inheritance is not None)
        self._thinking = Thinking()
        self.strategy = make_strategy(
            strategy,
            record.space,
            seed,
            len(record.aims),
            record.frame,
            lambda architecture: losses(record.aims, record.appraise(architecture)),
        )
        self._record = record
        self._aim = record.aims[0]
        self._seed = seed
        self._strategy_name = shown
        self._estimator_name = record.spec.estimation.shown
        self._store = record.store

    def apply(self, entry: AnyEntry, record: TrialRecord) -> None:
        """Take in an entry, new or replayed, if it is about a trial of this arm, or about the
        supernet."""
        history = self.history
        if record.kind is Kind.SUPERNET:
            self._share(record)
        if record.kind is not self.kind:
            return
        match entry:
            case Asked():
                trial = Trial(
                    entry.trial,
                    entry.architecture,
                    entry.key,
                    entry.parents,
                    learning_rate=entry.learning_rate,
                    grant=entry.grant,
                    inherits=entry.inherit is not None,
                    metrics=entry.resources | self._record.space.features(entry.architecture),
                )
                history.ask(trial)
                self.strategy.asked(trial, history)
            case Rested():
                values = self._record.losses(record)
                first = history.rest(
                    entry.trial, entry.done, values, self._curve(entry.curve), entry.metrics
                )
                if first:
                    self.strategy.observe(history.by_number[entry.trial], history)
            case Granted():
                history.grant(entry.trial, entry.grant, restart=entry.restart)
            case Told():
                values = self._record.losses(record)
                if entry.predicted is not None:
                    values = (self._turn(entry.predicted), *values[1:])
                first = history.tell(
                    entry.trial, entry.outcome, values, self._curve(entry.curve), entry.metrics
                )
                if first:
                    self.strategy.observe(history.by_number[entry.trial], history)

    def _share(self, record: TrialRecord) -> None:
        """Take in how the supernet stands, which both arms share."""
        self.history.share(
            Supernet(
                record.number,
                record.outcome,
                stored=record.kept_bytes > 0,
                derived=record.derived,
                message=record.message,
            )
        )

    def reopen(self) -> None:
        """Continue after the end of the search. A supernet that has left no weights, such as one
        that the budget stopped in its first epoch, is trained again, from scratch."""
        shared = self.history.supernet
        if shared is not None and shared.outcome is not None and not shared.stored:
            self.history.share(None)

    def _turn(self, value: float | None) -> float:
        return math.inf if value is None else loss(self._aim, value)

    def _curve(self, values: tuple[float | None, ...]) -> tuple[float, ...]:
        return tuple(self._turn(value) for value in values)

    def propose(
        self, number: int, space: Space, trials: Container[int], draw: int = 0
    ) -> Proposal | None:
        """What the strategy proposes as the search's trial of this number.

        Args:
            number: of the search's trials so far.
            space: of the proposal.
            trials: numbers of the trials that there are.
            draw: another generator for each; 0 for the first.

        Raises:
            EngineError: it failed, or what it gave is not a valid proposal.
        """
        rng = derive_rng(self._seed, 0, number, *([draw] if draw else []))
        with self._guarded(number, "strategy", self._strategy_name):
            found: Any = self.strategy.propose(self.history, rng)
            if found is None:
                return None
            if not isinstance(found, Proposal):
                raise TypeError(f"it proposed {found!r:.200}; it must propose a Proposal or None")
            space.validate(found.architecture)
            members.plain(found.architecture)
            strange = [p for p in found.parents if p not in trials]
            if strange:
                raise ValueError(f"it names the parent {strange[0]!r}, which is not a trial")
            return found

    @property
    def thinking(self) -> bool:
        """Whether `next` is to be asked again. Until then nothing may happen to the history."""
        return self._thinking.busy

    def next(self, number: int, left: Left) -> Decision | None:
        """What the estimator decides for a free slot; None while a slow one thinks.

        Raises:
            EngineError: it failed, or what it gave cannot be done.
        """
        with self._guarded(number, "estimator", self._estimator_name):
            found: Any
            if self.estimator.slow:
                seen = self.history
                found = self._thinking.ask(
                    seen.version, left, lambda: self.estimator.next(seen, left)
                )
                if self.thinking:
                    return None
            else:
                found = self.estimator.next(self.history, left)
            decision = check(found)
            match decision:
                case Wait():
                    shared = self.history.supernet
                    if not self.history.running and (shared is None or shared.outcome is not None):
                        raise ValueError("it waits while no trial runs")
                case Promote(trial=trial, grant=grant):
                    there = self._resting(trial)
                    onwards = there.grant.fidelity == grant.fidelity
                    if onwards and grant.until <= there.done:
                        raise ValueError(
                            f"it grants trial {trial} training up to epoch {grant.until}, and "
                            f"epoch {there.done} is done; a promotion must add epochs"
                        )
                case Stop(trial=trial):
                    self._resting(trial)
                case Sample(supernet=int(number)):
                    shared = self.history.supernet
                    if shared is None or shared.number != number or not shared.stored:
                        raise ValueError(f"it samples from trial {number}, no trained supernet")
                case Train() if self.history.supernet is not None:
                    raise ValueError("it trains a supernet, and there is one already")
            return decision

    def _resting(self, number: int) -> Trial:
        trial = self.history.by_number.get(number)
        if trial is None:
            raise ValueError(
                f"it decides about trial {number}, which is not a trial of its history"
            )
        if not trial.resting:
            state = "runs" if trial.outcome is None else "has ended"
            raise ValueError(f"it decides about trial {number}, which {state} and does not rest")
        return trial

    @contextmanager
    def _guarded(self, number: int, role: str, name: str) -> Iterator[None]:
        """What a member raises, as an error that names it and its traceback's place."""
        try:
            yield
        except Exception as error:
            spec = self._record.spec
            method = members.method_of(error, self._record.space)
            theirs = spec.space.type == "Custom" and (method is not None or role == "strategy")
            custom = {"strategy": spec.strategy.type, "estimator": spec.estimation.type}
            if self.kind is Kind.SEARCH and custom[role] == "Custom":
                theirs = theirs and method not in (None, "validate")
            if theirs:
                raise members.space_failed(self._record, method, error) from error
            key = f"errors/{role}-{number:05d}.txt"
            raise members.failed(f"the {role} {name}", number, error, self._store, key) from error


def arms_of(record: Record) -> dict[Kind, Arm]:
    """The search, and its random control with a separate estimator."""
    spec = record.spec
    control = spec.strategy.__class__.model_validate({"type": "Random"})
    other = make_estimator(spec.estimation, record.setting)
    seeds = [derive(spec.seed, stream) for stream in (Stream.STRATEGY, Stream.CONTROL)]
    return {
        Kind.SEARCH: Arm(
            record, Kind.SEARCH, record.estimator, spec.strategy, seeds[0], spec.strategy.shown
        ),
        Kind.CONTROL: Arm(record, Kind.CONTROL, other, control, seeds[1], "Random"),
    }

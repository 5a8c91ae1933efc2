"""The history of an arm of a search: what strategies and estimators see of its trials."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.supernet import Derived
from kinase.api.trial import Architecture, Outcome

Losses = tuple[float, ...]
"""Values of the objectives, turned so that less is better; the first is the main one.
Infinity stands for anything that is not a number, and for a trial that gave no value."""

WHOLE = Grant(fidelity=Fidelity(epochs=1), until=1)
"""The grant of a trial that is made without one."""


@dataclass(slots=True)
class Trial:
    """A trial as strategies and estimators see it."""

    number: int
    architecture: Architecture
    key: str
    """Canonical hash of the architecture."""
    parents: tuple[int, ...] = ()
    learning_rate: float = 1.0
    """Factor on the learning rate of its training."""
    outcome: Outcome | None = None
    """None until the trial ends."""
    losses: Losses = ()
    """What strategies compare trials by; empty before the first result. Values of different rungs
    are not comparable as they are: those of a higher rung reorder the trials that reached it, on
    the scale of the rung below. Where weights are inherited, it is the latest value as it is."""
    grant: Grant = WHOLE
    """What it may train now."""
    inherits: bool = False
    """Whether it began with the weights of a parent."""
    done: int = 0
    """Epochs done at the present fidelity, as of its last rest."""
    resting: bool = False
    """Whether it waits for a decision, and holds no slot."""
    rungs: dict[int, Losses] = field(default_factory=dict)
    """Losses at the end of each rung it has reached."""
    curve: tuple[float, ...] = ()
    """The main loss after each epoch at the present fidelity, as of its last rest; infinity where
    it was not measured."""
    scale: dict[int, float] = field(default_factory=dict)
    """Its main loss by rung, on the scale of its first one."""
    metrics: dict[str, float] = field(default_factory=dict)
    """All that was measured or counted, as of its last rest: features for predictors."""

    @property
    def usable(self) -> bool:
        """Whether the trial has a finite main value."""
        return bool(self.losses) and math.isfinite(self.losses[0])

    @property
    def rung(self) -> int:
        """The highest rung whose end it has reached; -1 before the first."""
        return max(self.rungs, default=-1)

    @property
    def passed_over(self) -> bool:
        """Whether it was stopped before any training, as another candidate of its pool is better by
        its proxies. That says nothing of its loss."""
        return self.outcome is Outcome.STOPPED and self.grant.rung < 0

    def usable_at(self, rung: int) -> bool:
        """Whether the trial has a finite main value at a rung."""
        losses = self.rungs.get(rung, ())
        return bool(losses) and math.isfinite(losses[0])

    def below(self, rung: int) -> float | None:
        """Its main loss at the highest rung below this one, on the scale of its first; None if it
        began here."""
        highest: int | None = None
        found = None
        for there, value in self.scale.items():
            if there < rung and (highest is None or there > highest):
                highest, found = there, value
        return found

    def rests_at(self, rung: int) -> bool:
        """Whether it rests at the end of this rung, not at a look within it."""
        return self.resting and self.grant.rung == rung and self.done >= self.grant.until


@dataclass(slots=True)
class Tally:
    """How the trials of one rung of one bracket stand."""

    entered: int = 0
    """That were granted it. One that was infeasible, and never trained, does not count."""
    under_way: int = 0
    """That have not come to its end: they run, or rest at a look."""
    resting: int = 0
    """That rest at its end."""


NONE = Tally()


@dataclass(slots=True)
class Supernet:
    """The network that holds all candidates, as a trial that both arms share."""

    number: int
    """Its trial."""
    outcome: Outcome | None = None
    """How its training ended; None while it trains."""
    stored: bool = False
    """Whether its weights are in the store, so that candidates can be scored with them."""
    derived: tuple[Derived, ...] = ()
    """Architectures that its choices have led to, best first."""
    message: str = ""
    """What went wrong."""


@dataclass(slots=True)
class History:
    """What was asked and told so far in one arm, in order. Strategies and estimators read it and
    never change it."""

    latest: bool = False
    """Whether strategies compare trials by their latest values as they are: right where children
    begin with their parents' weights, since a trial that was trained further hands on more."""
    asked: list[Trial] = field(default_factory=list)
    """Every trial, in the order of asking."""
    told: list[Trial] = field(default_factory=list)
    """Trials with a result, in the order in which they first had one: at the end of their first
    rung, or when they ended."""
    by_number: dict[int, Trial] = field(default_factory=dict)
    """Every trial by its number."""
    by_key: dict[str, Trial] = field(default_factory=dict)
    """The first trial of each canonical hash."""
    running: int = 0
    """Number of trials that train now."""
    begun: int = 0
    """Number of trials that were granted training. It is that of all trials, except where a pool is
    drawn for each."""
    supernet: Supernet | None = None
    """The network whose weights the candidates share, once its training was decided on."""
    version: int = 0
    """Number of changes so far: the key for what is computed once for a history."""
    brackets: int = 0
    """One more than the highest number of a bracket."""
    highest: int = -1
    """The highest rung that has a trial in `at`; -1 if there is none."""
    _resting: dict[int, Trial] = field(default_factory=dict)
    _ladder: dict[tuple[int, int | None, bool], list[tuple[Losses, int]]] = field(
        default_factory=dict
    )
    _paused: dict[tuple[int, int, bool], list[tuple[Losses, int]]] = field(default_factory=dict)
    """Of `_ladder` those that rest at the end of the rung."""
    _entries: dict[tuple[int, int], tuple[Losses, Losses]] = field(default_factory=dict)
    """By number and rung, what a trial stands in `_ladder` with."""
    _tallies: dict[tuple[int, int], Tally] = field(default_factory=dict)

    def ask(self, trial: Trial) -> None:
        """Record that a trial was begun."""
        self.version += 1
        self.running += 1
        self._enter(trial.grant)
        self.asked.append(trial)
        self.by_number[trial.number] = trial
        self.by_key.setdefault(trial.key, trial)

    def share(self, supernet: Supernet | None) -> None:
        """Record how the supernet stands; None: another one is to be trained."""
        self.version += 1
        self.supernet = supernet

    def rest(
        self,
        number: int,
        done: int,
        losses: Losses,
        curve: Sequence[float] = (),
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Record that a trial rests after `done` epochs. Returns whether this is the first result
        of it that a strategy is told of."""
        self.version += 1
        self.running -= 1
        trial = self.by_number[number]
        trial.resting, trial.done, trial.curve = True, done, tuple(curve)
        trial.metrics = {**trial.metrics, **(metrics or {})}
        self._resting[number] = trial
        if done < trial.grant.until:
            return False
        tally = self._tally(trial.grant)
        tally.under_way -= 1
        tally.resting += 1
        self._reach(trial, losses)
        for paused, entry in self._standing(trial):
            insort(paused, entry)
        if trial.grant.rung < 0:
            return False
        return self._result(trial, losses)

    def grant(self, number: int, grant: Grant, *, restart: bool = False) -> Trial:
        """Record that a resting trial continues, or begins again at another fidelity."""
        self.version += 1
        self.running += 1
        trial = self._resting.pop(number)
        if trial.rests_at(trial.grant.rung):  # at a look it is still under way there
            self._leave(trial)
            self._enter(grant, trial.grant.rung)
        trial.resting, trial.grant = False, grant
        if restart:
            trial.done, trial.curve = 0, ()
        return trial

    def tell(
        self,
        number: int,
        outcome: Outcome,
        losses: Losses,
        curve: Sequence[float] = (),
        metrics: Mapping[str, float] | None = None,
    ) -> bool:
        """Record how a trial ended. Returns whether this is the first result of it that a strategy
        is told of.

        Raises:
            ValueError: it has ended already.
        """
        trial = self.by_number[number]
        if trial.outcome is not None:
            raise ValueError(f"trial {number} has already been told")
        self.version += 1
        if trial.rests_at(trial.grant.rung):
            self._leave(trial)
        else:
            self._tally(trial.grant).under_way -= 1
        if outcome is Outcome.INFEASIBLE and not trial.rungs:
            self._tally(trial.grant).entered -= 1
        if self._resting.pop(number, None) is None:
            self.running -= 1
        trial.resting, trial.outcome = False, outcome
        trial.curve = tuple(curve) or trial.curve
        trial.metrics = {**trial.metrics, **(metrics or {})}
        if trial.grant.rung not in trial.rungs and outcome is not Outcome.INFEASIBLE:
            self._reach(trial, losses)
        return self._result(trial, losses)

    def _tally(self, grant: Grant) -> Tally:
        return self._tallies.setdefault((grant.rung, grant.bracket), Tally())

    def _enter(self, grant: Grant, before: int = -1) -> None:
        self.begun += before < 0 <= grant.rung
        self.brackets = max(self.brackets, grant.bracket + 1)
        tally = self._tally(grant)
        tally.entered += 1
        tally.under_way += 1

    def _leave(self, trial: Trial) -> None:
        """It no longer rests at the end of its rung."""
        self._tally(trial.grant).resting -= 1
        for paused, entry in self._standing(trial):
            del paused[bisect_left(paused, entry)]

    def _standing(
        self, trial: Trial
    ) -> Iterator[tuple[list[tuple[Losses, int]], tuple[Losses, int]]]:
        rung, bracket = trial.grant.rung, trial.grant.bracket
        for best, losses in enumerate(self._entries[trial.number, rung]):
            paused = self._paused.setdefault((rung, bracket, bool(best)), [])
            yield paused, (losses, trial.number)

    def _reach(self, trial: Trial, losses: Losses) -> None:
        rung, bracket = trial.grant.rung, trial.grant.bracket
        trial.rungs[rung] = losses
        self.highest = max(self.highest, rung)
        best = losses
        if losses and math.isfinite(losses[0]):
            best = (min((losses[0], *trial.curve)), *losses[1:])
        for where in (None, bracket):
            for key, value in (((rung, where, False), losses), ((rung, where, True), best)):
                insort(self._ladder.setdefault(key, []), (value, trial.number))
        self._entries[trial.number, rung] = (losses, best)
        if self.latest:
            return
        if rung > 0:
            self._rescale(rung)
        elif trial.usable_at(rung):
            trial.scale[rung] = losses[0]

    def _rescale(self, rung: int) -> None:
        """Bring the values of a rung, and of those above it, to the scale of the first: in the
        order of their losses at a rung, its trials get the values that they had below, sorted. One
        that began at that rung gets the value of the next better one."""
        for each in sorted({r for r, _, _ in self._ladder if r >= rung}):
            there = [(t, t.below(each)) for t in self.at(each) if t.usable_at(each)]
            below = sorted(value for _, value in there if value is not None)
            values, last = iter(below), below[0] if below else None
            changed = False
            for trial, before in there:
                if before is not None:
                    last = next(values)
                value = trial.rungs[each][0] if last is None else last
                if (known := trial.scale.get(each)) == value:
                    continue
                changed = changed or known is not None
                trial.scale[each] = value
                if trial.losses and each == trial.rung:
                    trial.losses = (value, *trial.rungs[each][1:])
            if not changed:
                return  # only the newest has another value, and it is in no rung above

    def _result(self, trial: Trial, losses: Losses) -> bool:
        first = not trial.losses
        value = trial.scale.get(trial.grant.rung) if trial.usable_at(trial.grant.rung) else None
        trial.losses = losses if value is None else (value, *losses[1:])
        if first:
            self.told.append(trial)
        return first

    @property
    def outstanding(self) -> int:
        """Number of trials without a result."""
        return len(self.asked) - len(self.told)

    def resting(self) -> list[Trial]:
        """Trials that wait for a decision, by number."""
        return sorted(self._resting.values(), key=lambda trial: trial.number)

    def tally(self, rung: int, bracket: int = 0) -> Tally:
        """How the trials of a rung of a bracket stand."""
        return self._tallies.get((rung, bracket), NONE)

    def reached(self, rung: int, bracket: int | None = None) -> int:
        """Number of trials that `at` gives."""
        return len(self._ladder.get((rung, bracket, False), ()))

    def best_resting(
        self, rung: int, bracket: int, *, best: bool = False
    ) -> tuple[Trial, int] | None:
        """Of the trials that rest at the end of a rung the best, and its place among those that
        `at` gives, from 0."""
        paused = self._paused.get((rung, bracket, best))
        if not paused:
            return None
        place = bisect_left(self._ladder[rung, bracket, best], paused[0])
        return self.by_number[paused[0][1]], place

    def worst_resting(self, rung: int, bracket: int, *, best: bool = False) -> Trial | None:
        """Of the trials that rest at the end of a rung the worst."""
        paused = self._paused.get((rung, bracket, best))
        return self.by_number[paused[-1][1]] if paused else None

    def usable_resting(self, rung: int, bracket: int) -> int:
        """Number of trials that rest at the end of a rung with a finite main value."""
        return bisect_left(self._paused.get((rung, bracket, False), ()), ((math.inf,), -1))

    def at(self, rung: int, bracket: int | None = None, *, best: bool = False) -> list[Trial]:
        """Trials that reached the end of a rung, or ended in it with a value, best first; those
        without a value are last. All that came that far count, those that continued included.

        Args:
            rung: the rung.
            bracket: only those of this bracket; None for all.
            best: whether they are compared by the best main loss of the curve that led there,
                rather than by the one at the end.
        """
        by_number = self.by_number
        return [by_number[n] for _, n in self._ladder.get((rung, bracket, best), ())]

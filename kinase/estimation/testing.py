"""The contract of an estimator, as tests that ship with the package.

Inherit `EstimatorContract` in a test module and give the fixture `make`; pytest does the rest:

    class TestMine(EstimatorContract):
        @pytest.fixture
        def make(self):
            return lambda setting: Mine(Options(), setting)
"""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.space import ChainSpace
from kinase.api.trial import Outcome
from kinase.estimation.base import Estimator, Setting
from kinase.estimation.decision import Decision, End, Left, Promote, Sample, Stop, Wait
from kinase.history import History, Trial
from kinase.space import Frame
from kinase.space.chain import Chain

Make = Callable[[Setting], Estimator]
"""setting -> estimator."""
Curve = Callable[[int, Grant], Sequence[float]]
"""(number of a trial, its grant) -> main loss after each epoch up to the grant's end."""
Ending = Callable[[int], tuple[Outcome, int] | None]
"""How a trial ends badly, and after how many epochs; None: it does not."""

SETTING = Setting(
    full=Fidelity(epochs=27, resolution=32),
    space=Chain(ChainSpace(max_depth=3, widths=(4, 8), ops=("conv",), strides=(1,))),
    frame=Frame((3, 32, 32), 10),
)


def some_curve(number: int, grant: Grant) -> list[float]:
    """Falling losses that cross; every eleventh trial diverges after five epochs."""
    good, quick = number * 37 % 101 / 101, 1 + number % 5
    losses = [good + 1 / (1 + epoch / quick) for epoch in range(1, grant.until + 1)]
    return losses[:5] + [math.inf] * len(losses[5:]) if number % 11 == 5 else losses


def some_ending(number: int) -> tuple[Outcome, int] | None:
    """One in seven is infeasible at once; others fail at once, or within a rung, or are stopped."""
    ways = {
        3: (Outcome.INFEASIBLE, 0),
        8: (Outcome.FAILED, 0),
        10: (Outcome.INFEASIBLE, 0),
        13: (Outcome.FAILED, 4),
        15: (Outcome.STOPPED, 2),
        18: (Outcome.FAILED, 12),
        20: (Outcome.INFEASIBLE, 9),
    }
    return ways.get(number % 21)


@dataclass
class Session:
    """An estimator and its history, driven as the loop drives them, with simulated trials. A trial
    takes the time of its epochs, each at its own pace, so trials end in any order."""

    estimator: Estimator
    curve: Curve = some_curve
    ending: Ending = lambda number: None
    slots: int = 1
    epochs: int | None = None
    """Budget; None without a limit."""
    trials: int | None = None
    """Most trials that may be begun."""
    parent: Callable[[History], int | None] = lambda history: None
    """The trial whose weights the next candidate begins with; None for one from scratch."""
    pace: Callable[[int], float] = lambda number: 1 + number * 7 % 5 / 7
    """Time that an epoch of a trial takes."""
    history: History = field(default_factory=History)
    events: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    """What happened to the history, in order: the name of its method, and the arguments."""
    decisions: list[tuple[int, Left, Decision]] = field(default_factory=list)
    """What was decided, after how many of the events."""
    spent: int = 0
    """Epochs trained so far."""
    now: float = 0.0
    ended: str | None = None
    """Why the search is over."""
    _clock: list[tuple[float, int]] = field(default_factory=list)
    _committed: int = 0

    @property
    def left(self) -> Left:
        """What the budget has left."""
        asked = len(self.history.asked)
        return Left(
            None if self.epochs is None else self.epochs - self.spent - self._committed,
            None if self.trials is None else self.trials - asked,
        )

    def run(self) -> Session:
        """Continue until the search is over."""
        while self.step():
            pass
        return self

    def step(self) -> bool:
        """Fill the slots; then let the next trial rest or end. False: the search is over."""
        while self.history.running < self.slots:
            left = self.left
            decision = self.estimator.next(self.history, left)
            self.decisions.append((len(self.events), left, decision))
            if isinstance(decision, End):
                self.ended = decision.why
                break
            if isinstance(decision, Wait) or not self._pays(decision, left):
                break
            self._obey(decision)
        if not self._clock:
            return False
        self.now, number = heapq.heappop(self._clock)
        self._stretch_ends(self.history.by_number[number])
        return True

    def _pays(self, decision: Decision, left: Left) -> bool:
        """What cannot be paid for is not begun, and ends the search once nothing runs."""
        if isinstance(decision, Sample):
            if left.trials == 0:
                return False
            grant, _ = self._begins(decision)
            return left.epochs is None or grant.until <= left.epochs
        if isinstance(decision, Promote):
            cost = self._cost(self.history.by_number[decision.trial], decision.grant)
            return left.epochs is None or cost <= left.epochs
        return True

    def _cost(self, trial: Trial, grant: Grant) -> int:
        if trial.done < trial.grant.until:
            return 0  # a look: it is paid for
        return grant.until - (trial.done if trial.grant.fidelity == grant.fidelity else 0)

    def _begins(self, sample: Sample) -> tuple[Grant, int | None]:
        """The grant of the next candidate, and its parent."""
        parent = self.parent(self.history)
        return (sample.grant if parent is None else sample.child or sample.grant), parent

    def _obey(self, decision: Decision) -> None:
        match decision:
            case Sample():
                number = len(self.history.asked)
                grant, parent = self._begins(decision)
                self._event("ask", number, grant, parent)
                self._committed += grant.until
                self._launch(number)
            case Promote(trial=number, grant=grant):
                trial = self.history.by_number[number]
                assert trial.resting, f"trial {number} is promoted, and does not rest"
                self._committed += self._cost(trial, grant)
                restart = trial.grant.fidelity != grant.fidelity
                self._event("grant", number, grant, restart)
                self._launch(number)
            case Stop(trial=number, predicted=predicted):
                trial = self.history.by_number[number]
                assert trial.resting, f"trial {number} is stopped, and does not rest"
                self._committed -= trial.grant.until - trial.done
                last = trial.curve[-1] if trial.curve else math.inf
                losses = (last if predicted is None else predicted,)
                self._event("tell", number, Outcome.STOPPED, losses, trial.curve)

    def _launch(self, number: int) -> None:
        trial = self.history.by_number[number]
        epochs = trial.grant.stop_after(trial.done) - trial.done
        ending = self.ending(number)
        if ending is not None:
            epochs = max(0, min(epochs, ending[1] - trial.done))
        heapq.heappush(self._clock, (self.now + epochs * self.pace(number), number))

    def _stretch_ends(self, trial: Trial) -> None:
        grant, end = trial.grant, trial.grant.stop_after(trial.done)
        ending = self.ending(trial.number)
        curve = tuple(self.curve(trial.number, grant))
        if ending is not None and ending[1] <= end:
            outcome, at = ending
            at = max(at, trial.done)
            self._pay(at - trial.done, grant.until - at)
            value = curve[at - 1] if outcome is Outcome.STOPPED else math.inf
            self._event("tell", trial.number, outcome, (value,), curve[:at])
            return
        self._pay(end - trial.done, 0)
        losses = (curve[end - 1],) if end else (math.inf,)
        if end < grant.until or not grant.final:
            self._event("rest", trial.number, end, losses, curve[:end])
        else:
            self._event("tell", trial.number, Outcome.SUCCEEDED, losses, curve[:end])

    def _pay(self, epochs: int, given_back: int) -> None:
        self.spent += epochs
        self._committed -= epochs + given_back

    def _event(self, kind: str, *arguments: Any) -> None:
        self.events.append((kind, arguments))
        replay(self.history, kind, arguments)

    # -- the result -----------------------------------------------------------------

    def stretches(self) -> list[Grant]:
        """The grants of all trials, in order."""
        return [args[1] for kind, args in self.events if kind in ("ask", "grant")]

    def begun(self, bracket: int | None = None) -> dict[int, int]:
        """Trials that were granted each rung, of a bracket or of all."""
        found: dict[int, int] = {}
        for grant in self.stretches():
            if bracket in (None, grant.bracket):
                found[grant.rung] = found.get(grant.rung, 0) + 1
        return found


def replay(history: History, kind: str, arguments: tuple[Any, ...]) -> None:
    """Let an event of a session happen to a history."""
    match kind, arguments:
        case "ask", (number, grant, parent):
            key = f"{number:016x}"
            parents = () if parent is None else (parent,)
            inherits = parent is not None
            history.ask(Trial(number, {}, key, parents, grant=grant, inherits=inherits))
        case "rest", (number, done, losses, curve):
            history.rest(number, done, losses, curve)
        case "grant", (number, grant, restart):
            history.grant(number, grant, restart=restart)
        case "tell", (number, outcome, losses, curve):
            history.tell(number, outcome, losses, curve)


class EstimatorContract:
    """What every estimator must do. The fixture `make` is the implementor's."""

    @pytest.fixture
    def make(self) -> Make:
        """A function setting -> estimator."""
        raise NotImplementedError("give the fixture `make`")

    @pytest.fixture
    def setting(self) -> Setting:
        """Override it for an estimator that needs another."""
        return SETTING

    @pytest.fixture(params=[(1, 250), (16, 600)], ids=lambda p: f"{p[0]} at once")
    def session(self, make: Make, setting: Setting, request: pytest.FixtureRequest) -> Session:
        """A search with trials that end in every way, and more or less of them at once."""
        slots, epochs = request.param
        estimator = make(setting)
        return Session(estimator, ending=some_ending, slots=slots, epochs=epochs).run()

    def test_the_ladder_rises_to_one_final_grant(self, make: Make, setting: Setting) -> None:
        """Its rungs are numbered from 0; the last is final, and no other."""
        grants = make(setting).ladder
        assert [grant.rung for grant in grants] == list(range(len(grants)))
        assert [grant.final for grant in grants] == [False] * (len(grants) - 1) + [True]
        assert all(grant.until <= setting.full.epochs for grant in grants)

    def test_decisions_are_about_trials_that_rest(self, session: Session) -> None:
        """And promotions about those with a finite value, unless they rest at a look: such a trial
        keeps its grant, with or without further looks. Wait is said
        only while a trial runs, and so a search comes to its end."""
        history = History()
        events = iter(session.events)
        done = 0
        for count, _, decision in session.decisions:
            for _ in range(count - done):
                replay(history, *next(events))
            done = count
            if isinstance(decision, Promote | Stop):
                assert history.by_number[decision.trial].resting
            if isinstance(decision, Promote):
                trial = history.by_number[decision.trial]
                if trial.rests_at(trial.grant.rung):
                    # what waits before the first rung was not trained, and so has no value
                    assert trial.grant.rung < 0 or trial.usable_at(trial.grant.rung)
                    assert decision.grant.rung > trial.grant.rung
                else:
                    free = trial.grant.model_copy(update={"every": 0})
                    assert decision.grant in (trial.grant, free)
            if isinstance(decision, Wait):
                assert history.running

    def test_it_ends_within_the_budget_and_leaves_no_trial_unpaid(self, session: Session) -> None:
        """It says why it ends, and what is left does not pay for a further trial."""
        assert session.epochs is not None
        assert session.spent <= session.epochs
        left = session.left.epochs
        assert left is not None
        assert left < session.estimator.ladder[-1].until
        assert not session.history.running

    def test_a_killed_search_decides_alike(
        self, session: Session, make: Make, setting: Setting
    ) -> None:
        """A new estimator that sees the same events makes the same decisions, wherever the search
        is taken up."""
        every = max(1, len(session.decisions) // 40)
        history = History()
        events = iter(session.events)
        done = 0
        for place, (count, left, decision) in enumerate(session.decisions):
            for _ in range(count - done):
                replay(history, *next(events))
            done = count
            if place % every == 0:
                assert make(setting).next(history, left) == decision

    def test_deciding_changes_nothing(self, make: Make, setting: Setting) -> None:
        """To decide twice gives the same; the history stays as it is."""
        session = Session(make(setting), ending=some_ending, slots=3, epochs=400)
        for _ in range(40):
            session.step()
            before = copy.deepcopy(session.history)
            first = session.estimator.next(session.history, session.left)
            assert session.estimator.next(session.history, session.left) == first
            assert session.history == before

    def test_an_estimator_serves_any_history(self, make: Make, setting: Setting) -> None:
        """What it keeps from one history says nothing of another."""
        estimator = make(setting)
        used = Session(estimator, slots=5, epochs=300).run()
        again = Session(estimator, slots=5, epochs=300).run()
        assert [d for _, _, d in used.decisions] == [d for _, _, d in again.decisions]

    @pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INFEASIBLE])
    @pytest.mark.parametrize("slots", [1, 64])
    def test_it_ends_when_everything_fails(
        self, make: Make, setting: Setting, outcome: Outcome, slots: int
    ) -> None:
        """All of the trials are tried, or what pays for them is spent."""
        for epochs in (0, 1, 2):
            session = Session(
                make(setting),
                ending=lambda number, epochs=epochs: (outcome, epochs),  # type: ignore[misc]
                slots=slots,
                epochs=200,
                trials=150,
            ).run()
            assert session.left.trials == 0 or session.spent > 200 - setting.full.epochs
            assert not session.history.running

    def test_without_a_limit_of_epochs_the_trials_end_it(
        self, make: Make, setting: Setting
    ) -> None:
        """All are begun, and what can be promoted is."""
        session = Session(make(setting), ending=some_ending, slots=10, trials=120).run()
        assert len(session.history.asked) == 120
        assert session.left == Left(None, 0)

    def test_the_worst_never_go_on(self, make: Make, setting: Setting) -> None:
        """Where no trial has a value, none is promoted past its first rung."""

        def nothing(number: int, grant: Grant) -> list[float]:
            return [math.inf] * grant.until

        session = Session(make(setting), curve=nothing, slots=4, epochs=300).run()
        begun = {args[0]: args[1].rung for kind, args in session.events if kind == "ask"}
        for trial in session.history.asked:
            assert begun[trial.number] in (trial.grant.rung, -1)

    def test_finalists_are_the_best_of_the_highest_rung(self, make: Make, setting: Setting) -> None:
        """Within a rung, what has no finite value ranks last."""
        session = Session(make(setting), ending=some_ending, slots=4, epochs=600).run()
        ranked = sorted(session.history.told, key=session.estimator.rank)
        for rung in range(len(session.estimator.ladder)):
            usable = [trial.usable for trial in ranked if trial.rung == rung]
            assert usable == sorted(usable, reverse=True)

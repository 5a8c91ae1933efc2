"""The contract of a strategy, as tests that ship with the package.

Inherit from `StrategyContract` in a test module and define the fixture `make`:

    class TestMine(StrategyContract):
        @pytest.fixture
        def make(self):
            return lambda space, seed=0, objectives=1: Mine(space, Options(), seed, objectives)
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from kinase.api.space import ChainSpace
from kinase.api.trial import Outcome
from kinase.history import History, Trial
from kinase.space import Space, derive_rng
from kinase.space.chain import Chain
from kinase.strategy.base import Proposal, Strategy

Make = Callable[..., Strategy]
"""(space, seed=0, objectives=1) -> strategy."""

SPACE = ChainSpace(max_depth=4, widths=(4, 8, 16))
TINY = ChainSpace(max_depth=2, ops=("conv",), widths=(4, 8), kernels=(3,), strides=(1,))
"""Six architectures."""


class Session:
    """Drives a strategy and its history like the loop."""

    def __init__(self, strategy: Strategy, seed: int = 0, objectives: int = 1) -> None:
        """Start with an empty history."""
        self.strategy, self.seed, self.objectives = strategy, seed, objectives
        self.history = History()
        self.events: list[tuple[str, Any]] = []

    def propose(self) -> Proposal | None:
        """The next proposal, without asking it."""
        number = len(self.history.asked)
        return self.strategy.propose(self.history, derive_rng(self.seed, 0, number))

    def ask(self, proposal: Proposal) -> Trial:
        """Start a trial for a proposal."""
        trial = Trial(
            number=len(self.history.asked),
            architecture=proposal.architecture,
            key=self.strategy.space.key(proposal.architecture),
            parents=proposal.parents,
            learning_rate=proposal.learning_rate,
        )
        self.history.ask(trial)
        self.strategy.asked(trial, self.history)
        self.events.append(("ask", proposal))
        return trial

    def tell(self, number: int) -> None:
        """End a trial with a value that depends only on its architecture; every seventh fails."""
        trial = self.history.by_number[number]
        code = int(trial.key, 16)
        if code % 7 == 0:
            outcome = Outcome.INFEASIBLE if code % 2 else Outcome.FAILED
            losses = (math.inf,) * self.objectives
        else:
            outcome = Outcome.SUCCEEDED
            losses = tuple(code // 10**i % 1000 / 1000 for i in range(self.objectives))
        self.history.tell(number, outcome, losses)
        self.strategy.observe(trial, self.history)
        self.events.append(("tell", number))

    def run(self, trials: int, outstanding: int = 1) -> list[Proposal]:
        """Run until `trials` have been asked, with a number of them outstanding."""
        made: list[Proposal] = []
        while len(self.history.asked) < trials:
            proposal = self.propose()
            if proposal is None:
                break
            made.append(proposal)
            self.ask(proposal)
            if self.history.outstanding >= outstanding:
                # not in the order of asking: the durations of trials differ
                waiting = [t.number for t in self.history.asked if t.outcome is None]
                self.tell(waiting[len(made) * 7 % len(waiting)])
        return made


def continues(trial: Trial, history: History) -> bool:
    """Whether a trial is its parent trained further, the only reason to repeat an architecture."""
    return [history.by_number[number].key for number in trial.parents] == [trial.key]


class StrategyContract:
    """Tests of every strategy. The implementor defines the fixture `make`."""

    @pytest.fixture
    def make(self) -> Make:
        """A function (space, seed=0, objectives=1) -> strategy."""
        raise NotImplementedError("give the fixture `make`")

    @pytest.fixture
    def space(self) -> Space:
        """The search space; override it for a strategy that needs another one."""
        return Chain(SPACE)

    @pytest.fixture
    def tiny(self) -> Space | None:
        """A space that can be exhausted, or None."""
        return Chain(TINY)

    def test_a_seed_gives_the_same_proposals(self, make: Make, space: Space) -> None:
        """Two strategies with the same seed agree; another seed differs."""
        runs = [Session(make(space, seed), seed).run(40) for seed in (1, 1, 2)]
        assert runs[0] == runs[1]
        assert runs[0] != runs[2]

    @pytest.mark.parametrize("outstanding", [1, 8])
    def test_a_replay_of_any_prefix_goes_on_alike(
        self, make: Make, space: Space, outstanding: int
    ) -> None:
        """A new strategy with the same events makes the same next proposal."""
        session = Session(make(space))
        session.run(60, outstanding)
        following: dict[int, Proposal] = {}
        asked = 0
        for event, content in session.events:
            if event == "ask":
                following[asked] = content
                asked += 1
        for prefix in range(0, len(session.events), 11):
            again = Session(make(space))
            for event, content in session.events[:prefix]:
                again.ask(content) if event == "ask" else again.tell(content)
            event, content = session.events[prefix]
            if event == "ask":
                assert again.propose() == content

    @pytest.mark.parametrize(("outstanding", "objectives"), [(1, 1), (1, 2), (8, 2), (64, 1)])
    def test_proposals_are_valid_and_new_and_their_parents_are_kept(
        self, make: Make, space: Space, outstanding: int, objectives: int
    ) -> None:
        """Every proposal is plain data in the space, new or its parent trained further. Parents
        have ended, and `parents_to_come` has named them since then; otherwise their weights could
        be deleted."""
        session = Session(make(space, objectives=objectives), objectives=objectives)
        gone: set[int] = set()
        for _ in range(100):
            proposal = session.propose()
            assert proposal is not None
            assert json.loads(json.dumps(proposal.architecture)) == proposal.architecture
            space.validate(proposal.architecture)
            told = {trial.number for trial in session.history.told}
            assert set(proposal.parents) <= told - gone
            asked = set(session.history.by_key)
            trial = session.ask(proposal)
            assert trial.key not in asked or continues(trial, session.history)
            if session.history.outstanding >= outstanding:
                session.tell(next(t.number for t in session.history.asked if t.outcome is None))
            told = {trial.number for trial in session.history.told}
            kept = session.strategy.parents_to_come(session.history)
            gone |= set() if kept is None else told - kept

    def test_proposing_changes_nothing(self, make: Make, space: Space) -> None:
        """Proposing twice gives the same result, and does not change the history."""
        session = Session(make(space))
        session.run(30)
        before = copy.deepcopy(session.history)
        assert session.propose() == session.propose()
        assert session.history == before

    def test_it_goes_on_when_everything_fails(self, make: Make, space: Space) -> None:
        """The strategy continues after infeasible and failed trials."""
        session = Session(make(space))
        for _ in range(50):
            proposal = session.propose()
            assert proposal is not None
            trial = session.ask(proposal)
            session.history.tell(trial.number, Outcome.FAILED, (math.inf,))
            session.strategy.observe(trial, session.history)

    @pytest.mark.parametrize("outstanding", [1, 64])
    def test_it_stops_when_the_space_is_exhausted(
        self, make: Make, tiny: Space | None, outstanding: int
    ) -> None:
        """It proposes every architecture of the space once, and then always returns None."""
        if tiny is None:
            return
        session = Session(make(tiny))
        session.run(1000, outstanding)
        for trial in session.history.asked:
            if trial.outcome is None:
                session.tell(trial.number)
        session.run(1000, outstanding)
        new = [t for t in session.history.asked if not continues(t, session.history)]
        keys = [trial.key for trial in new]
        everything = {tiny.key(a) for a in tiny.enumerate()}
        assert len(keys) == len(set(keys))
        assert set(keys) == everything
        assert session.propose() is None

"""Where the walk goes, told by hand which trial is how good."""

from __future__ import annotations

from typing import Any

import pytest

from kinase.api.strategy import LocalSearchStrategy
from kinase.api.trial import Outcome
from kinase.history import History
from kinase.space.chain import Chain
from kinase.strategy.local_search import LocalSearch
from kinase.strategy.testing import SPACE, TINY, Session
from tests.unit.strategy.helpers import screened


class Walk:
    """A search with an initial trial, number 0, of loss 5."""

    def __init__(self, space: Chain, **options: Any) -> None:
        self.strategy = LocalSearch(space, LocalSearchStrategy(initial=1, **options), 0)
        self.session = Session(self.strategy)
        self.ask(1)
        self.tell(0, 5.0)

    def ask(self, count: int) -> list[tuple[int, ...]]:
        """Begin so many trials; the parents of each."""
        made = []
        for _ in range(count):
            proposal = self.session.propose()
            assert proposal is not None
            made.append(self.session.ask(proposal).parents)
        return made

    def tell(self, number: int, loss: float) -> None:
        history = self.session.history
        history.tell(number, Outcome.SUCCEEDED, (loss,))
        trial = history.by_number[number]
        self.strategy.observe(trial, history)


def test_an_older_centres_neighbour_that_is_better_is_the_next_centre() -> None:
    walk = Walk(Chain(SPACE))
    assert walk.ask(4) == [(0,)] * 4
    walk.tell(1, 4.0)
    assert walk.ask(1) == [(1,)]
    walk.tell(2, 3.0)  # of centre 0, and better than centre 1
    assert walk.ask(1) == [(2,)]
    walk.tell(3, 3.5)  # better than the centre that it was made from, not than that of now
    assert walk.ask(1) == [(2,)]


@pytest.mark.parametrize("move", ["first", "best"])
def test_a_result_of_the_next_start_that_is_better_is_the_next_centre(move: Any) -> None:
    walk = Walk(Chain(TINY), move=move)
    parents = walk.ask(5)
    around = [n for n, p in enumerate(parents, 1) if p == (0,)]
    [fresh, *_] = [n for n, p in enumerate(parents, 1) if p == ()]
    walk.tell(fresh, 1.0)
    if move == "best":
        for number in around:
            walk.tell(number, 4.0)
    assert walk.strategy._centre is walk.session.history.by_number[fresh]
    assert walk.strategy._start == []  # it is no candidate of the next start, too


def test_with_best_the_walk_moves_to_the_best_of_all_results() -> None:
    walk = Walk(Chain(TINY), move="best")
    around = [n for n, p in enumerate(walk.ask(5), 1) if p == (0,)]
    for number, loss in zip(around, (4.0, 2.0, 3.0, 4.5), strict=False):
        walk.tell(number, loss)
    assert walk.strategy._centre is walk.session.history.by_number[around[1]]


def test_a_start_is_of_trials_that_were_trained() -> None:
    """Not of candidates that a screen passed over."""
    space = Chain(SPACE)
    strategy, history = LocalSearch(space, LocalSearchStrategy(initial=2), 0), History()
    for _ in range(3):
        screened(strategy, history, space)
    assert [trial.parents for trial in history.asked] == [()] * 6 + [(0,)] * 3

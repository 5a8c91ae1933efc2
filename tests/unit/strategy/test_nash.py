"""NASH against its algorithm, replayed by hand, and its invariants."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from kinase.api.space import CellSpace, ChainSpace, MultiBranchSpace
from kinase.api.strategy import NASHStrategy
from kinase.api.trial import Architecture, Outcome
from kinase.morphism.bridge import bridge
from kinase.space import Frame, Space
from kinase.space.cell import Cell
from kinase.space.chain import Chain
from kinase.space.multibranch import MultiBranch
from kinase.strategy import History, Trial, derive_rng
from kinase.strategy.nash import NASH

FRAME = Frame((1, 8, 8), 10)
CHAIN = Chain(ChainSpace(max_depth=5, ops=("conv",), widths=(4, 8, 16, 32), strides=(1,)))
SPACES: dict[str, Space] = {
    "Chain": Chain(ChainSpace(max_depth=5, ops=("conv", "sepconv", "maxpool"), skips=True)),
    "MultiBranch": MultiBranch(MultiBranchSpace(max_nodes=5)),
    "Cell": Cell(CellSpace(preset="nasbench201", search={"cells": 1, "filters": 4})),
}


def loss(architecture: Architecture) -> float:
    """Many good sizes, and hills between them: best are some 20,000 parameters."""
    params = CHAIN.graph(architecture, FRAME).params()
    return abs(math.log(params / 20_000)) + 0.1 * math.sin(params)


DIGITS = Chain(
    ChainSpace(
        min_depth=2,
        max_depth=5,
        ops=("conv", "maxpool"),
        widths=(4, 8, 16, 24),
        kernels=(3,),
        strides=(1, 2),
    )
)
EXACT = {"edits": "drawn", "saturated": "backtrack"}
"""What makes most children exact."""


class Search:
    """A search on the toy problem; `values` stand in for the toy's where they are given."""

    def __init__(
        self, space: Space = CHAIN, seed: int = 0, initial: int = 1, **options: Any
    ) -> None:
        self.seed = seed
        self.frame = replace(FRAME, scale=space.scale(final=False))
        self.nash = NASH(space, NASHStrategy(initial=initial, **options), seed, 1, self.frame)
        self.history = History()
        self.operations: list[str] = []

    def ask(self) -> Trial | None:
        number = len(self.history.asked)
        proposal = self.nash.propose(self.history, derive_rng(self.seed, 0, number))
        if proposal is None:
            return None
        key = self.nash.space.key(proposal.architecture)
        trial = Trial(number, proposal.architecture, key, proposal.parents)
        self.operations.append(proposal.operation)
        self.history.ask(trial)
        self.nash.asked(trial, self.history)
        return trial

    def tell(self, trial: Trial, value: float | None = None) -> None:
        value = loss(trial.architecture) if value is None else value
        outcome = Outcome.SUCCEEDED if math.isfinite(value) else Outcome.FAILED
        self.history.tell(trial.number, outcome, (value,))
        self.nash.observe(trial, self.history)

    def step(self, value: float | None = None) -> Trial:
        trial = self.ask()
        assert trial is not None
        self.tell(trial, value)
        return trial

    @property
    def parent(self) -> int:
        """The one whose child is asked next."""
        trial = self.nash._parent
        assert trial is not None
        return trial.number


def rank(trial: Trial) -> tuple[Any, ...]:
    return trial.losses, trial.number


@pytest.mark.parametrize("include_parent", [True, False])
@pytest.mark.parametrize("initial", [1, 3])
def test_generations_are_those_of_the_algorithm(include_parent: bool, initial: int) -> None:
    """Each has `neighbours` children of one parent, which is the best of the one before."""
    options = {"include_parent": include_parent, "initial": initial}
    search = Search(neighbours=4, morphisms=2, **options)
    trials = [search.step() for _ in range(initial + 4 * 8)]
    best = min(trials[:initial], key=rank)
    assert all(not trial.parents for trial in trials[:initial])
    values = [best.losses]
    for first in range(initial, len(trials), 4):
        generation = trials[first : first + 4]
        assert {trial.parents for trial in generation} == {(best.number,)}
        same = [trial.key == best.key for trial in generation]
        assert same == [False, False, False, include_parent]
        candidate = min(generation, key=rank)
        if include_parent or candidate.losses <= best.losses:
            best = candidate
        values.append(best.losses)
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]
    assert search.operations.count("continue") == 8 * include_parent


def test_the_papers_values_are_the_defaults() -> None:
    options = NASHStrategy()
    assert (options.neighbours, options.morphisms, options.include_parent) == (8, 5, True)
    search = Search()
    trials = [search.step() for _ in range(1 + 8)]
    assert search.operations == ["sample", *["morphism"] * 7, "continue"]
    assert search.parent == min(trials[1:], key=rank).number


def test_a_worse_value_of_the_parent_trained_on_counts() -> None:
    """As in the paper, the best of the children is taken, be it worse than their parent was."""
    search = Search(neighbours=2, morphisms=1)
    search.step(0.1)
    assert search.parent == 0
    search.step(0.4)
    continued = search.step(0.3)
    assert search.operations[-1] == "continue"
    assert search.parent == continued.number


@pytest.mark.parametrize("include_parent", [True, False])
def test_a_parent_whose_children_all_fail_stays(include_parent: bool) -> None:
    search = Search(neighbours=3, morphisms=1, include_parent=include_parent)
    search.step(math.inf)  # nothing to begin with yet
    search.step(0.5)
    for _ in range(2):
        for _ in range(3):
            assert search.step(math.inf).parents == (1,)
    assert search.parent == 1
    assert search.nash.parents_to_come(search.history) == {1}


def test_a_parent_that_could_not_be_trained_on_competes_by_its_value() -> None:
    search = Search(neighbours=3, morphisms=1)
    search.step(0.5)
    search.step(0.6)
    search.step(0.7)
    search.step(math.inf)
    assert search.operations[-1] == "continue"
    assert search.parent == 0


def test_no_slot_waits_for_the_last_of_a_generation() -> None:
    """Further children of the same parent are made; who ends late competes in the next."""
    search = Search(neighbours=3, morphisms=1, saturated="mutate")
    search.step(0.5)
    running = [search.ask() for _ in range(6)]
    assert all(trial is not None and trial.parents == (0,) for trial in running)
    assert search.operations == ["sample", *["morphism"] * 2, "continue", *["morphism"] * 3]
    one, two, continued, three, four, five = (trial for trial in running if trial is not None)
    for trial, value in ((five, 0.4), (one, 0.3), (two, 0.45)):
        search.tell(trial, value)
    assert search.parent == 0, "the parent that is trained on is still to come"
    assert search.nash.parents_to_come(search.history) == {0, one.number}
    search.tell(continued, 0.48)
    assert search.parent == one.number
    search.tell(three, 0.1)
    search.tell(four, 0.2)
    assert search.parent == one.number, "the two are not of this generation"
    assert search.nash.parents_to_come(search.history) == {one.number, three.number}
    for value in (0.25, 0.26, 0.27):
        assert search.step(value).parents == (one.number,)
    assert search.parent == three.number


def test_it_ends_when_its_steps_are_done() -> None:
    search = Search(neighbours=2, morphisms=1, steps=3)
    for _ in range(1 + 3 * 2):
        search.step()
    assert search.ask() is None
    assert search.nash.why_none == "3 steps are done"
    assert search.nash.parents_to_come(search.history) == set()


@pytest.mark.parametrize("name", SPACES)
def test_morphisms_lead_from_each_parent_to_its_child(name: str) -> None:
    """Also over all its edits at once, as the child inherits; the parent trained on has none."""
    space = SPACES[name]
    search = Search(space, neighbours=4, morphisms=2 if name == "Cell" else 5, start="small")
    trials = [search.step(1 / (1 + number)) for number in range(1 + 2 * 4)]
    grown = 0
    for trial, operation in zip(trials[1:], search.operations[1:], strict=True):
        parent = trials[trial.parents[0]] if trial.parents else None
        if operation in ("morphism", "continue"):
            assert parent is not None
            found = bridge(space, parent.architecture, trial.architecture, search.frame)
            assert found is not None
            assert found.exact
            assert bool(found.morphisms) == (operation == "morphism")
            grown += operation == "morphism"
    assert grown >= (2 if name == "Cell" else 5), "a cell of NAS-Bench-201 has few larger ones"
    assert search.operations.count("continue") == 2


def test_it_begins_small_where_that_is_wished() -> None:
    def first(start: str) -> list[int]:
        searches = [Search(seed=seed, start=start) for seed in range(20)]
        return [CHAIN.graph(s.step().architecture, FRAME).params() for s in searches]

    anywhere = first("random")
    assert sum(first("small")) < sum(anywhere) / 4
    assert max(anywhere) > 10 * min(anywhere)


def share(seed: int, trials: int = 40, **options: Any) -> float:
    """Exact children among those whose architecture is new, where larger networks are better."""
    search = Search(DIGITS, seed, initial=2, start="small", neighbours=4, **options)
    exact = children = 0
    for _ in range(trials):
        trial = search.ask()
        assert trial is not None
        params = DIGITS.graph(trial.architecture, FRAME).params()
        search.tell(trial, -math.log(params))
        if search.operations[-1] in ("morphism", "mutate"):
            parent = search.history.by_number[trial.parents[0]]
            found = bridge(DIGITS, parent.architecture, trial.architecture, FRAME)
            exact += found is not None and found.exact
            children += 1
    return exact / children


def test_most_children_are_exact_in_a_space_that_is_soon_full() -> None:
    """If they are wished to be; with the paper's number of edits and plain mutations, the default,
    they are few."""
    assert min(share(seed, **EXACT) for seed in range(2)) >= 0.6
    assert share(0) < 0.6


@pytest.mark.parametrize("saturated", ["backtrack", "mutate"])
def test_where_the_parent_cannot_grow_a_former_parent_has_the_child(saturated: str) -> None:
    widths = (4, 8, 16, 32)
    space = Chain(ChainSpace(max_depth=1, ops=("conv",), widths=widths, kernels=(3,), strides=(1,)))

    def width(trial: Trial) -> int:
        return int(trial.architecture["layers"][0]["width"])

    for seed in range(10):
        options = {"include_parent": False, "saturated": saturated, "start": "small"}
        search = Search(space, seed, neighbours=2, morphisms=1, **options)
        first = search.step(0.5)
        for child in (search.ask(), search.ask()):
            assert child is not None
            search.tell(child, 1 / width(child))
        best = search.history.by_number[search.parent]
        if width(best) == 32:
            break
    assert width(first) == 4
    assert search.nash.parents_to_come(search.history) >= {best.number}
    left = search.ask()
    assert left is not None
    backtracks = saturated == "backtrack"
    assert left.parents == ((first if backtracks else best).number,)
    assert search.operations[-1] == ("morphism" if backtracks else "mutate")
    parents = search.nash.parents_to_come(search.history)
    assert (first.number in parents) == backtracks


def test_a_generation_ends_though_the_parent_that_is_trained_further_rests() -> None:
    """Its first value counts; it may never end before the search does."""
    search = Search(neighbours=2, morphisms=1)
    first = search.step(0.5)
    search.step(0.4)
    continued = search.ask()
    assert continued is not None
    assert continued.parents == (first.number,)
    search.history.rest(continued.number, 1, (0.45,), (0.45,))
    search.nash.observe(continued, search.history)
    assert search.parent == 1


def test_where_nothing_grows_it_mutates() -> None:
    """The largest network of a space has no child by morphisms."""
    space = Chain(ChainSpace(max_depth=1, ops=("conv",), widths=(4, 8), kernels=(3,), strides=(1,)))
    search = Search(space, neighbours=2, morphisms=1, start="small")
    assert search.step(0.5).architecture["layers"][0]["width"] == 4
    assert search.step(0.4).architecture["layers"][0]["width"] == 8
    search.step(0.6)
    assert search.ask() is None
    assert search.nash.why_none == "the search space is exhausted"

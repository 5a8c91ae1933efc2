"""Large-scale evolution: its tournament against the closed form, its mutations, its lines."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from scipy import stats

from kinase.api.space import CellSpace, ChainSpace, MultiBranchSpace
from kinase.api.strategy import LargeScaleEvolutionStrategy
from kinase.api.trial import Architecture, Outcome
from kinase.space import Space
from kinase.space.cell import Cell
from kinase.space.chain import Chain
from kinase.space.multibranch import MultiBranch
from kinase.strategy import History, Proposal, Trial, derive_rng
from kinase.strategy.large_scale import LargeScaleEvolution
from tests.unit.strategy.test_evolution import BITS, BitStrings

CHAIN = Chain(ChainSpace(max_depth=6, ops=("conv", "sepconv"), widths=(4, 8, 16), skips=True))
OTHERS = ("alter-learning-rate", "identity", "reset-weights")


class Search:
    """A search on bit strings, whose loss is the share of zeros."""

    def __init__(self, space: Space | None = None, seed: int = 0, **options: Any) -> None:
        space, self.seed = space or BitStrings(), seed
        members = LargeScaleEvolutionStrategy(**{"population": 6, "start": "random", **options})
        self.strategy, self.history = LargeScaleEvolution(space, members, seed), History()
        self.proposals: list[Proposal] = []

    def propose(self) -> Proposal:
        proposal = self.strategy.propose(
            self.history, derive_rng(self.seed, 0, len(self.history.asked))
        )
        assert proposal is not None
        return proposal

    def ask(self) -> Trial:
        proposal, number = self.propose(), len(self.history.asked)
        key = self.strategy.space.key(proposal.architecture)
        trial = Trial(
            number,
            proposal.architecture,
            key,
            proposal.parents,
            learning_rate=proposal.learning_rate,
        )
        self.proposals.append(proposal)
        self.history.ask(trial)
        self.strategy.asked(trial, self.history)
        return trial

    def tell(self, trial: Trial, value: float) -> None:
        outcome = Outcome.SUCCEEDED if math.isfinite(value) else Outcome.FAILED
        self.history.tell(trial.number, outcome, (value,))
        self.strategy.observe(trial, self.history)

    def step(self, value: float | None = None) -> Trial:
        trial = self.ask()
        bits = trial.architecture.get("bits", [])
        self.tell(trial, 1 - sum(bits) / BITS if value is None else value)
        return trial

    @property
    def members(self) -> set[int]:
        return self.strategy.parents_to_come(self.history)


def settled(members: int, **options: Any) -> Search:
    """A population whose n-th member is the n-th best."""
    search = Search(population=members, **options)
    for rank in range(members):
        search.step(float(rank))
    return search


def test_the_member_of_a_rank_is_parent_and_dies_as_often_as_the_closed_form_says() -> None:
    """Of n members that of rank r is the better of a pair with probability
    2 (n - r) / (n (n - 1)), and the worse with 2 (r - 1) / (n (n - 1))."""
    members, runs = 4, 1200
    parents, losers = Counter[int](), Counter[int]()
    for seed in range(runs):
        search = settled(members, seed=seed)
        trial = search.ask()
        [parent] = trial.parents
        [loser] = set(range(members)) - search.members
        parents[parent] += 1
        losers[loser] += 1
    pairs = members * (members - 1) / 2
    better = [runs * (members - rank) / pairs for rank in range(1, members)]
    worse = [runs * (rank - 1) / pairs for rank in range(2, members + 1)]
    assert parents[members - 1] == 0, "the worst is never a parent"
    assert losers[0] == 0, "the best never dies"
    assert stats.chisquare([parents[r] for r in range(members - 1)], better).pvalue > 1e-3
    assert stats.chisquare([losers[r] for r in range(1, members)], worse).pvalue > 1e-3


def test_the_loser_is_gone_when_the_child_is_begun_and_the_best_stays() -> None:
    search = settled(6)
    for _ in range(200):
        before = search.members
        trial = search.ask()
        [loser] = before - search.members
        assert loser not in trial.parents
        by_number = search.history.by_number
        assert by_number[trial.parents[0]].losses <= by_number[loser].losses
        search.tell(trial, 1 - sum(trial.architecture["bits"]) / BITS)
        assert len(search.members) == 6
    assert min(search.history.told, key=lambda t: t.losses).number in search.members


def test_it_climbs() -> None:
    search = Search(population=30)
    for _ in range(600):
        search.step()
    values = [trial.losses[0] for trial in search.history.told]
    assert min(values) < min(values[:30]) - 0.2


def test_a_child_without_a_value_leaves_a_place_which_is_filled() -> None:
    search = settled(6)
    search.step(math.inf)
    assert len(search.members) == 5
    search.step(0.5)
    assert len(search.members) == 6


def test_what_is_under_way_counts_as_a_member() -> None:
    search = settled(6)
    running = [search.ask() for _ in range(4)]
    assert len(search.members) == 2
    for trial in running:
        search.tell(trial, 0.5)
    assert len(search.members) == 6
    wide = Search(population=3)
    running = [wide.ask() for _ in range(9)]  # nothing has ended: all are of the space
    assert all(not trial.parents for trial in running)
    for trial in running:
        wide.tell(trial, float(trial.number))
    assert len(wide.members) == 3
    assert 0 in wide.members


SPACES: dict[str, Space] = {
    "BitStrings": BitStrings(),
    "Chain": CHAIN,
    "MultiBranch": MultiBranch(MultiBranchSpace(max_nodes=4, ops=("conv", "sepconv"))),
    "Cell": Cell(CellSpace(preset="darts")),
}


@pytest.mark.parametrize("name", ["BitStrings", "Chain", "Cell"])
def test_kinds_of_mutation_are_equally_probable(name: str) -> None:
    """What a space has no names for has the paper's share, 8 kinds of 11."""
    space = SPACES[name]
    kinds = space.kinds or ("mutate",)
    search = Search(space, population=4)
    while True:  # a population in whose middle every kind of edit has a place
        search = Search(space, seed=search.seed + 1, population=4)
        for rank in range(4):
            search.step(float(rank))
        if all(_allows(space, trial.architecture) for trial in search.history.told):
            break
    counts = Counter[str]()
    runs = 400
    for seed in range(runs):
        proposal = search.strategy.propose(search.history, derive_rng(seed, 7))
        assert proposal is not None
        counts[proposal.operation] += 1
        [parent] = proposal.parents
        before = search.history.by_number[parent].architecture
        if proposal.operation in OTHERS:
            assert proposal.architecture == before
        elif space.kinds:
            assert space.kind(before, proposal.architecture) == proposal.operation
    if space.kinds:
        assert set(counts) == {*OTHERS, *kinds}
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    else:
        shares = [runs / 11] * 3 + [runs * 8 / 11]
        assert stats.chisquare([counts[k] for k in (*OTHERS, "mutate")], shares).pvalue > 1e-3


def _allows(space: Space, architecture: Architecture) -> bool:
    """Whether every kind of edit has a place in an architecture."""
    if not space.kinds:
        return True
    return {space.kind(architecture, e) for e in space.neighbours(architecture)} >= {*space.kinds}


@pytest.mark.parametrize("name", ["Chain", "MultiBranch", "Cell"])
def test_every_edit_of_a_space_has_one_of_its_kinds(name: str) -> None:
    space = SPACES[name]
    found = Counter[str]()
    for seed in range(12):
        rng = derive_rng(seed)
        architecture = space.sample(rng)
        for _ in range(25):
            child = space.mutate(architecture, rng)
            found[space.kind(architecture, child)] += 1
    assert set(found) == set(space.kinds)


def test_kinds_that_are_not_wanted_are_not_drawn() -> None:
    search = settled(6, alter_learning_rate=False, identity=False, reset_weights=False)
    for _ in range(60):
        search.step()
    assert {p.operation for p in search.proposals} == {"sample", "mutate"}


def test_a_learning_rate_follows_its_line() -> None:
    """A child's factor is its parent's, but where the rate is altered: by at most twofold."""
    search = settled(6)
    for _ in range(600):
        search.step()
    drawn = []
    for trial, proposal in zip(search.history.asked, search.proposals, strict=True):
        assert proposal.inherits == (proposal.operation != "reset-weights")
        if not trial.parents:
            assert trial.learning_rate == 1
            continue
        parent = search.history.by_number[trial.parents[0]]
        step = trial.learning_rate / parent.learning_rate
        if proposal.operation == "alter-learning-rate":
            drawn.append(math.log2(step))
        else:
            assert step == 1
    assert stats.kstest(drawn, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    last = search.history.asked[-1]
    product, line = 1.0, last
    while line.parents:
        parent = search.history.by_number[line.parents[0]]
        product *= line.learning_rate / parent.learning_rate
        line = parent
    assert last.learning_rate == pytest.approx(product)


def test_the_papers_values_are_the_defaults() -> None:
    options = LargeScaleEvolutionStrategy()
    assert (options.population, options.learning_rate_step, options.start) == (1000, 2, "small")
    assert options.identity
    assert options.alter_learning_rate
    assert options.reset_weights

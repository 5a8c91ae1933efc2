"""LEMONADE against closed forms and invariants (Elsken, Metzen & Hutter 2019, algorithm 1)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from kinase.api.space import ChainSpace
from kinase.api.space import Space as SpaceModel
from kinase.api.strategy import LEMONADEStrategy
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.trial import Architecture, Outcome
from kinase.morphism.bridge import bridge
from kinase.space import Frame, InfeasibleError, Space, make_space
from kinase.space.chain import Chain
from kinase.strategy import History, Losses, Strategy, Trial, make_strategy
from kinase.strategy.density import Density, draw_sparse
from kinase.strategy.lemonade import LEMONADE
from kinase.strategy.pareto import hypervolume, pareto_front
from kinase.strategy.testing import Make, Session, StrategyContract

SMALL = ChainSpace(max_depth=3, ops=("conv", "sepconv"), widths=(4, 8, 16), kernels=(3, 5))
FRAME = Frame((3, 8, 8), 10)


class TestContract(StrategyContract):
    @pytest.fixture
    def space(self) -> Space:
        return Chain(SMALL)

    @pytest.fixture
    def make(self) -> Make:
        model = StrategyModel.model_validate(
            {"type": "LEMONADE", "lemonade": {"initial": 3, "children": 8, "accepted": 4}}
        )

        def make(space: Space, seed: int = 0, objectives: int = 1) -> Strategy:
            return make_strategy(model, space, seed, objectives, FRAME)

        return make


# -- the density -----------------------------------------------------------------------


def test_the_density_is_the_closed_form() -> None:
    """Of two points in one dimension: half a normal density at each, of Scott's deviation."""
    density = Density(np.array([[0.0], [2.0]]))
    width = math.sqrt(2) * 2**-0.2
    assert density.bandwidth == pytest.approx([width])
    for x in (-1.0, 0.0, 0.7, 30.0):
        terms = [math.exp(-((x - m) ** 2) / (2 * width**2)) for m in (0.0, 2.0)]
        wanted = sum(terms) / (2 * width * math.sqrt(2 * math.pi))
        assert density.log(np.array([[x]]))[0] == pytest.approx(math.log(wanted))
    far = density.log(np.array([[1e6]]))[0]  # where the density itself is too small for a number
    assert far == pytest.approx(-(((1e6 - 2) / width) ** 2) / 2, rel=1e-6)


def test_the_density_is_scipys_in_one_dimension() -> None:
    points = np.random.default_rng(0).normal(size=(30, 1))
    at = np.linspace(-4, 4, 17)
    assert np.exp(Density(points).log(at[:, None])) == pytest.approx(gaussian_kde(points.T)(at))


def test_the_density_is_a_product_over_uncorrelated_dimensions() -> None:
    x, y = np.meshgrid([0.0, 1.0, 5.0], [2.0, 3.0])
    both = Density(np.stack([x.ravel(), y.ravel()], axis=1))
    one, other = Density(both.points[:, :1]), Density(both.points[:, 1:])
    one.bandwidth, other.bandwidth = both.bandwidth[:1], both.bandwidth[1:]
    at = np.random.default_rng(1).normal(size=(9, 2))
    assert both.log(at) == pytest.approx(one.log(at[:, :1]) + other.log(at[:, 1:]))


def test_a_density_of_what_agrees_or_has_no_dimension() -> None:
    assert Density(np.ones((4, 2))).bandwidth.tolist() == [1.0, 1.0]
    assert Density(np.ones((1, 1))).log(np.array([[1.0]]))[0] == pytest.approx(
        -math.log(math.sqrt(2 * math.pi))
    )
    assert Density(np.ones((3, 0))).log(np.ones((5, 0))).tolist() == [0.0] * 5


def test_draws_are_in_proportion_to_the_inverse_and_without_replacement() -> None:
    """1 : 2 : 5; the second draw is in proportion to what is left."""
    logs, rng = -np.log(np.array([1.0, 2.0, 5.0])), np.random.default_rng(3)
    pairs = Counter(tuple(draw_sparse(logs, 2, rng)) for _ in range(20_000))
    weight = {0: 1 / 8, 1: 2 / 8, 2: 5 / 8}
    for first, second in ((a, b) for a in range(3) for b in range(3) if a != b):
        wanted = weight[first] * weight[second] / (1 - weight[first])
        assert pairs[first, second] / 20_000 == pytest.approx(wanted, abs=0.012)
    assert sorted(draw_sparse(logs, 9, rng)) == [0, 1, 2]
    assert draw_sparse(np.array([0.0, -1e6, 5.0]), 1, rng) == [1]  # no density is too small


# -- the strategy ----------------------------------------------------------------------


def lemonade(
    space: Space | None = None, objectives: int = 2, known: Any = None, **options: int
) -> LEMONADE:
    made = LEMONADEStrategy(**{"initial": 4, "children": 20, "accepted": 5, **options})
    return LEMONADE(space or Chain(SMALL), made, 0, objectives, FRAME, known)


def errors(architecture: Architecture, space: Space) -> float:
    """A validation error that falls with the size, and has its own noise."""
    noise = int(space.key(architecture), 16) % 1000 / 1000
    return 1 / (1 + space.graph(architecture, FRAME).params() ** 0.5 / 20) + 0.05 * noise


class Search(Session):
    """The loop, with losses (error, parameters)."""

    def tell(self, number: int) -> None:
        trial = self.history.by_number[number]
        space = self.strategy.space
        try:
            params = float(space.graph(trial.architecture, FRAME).params())
            outcome, losses = Outcome.SUCCEEDED, (errors(trial.architecture, space), params)
        except InfeasibleError:
            outcome, losses = Outcome.INFEASIBLE, (math.inf, math.inf)
        self.history.tell(number, outcome, losses)
        self.strategy.observe(trial, self.history)


def test_the_front_is_that_of_all_trials_and_its_hypervolume_never_falls() -> None:
    strategy = lemonade(Chain(ChainSpace(max_depth=5, ops=("conv", "sepconv"))))
    search, before = Search(strategy, objectives=2), 0.0
    for trials in range(4, 64, 5):  # generation by generation
        search.run(trials)
        points = [t.losses for t in strategy.front]
        assert len(pareto_front(points)) == len(points)
        told = [t.losses for t in search.history.told]
        assert sorted(points) == sorted(told[i] for i in pareto_front(told))
        scaled = [(error, math.log(params)) for error, params in points]
        volume = hypervolume(scaled, (1.1, 20.0))
        assert volume >= before
        before = volume
    made = {c.operation for e, c in search.events if e == "ask"}
    assert made & {"deepen", "widen", "kernel"}  # it grows
    assert made & {"prune", "remove", "crop", "separate"}  # and shrinks


def front_of(strategy: LEMONADE, costs: list[float], errors: list[float]) -> None:
    """Let it have a front of architectures at these costs."""
    history = History()
    for number, (cost, error) in enumerate(zip(costs, errors, strict=True)):
        trial = Trial(number, {"cost": cost, "number": number}, str(number))
        history.ask(trial)
        strategy.asked(trial, history)
        history.tell(number, Outcome.SUCCEEDED, (error, cost))
        strategy.observe(trial, history)
    assert len(strategy.front) == len(costs)


class Line(Chain):
    """Architectures that are their costs."""

    def __init__(self) -> None:
        super().__init__(SMALL)

    def canonical(self, architecture: Architecture) -> Any:
        return architecture


def known(architecture: Architecture) -> Losses:
    return (math.inf, architecture["cost"])


def clusters() -> tuple[list[float], list[float]]:
    """Nine small networks and one that is a hundred times as large."""
    costs = [1000.0 + i for i in range(9)] + [100_000.0]
    return costs, [1.0 - 0.05 * i for i in range(10)]


def test_the_sparse_one_of_two_clusters_is_drawn_half_of_the_time() -> None:
    strategy = lemonade(Line(), known=known)
    front_of(strategy, *clusters())
    generation = strategy._next(10)
    assert generation is not None
    drawn = strategy._parents(generation, 4000, np.random.default_rng(0))
    share = sum(trial.number == 9 for trial in drawn) / 4000
    assert share == pytest.approx(0.5, abs=0.03)


def with_front(losses: list[Losses], space: Space, objectives: int = 2) -> LEMONADE:
    """A front of random networks with these losses."""
    strategy, rng = lemonade(space, objectives), np.random.default_rng(5)
    networks = [space.sample(rng) for _ in losses]
    strategy._front = [
        Trial(number, architecture, space.key(architecture), losses=each)
        for number, (architecture, each) in enumerate(zip(networks, losses, strict=True))
    ]
    return strategy


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_expensive_objective_decides_no_draw(objectives: int) -> None:
    """Whatever the errors of a front are, its children and those that are trained are the same."""
    space, rng = Chain(SMALL), np.random.default_rng(0)
    found = []
    for values in (np.arange(6), rng.permutation(6), rng.random(6)):
        strategy = with_front([(float(v), 1.0, 2.0)[:objectives] for v in values], space)
        generation = strategy._next(6)
        assert generation is not None
        found.append(strategy._children(generation))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 5


def test_a_generation_is_made_by_morphisms_from_the_front_that_it_began_with() -> None:
    space = Chain(SMALL)
    search = Search(lemonade(space, children=30, accepted=6), objectives=2)
    search.run(4)
    for _ in range(5):
        strategy = search.strategy
        assert isinstance(strategy, LEMONADE)
        front = {trial.number: trial for trial in strategy.front}
        asked = set(search.history.by_key)
        proposals = search.run(len(search.history.asked) + 6)
        assert len(proposals) == 6
        for proposal in proposals:
            [parent] = proposal.parents
            assert parent in front
            assert space.key(proposal.architecture) not in asked
            found = bridge(
                space, front[parent].architecture, proposal.architecture, FRAME, approximate=True
            )
            assert found is not None
            wanted = "branch" if proposal.operation == "skip" else proposal.operation
            assert wanted in {m.model_dump()["op"] for m in found.morphisms}


def test_only_what_needs_no_training_is_cheap() -> None:
    """The third objective is measured, the fourth counted and of no use below 1000."""
    space = Chain(SMALL)

    def told(architecture: Architecture) -> Losses:
        params = space.graph(architecture, FRAME).params()
        return (math.inf, math.inf, float(params), float(max(1000, params)))

    strategy = lemonade(space, 4, told)
    one = space.sample(np.random.default_rng(0))
    params = space.graph(one, FRAME).params()
    assert strategy._logs(one) == pytest.approx((math.log(params), math.log(max(1000, params))))
    assert lemonade(space, 1)._logs(one) == ()  # with nothing cheap all are drawn alike
    strided = {"layers": [{"op": "conv", "width": 4, "kernel": 3, "stride": 2}] * 5}
    wide = Chain(ChainSpace(max_depth=5))
    assert lemonade(wide)._logs(strided) is None  # 8 pixels are halved three times at most


def test_without_morphisms_it_mutates_and_without_a_front_it_samples() -> None:
    """Branches of pools, which no morphism leads to, and trials that all fail."""
    document = {"type": "MultiBranch", "multiBranch": {"maxNodes": 3, "ops": ["maxpool"]}}
    space = make_space(SpaceModel.model_validate(document))
    search = Session(lemonade(space, children=2, accepted=2), objectives=2)
    made = search.run(12)
    assert {p.operation for p in made[4:]} & {"mutate", "sample"}
    failing = Session(lemonade(), objectives=2)
    for _ in range(8):
        proposal = failing.propose()
        assert proposal is not None
        assert proposal.operation == "sample"
        trial = failing.ask(proposal)
        failing.history.tell(trial.number, Outcome.FAILED, (math.inf, math.inf))
        failing.strategy.observe(trial, failing.history)

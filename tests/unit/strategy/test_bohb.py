"""BOHB's densities against statsmodels', its model, and what it proposes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from statsmodels.nonparametric.kernel_density import KDEMultivariate

from kinase.api.fidelity import Fidelity, Grant
from kinase.api.space import Space as SpaceModel
from kinase.api.strategy import BOHBStrategy
from kinase.api.trial import Outcome
from kinase.history import History, Trial
from kinase.space import Space, derive_rng, make_space
from kinase.strategy.bohb import BOHB
from kinase.strategy.kernel import MixedDensity

NASBENCH201 = {"type": "Cell", "cell": {"preset": "nasbench201"}}


@pytest.mark.parametrize("types", ["c", "u", "cu", "uucc"])
def test_densities_are_those_of_statsmodels(types: str) -> None:
    rng = np.random.default_rng(0)

    def draw(count: int) -> Any:
        columns = [
            rng.random(count) if kind == "c" else rng.choice(4, count, p=(0.85, 0.05, 0.05, 0.05))
            for kind in types
        ]
        return np.array(columns, dtype=float).T

    points, queries = draw(80), draw(30)
    points[:4, [k == "u" for k in types]] = np.arange(4.0)[:, None]  # every option is there
    options = [0 if kind == "c" else 4 for kind in types]
    theirs = KDEMultivariate(points, var_type=types, bw="normal_reference")
    ours = MixedDensity(points, options, theirs.bw)
    assert np.exp(ours.log(queries)) == pytest.approx(theirs.pdf(queries), rel=1e-9)
    numbers = np.array(options) == 0
    rule = MixedDensity(points, options).bandwidth
    assert rule[numbers] == pytest.approx(theirs.bw[numbers], rel=1e-12)


def test_the_bandwidth_of_a_choice_does_not_depend_on_the_numbering() -> None:
    """For two options it is statsmodels', which takes the deviation of the numbers."""
    two = np.array([[0.0, 1.0]] * 3 + [[1.0, 0.0]] * 17)
    theirs = KDEMultivariate(two, var_type="uu", bw="normal_reference")
    assert MixedDensity(two, [2, 2]).bandwidth == pytest.approx(theirs.bw, rel=1e-12)
    three = np.array([[0.0, 2.0]] * 3 + [[1.0, 0.0]] * 6 + [[2.0, 1.0]] * 40)
    first, second = MixedDensity(three, [3, 3]).bandwidth
    assert first == second


def test_a_choice_on_which_all_agree_leaves_the_others_possible() -> None:
    same = MixedDensity(np.zeros((5, 1)), [3])
    assert np.exp(same.log(np.array([[0.0], [1.0]]))) == pytest.approx([0.999, 0.0005])


def test_densities_add_up_to_one() -> None:
    rng = np.random.default_rng(1)
    points = np.stack([rng.random(20), rng.integers(3, size=20)], axis=1)
    density = MixedDensity(points, [0, 3])
    xs = np.linspace(-3, 4, 4001)
    total = sum(
        np.exp(density.log(np.stack([xs, np.full_like(xs, option)], axis=1))).sum()
        for option in range(3)
    )
    assert total * (xs[1] - xs[0]) == pytest.approx(1, abs=1e-6)


# -- the strategy ----------------------------------------------------------------------


def with_trials(
    strategy: BOHB, rungs: dict[int, int], loss: Any = None, seed: int = 0
) -> tuple[History, Space]:
    """A history with so many results at each rung."""
    history, space = History(), strategy.space
    full = Fidelity(epochs=9)
    for number in range(max(rungs.values())):
        architecture = space.sample(derive_rng(seed, number))
        trial = Trial(number, architecture, space.key(architecture))
        trial.grant = Grant(fidelity=full, until=1, rung=0, final=False)
        history.ask(trial)
        value = loss(architecture) if loss else number * 7 % 101 / 101
        history.rest(number, 1, (value,))
        for rung in range(1, max(rungs) + 1):
            if number < rungs[rung]:
                grant = Grant(fidelity=full, until=3**rung, rung=rung, final=rung == 2)
                history.grant(number, grant)
                if grant.final:
                    history.tell(number, Outcome.SUCCEEDED, (value - rung,))
                else:
                    history.rest(number, 3**rung, (value - rung,))
    return history, space


def bohb(space: dict[str, Any] = NASBENCH201, **options: Any) -> BOHB:
    made = make_space(SpaceModel.model_validate(space))
    return BOHB(made, BOHBStrategy.model_validate(options), 0)


@pytest.mark.parametrize(
    "space",
    [
        {"type": "Chain"},
        {"type": "MultiBranch"},
        {"type": "Tree"},
        NASBENCH201,
        {"type": "Cell", "cell": {"preset": "darts"}},
        {"type": "Cell", "cell": {"preset": "nasnet", "nodes": 2}},
    ],
    ids=lambda s: s["type"] + s.get("cell", {}).get("preset", ""),
)
def test_the_encoding_is_the_vectors(space: dict[str, Any]) -> None:
    """Its parts take all columns; a choice has one of them or none."""
    strategy = bohb(space)
    parts = strategy.space.encoding
    for draw in range(20):
        architecture = strategy.space.sample(derive_rng(draw))
        vector = strategy.space.vector(architecture)
        assert sum(part.columns for part in parts) == len(vector)
        start = 0
        for part in parts:
            columns = list(vector[start : start + part.columns])
            start += part.columns
            if part.choice:
                assert sorted(columns)[:-1] == [0.0] * (part.columns - 1)
                assert max(columns) in (0.0, 1.0)
            else:
                assert part.columns == 1
                assert 0 <= columns[0] <= 1
        code = strategy.encode(architecture)
        assert all(value <= (part.options or 1) for value, part in zip(code, parts, strict=True))


def test_the_cells_of_nasbench201_have_six_choices() -> None:
    assert [part.options for part in bohb().space.encoding] == [6] * 6


def test_the_model_is_of_the_highest_rung_with_enough_results() -> None:
    """Six choices: seven good ones and seven others."""
    strategy = bohb()
    for rungs, wanted in (
        ({0: 13, 1: 4, 2: 1}, None),
        ({0: 14, 1: 4, 2: 1}, 0),
        ({0: 40, 1: 13, 2: 4}, 0),
        ({0: 40, 1: 14, 2: 4}, 1),
        ({0: 100, 1: 33, 2: 14}, 2),
    ):
        history, _ = with_trials(strategy, rungs)
        model = strategy.model(history)
        assert (model.rung if model else None) == wanted


def test_the_good_and_the_others() -> None:
    """Of a hundred, 15 and 85; of twenty, 7 and 17, which overlap."""
    strategy = bohb()
    for count, good, bad in ((100, 15, 85), (20, 7, 17)):
        model = strategy.model(with_trials(strategy, {0: count})[0])
        assert model is not None
        assert len(model.good.points), len(model.bad.points) == (good, bad)
        assert len(model.bad.points) == bad
        losses = [trial.losses for trial in model.best]
        assert losses == sorted(losses)


def test_the_model_is_fitted_again_only_when_there_are_results() -> None:
    strategy = bohb()
    history, space = with_trials(strategy, {0: 40})
    model = strategy.model(history)
    architecture = space.sample(derive_rng(1, 40))
    grant = history.asked[0].grant
    history.ask(Trial(40, architecture, space.key(architecture), grant=grant))
    assert strategy.model(history) is model
    history.rest(40, 1, (0.5,))
    again = strategy.model(history)
    assert again is not model
    assert again is not None
    assert again.good.points.tolist() == bohb()._fit(history).good.points.tolist()  # type: ignore[union-attr]


def test_candidates_that_were_tried_are_passed_over() -> None:
    """Of a space with few cells most candidates were."""
    cell = {"preset": "nasbench201", "ops": ["none", "nor_conv_3x3"]}
    strategy = bohb({"type": "Cell", "cell": cell}, randomFraction=0, samples=8)
    history, space = with_trials(strategy, {0: 16})
    made = [strategy.propose(history, derive_rng(7, draw)) for draw in range(10)]
    assert any(each is not None and each.operation == "model" for each in made)
    assert not {space.key(each.architecture) for each in made if each} & set(history.by_key)


def test_trials_without_a_value_are_never_good() -> None:
    strategy = bohb()
    history, _ = with_trials(strategy, {0: 40}, lambda a: math.inf)
    assert strategy.model(history) is None


def test_a_third_is_random_and_the_rest_is_like_what_is_good() -> None:
    """Where the loss is the share of edges that are not 3x3 convolutions, proposals have more of
    these than random ones."""
    strategy = bohb(samples=8)

    def convolutions(architecture: Any) -> float:
        return sum(op == "nor_conv_3x3" for node in architecture["normal"] for op, _ in node) / 6

    history, space = with_trials(strategy, {0: 60}, lambda a: 1 - convolutions(a))
    made = [strategy.propose(history, derive_rng(5, draw)) for draw in range(80)]
    by_model = [p for p in made if p is not None and p.operation == "model"]
    assert 0.5 < len(by_model) / 80 < 0.83
    ours = np.mean([convolutions(p.architecture) for p in by_model])
    random = np.mean([convolutions(space.sample(derive_rng(6, i))) for i in range(150)])
    assert ours > random + 0.15

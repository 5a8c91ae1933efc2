"""Settings of the training as a part of a space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from kinase.api._base import struct_name
from kinase.api.space import Space as SpaceModel
from kinase.api.strategy import Strategy as StrategyModel
from kinase.api.task import Training
from kinase.morphism.bridge import bridge
from kinase.space import ArchitectureError, Space, derive_rng, make_space
from kinase.space.axes import MOVES, Range
from kinase.strategy import Strategy, make_strategy
from kinase.strategy.base import FRAME
from kinase.strategy.bohb import BOHB
from kinase.strategy.testing import Session
from tests.unit.strategy.test_bohb import bohb, with_trials

NUMBERS = {
    "learningRate": {"min": 0.0001, "max": 1},
    "weightDecay": {"min": 0, "max": 0.1, "scale": "linear"},
    "batchSize": {"min": 8, "max": 512},
    "cutout": {"min": 0, "max": 4},
}
TRAINING: dict[str, Any] = {**NUMBERS, "crop": {"values": [0, 1, 4]}, "flip": True}
CHAIN = {"layers": [{"op": "conv", "width": 8, "kernel": 3, "stride": 1}]}


def space(training: Any = TRAINING, **fields: Any) -> Space:
    return make_space(SpaceModel.model_validate({"type": "Chain", "training": training, **fields}))


def settings(drawn: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = drawn["training"]
    return found


# -- values ----------------------------------------------------------------------------------


def test_numbers_are_drawn_evenly_on_their_scale() -> None:
    made = space()
    drawn = [settings(made.sample(derive_rng(i))) for i in range(600)]
    for name, low, high in (("learningRate", 1e-4, 1), ("batchSize", 7.5, 512.5)):
        place = [math.log(d[name] / low) / math.log(high / low) for d in drawn]
        assert kstest(place, "uniform").pvalue > 0.01, name
    assert kstest([d["weightDecay"] * 10 for d in drawn], "uniform").pvalue > 0.01
    counts = np.bincount([d["cutout"] for d in drawn])
    assert len(counts) == 5
    assert counts.min() > 80
    assert {d["flip"] for d in drawn} == {False, True}
    assert {d["crop"] for d in drawn} == {0, 1, 4}
    assert all(type(d["batchSize"]) is int and type(d["flip"]) is bool for d in drawn)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"learningRate": 2}, "training.learningRate is 2; use a number from 0.0001 to 1"),
        ({"learningRate": "a"}, "training.learningRate is 'a'; use a number from 0.0001 to 1"),
        ({"learningRate": True}, "training.learningRate is True; use a number from 0.0001 to 1"),
        ({"learningRate": math.nan}, "training.learningRate is nan; use a number"),
        ({"batchSize": 8.5}, "training.batchSize is 8.5; use an integer from 8 to 512"),
        ({"crop": 2}, "training.crop is 2; use one of 0, 1, 4"),
        ({"crop": False}, "training.crop is False; use one of 0, 1, 4"),
        ({"flip": 1}, "training.flip is 1; use one of false, true"),
        ({"epochs": 3}, "training has 'epochs'; this space has learningRate, weightDecay"),
        ([], "training is []; use an object"),
    ],
)
def test_a_setting_that_is_not_in_the_space_is_refused(given: Any, said: str) -> None:
    with pytest.raises(ArchitectureError) as error:
        space().validate({**CHAIN, "training": given})
    assert str(error.value).startswith(said)


def test_a_network_that_is_not_in_the_space_is_refused() -> None:
    with pytest.raises(ArchitectureError, match="layers"):
        space().validate({"training": {"flip": True}})


def test_settings_that_are_left_out_are_the_manifests() -> None:
    made, whole = space(), Training()
    made.validate(CHAIN)
    assert made.trained(CHAIN, whole) == whole
    some = {**CHAIN, "training": {"learningRate": 0.5, "flip": True, "batchSize": 16}}
    trained = made.trained(some, whole)
    assert trained.optimizer.member.learning_rate == 0.5
    assert trained.optimizer.member.weight_decay == whole.optimizer.member.weight_decay
    assert trained.augmentation.flip
    assert trained.batch_size == 16
    assert trained.at_rate(0.1).optimizer.member.learning_rate == pytest.approx(0.05)


def test_every_setting_reaches_the_training() -> None:
    names = {
        "learningRate": 0.5,
        "weightDecay": 0.25,
        "momentum": 0.75,
        "batchSize": 3,
        "labelSmoothing": 0.125,
        "dropPath": 0.375,
        "crop": 5,
        "cutout": 7,
    }
    model = SpaceModel.model_validate(
        {
            "type": "Chain",
            "training": {
                "flip": True,
                **{
                    name: {"values": [value, 0.0625 if value < 1 else 9]}
                    for name, value in names.items()
                },
            },
        }
    )
    assert model.training is not None
    assert set(names) == {f.alias for f in type(model.training).model_fields.values()} - {"flip"}
    found = make_space(model).trained({"training": {**names, "flip": True}}, Training())
    dumped = found.model_dump(by_alias=True)
    flat = {**dumped, **dumped["optimizer"]["sgd"], **dumped["augmentation"]}
    assert {name: flat[name] for name in names} == names
    assert flat["flip"] is True


# -- neighbours ------------------------------------------------------------------------------


def test_a_neighbour_of_a_number_is_a_step_away() -> None:
    rate = Range("learningRate", 1e-4, 1, log=True, whole=False)
    assert rate.neighbours(0.01) == [float(f"{10 ** (-4 + 4 * (0.5 + by)):.4g}") for by in MOVES]
    assert rate.neighbours(1) == rate.neighbours(1.0) == [0.3981, 0.8318]
    pixels = Range("cutout", 0, 4, log=False, whole=True)
    assert pixels.neighbours(2) == [1, 3]
    assert pixels.neighbours(0) == [1]


def test_a_mutation_of_a_number_is_near_it() -> None:
    rate = Range("learningRate", 1e-4, 1, log=True, whole=False)
    steps = [rate.place(rate.mutate(0.01, derive_rng(i))) - 0.5 for i in range(400)]
    assert np.std(steps) == pytest.approx(0.2, abs=0.03)
    assert all(step != 0 for step in steps)
    narrow = Range("learningRate", 0.1, 0.10000001, log=True, whole=False)
    assert narrow.mutate(0.1, derive_rng(0)) != 0.1


def test_half_of_the_mutations_are_of_the_network() -> None:
    made = space()
    parent = made.sample(derive_rng(0))
    children = [made.mutate(parent, derive_rng(1, i)) for i in range(200)]
    same = [made.network(child) == made.network(parent) for child in children]
    changed = [settings(child) != settings(parent) for child in children]
    assert same == changed
    assert 70 < sum(same) < 130
    alone = space(architecture=CHAIN)
    parent = alone.sample(derive_rng(0))
    for i in range(30):
        child = alone.mutate(parent, derive_rng(1, i))
        assert alone.network(child) == CHAIN
        differ = [n for n in TRAINING if settings(child)[n] != settings(parent)[n]]
        assert len(differ) == 1


def test_a_child_has_each_setting_of_one_of_its_parents() -> None:
    made = space()
    one, other = made.sample(derive_rng(0)), made.sample(derive_rng(1))
    child = made.crossover(one, other, derive_rng(2))
    for name, value in settings(child).items():
        assert value in (settings(one)[name], settings(other)[name])
    assert settings(child) not in (settings(one), settings(other))


# -- identity, size --------------------------------------------------------------------------


def test_settings_are_part_of_the_identity() -> None:
    made = space()
    a = {**CHAIN, "training": {"learningRate": 0.01}}
    assert made.key(a) != made.key(CHAIN)
    assert made.key(a) != made.key({**CHAIN, "training": {"learningRate": 0.02}})
    assert made.key(a) == made.key({"training": {"learningRate": 1e-2}, **CHAIN})
    assert made.key({**CHAIN, "training": {"learningRate": 1}}) == made.key(
        {**CHAIN, "training": {"learningRate": 1.0}}
    )


def test_a_space_of_settings_alone_is_counted_and_exhausted() -> None:
    made = space({"batchSize": {"values": [16, 32, 64]}, "flip": True}, architecture=CHAIN)
    assert str(made.size()) == "6"
    assert len({made.key(a) for a in made.enumerate()}) == 6
    strategy = strategy_of(made, "Random")
    assert len(Session(strategy).run(20)) == 6
    assert space(NUMBERS, architecture=CHAIN).size().count == 1001 * 1001 * 505 * 5


def test_a_baseline_of_a_fixed_network_needs_only_settings() -> None:
    made = space(architecture=CHAIN)
    given = {"training": {"flip": True}}
    assert made.resolve(given) == {**CHAIN, **given}
    other = {"layers": [*CHAIN["layers"], *CHAIN["layers"]]}
    with pytest.raises(ArchitectureError, match="this space has only that of"):
        made.validate(other)


# -- inheritance, strategies -----------------------------------------------------------------


def test_a_child_with_other_settings_inherits_all_weights() -> None:
    made = space()
    parent = {**CHAIN, "training": {"learningRate": 0.01}}
    child = {**CHAIN, "training": {"learningRate": 0.5, "batchSize": 16}}
    found = bridge(made, parent, child, FRAME)
    assert found is not None
    assert found.exact
    assert found.morphisms == ()


def strategy_of(made: Space, kind: str, **options: Any) -> Strategy:
    model = StrategyModel.model_validate({"type": kind, struct_name(kind): options})
    return make_strategy(model, made, 0, 2)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Evolution", {"population": 6, "sample": 2}),
        ("LocalSearch", {"initial": 3}),
        ("LargeScaleEvolution", {"population": 6, "start": "random"}),
        ("NASH", {"initial": 2, "neighbours": 4, "morphisms": 2}),
        ("LEMONADE", {"initial": 3, "children": 6, "accepted": 3}),
        ("BOHB", {"minPoints": 3, "samples": 4}),
    ],
)
def test_strategies_change_networks_and_settings(kind: str, options: Any) -> None:
    """Children have values of settings that no random trial has drawn, and networks, too."""
    made = make_space(
        SpaceModel.model_validate(
            {"type": "Chain", "chain": {"maxDepth": 3, "widths": [4, 8]}, "training": NUMBERS}
        )
    )
    session = Session(strategy_of(made, kind, **options), objectives=2)
    proposals = session.run(40)
    assert len(proposals) == 40
    children = [p for p in proposals if p.parents or p.operation == "model"]
    for child in children:
        made.validate(child.architecture)
    assert len(children) > 8
    drawn = [p.architecture for p in proposals if p not in children]
    rates = {settings(a)["learningRate"] for a in drawn}
    networks = {made.networks.key(made.network(a)) for a in drawn}
    assert any(settings(c.architecture)["learningRate"] not in rates for c in children)
    assert any(made.networks.key(made.network(c.architecture)) not in networks for c in children)


# -- BOHB ------------------------------------------------------------------------------------


def test_bohb_draws_settings_as_the_authors_code_does() -> None:
    """A number from a normal distribution around a good trial's, truncated to 0..1, three
    bandwidths wide; a choice stays with a probability of 1 less its bandwidth, else it is any."""
    options = {
        "type": "Chain",
        "training": {"learningRate": {"min": 0.0001, "max": 1}, "flip": True},
    }
    strategy = bohb({**options, "architecture": CHAIN})
    history, made = with_trials(
        strategy, {0: 40}, lambda a: abs(math.log10(a["training"]["learningRate"]) + 1)
    )
    model = strategy.model(history)
    assert model is not None
    assert [p.free for p in made.encoding] == [True, True]
    drawn = [strategy.encode(strategy._candidate(model, derive_rng(1, i))) for i in range(1500)]
    width = 3 * float(model.good.bandwidth[0])
    theirs = np.concatenate(
        [
            truncnorm.rvs(-m / width, (1 - m) / width, m, width, 400, random_state=place)
            for place, m in enumerate(model.good.points[:, 0])
        ]
    )
    assert kstest([code[0] for code in drawn], theirs).pvalue > 0.01
    share = float(np.mean([code[1] == 2 for code in drawn]))
    good = float(np.mean(model.good.points[:, 1] == 2))
    bandwidth = float(model.good.bandwidth[1])
    assert share == pytest.approx(good * (1 - bandwidth) + bandwidth / 2, abs=0.05)


def test_bohb_finds_the_settings_that_are_good() -> None:
    strategy: BOHB = bohb({"type": "Chain", "training": NUMBERS, "architecture": CHAIN})
    history, _ = with_trials(
        strategy, {0: 60}, lambda a: abs(math.log10(a["training"]["learningRate"]) + 1)
    )
    made = [strategy.propose(history, derive_rng(3, i)) for i in range(40)]
    rates = [settings(p.architecture)["learningRate"] for p in made if p and p.operation == "model"]
    assert len(rates) > 15
    assert float(np.median([abs(math.log10(rate) + 1) for rate in rates])) < 0.5


def test_settings_are_features_for_predictors() -> None:
    made = space()
    found = made.features({**CHAIN, "training": {"learningRate": 0.01, "crop": 4}})
    assert found == {
        **dict.fromkeys((f"training_{name}" for name in TRAINING), 0.5),
        "training_crop": 1.0,
        "training_learningRate": pytest.approx(0.5),
    }


def test_a_range_whose_ends_have_the_same_logarithm() -> None:
    low, high = 0.1, math.nextafter(0.1, 1)
    made = space({"learningRate": {"min": low, "max": high}})
    drawn = made.sample(derive_rng(0))
    made.validate(made.mutate(drawn, derive_rng(1)))
    for other in made.neighbours(drawn):
        made.validate(other)
    assert low <= settings(drawn)["learningRate"] <= high


def test_a_padding_that_no_training_takes_is_refused() -> None:
    """What is searched for is valid in a training."""
    with pytest.raises(ValueError, match=r"crop\.max"):
        space({"crop": {"min": 0, "max": 513}})
    space({"crop": {"min": 0, "max": 512}})
    with pytest.raises(ValueError, match="crop"):
        Training.model_validate({"augmentation": {"crop": 513}})

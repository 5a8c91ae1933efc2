"""Limits while a supernet trains, and of what its choices have led to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from kinase.api.fidelity import Scale
from kinase.api.within import Limit
from kinase.space import Frame, InfeasibleError, make_space
from kinase.store.memory import MemoryStore
from kinase_trainer import trial
from kinase_trainer.supernet import within as module
from kinase_trainer.supernet.darts import Darts
from kinase_trainer.supernet.uniform import Uniform
from kinase_trainer.supernet.within import TRIES, Within
from tests.trainer.helpers import job
from tests.trainer.test_supernet_trial import FIDELITY, SPACE, training

FRAME = Frame((1, 8, 8), 10, Scale(cells=1, filters=4))
FULL = Frame((1, 8, 8), 10, SPACE.scale(final=True))


class Follows:
    """Stands for a supernet's network: notes what it is to follow."""

    def __init__(self) -> None:
        self.paths: list[dict[str, int]] = []

    def follow(self, path: dict[str, int]) -> None:
        self.paths.append(path)


def params(architecture: Any) -> int:
    return SPACE.graph(architecture, FULL).params()


def drawn(limit: int | None, count: int = 40) -> list[int]:
    """Parameters at full fidelity of the random paths of so many steps."""
    within = None
    if limit is not None:
        within = Within([Limit(metric="params", most=limit)], SPACE, FRAME)
    supernet = SPACE.supernet(Frame((1, 8, 8), 10, FRAME.scale, searching=True))
    uniform, network = Uniform(supernet, SPACE, within), Follows()
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        uniform.choose(network, generator)  # type: ignore[arg-type]
    return [params(SPACE.architecture(path)) for path in network.paths]


def test_random_paths_are_within_the_limits() -> None:
    assert max(drawn(None)) > 100_000
    found = drawn(110_000)
    assert max(found) <= 110_000
    assert len(set(found)) > 1


def test_where_no_path_is_within_the_closest_is_taken_after_a_bounded_number_of_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    sample = type(SPACE).sample
    monkeypatch.setattr(type(SPACE), "sample", lambda s, rng: calls.append(1) or sample(s, rng))
    assert set(drawn(1, 3)) == {73_018}, "the smallest of the space"
    assert len(calls) == 3 * TRIES


def test_a_space_whose_networks_do_not_exist_is_drawn_from_in_bounds() -> None:
    space = make_space(
        job(space={"type": "Chain", "chain": {"minDepth": 9, "maxDepth": 9, "strides": [2]}}).space
    )
    within = Within([Limit(metric="macs", most=10)], space, FRAME)
    rng = np.random.default_rng(0)
    with pytest.raises(InfeasibleError, match="none of 100 random architectures has a network"):
        within.draw(lambda: space.sample(rng))


def test_likely_architectures_are_the_best_of_those_within_the_limits() -> None:
    """Against all 125 of a space of smaller cells."""
    small = {"type": "Cell", "cell": {"preset": "nasbench201", "nodes": 2}}
    space = make_space(job(space=small).space)
    supernet = space.supernet(Frame((1, 8, 8), 10, FRAME.scale, searching=True))
    assert supernet is not None
    relaxation = Darts(supernet, torch.Generator().manual_seed(1), deviation=1.0)
    limit = Limit(metric="params", most=80_000)
    within = Within([limit], space, FRAME)
    scores = relaxation.scores()
    best: dict[str, float] = {}
    ranges = [range(len(options)) for options in supernet.groups.values()]
    for options in itertools.product(*ranges):
        path = dict(zip(supernet.groups, options, strict=True))
        architecture = space.architecture(path)
        if within.excess(architecture) > 1:
            continue
        mean = sum(float(scores[g][o]) for g, o in path.items()) / len(path)
        key = space.key(architecture)
        best[key] = max(best.get(key, 0.0), mean)
    found = within.likely(relaxation, 0, 3)
    keys = [space.key(space.architecture(path)) for path, _ in found]
    assert keys == sorted(best, key=lambda key: -best[key])[:3]
    assert [score for _, score in found] == pytest.approx([best[key] for key in keys])


def test_what_a_supernet_led_to_is_followed_by_likely_ones_within_the_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DRAWS", 60)
    plan = {
        "relaxation": {"type": "GDAS"},
        "limits": [{"metric": "params", "most": 80_000}],
    }
    fidelity = {**FIDELITY, "epochs": 1, "dataFraction": 0.1}
    result = trial.run(training(supernet=plan, fidelity=fidelity), MemoryStore())
    first, *others = result.derived
    assert params(first.architecture) > 80_000
    assert len(others) == 3
    assert all(params(each.architecture) <= 80_000 for each in others)
    assert result.message == (
        "what the choices led to is above objective.limits; 3 likely architectures within them "
        "follow"
    )
    assert others == sorted(others, key=lambda each: -each.score)


def test_a_uniform_supernet_trains_within_the_limits() -> None:
    plan = {"limits": [{"metric": "params", "most": 80_000}]}
    fidelity = {**FIDELITY, "epochs": 1, "dataFraction": 0.1}
    store, other = MemoryStore(), MemoryStore()
    limited = trial.run(training(supernet=plan, fidelity=fidelity), store)
    free = trial.run(training("Uniform", fidelity=fidelity), other)
    key = "trials/00000/supernet.safetensors"
    assert limited.cost.samples == free.cost.samples
    assert store.get(key) != other.get(key)
